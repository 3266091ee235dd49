"""Python mappings, or the rows of a frame, as items without checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from batchor_core.core.exceptions import SourceRowError
from batchor_core.core.models import BatchItem
from batchor_core.core.plain import json_safe, without_missing
from batchor_core.sources.arrow_rows import Problem, UnfitValue, python_rows
from batchor_core.sources.base import ItemSource
from batchor_core.sources.frames import is_frame, record_batches
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, RowMapping

_ROWS_AT_A_TIME = 10_000


class RowItemSource(ItemSource[Any]):
    """The rows of an iterable of mappings, or of anything that :class:`~batchor_core.FrameItemSource` accepts, as
    items.

    The functions get the values unchanged, of any type; missing values, such as pandas' ``NaT`` or NaN, are None. Rows
    are read from the beginning each time: if a run is interrupted while it reads them, another process can't resume it,
    unlike with a FrameItemSource. A Dagster batch asset provides the rows again on its own.

    Args:
        data: The rows.
        item_id_from_row: Gives each row's id, unique within the job.
        payload_from_row: Returns what ``build_prompt`` gets; by default the row as JSON.
        metadata_from_row: JSON to keep beside the row and return with its result.
        name: What error messages and the items' lineage call the data.
    """

    def __init__(
        self,
        data: Any,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], Any] | None = None,
        metadata_from_row: MetadataFromRow | None = None,
        name: str = "rows",
    ) -> None:
        self._data = data
        self._mapping: RowMapping[Any] = RowMapping(
            name,
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row or json_safe,
            metadata_from_row=metadata_from_row,
            primary_key=None,
            partition_id=None,
        )

    @property
    def is_read_once(self) -> bool:
        """Whether the data is gone after one reading."""
        return isinstance(self._data, pa.RecordBatchReader | Iterator)

    def __iter__(self) -> Iterator[BatchItem[Any]]:
        problem = self._mapping.error
        rows = _frame_rows(self._data, problem) if is_frame(self._data) else _dicts(self._data, problem)
        for index, row in enumerate(map(without_missing, rows)):
            yield self._mapping.item(row, row_index=index, line=index + 1)


def _frame_rows(data: Any, problem: Problem) -> Iterator[Row]:
    line = 1

    def unfit(value: UnfitValue) -> SourceRowError:
        return problem(value.problem, line=line + value.row, column=value.column)

    for batch in record_batches(data, problem).batches:
        for start in range(0, batch.num_rows, _ROWS_AT_A_TIME):
            part = batch.slice(start, _ROWS_AT_A_TIME)
            yield from python_rows(part, unfit)
            line += part.num_rows


def _dicts(data: Any, problem: Problem) -> Iterator[Row]:
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping):
        raise problem(
            f"rows are a table, a frame or an iterable of mappings, and this is of type {type(data).__name__}"
        )
    for line, row in enumerate(data, 1):
        if not hasattr(row, "keys"):  # of sqlite3 are no Mapping, and have them
            raise problem(
                f"a row maps column names to values, and this one is of type {type(row).__name__}", line=line
            )
        yield dict(row)
