"""SQLite's statements, compiled once in a process, whatever the number of databases that run them."""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy import Engine, MetaData, NullPool, create_engine, create_mock_engine
from sqlalchemy.util import LRUCache

from batchor_core.storage.sql_engine import driver_connection

_MOST_STATEMENTS = 500  # as many as SQLAlchemy keeps for an engine


def sharing_statements(engine: Engine) -> Engine:
    """An engine on the same pool that shares its compiled statements with all others of this process.

    By itself SQLAlchemy keeps them for each engine: the first run in each file would compile everything again, which is
    half of the time that a small run takes. It finds them by the dialect, which therefore has to be shared too.
    """
    shared = Engine(engine.pool, _dialect(), engine.url, hide_parameters=engine.hide_parameters)
    shared.update_execution_options(
        compiled_cache=_compiled()
    )  # in SQLAlchemy 2.0.30 a branch of a branch has no events
    return shared


@functools.cache
def creation(tables: MetaData) -> tuple[str, ...]:
    """The statements that create the tables and their indexes, in order."""
    statements: list[str] = []
    recorder = create_mock_engine(
        "sqlite://", lambda ddl, *_: statements.append(str(ddl.compile(dialect=_dialect())))
    )
    tables.create_all(recorder, checkfirst=False)
    return tuple(statements)


@functools.cache
def _dialect() -> Any:
    engine = create_engine("sqlite://", poolclass=NullPool)
    with driver_connection(engine):
        """The dialect learns SQLite's version from the first connection."""
    return engine.dialect


@functools.cache
def _compiled() -> LRUCache[Any, Any]:
    return LRUCache(_MOST_STATEMENTS)
