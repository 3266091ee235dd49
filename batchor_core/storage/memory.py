"""The memory store: SQLite without a file, for tests and for runs that need not outlive a process."""

from __future__ import annotations

import functools
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from threading import RLock
from typing import Any, NoReturn

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from batchor_core.core.models import ProviderConfig
from batchor_core.core.types import JSONObject
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage.migrations import bring_up_to_date
from batchor_core.storage.sql import SQLStore
from batchor_core.storage.sqlite import SQLiteDatabase
from batchor_core.storage.sqlite_statements import sharing_statements


class MemoryStateStore(SQLStore):
    """A state store in memory. Everything is lost with the object.

    Safe to use from several threads: they take turns. It keeps leases like the databases do, so that several drivers in
    one process behave as they would on a shared one. It keeps the provider configs of its runs unchanged, secrets
    included, and needs no registered provider.

    Args:
        now: Clock for tests; by default the system's.
    """

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        super().__init__(MemoryDatabase(now=now), provider_registry=_KeptConfigs())

    @property
    def engine(self) -> NoReturn:
        """There is none: no other connection can reach this one's database."""
        raise AttributeError("the runs of a memory store lie in its one connection: no engine leads to them")

    def close(self) -> None:
        """Nothing to release: the data exists, and can be used, as long as the object."""

    def artifact_root(self) -> None:
        """None: these runs end with the process and need no files after it."""
        return


class MemoryDatabase(SQLiteDatabase):
    """A SQLite database in memory: one connection, open as long as this object is there, which threads use in turn."""

    def __init__(self, *, now: Callable[[], datetime] | None = None, is_empty: bool = False) -> None:
        super().__init__(_engine(), where="this memory store", now=now)
        self._turn = RLock()
        held = ExitStack()
        self._held = held.enter_context(super()._connect(writes=True))
        weakref.finalize(self, held.close)
        if not is_empty:
            _prepared().copy_to(self)

    def copy_to(self, other: MemoryDatabase) -> None:
        """Make the other one's database a copy of this one's."""
        with self._turn:
            self._driver.backup(other._driver)

    @property
    def _driver(self) -> sqlite3.Connection:
        raw: Any = self._held.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        return raw

    @contextmanager
    def _connect(self, *, writes: bool) -> Iterator[Connection]:
        with self._turn:
            yield self._held


@functools.cache
def _prepared() -> MemoryDatabase:
    """A database with the tables of a new store: copying its pages is quicker than creating them."""
    database = MemoryDatabase(is_empty=True)
    bring_up_to_date(database)
    return database


@functools.cache
def _engine() -> Engine:
    """The engine of all memory stores: every connection is a database of its own."""
    engine = sharing_statements(
        create_engine(
            "sqlite://",
            poolclass=NullPool,
            connect_args={"check_same_thread": False},
            hide_parameters=True,  # they hold prompts and answers, which don't belong into error messages
        )
    )
    event.listen(engine, "connect", _configure)
    return engine


def _configure(raw: Any, _record: object) -> None:
    raw.isolation_level = None
    raw.execute("PRAGMA page_size = 16384")  # see sqlite.py
    raw.execute("PRAGMA synchronous = OFF")


class _KeptConfigs(ProviderRegistry):
    """Stores numbers instead of configs, and keeps the configs here."""

    def __init__(self) -> None:
        super().__init__()
        self._configs: dict[int, ProviderConfig] = {}
        self._numbers = count()

    def dump_config(self, config: ProviderConfig, *, include_secrets: bool = True) -> JSONObject:
        number = next(self._numbers)
        self._configs[number] = config
        return {"number": number}

    def load_stored_config(self, payload: JSONObject) -> ProviderConfig:
        number: Any = payload["number"]
        return self._configs[number]
