"""Both SQL stores, each on an empty database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from batchor_core.storage.postgres import PostgresStorage
from batchor_core.storage.sql import SQLStore
from batchor_core.storage.sqlite import SQLiteStorage
from tests.contract.stores.kit import registry
from tests.postgres_server import postgres_dsn, postgres_schema

Opener: TypeAlias = Callable[..., SQLStore]
"""Opens the same database again."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    with ExitStack() as stack:
        if request.param == "postgres":
            schema = stack.enter_context(postgres_schema())

        def opener(**options: Any) -> SQLStore:
            options.setdefault("provider_registry", registry())
            store: SQLStore
            if request.param == "postgres":
                store = PostgresStorage(dsn=postgres_dsn(), schema=schema, **options)
            else:
                store = SQLiteStorage(path=tmp_path / "store.sqlite3", **options)
            stack.callback(store.close)
            return store

        yield opener


@pytest.fixture
def store(open_store: Opener) -> SQLStore:
    return open_store()
