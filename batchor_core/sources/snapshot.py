"""Rows of tables, and the snapshot of them that a run keeps: an Arrow file in the run's artifacts.

Another process can't jump to row 70,000 of a frame or a query, and a query may return other rows the second time. So
all rows are stored before the first of them becomes an item, and reading resumes from that file after a crash. The file
appears in the artifacts only when it is complete; a process that dies while writing leaves nothing that is mistaken for
one. Each file has a random mark, which is part of every checkpoint, so that rows of two files are never mixed.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ClassVar, NamedTuple, TypeAlias

import pyarrow as pa

from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.core.models import BatchItem, PayloadT
from batchor_core.core.plain import json_safe, without_missing
from batchor_core.core.types import JSONValue
from batchor_core.sources.arrow_batches import even_batches, plain_schema
from batchor_core.sources.arrow_rows import UnfitValue, check_columns, python_rows
from batchor_core.sources.base import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    RowPlaces,
    SnapshotFile,
    Snapshots,
    SourceIdentity,
    checkpoint_index,
)
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, RowMapping
from batchor_core.sources.typed_json import IS_JSON, rows_of_json

BATCH_ROWS = 1_000
"""Rows of each batch in a snapshot: so many are read at least to reach a row, and at most kept in memory."""

_MARK = b"batchor.snapshot"

Checkpoint: TypeAlias = tuple[int, str | None]


class RowStream(NamedTuple):
    """Rows to be read once, a batch at a time.

    Attributes:
        schema: Their columns. Metadata under ``IS_JSON`` says that each row is one text.
        batches: The rows, in batches of any size.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class TableItemSource(CheckpointedItemSource[PayloadT]):
    """Items from the rows of a table that can only be read from its beginning.

    A subclass implements :meth:`stream` and :meth:`source_identity`. A run keeps a snapshot of the rows. Without a run,
    as in plain iteration, the rows are read from the beginning each time. A checkpoint is ``{"row": index}``, and in a
    run also names the snapshot.

    Args:
        name: What error messages and the items' lineage call the rows.
        item_id_from_row: Returns a non-empty string, unique within the run.
        payload_from_row: Returns the item's payload, for ``build_prompt``; by default the row as JSON.
        metadata_from_row: Returns a dict that is kept beside the item; converted to JSON by ``rows.json_safe``.
        primary_key: Column whose value is recorded in the lineage.
        partition_id: Recorded in the lineage.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        name: str,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT] | None = None,
        metadata_from_row: MetadataFromRow | None = None,
        primary_key: str | None = None,
        partition_id: str | None = None,
    ) -> None:
        self.name = name
        self.mapping: RowMapping[PayloadT] = RowMapping(
            name,
            item_id_from_row=item_id_from_row,
            payload_from_row=json_safe if payload_from_row is None else payload_from_row,  # type: ignore[arg-type]
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
        )

    @abstractmethod
    def stream(self) -> RowStream:
        """The rows from the first one on.

        Raises:
            SourceRowError: They can't be read; so does iterating over them.
        """

    @property
    def is_read_once(self) -> bool:
        """Whether the rows are gone after one reading."""
        return False

    @property
    def is_known_by_content(self) -> bool:
        """Whether sources with the same identity have the same rows, so that a lost snapshot can be written again."""
        return False

    def with_snapshots(self, snapshots: Snapshots) -> CheckpointedItemSource[PayloadT]:
        """The same items, read from a snapshot that is written when the first of them is asked for."""
        return _KeptRows(self, snapshots.file())

    def initial_checkpoint(self) -> JSONValue:
        """Row 0."""
        return {"row": 0}

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from a row on; the rows before it are read and skipped."""
        first, mark = parsed(checkpoint)
        stream, start = self.stream(), 0
        for batch in stream.batches:
            skipped = min(max(first - start, 0), batch.num_rows)
            for row, item in self.items(stream.schema, batch.slice(skipped), start + skipped):
                yield CheckpointedBatchItem(made(row + 1, mark), item)
            start += batch.num_rows

    def items(
        self, schema: pa.Schema, batch: pa.RecordBatch, first: int
    ) -> Iterator[tuple[int, BatchItem[PayloadT]]]:
        """The items of a batch with the 0-based indexes of their rows, the first of which is ``first``."""

        def unfit(value: UnfitValue) -> Exception:
            return self.mapping.error(value.problem, first + value.row + 1, column=value.column)

        is_json = IS_JSON in (schema.metadata or {})
        rows = rows_of_json(batch) if is_json else map(without_missing, python_rows(batch, unfit))
        for index, row in enumerate(rows, first):
            yield index, self.mapping.item(row, row_index=index, line=index + 1)


class _Snapshot:
    """A snapshot that is open.

    Attributes:
        schema: Its columns.
        mark: Its own mark.
        batch_count: How many batches it has.
        size: Rows of each batch but the last; whatever version has written it.
    """

    def __init__(self, file: Any, readable: Callable[[], AbstractContextManager[None]]) -> None:
        self.schema = file.schema
        self.mark = file.schema.metadata[_MARK].decode()
        self.batch_count = file.num_record_batches
        self._file = file
        self._readable = readable
        self.size = self.batch(0).num_rows if self.batch_count else BATCH_ROWS

    def batch(self, index: int) -> pa.RecordBatch:
        """The rows from ``index * size`` on."""
        with self._readable():
            return self._file.get_batch(index)


class _KeptRows(CheckpointedItemSource[PayloadT]):
    """A source with its snapshot. Without one, only :meth:`iter_from_checkpoint` writes it, which a run's driver alone calls."""

    def __init__(self, source: TableItemSource[PayloadT], file: SnapshotFile) -> None:
        self._source = source
        self._file = file

    @property
    def is_read_once(self) -> bool:
        """Whether the rows are gone after one reading, which they are not once there is a snapshot."""
        return self._source.is_read_once and not self._file.exists()

    def source_identity(self) -> SourceIdentity:
        return self._source.source_identity()

    def initial_checkpoint(self) -> JSONValue:
        return self._source.initial_checkpoint()

    def __iter__(self) -> Iterator[BatchItem[PayloadT]]:
        if not self._file.exists():
            yield from self._source
            return
        with self._opened() as snapshot:
            yield from (item for _, item in self._items(snapshot, 0))

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        first, mark = parsed(checkpoint)
        can_begin = mark is None or self._source.is_known_by_content
        if can_begin and not self._file.exists():
            self._write()
        with self._opened() as snapshot:
            if snapshot.mark != mark and not can_begin:
                raise self._lost("has been replaced by another")
            for row, item in self._items(snapshot, first):
                yield CheckpointedBatchItem(made(row + 1, snapshot.mark), item)

    def places(self, rows: Collection[int]) -> RowPlaces | None:
        if not self._file.exists():
            return None
        with self._opened() as snapshot:
            last = snapshot.batch_count - 1
            count = last * snapshot.size + snapshot.batch(last).num_rows if last >= 0 else 0
        return RowPlaces({row: f"{self._source.name}, row {row + 1}" for row in rows if row < count}, count)

    def _items(self, snapshot: _Snapshot, first: int) -> Iterator[tuple[int, BatchItem[PayloadT]]]:
        for index in range(first // snapshot.size, snapshot.batch_count):
            start = index * snapshot.size
            skipped = max(first - start, 0)
            batch = snapshot.batch(index).slice(skipped)
            yield from self._source.items(snapshot.schema, batch, start + skipped)

    @contextmanager
    def _opened(self) -> Iterator[_Snapshot]:
        with ExitStack() as stack:
            with self._readable():
                path = stack.enter_context(self._file.reading())
                file = pa.ipc.open_file(stack.enter_context(pa.OSFile(str(path))))
            yield _Snapshot(file, self._readable)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            problem = (
                "is not there any more" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
            )
            raise self._lost(problem) from error

    def _lost(self, problem: str) -> StorageError:
        return StorageError(
            f"{self._source.name}: the snapshot of the rows that this run has begun to read {problem}. Restore the run's "
            "artifacts, or start a new run id"
        )

    def _write(self) -> None:
        stream = self._source.stream()
        schema = plain_schema(stream.schema)
        check_columns(schema.names, self._source.mapping.error)
        kept = {key: value for key, value in (schema.metadata or {}).items() if key == IS_JSON}
        marked = schema.with_metadata({**kept, _MARK: secrets.token_hex(8)})
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        try:
            with self._file.writing() as file, pa.ipc.new_file(file, marked, options=options) as writer:
                for batch in even_batches(stream.batches, schema, BATCH_ROWS):
                    writer.write_batch(batch.replace_schema_metadata(marked.metadata))
                writer.close()
                if self._file.exists():
                    raise _AnotherWasFasterError
        except _AnotherWasFasterError:
            pass  # this driver has lost its lease to one that has written them, and reads on with the same rows at most


class _AnotherWasFasterError(Exception):
    """Ends a writing without its file."""


def parsed(checkpoint: JSONValue) -> Checkpoint:
    """The row, and the mark of its snapshot.

    Raises:
        InvalidInputError: It is not a checkpoint of such a source.
    """
    if not isinstance(checkpoint, dict) or "row" not in checkpoint:
        raise InvalidInputError(f"{checkpoint!r} is not a checkpoint of rows: it needs 'row'")
    mark = checkpoint.get("snapshot")
    return checkpoint_index(checkpoint["row"]), mark if isinstance(mark, str) else None


def made(row: int, mark: str | None) -> JSONValue:
    """The checkpoint of a row."""
    return {"row": row} if mark is None else {"row": row, "snapshot": mark}
