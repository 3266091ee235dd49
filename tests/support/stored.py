"""A store, its files and its provider, written by one version of this package and opened by another.

``tests/data/stored/build.py`` writes them, and :func:`unpacked` opens copies of what it wrote.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from openai import OpenAI

from batchor_core import (
    BatchRunner,
    LocalArtifactStore,
    OpenAIBatchProvider,
    OpenAIProviderConfig,
    PostgresStorage,
    Run,
    SQLiteStorage,
    StateStore,
)
from batchor_core.testing import FakeClock
from batchor_core.testing.local_server.records import Batch, BatchStatus, Progress, StoredFile
from batchor_core.testing.openai_server import OpenAIServer, Timing
from batchor_core.testing.openai_server.batches import batch_object
from tests.postgres_server import postgres_dsn, postgres_schema

STORED = Path(__file__).parents[1] / "data" / "stored"
KEY = "sk-stored"
SCHEMA = "stored_by_an_earlier_version"
"""The Postgres schema in the stored statements, to be replaced by that of the test."""

MINUTE = Timing.of_batch_seconds(60.0)


class Site:
    """One deployment: a database, a folder of artifacts and a local server, all by one clock.

    Attributes:
        folder: Holds ``artifacts`` and ``input``.
        clock: The time of the store, the server and the runners.
        server: The provider.
        store: The database.
    """

    def __init__(self, folder: Path, *, clock: FakeClock, server: OpenAIServer, store: StateStore) -> None:
        self.folder = folder
        self.clock = clock
        self.server = server
        self.store = store
        # the stored fingerprint of the account names no address, so the port of the local server may change
        self.client = OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0)

    @property
    def input(self) -> Path:
        """The folder of the files that runs read."""
        return self.folder / "input"

    def provider(self, config: Any) -> OpenAIBatchProvider:
        assert isinstance(config, OpenAIProviderConfig)
        return OpenAIBatchProvider(config, client=self.client)

    def runner(self, **changes: Any) -> BatchRunner:
        """A runner as a new process would make it."""
        options: dict[str, Any] = {
            "storage": self.store,
            "provider_factory": self.provider,
            "artifact_store": LocalArtifactStore(self.folder / "artifacts"),
            "sleep": self.clock.sleep,
        }
        return BatchRunner(**(options | changes))

    def run(self, run_id: str) -> Run:
        return self.runner().get_run(run_id)

    def exported(self, run_id: str) -> list[dict[str, Any]]:
        """The run's results as they are exported."""
        target = self.folder / f"{run_id}.results.jsonl"
        self.runner().export_terminal_results(run_id, destination=target, append=False, order="ended")
        lines = target.read_text(encoding="utf-8").split("\n")
        target.unlink()
        return [json.loads(line) for line in lines if line]

    def seen(self, run_id: str) -> dict[str, Any]:
        """What a user sees of a run, as JSON. Only what every version can be asked for."""
        summary = self.run(run_id).summary()
        return {
            "status": summary.status.value,
            "control_state": summary.control_state.value,
            "control_reason": self.store.get_control_reason(run_id=run_id),
            "total": summary.total_items,
            "completed": summary.completed_items,
            "failed": summary.failed_items,
            "counts": {status.value: count for status, count in summary.status_counts.items()},
            "ingestion_complete": summary.ingestion_complete,
            "active_batches": summary.active_batches,
            "unknown_batches": summary.unknown_batches,
            "quarantined_batches": summary.quarantined_batches,
            "results": self.exported(run_id),
        }


@contextmanager
def opened(folder: Path, *, kind: str, clock: FakeClock, schema: str = SCHEMA) -> Iterator[Site]:
    """A site in a folder, on an empty provider."""
    with ExitStack() as stack:
        server = stack.enter_context(OpenAIServer(clock=clock, timing=MINUTE))
        store: SQLiteStorage | PostgresStorage
        if kind == "postgres":
            store = PostgresStorage(dsn=postgres_dsn(), schema=schema, now=clock)
        else:
            store = SQLiteStorage(path=folder / "runs.sqlite3", now=clock)
        stack.callback(store.close)
        site = Site(folder, clock=clock, server=server, store=store)
        stack.callback(site.client.close)
        yield site


@dataclass(frozen=True)
class Unpacked:
    """A copy of a stored site.

    Attributes:
        site: The site, opened by this version.
        wrote: By run id, what the version that wrote it saw of each run.
        books: The provider's batches and files when it was written.
    """

    site: Site
    wrote: dict[str, Any]
    books: dict[str, Any]


@contextmanager
def unpacked(name: str, folder: Path, *, later_sec: float = 600.0) -> Iterator[Unpacked]:
    """Open a copy of what an earlier version wrote, some time later.

    Args:
        name: The stored site, such as ``0002-sqlite``.
        folder: An empty folder for the copy.
        later_sec: Seconds between the last thing that the earlier version did and now.
    """
    unpack(name, folder)
    wrote = json.loads((folder / "seen.json").read_text(encoding="utf-8"))
    books = json.loads((folder / "books.json").read_text(encoding="utf-8"))
    clock = FakeClock(datetime.fromtimestamp(books["at"] + later_sec, UTC))
    with ExitStack() as stack:
        schema = SCHEMA
        kind = name.partition("-")[2]
        if kind == "postgres":
            schema = stack.enter_context(postgres_schema())
            with psycopg.connect(postgres_dsn(), autocommit=True) as connection:
                statements = (folder / "runs.sql").read_text(encoding="utf-8").replace(SCHEMA, schema)
                connection.execute(statements.encode())
        site = stack.enter_context(opened(folder, kind=kind, clock=clock, schema=schema))
        load_books(books, site.server)
        yield Unpacked(site, wrote, books)


# --- packing ---------------------------------------------------------------------------------------------------------


def pack(name: str, folder: Path) -> Path:
    """Write a folder's files into one archive, the same bytes for the same files."""
    target = STORED / f"{name}.tar.gz"
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = archive.gettarinfo(path, path.relative_to(folder).as_posix())
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.mode = (
                    0,
                    0,
                    0,
                    "",
                    "",
                    0o644,
                )
                with path.open("rb") as file:
                    archive.addfile(entry, file)
    return target


def unpack(name: str, folder: Path) -> None:
    """Write the files of an archive into a folder."""
    with tarfile.open(STORED / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")


# --- the provider's books --------------------------------------------------------------------------------------------


def books_of(server: OpenAIServer) -> dict[str, Any]:
    """The batches and files of a server as the API shows them, and the files' contents."""
    now = server.clock()
    files = server.books.files
    return {
        "at": now,
        "batches": [batch_object(batch, now) for batch in server.books.batches],
        "files": [
            file.as_json(omit_nulls=False) | {"content": content_of(server, file.id).decode()}
            for file in files
        ],
    }


def content_of(server: OpenAIServer, file_id: str) -> bytes:
    return server._engine.store.content_path(file_id).read_bytes()


def load_books(books: dict[str, Any], server: OpenAIServer) -> None:
    """Let a server go on with another's batches. Those that had not ended begin to run now."""
    store = server._engine.store
    for shown in books["files"]:
        content = shown["content"].encode()
        store.content_path(shown["id"]).write_bytes(content)
        store.add_file(
            StoredFile(
                id=shown["id"],
                filename=shown["filename"],
                purpose=shown["purpose"],
                bytes=len(content),
                created_at=shown["created_at"],
            )
        )
    for shown in books["batches"]:
        batch = _batch(shown, now=server.clock())
        store.add_batch(batch)
        store.save_batch(batch)


def _batch(shown: dict[str, Any], *, now: float) -> Batch:
    status = BatchStatus(shown["status"])
    known: dict[str, Any] = {
        "id": shown["id"],
        "endpoint": shown["endpoint"],
        "input_file_id": shown["input_file_id"],
        "metadata": shown["metadata"],
        "created_at": shown["created_at"],
        "expires_at": now + 86_400,
        "timing": MINUTE,
    }
    match status:
        case BatchStatus.VALIDATING | BatchStatus.IN_PROGRESS | BatchStatus.FINALIZING:
            return Batch(**known | {"created_at": now})
        case BatchStatus.CANCELLING:
            return Batch(**known, status=status, cancelling_at=shown["cancelling_at"])
        case _:
            ended = {f"{status.value}_at": shown[f"{status.value}_at"]}
            files = {name: shown[name] for name in ("output_file_id", "error_file_id")}
            counts = shown["request_counts"]
            progress = Progress(counts["total"], counts["completed"], counts["failed"])
            return Batch(**known, **ended, **files, status=status, total=counts["total"], progress=progress)


def clear(folder: Path) -> None:
    """Empty a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
