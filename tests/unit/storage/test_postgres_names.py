"""Names of database schemas: plain identifiers, quoted, and nothing that could be more."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.storage.postgres import PostgresStorage
from tests.contract.stores.kit import RUN, create
from tests.postgres_server import postgres_dsn

HOSTILE: list[Any] = [
    *(
        "",
        " ",
        "a b",
        "a-b",
        "a.b",
        "a;b",
        'a"b',
        "a'b",
        "a`b",
        "a\nb",
        "a\0b",
        "1a",
        "$a",
        "a$",
        "é",
        "a" * 64,
        "public;",
    ),
    *(
        'x"; DROP SCHEMA public CASCADE; --',
        "x' OR '1'='1",
        "pg_catalog.pg_class",
        "%s",
        "{}",
        "a/*",
        "--",
        "\u2028",
        "ａ",
    ),
    *(None, 3, b"a", ["a"]),
]


@pytest.mark.parametrize("schema", HOSTILE, ids=ascii)
def test_a_name_that_could_be_more_is_refused_before_anybody_is_asked(schema: Any) -> None:
    with pytest.raises(InvalidInputError):
        PostgresStorage(dsn="postgresql://nobody@127.0.0.1:1/none", schema=schema)


@pytest.mark.postgres
@pytest.mark.parametrize("schema", ["select", "Order_By", "_x1", "T" * 63])
def test_words_of_sql_and_capitals_are_names(schema: str) -> None:
    store = PostgresStorage(dsn=postgres_dsn(), schema=schema)
    try:
        create(store, 2)
        assert len(store.claim_items_for_submission(run_id=RUN, max_attempts=1)) == 2
        with psycopg.connect(postgres_dsn()) as connection:
            found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone()
        assert found is not None
    finally:
        store.close()
        with psycopg.connect(postgres_dsn(), autocommit=True) as connection:
            connection.execute(
                psycopg.sql.SQL("DROP SCHEMA {} CASCADE").format(psycopg.sql.Identifier(schema))
            )
