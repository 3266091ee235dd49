"""Which store a command is about."""

from __future__ import annotations

from pathlib import Path

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import StateStore


def open_store(db: Path | None, *, postgres: bool, schema: str | None) -> StateStore:
    """The store that the options name; a SQLite file must be there, since a look must not make an empty one.

    Raises:
        InvalidInputError: It is not there, or the options contradict each other.
    """
    if postgres:
        if db is not None:
            raise InvalidInputError("give --db or --postgres, not both")
        import os

        from batchor_core.storage.postgres import SCHEMA_VARIABLE, PostgresStorage

        return PostgresStorage.from_env(env=os.environ | ({SCHEMA_VARIABLE: schema} if schema else {}))
    if schema:
        raise InvalidInputError(
            "--schema names a schema of Postgres: give it with --postgres, or leave it out"
        )
    path = (db or SQLiteStorage.default_path("default")).expanduser()
    if not path.is_file():
        raise InvalidInputError(f"there is no database at {path}; name one with --db, or use --postgres")
    return SQLiteStorage(path=path)
