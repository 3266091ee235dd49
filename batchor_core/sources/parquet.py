"""Reading one Parquet file from any row on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
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
from batchor_core.sources.locations import Location, is_remote, shown
from batchor_core.sources.opening import open_file, readable
from batchor_core.sources.rows import Row, RowMapping

PARQUET_BATCH_ROWS = 1_000
PARQUET_BUFFER = 1024 * 1024


class ParquetFile(CheckpointedItemSource[PayloadT]):
    """Reading one Parquet file from any row on. A checkpoint is ``[row group, row within it]``."""

    kind: ClassVar[str] = "parquet"

    def __init__(self, path: Location, mapping: RowMapping[PayloadT], *, columns: list[str] | None) -> None:
        self.path = path
        self.columns = columns
        self._mapping = mapping

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
        return RowPlaces({row: f"{shown(self.path)}, row {row + 1}" for row in rows if row < count}, count)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import pyarrow.parquet as pq  # takes 0.2 s to import, and only this source needs it

        # opening it says more about what is no file than Arrow does; Arrow reads a path of this machine by itself
        with open_file(self.path, encoding=None) as opened:
            source = opened if is_remote(self.path) else self.path
            with self._readable():
                # measured on a row group of 240 MB: streamed like this it takes 5 MB, and with the defaults all of it
                file = pq.ParquetFile(source, buffer_size=PARQUET_BUFFER, pre_buffer=False)
            with file:
                yield file

    @contextmanager
    def _readable(self, row: int | None = None) -> Iterator[None]:
        """What Arrow finds wrong with the file in the block becomes an error of ours, at a 1-based row."""
        import pyarrow as pa

        try:
            with readable(self.path) if is_remote(self.path) else nullcontext():
                yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            is_there = self.path.exists() and self.path.stat().st_size
            problem = " ".join(str(error).split()) if is_there else "it is empty"
            raise self._mapping.error(
                f"can't be read as Parquet: {problem}. Check that the file was written and copied completely",
                row,
            ) from error

    def _parse(self, checkpoint: JSONValue) -> tuple[int, int]:
        if not isinstance(checkpoint, list | tuple) or len(checkpoint) != 2:
            raise InvalidInputError(
                f"{checkpoint!r} is not a checkpoint of a ParquetItemSource: [row group, row] is expected"
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
                    f"there is no such column to read; the columns are {there}", column=column
                )


def _holds_floats(schema: Any) -> bool:
    """Whether a value may be NaN or infinite; no other type of Parquet has a missing value besides null."""
    return any(name in str(kind) for kind in schema.types for name in ("float", "double"))
