"""Rows of queries: their values, their parameters, and what is said when a query fails."""

from __future__ import annotations

import datetime as dt
import decimal
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import adbc_driver_sqlite.dbapi
import pytest
import sqlalchemy as sa

from batchor_core import SqlItemSource
from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from tests.postgres_server import postgres_dsn

UTC = dt.timezone(dt.timedelta(0))
ID = uuid.UUID(int=7)


def rows(connection: Any, query: Any, params: Any = None) -> list[dict[str, Any]]:
    source = SqlItemSource(
        connection,
        query,
        params,
        item_id_from_row=lambda row: str(next(iter(row.values()))),
        payload_from_row=lambda row: row,
    )
    return [item.payload for item in source]


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "rows.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table rows (id integer, value)")
        values = [None, "text", 5, 2.5, b"\xff", "12:30 :x"]
        connection.executemany("insert into rows values (?, ?)", enumerate(values))
    return f"sqlite:///{path}"


@pytest.fixture
def adbc(url: str) -> Iterator[Any]:
    with adbc_driver_sqlite.dbapi.connect(url.removeprefix("sqlite:///")) as connection:
        yield connection


# --- what comes out --------------------------------------------------------------------------------------------------


def test_a_column_of_mixed_types_keeps_them(url: str) -> None:
    found = [row["value"] for row in rows(url, "select * from rows order by id")]
    assert found == [None, "text", 5, 2.5, b"\xff", "12:30 :x"]


def test_a_column_may_be_null_for_very_long(url: str) -> None:
    query = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 12000) "
        "select i, case when i = 12000 then 'x' end as late from n"
    )
    found = rows(url, query)
    assert len(found) == 12_000
    assert [row["late"] for row in found[-2:]] == [None, "x"]


def test_values_come_as_sqlalchemy_gives_them(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/typed.sqlite3")
    table = sa.Table(
        "typed",
        sa.MetaData(),
        sa.Column("id", sa.Integer),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("at", sa.DateTime),
        sa.Column("day", sa.Date),
        sa.Column("time", sa.Time),
        sa.Column("wait", sa.Interval),
        sa.Column("key", sa.Uuid),
        sa.Column("json", sa.JSON),
        sa.Column("flag", sa.Boolean),
    )
    value = {
        "id": 2**60,
        "price": decimal.Decimal("1.10"),
        "at": dt.datetime.fromisoformat("2026-01-02T03:04:05.000006"),
        "day": dt.date(2026, 1, 2),
        "time": dt.time(3, 4),
        "wait": dt.timedelta(days=-1, microseconds=3),
        "key": ID,
        "json": {"date": "2026", "dict": [1, {"bytes": None}]},
        "flag": True,
    }
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), value)
        connection.execute(table.insert(), {"id": 1})
    first, second = rows(engine, sa.select(table))
    assert first == value
    assert [type(one) for one in first.values()] == [type(one) for one in value.values()]
    assert second == {"id": 1} | dict.fromkeys([*value][1:])
    assert rows(engine, sa.select(table.c.id).where(table.c.id < sa.bindparam("most")), {"most": 5}) == [
        {"id": 1}
    ]
    engine.dispose()


def test_parameters_have_names(url: str) -> None:
    query = "select id, '12:30' as at from rows where id in (:one, :other) order by id"
    assert rows(url, query, {"one": 5, "other": 1}) == [{"id": 1, "at": "12:30"}, {"id": 5, "at": "12:30"}]


def test_colons_and_percent_signs_are_not_parameters_without_any(url: str) -> None:
    assert rows(url, "select id from rows where value = '12:30 :x' and 'a%s' like 'a%%'") == [{"id": 5}]


def test_adbc_has_the_parameters_of_its_driver(adbc: Any) -> None:
    query = "select id, 'x' as text from rows where id in (?, ?) order by id"
    assert rows(adbc, query, [5, 1]) == [{"id": 1, "text": "x"}, {"id": 5, "text": "x"}]


@pytest.mark.postgres
def test_postgres_gives_its_own_types_through_a_cursor_of_the_server() -> None:
    url = sa.make_url(postgres_dsn()).set(drivername="postgresql+psycopg")
    statements: list[str] = []
    engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(type(cursor).__name__)

    query = """
        select n, n::numeric / 4 as quarter, array[n, null] as list, '{"a": [1]}'::jsonb as json, timestamptz '2026-01-01 00:00Z' as at,
               '00000000-0000-0000-0000-000000000007'::uuid as key, '\\x00ff'::bytea as bytes, interval '1 day' as wait, '12:30' as text
        from generate_series(1, 2500) as n
    """
    found = rows(engine, query)
    engine.dispose()
    assert len(found) == 2_500
    assert found[1] == {
        "n": 2,
        "quarter": decimal.Decimal("0.5"),
        "list": [2, None],
        "json": {"a": [1]},
        "at": dt.datetime(2026, 1, 1, tzinfo=UTC),
        "key": ID,
        "bytes": b"\x00\xff",
        "wait": dt.timedelta(days=1),
        "text": "12:30",
    }
    assert statements == ["ServerCursor"]


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connection", "problem"),
    [
        ("nonsense", "SQLAlchemy can't read the database URL"),
        ("postgres//user:secret@host", "SQLAlchemy can't read the database URL"),
        (None, "needs a SQLAlchemy URL or Engine, or an ADBC connection, and not a NoneType"),
        (sqlite3.connect, "and not a builtin_function_or_method"),
    ],
)
def test_what_is_no_connection_is_refused_at_once(connection: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem) as caught:
        rows(connection, "select 1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("query", [None, 5, Path("query.sql")])
def test_what_is_no_query_is_refused_at_once(url: str, adbc: Any, query: Any) -> None:
    for connection in (url, adbc):
        with pytest.raises(InvalidInputError, match=r"quer.* must be SQL"):
            rows(connection, query)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("select * from elsewhere", "query: the query failed: .*no such table: elsewhere"),
        ("select 1 as a, 2 as a", "query, column 'a': there are two columns of this name"),
        ("selec", "query: the query failed: .*syntax error"),
    ],
)
def test_a_query_that_fails_is_told_in_words(url: str, adbc: Any, query: str, problem: str) -> None:
    for connection in (url, adbc):
        with pytest.raises(SourceRowError, match=problem):
            rows(connection, query)


def test_a_statement_without_rows_is_refused(url: str) -> None:
    with pytest.raises(SourceRowError, match="the query returns no rows; it must be a SELECT"):
        rows(url, "create table other (id)")


def test_parameters_and_passwords_are_not_told(tmp_path: Path) -> None:
    with pytest.raises(SourceRowError) as caught:
        rows(f"sqlite:///{tmp_path}/x.sqlite3", "select * from nothing where a = :key", {"key": "secret"})
    assert "secret" not in str(caught.value)
    with pytest.raises(SourceRowError, match="A value is required for bind parameter 'b'") as caught:
        rows(f"sqlite:///{tmp_path}/x.sqlite3", "select :a + :b", {"a": "secret"})
    assert "secret" not in str(caught.value)
    source = SqlItemSource(
        "postgresql+psycopg://user:secret@host/sales", "select 1", item_id_from_row=lambda row: "x"
    )
    assert source.source_identity().source_ref == "postgresql://host/sales"


# --- identity --------------------------------------------------------------------------------------------------------


def test_database_query_and_parameters_identify_the_rows(url: str) -> None:
    def identity(connection: Any, query: Any = "select 1", params: Any = None) -> str:
        source = SqlItemSource(connection, query, params, item_id_from_row=lambda row: "x")
        return source.source_identity().source_fingerprint

    table = sa.table("rows", sa.column("id"))
    assert identity(url) == identity(sa.create_engine(url)) == identity(sa.make_url(url))
    assert identity("postgresql+psycopg://a:b@one:1/sales") == identity("postgresql+psycopg2://c@other/sales")
    assert identity(url, "select 1", {"a": 1, "b": 2}) == identity(url, "select 1", {"b": 2, "a": 1})
    different = [
        identity(url),
        identity("sqlite:///other.sqlite3"),
        identity(url, "select 2"),
        identity(url, "select 1", {"a": 1}),
        identity(url, sa.select(table)),
        identity(url, sa.select(table).where(table.c.id == 5)),
        identity(url, sa.select(table).where(table.c.id == 6)),
    ]
    assert len(set(different)) == len(different)


def test_a_value_that_its_columns_type_can_not_read_is_named_with_its_place(url: str) -> None:
    table = sa.Table("rows", sa.MetaData(), sa.Column("id"), sa.Column("value", sa.DateTime))
    with pytest.raises(
        SourceRowError, match=r"line 1: a value doesn't fit the type .* read the column as text"
    ):
        rows(url, sa.select(table).where(table.c.id == 1))


def test_a_driver_that_fails_among_the_rows_is_told_in_words(adbc: Any) -> None:
    """ADBC takes the types from the first rows, and raises an OSError where a later one has another."""
    query = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) "
        "select i as id, case when i > 2000 then 'text' else i end as value from n"
    )
    with pytest.raises(SourceRowError, match=r"query: the query failed: .*Type mismatch"):
        rows(adbc, query)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(SourceRowError, match=r"the package of the database's driver is missing: .*oracledb"):
        rows("oracle+oracledb://reader@db/sales", "select 1 as id")
