"""Which state store belongs to which name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from batchor_core.core.enums import StorageKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage.state import StateStore

StorageFactory: TypeAlias = Callable[[], StateStore]
"""Makes a store."""


class StorageRegistry:
    """Finds the factory of a state store by its kind. Starts empty."""

    def __init__(self) -> None:
        self._factories: dict[str, StorageFactory] = {}

    def register(self, *, kind: StorageKind | str, factory: StorageFactory) -> None:
        """Register a store under any name; a second registration of a name replaces the first."""
        if not isinstance(kind, str) or not kind:
            raise TypeError(f"kind must be a non-empty string, not {kind!r}")
        self._factories[str(kind)] = factory

    def create(self, kind: StorageKind | str) -> StateStore:
        """Make the store of this kind.

        Raises:
            InvalidInputError: Nothing is registered under it (a ValueError).
        """
        try:
            factory = self._factories[str(kind)]
        except KeyError:
            if (hint := _meant(str(kind))) is not None:
                raise InvalidInputError(f"storage={str(kind)!r} is not the name of a store. {hint}") from None
            known = ", ".join(repr(name) for name in sorted(self._factories)) or "none"
            raise InvalidInputError(
                f"no storage is registered as {str(kind)!r}; known: {known}. "
                "Add yours with registry.register(kind=..., factory=...)."
            ) from None
        return factory()


def _meant(kind: str) -> str | None:
    """The hint for somebody who gave a path or an address."""
    if kind.startswith(("postgres://", "postgresql")) and ":" in kind:
        return "For a Postgres database give storage=PostgresStorage(dsn=...), from batchor_core"
    if kind.startswith("sqlite:"):
        path = kind.partition(":")[2].removeprefix("///")
        return f"For a SQLite file pass storage=SQLiteStorage(path={path!r}), from batchor_core"
    if "/" in kind or "\\" in kind or kind.endswith((".sqlite3", ".sqlite", ".db", ".db3")):
        return f"For a SQLite file pass storage=SQLiteStorage(path={kind!r}), from batchor_core"
    return None


def build_default_storage_registry(*, provider_registry: ProviderRegistry | None = None) -> StorageRegistry:
    """Return a registry that knows SQLite (the default file), Postgres (by the environment) and memory.

    Args:
        provider_registry: Reads stored provider configs; by default the built-in one.
    """

    # imported when asked for: only Postgres needs psycopg, and SQLAlchemy takes a while
    def sqlite() -> StateStore:
        from batchor_core.storage.sqlite import SQLiteStorage

        return SQLiteStorage(provider_registry=provider_registry)

    def postgres() -> StateStore:
        from batchor_core.storage.postgres import PostgresStorage

        return PostgresStorage.from_env(provider_registry=provider_registry)

    def memory() -> StateStore:
        from batchor_core.storage.memory import MemoryStateStore

        return MemoryStateStore()

    registry = StorageRegistry()
    registry.register(kind=StorageKind.SQLITE, factory=sqlite)
    registry.register(kind=StorageKind.POSTGRES, factory=postgres)
    registry.register(kind=StorageKind.MEMORY, factory=memory)
    return registry
