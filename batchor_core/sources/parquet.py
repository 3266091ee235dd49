"""Parquet files as sources that can be resumed at any row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.models import PayloadT
from batchor_core.core.plain import without_missing
from batchor_core.core.types import JSONValue
from batchor_core.sources.arrow_rows import UnfitValue, check_columns, python_rows
from batchor_core.sources.base import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    RowPlaces,
    SourceIdentity,
    checkpoint_index,
)
from batchor_core.sources.fingerprint import file_identity
from batchor_core.sources.opening import local_path, open_file
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, RowMapping

PARQUET_BATCH_ROWS = 1_000
PARQUET_BUFFER = 1024 * 1024


class ParquetItemSource(CheckpointedItemSource[PayloadT]):
    """Items from a Parquet file, read a thousand rows at a time, whatever the size of its row groups.

    The callbacks get Python values: ``datetime``, ``Decimal``, ``bytes``, lists, dicts; nanoseconds are cut to the
    microseconds that ``datetime`` holds. A float that is NaN or infinite is None, as null is. Metadata is converted as
    ``rows.json_safe`` says. A checkpoint is ``[row group, row within it]``; the lineage names both too.

    Args:
        path: The file; ``~`` is expanded.
        item_id_from_row: Returns a non-empty string, unique within the run.
        payload_from_row: Returns the item's payload, for ``build_prompt``.
        metadata_from_row: Returns a dict that is kept beside the item.
        columns: Columns to read, all by default; ``a.b`` is a field of a struct.
        primary_key: Column whose value is recorded in the lineage.
        partition_id: Recorded in the lineage; by default the Hive folders (``day=2026-01-01``) of the path.

    Raises:
        SourceRowError: While reading; names the file, the 1-based row and the column.
    """

    kind: ClassVar[str] = "parquet"

    def __init__(
        self,
        path: str | Path,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], PayloadT],
        metadata_from_row: MetadataFromRow | None = None,
        columns: Sequence[str] | None = None,
        primary_key: str | None = None,
        partition_id: str | None = None,
    ) -> None:
        self.path = local_path(path)
        self.item_id_from_row = item_id_from_row
        self.payload_from_row = payload_from_row
        self.metadata_from_row = metadata_from_row
        self.columns = _column_names(columns)
        self._mapping = RowMapping(
            self.path,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row,
            metadata_from_row=metadata_from_row,
            primary_key=primary_key,
            partition_id=partition_id,
        )

    def source_identity(self) -> SourceIdentity:
        """The kind, the absolute path, and a fingerprint of the content
        (:func:`~batchor_core.sources.fingerprint.content_fingerprint`)."""
        return file_identity(self.kind, self.path, None, {})

    def initial_checkpoint(self) -> JSONValue:
        """Row 0 of row group 0."""
        return [0, 0]

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from a row on; earlier row groups are not read."""
        first_group, first_row = self._parse(checkpoint)
        for index, group, row, values in self._rows_from(first_group, first_row):
            item = self._mapping.item(
                values, row_index=index, line=index + 1, row_group=group, row_in_group=row
            )
            yield CheckpointedBatchItem([group, row + 1], item)

    def places(self, rows: Collection[int]) -> RowPlaces:
        """Where these 0-based rows are in the file."""
        with self._opened() as file:
            count = int(file.metadata.num_rows)
        return RowPlaces({row: f"{self.path}, row {row + 1}" for row in rows if row < count}, count)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import pyarrow.parquet as pq  # takes 0.2 s to import, and only this source needs it

        open_file(self.path, encoding=None).close()  # says more about what is no file than Arrow does
        with self._readable():
            # measured on a row group of 240 MB: streamed like this it takes 5 MB, and with the defaults all of it
            file = pq.ParquetFile(self.path, buffer_size=PARQUET_BUFFER, pre_buffer=False)
        with file:
            yield file

    @contextmanager
    def _readable(self, row: int | None = None) -> Iterator[None]:
        """What Arrow finds wrong with the file in the block becomes an error of ours, at a 1-based row."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            problem = (
                " ".join(str(error).split())
                if self.path.exists() and self.path.stat().st_size
                else "it is empty"
            )
            raise self._mapping.error(
                f"can't be read as Parquet: {problem}. Check that the file was written and copied whole", row
            ) from error

    def _parse(self, checkpoint: JSONValue) -> tuple[int, int]:
        if not isinstance(checkpoint, list | tuple) or len(checkpoint) != 2:
            raise InvalidInputError(
                f"{checkpoint!r} is no checkpoint of a ParquetItemSource: [row group, row] is expected"
            )
        return checkpoint_index(checkpoint[0]), checkpoint_index(checkpoint[1])

    def _rows_from(self, first_group: int, first_row: int) -> Iterator[tuple[int, int, int, Row]]:
        with self._opened() as file:
            self._check_columns(file)
            rows_before = 0
            for group in range(file.metadata.num_row_groups):
                if group >= first_group:
                    skip = first_row if group == first_group else 0
                    for row, values in enumerate(self._group(file, group, skip, rows_before), skip):
                        yield rows_before + row, group, row, values
                rows_before += file.metadata.row_group(group).num_rows

    def _group(self, file: Any, group: int, skip: int, first: int) -> Iterator[Row]:
        batches = file.iter_batches(batch_size=PARQUET_BATCH_ROWS, row_groups=[group], columns=self.columns)
        while True:
            with self._readable(first + 1):
                batch = next(batches, None)
            if batch is None:
                return
            skipped = min(skip, batch.num_rows)
            rows = python_rows(batch.slice(skipped), partial(self._unfit, first + skipped))
            yield from map(without_missing, rows) if _holds_floats(batch.schema) else rows
            first += batch.num_rows
            skip -= skipped

    def _unfit(self, first: int, value: UnfitValue) -> SourceRowError:
        return self._mapping.error(value.problem, first + value.row + 1, column=value.column)

    def _check_columns(self, file: Any) -> None:
        names = file.schema_arrow.names
        check_columns(names, self._mapping.error)
        for column in self.columns or ():
            if column not in names and column.split(".")[0] not in names:
                there = ", ".join(map(repr, names[:20]))
                raise self._mapping.error(
                    f"there is no such column to read; there are {there}", column=column
                )


def _holds_floats(schema: Any) -> bool:
    """Whether a value may be NaN or infinite; no other type of Parquet has a missing value besides null."""
    return any(name in str(kind) for kind in schema.types for name in ("float", "double"))


def _column_names(columns: Sequence[str] | None) -> list[str] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise InvalidInputError(f"columns must be a list of column names, and is {columns!r}")
    return list(columns)
