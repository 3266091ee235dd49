"""Opening a store to read it only: one that is not there is not created, and an old one is not migrated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import URL, create_engine

from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.storage.migrations import HEAD, revision_of
from batchor_core.storage.sqlite import SQLiteDatabase, SQLiteStorage, check_no_folder
from batchor_core.storage.state import StateStore


class StoreToRead(NamedTuple):
    """A store to read.

    Attributes:
        store: The store; an empty one in memory if there is none that can be read.
        note: Why it is empty, if there is a store of an earlier version; None otherwise.
    """

    store: StateStore
    note: str | None = None


def sqlite_to_read(path: str | Path, *, provider_registry: ProviderRegistry | None = None) -> StoreToRead:
    """The store in a SQLite file.

    Raises:
        StorageError: The file can't be read.
        DatabaseVersionError: A newer version of this package wrote it.
    """
    path = Path(path).expanduser().absolute()
    revision = _revision_in(path)
    if (instead := _instead(revision, str(path))) is not None:
        return instead
    return StoreToRead(SQLiteStorage(path=path, provider_registry=provider_registry))


def postgres_to_read(
    env: Mapping[str, str], *, provider_registry: ProviderRegistry | None = None
) -> StoreToRead:
    """The store that ``BATCHOR_POSTGRES_DSN`` and ``BATCHOR_POSTGRES_SCHEMA`` name.

    Raises:
        InvalidInputError: ``BATCHOR_POSTGRES_DSN`` is not set.
        StorageError: The database can't be reached.
        DatabaseVersionError: A newer version of this package wrote it.
    """
    from batchor_core.storage.postgres import PostgresStorage, database_from_env

    database = database_from_env(env)
    try:
        instead = _instead(revision_of(database), database.where)
    finally:
        database.close()
    return instead or StoreToRead(PostgresStorage.from_env(env=env, provider_registry=provider_registry))


def _instead(revision: str | None, where: str) -> StoreToRead | None:
    """An empty store, if the one there can't be read as it is."""
    if revision is None:
        return StoreToRead(MemoryStateStore())
    if revision == HEAD:
        return None
    note = (
        f"the store {where} is of an earlier version, which the next run will bring up to date: its answers, caps and history are "
        "not counted"
    )
    return StoreToRead(MemoryStateStore(), note)


def _revision_in(path: Path) -> str | None:
    check_no_folder(path)
    if not path.is_file() or not path.stat().st_size:
        return None
    # as it is: our own connections would turn a database of somebody else's into one with a write-ahead log
    url = URL.create("sqlite", database=path.as_uri(), query={"mode": "rw", "uri": "true"})
    database = SQLiteDatabase(create_engine(url, hide_parameters=True), where=str(path))
    try:
        return revision_of(database)
    finally:
        database.close()
