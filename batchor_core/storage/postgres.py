"""The Postgres store: for drivers on several machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    Boolean,
    Connection,
    Double,
    Engine,
    Integer,
    LargeBinary,
    Table,
    any_,
    bindparam,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.core.validation import check_schema_identifier
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage import schema as tables
from batchor_core.storage.sql import SQLStore
from batchor_core.storage.sql_engine import (
    PLAIN,
    Constant,
    Database,
    literal,
    survive_fork,
)

DSN_VARIABLE = "BATCHOR_POSTGRES_DSN"
SCHEMA_VARIABLE = "BATCHOR_POSTGRES_SCHEMA"

_NO_DSN = (
    f"{DSN_VARIABLE} is not set. Set it to a DSN such as postgresql://user:password@host/database, "
    "or pass PostgresStorage(dsn=...) to the runner."
)

LOCK_TIMEOUT = "60s"
IDLE_TIMEOUT = "120s"
"""A transaction that is idle for longer has lost its process, and its locks would block others."""


class PostgresStorage(SQLStore):
    """A state store in a Postgres database, shared by any number of machines. Needs the ``postgres`` extra.

    Args:
        dsn: Such as ``postgresql://user:password@host/database``; psycopg 3 is the driver.
        schema: The database schema of the tables.
        now: Clock for tests; by default the database's.
        engine: An engine of your own instead of one made from ``dsn``.
        provider_registry: Reads stored provider configs; by default the built-in one.
        create: Whether schema and tables are created where there are none.

    Attributes:
        engine: The SQLAlchemy engine.
        schema: The schema's name.
        provider_registry: Reads stored provider configs.

    Raises:
        InvalidInputError: The DSN or the schema's name is not usable; or the schema has no tables, and ``create`` is False.
        StorageError: The database can't be reached.
        DatabaseVersionError: A newer version of this package wrote it.
    """

    def __init__(
        self,
        *,
        dsn: str,
        schema: str = "batchor",
        now: Callable[[], datetime] | None = None,
        engine: Engine | None = None,
        provider_registry: ProviderRegistry | None = None,
        create: bool = True,
    ) -> None:
        self.schema = check_schema_identifier(schema)
        database = PostgresDatabase(engine or _engine_for(dsn), schema=schema, now=now)
        super().__init__(database, provider_registry=provider_registry, create=create)

    @classmethod
    def from_env(
        cls,
        *,
        env: Mapping[str, str] | None = None,
        now: Callable[[], datetime] | None = None,
        provider_registry: ProviderRegistry | None = None,
        create: bool = True,
    ) -> PostgresStorage:
        """Open the store that ``BATCHOR_POSTGRES_DSN`` and ``BATCHOR_POSTGRES_SCHEMA`` (by default ``batchor``) name.

        Raises:
            InvalidInputError: ``BATCHOR_POSTGRES_DSN`` is not set; or there is no store, and ``create`` is False.
        """
        values = os.environ if env is None else env
        dsn = values.get(DSN_VARIABLE)
        if not dsn:
            raise InvalidInputError(_NO_DSN)
        schema = values.get(SCHEMA_VARIABLE) or "batchor"
        return cls(dsn=dsn, schema=schema, now=now, provider_registry=provider_registry, create=create)

    def __repr__(self) -> str:
        return f"PostgresStorage({self.database.where})"


class PostgresDatabase(Database):
    """Postgres' side of the SQL store."""

    def __init__(self, engine: Engine, *, schema: str, now: Callable[[], datetime] | None = None) -> None:
        branch = engine.execution_options(schema_translate_map={None: schema})
        event.listen(branch, "before_cursor_execute", _ask_for_binary)
        super().__init__(branch, now=now)
        self._schema = schema
        self.where = f"{engine.url.render_as_string(hide_password=True)}, schema {schema}"

    @property
    def schema(self) -> str | None:
        return self._schema

    def _begin_read(self, connection: Connection) -> None:
        connection.execute(_PLANNER)

    def _begin_write(self, connection: Connection) -> None:
        # for this transaction only: a pooler hands the connection to others afterwards. Durable commits are what keeps
        # a batch from being paid twice, so they are not left to the server's default.
        connection.execute(_SETTINGS)

    def _is_passing(self, error: DBAPIError) -> bool:
        # no connection, one that broke, a lock that did not come in time
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)

    def _database_time(self, connection: Connection) -> float:
        # not now(), which stands still within a transaction
        return float(connection.execute(_CLOCK).scalar_one())

    def insert_many(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        if not rows:
            return
        import psycopg

        names = [*same, *columns]
        types = [_driver_type(table.c[name].type) for name in names]
        constant = tuple(same.values())
        raw: Any = connection.connection.driver_connection  # within SQLAlchemy's transaction
        copy_in = f"COPY {self.name_of(table)} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
        try:
            with raw.cursor() as cursor, cursor.copy(copy_in) as copy:
                copy.set_types(types)
                for row in rows:
                    copy.write_row((*constant, *row))
        except psycopg.IntegrityError as error:
            raise IntegrityError(f"COPY {table.name}", None, error) from error
        except psycopg.Error as error:
            raise StorageError(
                f"{self.where}: {error}", is_passing=isinstance(error, psycopg.OperationalError)
            ) from error

    def _update_items(
        self,
        connection: Connection,
        run_key: int,
        columns: Sequence[str],
        rows: list[tuple[Any, ...]],
        *,
        same: Mapping[str, Constant],
    ) -> None:
        # one statement with a list per column; row by row would be a round trip of parsing each
        # the run's key is in a list too: as a condition of its own it would let the planner, who thinks a run small until
        # statistics tell otherwise, go through all items of the run for every row
        changed = ", ".join(
            [f"{name} = {literal(value)}" for name, value in same.items()]
            + [f"{name} = change.{name}" for name in columns]
        )
        names = [*columns, "item_index", "run_key"]
        lists = ", ".join(f"%s::{_driver_type(tables.items.c[name].type)}[]" for name in names)
        sql = (  # our own names, and a schema that is checked and quoted
            f"UPDATE {self.name_of(tables.items)} AS item SET {changed} "  # noqa: S608
            f"FROM UNNEST({lists}) AS change ({', '.join(names)}) "
            "WHERE item.run_key = change.run_key AND item.item_index = change.item_index"
        )
        lists_of_values = [*map(list, zip(*rows, strict=True)), [run_key] * len(rows)]
        connection.exec_driver_sql(sql, tuple(lists_of_values))

    def among(self, column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
        return column == any_(bindparam(None, list(values), type_=ARRAY(column.type)))

    def find_requests(
        self, connection: Connection, index: Table, scope_key: int | None, short_addresses: Sequence[int]
    ) -> list[tuple[int, int, int]]:
        sql = (
            f"SELECT short_address, run_key, item_index FROM {self.name_of(index)} "  # noqa: S608 - our own names
            "WHERE scope_key = %s AND short_address = ANY(%s::bigint[])"
        )
        found: Any = connection.exec_driver_sql(sql, (scope_key, list(short_addresses))).cursor
        return list(found)

    def lock_for_migration(self, connection: Connection) -> None:
        self._lock(connection, f"batchor migration of {self._schema}")

    def lock_budget(self, connection: Connection, key: str) -> None:
        self._lock(connection, f"batchor budget of {self._schema}: {key}")

    def _lock(self, connection: Connection, name: str) -> None:
        # of the transaction, not of the connection: those don't survive a pooler
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    def create_namespace(self, connection: Connection) -> None:
        # IF NOT EXISTS asks for the right to create one even where it exists
        exists = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
        if connection.execute(exists, {"name": self._schema}).first() is None:
            name = self.engine.dialect.identifier_preparer.quote(self._schema)
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")


def database_from_env(env: Mapping[str, str]) -> PostgresDatabase:
    """The database that the environment names, as it is: nothing is created in it.

    Raises:
        InvalidInputError: ``BATCHOR_POSTGRES_DSN`` is not set, or a variable is not usable.
    """
    dsn = env.get(DSN_VARIABLE)
    if not dsn:
        raise InvalidInputError(_NO_DSN)
    schema = check_schema_identifier(env.get(SCHEMA_VARIABLE) or "batchor")
    return PostgresDatabase(_engine_for(dsn), schema=schema)


def _ask_for_binary(
    _connection: Connection, cursor: Any, _sql: str, _parameters: object, context: Any, _many: bool
) -> None:
    """Transfer many rows in binary: otherwise bytes, such as request lines, are sent as hexadecimal digits."""
    if context is not None and context.execution_options.get(PLAIN):
        cursor.format = _BINARY


_BINARY = 1
_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::float8")
# Each of our statements follows an index and stops early. Until the statistics have caught up with a table that has just
# been filled, the planner thinks it small, and would rather collect all rows of a run, and sort them or go through them for
# each row of another table, for every page anew.
# Compiling a statement (jit) takes longer than running one of ours, and to servers before version 18 a plan that can't do
# without a method that is switched off looks dear enough for it.
_OFF = (
    "enable_bitmapscan",
    "enable_hashjoin",
    "enable_material",
    "enable_mergejoin",
    "enable_seqscan",
    "enable_sort",
    "jit",
)
_FOLLOW_INDEXES = ", ".join(f"set_config('{setting}', 'off', true)" for setting in _OFF)
_PLANNER = text(f"SELECT {_FOLLOW_INDEXES}")
_SETTINGS = text(
    f"SELECT {_FOLLOW_INDEXES}, set_config('lock_timeout', '{LOCK_TIMEOUT}', true), "
    f"set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}', true), "
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
    "WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
)


def _driver_type(column_type: TypeEngine[Any]) -> str:
    """Postgres' name of a type. Binary COPY converts nothing: each value has to come in its column's own type."""
    match column_type:
        case BigInteger():
            return "int8"
        case Integer():
            return "int4"
        case Boolean():
            return "bool"
        case Double():
            return "float8"
        case LargeBinary():
            return "bytea"
        case _:
            return "text"


def _engine_for(dsn: str) -> Engine:
    engine = create_engine(_url(dsn), pool_pre_ping=True, hide_parameters=True)
    survive_fork(engine)
    return engine


def _url(dsn: str) -> URL:
    try:
        url = make_url(dsn)
    except ArgumentError:
        # the DSN itself is left out: it may hold a password
        raise InvalidInputError(
            "the Postgres DSN is not a URL such as postgresql://user:password@host/database"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "postgresql":
        raise InvalidInputError(f"a Postgres DSN begins with postgresql://, not {url.drivername}://")
    return url
