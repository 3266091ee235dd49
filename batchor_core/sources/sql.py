"""The rows of an SQL query as items, through SQLAlchemy or an ADBC driver."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import PayloadT
from batchor_core.sources.arrow_rows import check_columns
from batchor_core.sources.base import SourceIdentity
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row
from batchor_core.sources.snapshot import BATCH_ROWS, RowStream, TableItemSource
from batchor_core.sources.typed_json import JSON_SCHEMA, json_batches

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Executable


class SqlItemSource(TableItemSource[PayloadT]):
    """The rows of a query as items.

    A run first copies the rows to its artifacts while the query streams, and reads them from that copy. The query runs
    once, a crash does not run it again, and changes in the database do not affect a run that has begun. An active run
    is identified by the query, its parameters and the database's name. A finished run that is started again runs the
    query again and is refused if the rows have changed (``on_change="keep"`` skips that).

    Arguments besides those of :class:`~batchor_core.sources.TableItemSource`:
        connection: A SQLAlchemy URL, which is never stored, or Engine; or an open ADBC connection
            (``adbc_driver_*.dbapi.connect(...)``), whose rows come as Arrow.
        query: SQL; for SQLAlchemy also a ``select()``.
        params: For SQLAlchemy a dict for ``:name`` in the query, for ADBC a sequence for its placeholders.

    Raises:
        InvalidInputError: The connection is none of these, or the URL is invalid.
        SourceRowError: While reading: the query fails, or a row can't be used.
    """

    kind = "sql"

    def __init__(
        self,
        connection: str | URL | Engine | Any,
        query: str | Executable,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT] | None = None,
        metadata_from_row: MetadataFromRow | None = None,
        name: str = "query",
        primary_key: str | None = None,
        partition_id: str | None = None,
    ) -> None:
        super().__init__(
            name,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
        )
        is_adbc = hasattr(connection, "adbc_get_info")
        self._database: _Adbc | _SqlAlchemy = _Adbc(connection) if is_adbc else _SqlAlchemy(connection)
        self._query = self._database.checked(query)
        self._params = params

    def source_identity(self) -> SourceIdentity:
        """The kind, the database without user and password, and a digest of database name, query and parameters."""
        asked = repr([self._database.name, *self._database.said(self._query, self._params)])
        digest = hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        return SourceIdentity(self.kind, self._database.ref, f"blake2b:{digest}")

    def stream(self) -> RowStream:
        """Run the query."""
        return self._database.stream(self._query, self._params, self.mapping.error)


class _SqlAlchemy:
    def __init__(self, connection: Any) -> None:
        from sqlalchemy import URL, Engine, make_url
        from sqlalchemy.exc import ArgumentError

        self._engine = connection if isinstance(connection, Engine) else None
        if not isinstance(connection, str | URL | Engine):
            kind = type(connection).__name__
            raise InvalidInputError(
                f"a query needs a SQLAlchemy URL or Engine, or an ADBC connection, and not a {kind}"
            )
        try:
            self._url = connection.url if isinstance(connection, Engine) else make_url(connection)
        except ArgumentError:
            raise InvalidInputError(
                "SQLAlchemy can't read the database URL; it should look like postgresql+psycopg://user:password@host/name"
            ) from None
        self.name = f"{self._url.get_backend_name()}/{self._url.database or ''}"
        host = f"{self._url.host}/" if self._url.host else "/"
        self.ref = f"{self._url.get_backend_name()}://{host}{self._url.database or ''}"

    def checked(self, query: Any) -> Any:
        from sqlalchemy import Executable

        if not isinstance(query, str | Executable):
            raise InvalidInputError(
                f"a query must be SQL, or a select() of SQLAlchemy, and is {shown(query)}"
            )
        return query

    def said(self, query: Any, params: Any) -> list[str]:
        if isinstance(query, str):
            return [query, repr(_sorted(params))]
        compiled = query.compile()
        return [str(compiled), repr(_sorted(compiled.params)), repr(_sorted(params))]

    def stream(self, query: Any, params: Any, problem: Any) -> RowStream:
        return RowStream(JSON_SCHEMA, self._batches(query, params, problem))

    def _batches(self, query: Any, params: Any, problem: Any) -> Iterator[pa.RecordBatch]:
        from sqlalchemy.exc import SQLAlchemyError, StatementError

        try:
            with self._connected() as connection:
                rows = self._rows(connection, query, params, problem)
                yield from json_batches(rows, BATCH_ROWS, problem)
        except ImportError as error:
            raise problem(f"the package of the database's driver is missing: {error}; install it") from error
        except SQLAlchemyError as error:  # its own text holds the parameters
            said = error.orig if isinstance(error, StatementError) else error
            raise problem(f"the query failed: {type(said).__name__}: {said}") from error

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        from sqlalchemy import create_engine

        engine = create_engine(self._url) if self._engine is None else self._engine
        try:
            with engine.connect() as connection:
                yield connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS)
        finally:
            if self._engine is None:
                engine.dispose()

    @staticmethod
    def _rows(connection: Connection, query: Any, params: Any, problem: Any) -> Iterator[dict[str, Any]]:
        from sqlalchemy import text

        if isinstance(query, str) and params is None:  # with text(), colons in the SQL would be parameters
            result = connection.exec_driver_sql(query)
        else:
            result = connection.execute(text(query) if isinstance(query, str) else query, params)
        if not result.returns_rows:
            raise problem("the query returns no rows; it must be a SELECT")
        names = list(result.keys())
        check_columns(names, problem)
        rows = iter(result.yield_per(BATCH_ROWS))
        for line in count(1):
            try:
                row = next(rows, None)
            except (
                ValueError,
                TypeError,
                ArithmeticError,
            ) as error:  # of a column's type, which SQLAlchemy lets through
                # the driver hands over many rows at a time, so this is the first of them
                raise problem(
                    f"a value doesn't fit the type of its column ({error}); it is in this row or one of the next "
                    f"{BATCH_ROWS:,}. Correct it, or read the column as text, with sqlalchemy.String or CAST",
                    line=line,
                ) from error
            if row is None:
                return
            yield dict(zip(names, row, strict=True))


class _Adbc:
    name = "adbc"
    ref = "an ADBC connection"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def checked(self, query: Any) -> Any:
        if not isinstance(query, str):
            raise InvalidInputError(f"an ADBC query must be SQL, and is {shown(query)}")
        return query

    def said(self, query: Any, params: Any) -> list[str]:
        return [query, repr(_sorted(params))]

    def stream(self, query: Any, params: Any, problem: Any) -> RowStream:
        batches = self._batches(query, params, problem)
        schema: pa.Schema = next(batches)
        check_columns(schema.names, problem)
        return RowStream(schema, batches)

    def _batches(self, query: Any, params: Any, problem: Any) -> Iterator[Any]:
        """The schema first, then the batches."""
        from adbc_driver_manager import Error

        try:
            with closing(self._connection.cursor()) as cursor:
                cursor.execute(query, params)
                reader = cursor.fetch_record_batch()
                yield reader.schema
                yield from reader
        except (
            Error,
            pa.ArrowException,
            OSError,
        ) as error:  # in the middle of the rows, drivers raise OSError
            raise problem(f"the query failed: {error}") from error


def _sorted(params: Any) -> Any:
    return sorted(params.items()) if isinstance(params, Mapping) else params
