"""A database as the SQL store sees it: transactions, a clock, and the few statements in which the dialects differ."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, Executable, MetaData, Row, Table
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core.boundaries import Boundary, boundary
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import StorageError

Constant: TypeAlias = int | str | None
"""A value that many rows have in common."""

AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
"""A row of whatever columns."""


def without_constants(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key_last: bool = False
) -> tuple[dict[str, Constant], list[str], list[tuple[Any, ...]]]:
    """Columns that every row has the same plain value in, and the names and values of the others.

    Drivers take their time for each parameter, be it NULL. The first column, by which rows are told apart, stays; with
    ``key_last`` it becomes the last one.
    """
    same: dict[str, Constant] = {}
    names: list[str] = []
    varying: list[tuple[Any, ...]] = []
    for name, values in zip(columns, zip(*rows, strict=True), strict=True):
        if names and values[0] in _PLAIN_VALUES and values.count(values[0]) == len(values):
            same[name] = values[0]
        else:
            names.append(name)
            varying.append(values)
    if key_last:
        names.append(names.pop(0))
        varying.append(varying.pop(0))
    return same, names, list(zip(*varying, strict=True))


# few enough that the statements with them in their text are few, too
_PLAIN_VALUES = (None, False, True, "", *(status.value for status in ItemStatus))


def literal(value: Constant) -> str:
    """The value as SQL."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)


PLAIN = "batchor_plain"
"""Execution option of the statements whose rows are taken as the driver gives them."""


def plain_rows(
    connection: Connection, statement: Executable, values: Mapping[str, Any] | None = None
) -> Iterator[tuple[Any, ...]]:
    """The rows of a query one by one, as the driver gives them, for queries of thousands of rows.

    Nothing is converted: on SQLite a boolean comes as 0 or 1. SQLAlchemy's own row objects would take as long again as the
    query, and a list of all rows would be one more thing for the garbage collector to look through.
    """
    cursor: Any = connection.execute(statement, values, execution_options={PLAIN: True}).cursor
    with closing(cursor):
        yield from cursor


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@contextmanager
def driver_connection(engine: Engine) -> Iterator[Any]:
    """The driver's own connection, for upkeep that changes no row and so needs no boundary."""
    with closing(engine.raw_connection()) as pooled:
        yield pooled.driver_connection


def survive_fork(engine: Engine) -> None:
    """A child process must not use, or close, its parent's connections: their locks and their sockets are the parent's."""
    if not hasattr(os, "register_at_fork"):
        return
    reference = weakref.ref(engine)

    def forget() -> None:
        inherited = reference()
        if inherited is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


class Database(ABC):
    """An engine, and what SQLite and Postgres do differently.

    Attributes:
        engine: The SQLAlchemy engine.
        where: Name of the database for messages, without a password.
    """

    where: str

    def __init__(self, engine: Engine, *, now: Callable[[], datetime] | None) -> None:
        self.engine = engine
        self._writer = engine.execution_options(batchor_write=True)
        self._now = now

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads and does not block others."""
        with self._translated(), self._connect(writes=False) as connection, connection.begin():
            self._begin_read(connection)
            yield connection

    @contextmanager
    def write(self, name: Boundary) -> Iterator[Connection]:
        """A transaction that writes. It is committed, durably, when the block ends, and rolled back when it raises."""
        with self._translated(), self._connect(writes=True) as connection, connection.begin():
            self._begin_write(connection)
            yield connection
            boundary(name, "before")
        boundary(name, "after")
        self._after_write()

    def _connect(self, *, writes: bool) -> AbstractContextManager[Connection]:
        """A connection for one transaction."""
        return (self._writer if writes else self.engine).connect()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # the statement's author knows what it means
        except DBAPIError as error:
            message = f"{self.where}: {self._explained(error)}"
            raise StorageError(message, is_passing=self._is_passing(error)) from error

    def _is_passing(self, error: DBAPIError) -> bool:
        """Whether the database may be usable again after a while."""
        return error.connection_invalidated

    def _explained(self, error: DBAPIError) -> str:
        """The database's own words, and what a user can do."""
        return str(error.orig)

    def now(self, connection: Connection) -> float:
        """Seconds since the epoch, by the clock that was given or else the database's."""
        return self._database_time(connection) if self._now is None else _timestamp(self._now())

    def time(self) -> float:
        """:meth:`now` outside a transaction; asks the database only if the clock is its own."""
        if self._now is not None:
            return _timestamp(self._now())
        with self.read() as connection:
            return self._database_time(connection)

    def name_of(self, table: Table) -> str:
        """The table's quoted name with its schema, for statements that go straight to the driver."""
        preparer = self.engine.dialect.identifier_preparer
        schema = self.schema
        name = preparer.quote(table.name)
        return f"{preparer.quote(schema)}.{name}" if schema else name

    @property
    def schema(self) -> str | None:
        """The schema that holds the tables, where there are schemas."""
        return None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _begin_read(self, connection: Connection) -> None:
        """Settings of a reading transaction."""

    def _begin_write(self, connection: Connection) -> None:
        """Settings of a write transaction."""

    def _after_write(self) -> None:
        """Periodic work after a commit."""

    @abstractmethod
    def _database_time(self, connection: Connection) -> float: ...

    @abstractmethod
    def insert_many(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        """Insert tuples; IntegrityError when one is there already.

        ``same`` are columns that every row has the same value in, such as the run's key. Columns that are not named are
        NULL.
        """

    def insert_long(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        """:meth:`insert_many` for rows of many megabytes."""
        self.insert_many(connection, table, columns, rows, same=same)

    def change_items(
        self,
        connection: Connection,
        run_key: int,
        columns: Sequence[str],
        rows: list[Any],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        """Set columns of items, each row to values of its own; a row begins with its item_index.

        ``same`` are columns that are set alike in every row.
        """
        if rows:
            constants, names, varying = without_constants(("item_index", *columns), rows, key_last=True)
            self._update_items(connection, run_key, names[:-1], varying, same=constants | dict(same))

    @abstractmethod
    def _update_items(
        self,
        connection: Connection,
        run_key: int,
        columns: Sequence[str],
        rows: list[tuple[Any, ...]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        """:meth:`change_items` with rows whose last value is their item_index, like the last placeholder of the condition."""

    @abstractmethod
    def among(self, column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
        """Whether the column is one of any number of values, as one bound parameter."""

    @abstractmethod
    def find_requests(
        self, connection: Connection, index: Table, scope_key: int | None, short_addresses: Sequence[int]
    ) -> list[tuple[int, int, int]]:
        """What the index of requests has of a scope: short address, run key and item index of each that is there.

        A statement of its own, since it is run for every thousand rows that are read, and mostly finds nothing.
        """

    @abstractmethod
    def lock_for_migration(self, connection: Connection) -> None:
        """Let one process at a time create or migrate the tables, until the transaction ends."""

    @abstractmethod
    def lock_budget(self, connection: Connection, key: str) -> None:
        """Let one transaction at a time decide about a shared budget, until it ends."""

    @abstractmethod
    def create_namespace(self, connection: Connection) -> None:
        """Create what has to be there before the tables."""

    def create_tables(self, connection: Connection, tables: MetaData) -> None:
        """Create tables, of which there are none yet."""
        tables.create_all(connection, checkfirst=False)

    def describe_tables(self, connection: Connection) -> None:
        """Tell the planner what the tables will hold, where it does not find out by itself."""
