"""A Delta Lake table for each asset: ``<base>/<asset key path>.delta``, partitioned by ``partition_key``.

A partition is replaced in one commit of the table's log, so that readers see all of its old rows or all of its new
ones. Facts that the rows don't show (that an empty partition has been written, how many answers did not fit their
model) are in the log too, as the versions of an application's transactions, which Delta keeps through checkpoints.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from batchor_core.core.arguments import shown
from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.core.outputs import OutputSpec
from batchor_core.tables.parquet_file import write_results_parquet
from batchor_core.tables.report import TableReport
from batchor_core.tables.safe_names import safe_path_segment
from batchor_core.tables.sink import PartitionFacts, PartitionsRead, ResultSink, ResultTable
from batchor_core.tables.stream import RowPages

if TYPE_CHECKING:  # takes a while to import, and is an extra
    from deltalake import DeltaTable

_TRIES = 20  # each partition that is written at the same time may cost one, while the table is made or grows a column
_PAUSE_MS = 500  # between two tries, at most
_NAME_BYTES = 255  # of a folder on common file systems


@dataclass(frozen=True)
class DeltaSink(ResultSink):
    """Delta Lake tables, by the package ``deltalake``: ``pip install batchor-core[delta]``.

    Credentials of object stores come from the environment. A partition's earlier rows stay in the table's history, and
    on disk, until the table is vacuumed.

    Attributes:
        url: Folder or URL of all tables; the default is the deployment's folder of results.
        partition_column: Name of the column of partition keys in a partitioned table.

    Raises:
        ImportError: ``deltalake`` is missing.
    """

    kind: ClassVar[str] = "delta"

    partition_column: str = "partition_key"

    def __post_init__(self) -> None:
        if find_spec("deltalake") is None:  # now, and not when a batch has been paid for
            raise ImportError("Delta tables need the package deltalake: pip install 'batchor-core[delta]'")
        if not isinstance(self.url, str | None) or self.url == "":
            raise InvalidInputError(f"url of a DeltaSink must be a str or None, not {shown(self.url)}")
        if not isinstance(self.partition_column, str) or not self.partition_column:
            raise InvalidInputError(
                f"partition_column must be the name of a column, not {shown(self.partition_column)}"
            )

    def table(self, base: str, key: Sequence[str]) -> ResultTable:
        """The Delta table of one asset."""
        # with a suffix: were the table of shop/reviews within that of shop, vacuuming this one would delete that one's files
        name = "/".join(map(safe_path_segment, key))
        return _DeltaTable(f"{(self.url or base).rstrip('/')}/{name}.delta", self.partition_column)


class _DeltaTable(ResultTable):
    def __init__(self, url: str, partition_column: str) -> None:
        self._url = url if "://" in url else str(Path(url).expanduser().absolute())
        if "://" not in url and unquote(self._url) != self._url:  # the package would look into another folder
            raise InvalidInputError(
                f"{self._url}: Delta reads the percent sign in this path as an escape; choose another folder as the sink's url"
            )
        self._column = partition_column

    def where(self, partition: str | None) -> str:
        return self._url

    def stored_schema(self, schema: pa.Schema) -> pa.Schema:
        return pa.schema([field.with_type(_stored_type(field.type)) for field in schema])

    def write(
        self,
        run: RowPages,
        partition: str | None,
        output: type[BaseModel] | OutputSpec | None,
    ) -> TableReport:
        self._check_key(partition)
        with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
            # a run is read once, however often its commit has to be tried
            path = Path(folder, "results.parquet")
            report = write_results_parquet(run, path, output)
            schema = self._schema(report.schema, partition)
            facts = self._put(path, schema, partition, report)
        return replace(report, uri=self._url, schema=schema, size_bytes=facts.size_bytes)

    def facts(self, partitions: Sequence[str | None]) -> list[PartitionFacts]:
        return list(self.facts_by_partition(partitions).values())

    def facts_by_partition(self, partitions: Sequence[str | None]) -> dict[str | None, PartitionFacts]:
        with self._errors():
            table = self._opened()
            if table is None:
                return {}
            schema, files = pa.schema(table.schema().to_arrow()), self._files(table)
            found = {}
            for key in partitions:
                answered = table.transaction_version(_transaction("answered", key))
                if answered is None:
                    continue
                unfitting = table.transaction_version(_transaction("unfitting", key)) or 0
                held = files.get(key, _Files())
                found[key] = PartitionFacts(schema, held.rows, answered, unfitting, held.size_bytes)
            return found

    def read(self, partitions: Sequence[str | None]) -> PartitionsRead:
        with self._errors():
            table = self._opened()
            if table is None:
                return PartitionsRead(None, partitions)
            files = self._files(table)
            missing = [
                key
                for key in partitions
                # one without rows has no files
                if key not in files and table.transaction_version(_transaction("answered", key)) is None
            ]
            written = [key for key in partitions if key not in set(missing)]
            if not written:
                return PartitionsRead(None, missing)
            dataset = table.to_pyarrow_dataset()
            if None not in written:
                dataset = dataset.filter(pc.field(self._column).isin(written))
            return PartitionsRead(dataset, missing)

    def _put(
        self, path: Path, schema: pa.Schema, partition: str | None, report: TableReport
    ) -> PartitionFacts:
        """Replace the partition's rows by those of a file; returns what it holds then."""
        from deltalake import CommitProperties, Transaction, WriterProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        facts = {
            "answered": report.row_count - report.failed_count,
            "unfitting": report.unfitting_count,
        }
        commit = CommitProperties(
            app_transactions=[
                Transaction(_transaction(name, partition), count) for name, count in facts.items()
            ]
        )
        where: dict[str, Any] = {"schema_mode": "overwrite"}
        if partition is not None:
            quoted = partition.replace("'", "''")
            column = self._column.replace('"', '""')
            where = {
                "schema_mode": "merge",
                "partition_by": [self._column],
                "predicate": f"\"{column}\" = '{quoted}'",
            }
        with self._errors():
            for left in reversed(range(_TRIES)):
                self._check_table(schema, partition)
                with pq.ParquetFile(path) as file:
                    batches = (self._stored(batch, schema, partition) for batch in file.iter_batches())
                    reader = pa.RecordBatchReader.from_batches(schema, batches)
                    try:
                        with at(Boundary.WRITE_TABLE):
                            write_deltalake(
                                self._url,
                                reader,
                                mode="overwrite",
                                writer_properties=WriterProperties(compression="ZSTD"),
                                commit_properties=commit,
                                **where,
                            )
                        [there] = self.facts([partition])
                        # Delta lets two first writes of a partition pass that don't see each other
                        if there.rows == report.row_count:
                            return there
                    except CommitFailedError:  # of two that make the table one has to see the other
                        if not left:
                            raise
                time.sleep(secrets.randbelow(_PAUSE_MS) / 1000)
        raise StorageError(
            f"{self._url}: other processes keep writing the same partition; materialize it again when they are done"
        )

    def _schema(self, results: pa.Schema, partition: str | None) -> pa.Schema:
        stored = self.stored_schema(results)
        if partition is None:
            return stored
        if self._column.casefold() in map(str.casefold, stored.names):
            raise InvalidInputError(
                f"{self._url}: the results have a column {self._column}, as the column of partition keys is called; "
                "rename that one with DeltaSink(partition_column=...)"
            )
        return stored.append(pa.field(self._column, pa.string()))

    def _stored(self, batch: pa.RecordBatch, schema: pa.Schema, partition: str | None) -> pa.RecordBatch:
        if partition is not None:
            keys = pa.repeat(pa.scalar(partition, pa.string()), batch.num_rows)
            batch = batch.append_column(self._column, keys)
        return batch.cast(schema)

    def _check_key(self, partition: str | None) -> None:
        if partition == "":
            raise InvalidInputError(
                f"{self._url}: Delta does not support an empty partition key; use another key"
            )
        if partition is not None and len(f"{self._column}={quote(partition)}") > _NAME_BYTES:
            raise InvalidInputError(
                f"{self._url}: the partition key {partition[:40]!r}... is too long for the name of a folder; shorten it"
            )

    def _check_table(self, schema: pa.Schema, partition: str | None) -> None:
        """Refuse columns whose type has changed: Delta would lose values, or raise an unclear error."""
        table = self._opened()
        if table is None:
            return
        wanted = [] if partition is None else [self._column]
        if table.metadata().partition_columns != wanted:
            raise InvalidInputError(
                f"{self._url} is partitioned by {table.metadata().partition_columns}, and would be by {wanted}; choose another "
                "url for the sink, or remove the table"
            )
        if partition is None:
            return  # all of it is replaced, its columns too
        there = pa.schema(table.schema().to_arrow())
        cases = {name.casefold(): name for name in there.names}
        for name in schema.names:
            if (known := cases.get(name.casefold(), name)) != name:
                raise InvalidInputError(
                    f"{self._url} has a column {known}, and the results have {name}: Delta can't tell them apart. Rename the field, "
                    "or choose another url for the sink"
                )
        problems = [
            f"{field.name} is {old.type} and would be {field.type}"
            for field in schema
            if (old := _field(there, field.name)) is not None and not _grows(old.type, field.type)
        ]
        if problems:
            raise InvalidInputError(
                f"{self._url} has columns of other types: {'; '.join(problems)}. A Delta table keeps its types: choose another url "
                "for the sink, or remove the table and materialize its partitions again"
            )

    def _opened(self) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self._url)
        except TableNotFoundError:
            return None

    def _files(self, table: DeltaTable) -> dict[str | None, _Files]:
        found: dict[str | None, _Files] = {}
        actions = pa.table(table.get_add_actions(flatten=True))
        has_keys = f"partition.{self._column}" in actions.column_names
        keys = actions[f"partition.{self._column}"].to_pylist() if has_keys else [None] * actions.num_rows
        sizes, rows = actions["size_bytes"].to_pylist(), actions["num_records"].to_pylist()
        for key, size, count in zip(keys, sizes, rows, strict=True):
            held = found.get(key, _Files())
            found[key] = _Files(held.rows + count, held.size_bytes + size)
        return found

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from deltalake.exceptions import DeltaError

        try:
            yield
        except DeltaError as error:
            said = str(error).partition("\n   0: ")[0]  # the package adds its own traceback
            raise StorageError(f"{self._url}: {said}") from error


@dataclass(frozen=True, slots=True)
class _Files:
    rows: int = 0
    size_bytes: int = 0


def _transaction(name: str, partition: str | None) -> str:
    return f"batchor.{name}" if partition is None else f"batchor.{name}:{partition}"


def _stored_type(kind: pa.DataType) -> pa.DataType:
    """The type in which Delta stores a column: it has no times, durations, vectors and unsigned numbers."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_stored_type(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", _stored_type(kind.value_type)))
    if pa.types.is_time(kind):
        return pa.string()
    if pa.types.is_duration(kind):
        return pa.int64()  # microseconds
    return pa.int16() if pa.types.is_uint8(kind) else kind


def _field(schema: pa.Schema, name: str) -> pa.Field | None:
    position = schema.get_field_index(name)
    return None if position < 0 else schema.field(position)


def _grows(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether a column of the old type accepts values of the new one; nested types may have gained or lost members."""
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        members = {field.name: field.type for field in old}
        return all(field.name not in members or _grows(members[field.name], field.type) for field in new)
    if pa.types.is_list(old) and pa.types.is_list(new):
        return _grows(old.value_type, new.value_type)
    return bool(old == new)
