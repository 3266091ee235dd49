"""The store that a command uses, by its options and the profile."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchor_core.artifacts import ArtifactStore, LocalArtifactStore, ObjectStoreArtifactStore
from batchor_core.cli.profiles import Profile
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.state import StateStore

if TYPE_CHECKING:
    from batchor_core.storage.existing import StoreToRead


@dataclass(frozen=True, slots=True)
class Stores:
    """The store of a command's runs, and the place of their files.

    Attributes:
        db: ``--db``.
        postgres: ``--postgres``.
        schema: ``--postgres-schema``.
        artifacts: ``--artifacts``.
        prices: ``--prices``.
        profile: What counts where none of them is given.
        profile_name: ``--profile``.
    """

    db: Path | None = None
    postgres: bool = False
    schema: str | None = None
    artifacts: str | None = None
    prices: Path | None = None
    profile: Profile = field(default_factory=Profile)
    profile_name: str | None = None

    @contextmanager
    def store(self, *, create: bool = False) -> Iterator[StateStore]:
        """The store. Without ``create`` it must exist, since a mistyped name must not create an empty one.

        Raises:
            InvalidInputError: It is not there, or the options contradict each other.
        """
        store = self._opened(create=create)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def runner(
        self, *, create: bool = False, sleep: Callable[[float], None] | None = None
    ) -> Iterator[BatchRunner]:
        """A runner of the store, with the files of its runs."""
        with (
            self.store(create=create) as store,
            BatchRunner(
                storage=store,
                artifact_store=self.artifact_store(store),
                sleep=sleep,
                prices=self.prices or self.profile.prices,
            ) as runner,
        ):
            yield runner

    def artifact_store(self, store: StateStore) -> ArtifactStore | None:
        """Where the runs' files are; None for the store's own place."""
        where = self.artifacts or self.profile.artifacts
        if where is None:
            root = store.artifact_root()
            return None if root is None else LocalArtifactStore(root)
        return ObjectStoreArtifactStore(where) if "://" in where else LocalArtifactStore(where)

    def typed_again(self) -> str:
        """The options, for a command that the user can copy."""
        given: list[tuple[str, Any]] = [
            ("--profile", self.profile_name),
            ("--db", self.db),
            ("--postgres", self.postgres),
            ("--postgres-schema", self.schema),
            ("--artifacts", self.artifacts),
        ]
        words = [
            name if value is True else f"{name} {shlex.quote(str(value))}" for name, value in given if value
        ]
        return "".join(f" {word}" for word in words)

    def to_read(self) -> StoreToRead:
        """The store as it is: nothing is created or migrated, and where there is none, an empty one is returned."""
        from batchor_core.storage.existing import postgres_to_read, sqlite_to_read

        where = self._where()
        return sqlite_to_read(where) if isinstance(where, Path) else postgres_to_read(where)

    def _where(self) -> Path | Mapping[str, str]:
        """The SQLite file, or the environment that names a Postgres database."""
        db, postgres, schema = self.db, self.postgres, self.schema
        if db is None and not postgres:  # a store that was named counts, not a half of the profile's
            db = None if self.profile.db is None else Path(self.profile.db)
            postgres = bool(self.profile.postgres)
        if postgres:
            if db is not None:
                raise InvalidInputError("give --db or --postgres, not both")
            schema = schema or self.profile.postgres_schema
            return os.environ | ({"BATCHOR_POSTGRES_SCHEMA": schema} if schema else {})
        if schema:
            raise InvalidInputError(
                "--schema names a schema of Postgres: give it with --postgres, or leave it out"
            )
        # SQLAlchemy takes as long to import as all the rest
        from batchor_core.storage.sqlite import SQLiteStorage

        return (db or SQLiteStorage.default_path("default")).expanduser()

    def _opened(self, *, create: bool) -> StateStore:
        path = self._where()
        if not isinstance(path, Path):
            from batchor_core.storage.postgres import PostgresStorage

            return PostgresStorage.from_env(env=path, create=create)
        from batchor_core.storage.sqlite import SQLiteStorage

        if not create and not path.is_file():
            raise InvalidInputError(
                f"there is no database at {path}: batchor run creates one; choose another with --db, or use --postgres"
            )
        return SQLiteStorage(path=path, create=create)
