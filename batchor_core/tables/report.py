"""A report on a written table, collected while its rows are written, so that nothing has to be read twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchor_core.core.enums import ItemStatus
from batchor_core.core.error_counts import ErrorCount as ErrorCount
from batchor_core.core.error_counts import ErrorCounts
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage
from batchor_core.storage.rows import failure_of
from batchor_core.storage.state import ResultRow

PREVIEW_ROWS = 5

_COMPLETED = ItemStatus.COMPLETED.value


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was written.

    Attributes:
        uri: The table's path, or the URL that was given.
        row_count: Rows that were written.
        failed_count: Rows without an answer.
        unfitting_count: Answers that the model does not accept; only ``output_text`` has them.
        errors: Error classes of the failed rows, the most frequent first.
        usage: Tokens of the last answer of every row.
        schema: The columns that were written; descriptions of a model's fields are in the fields' metadata.
        preview: The first few rows.
        last_sequence: The largest terminal sequence, 0 when there is none. It grows when rows are tried again.
        size_bytes: Their size on disk.
    """

    uri: str
    row_count: int
    failed_count: int
    errors: dict[str, ErrorCount]
    usage: TokenUsage
    schema: pa.Schema
    preview: list[dict[str, Any]] = field(default_factory=list)
    last_sequence: int = 0
    unfitting_count: int = 0
    size_bytes: int = 0


class Tally:
    """Sums over the pages, so that nothing has to be read twice."""

    def __init__(self) -> None:
        self._rows = 0
        self._failed = 0
        self._unfitting = 0
        self._last = 0
        self._errors = ErrorCounts()
        self._usage = [0] * len(TOKEN_KINDS)
        self._preview: list[dict[str, Any]] = []

    def add(self, page: Sequence[ResultRow], batch: pa.RecordBatch, unfitting: int) -> None:
        """Count a page, in the order in which rows became terminal."""
        self._rows += len(page)
        self._unfitting += unfitting
        for row in [row for row in page if row.status != _COMPLETED]:
            self._failed += 1
            self._errors.add(row.item_id, failure_of(row))
        for position, name in enumerate(TOKEN_KINDS):
            self._usage[position] += pc.sum(batch.column(name)).as_py() or 0
        if page:
            self._last = page[-1].sequence or self._last

    def show(self, batch: pa.RecordBatch) -> None:
        """Look at rows in the order in which they are written."""
        wanted = PREVIEW_ROWS - len(self._preview)
        if wanted > 0:
            self._preview += _previewed(batch.slice(0, wanted))

    def report(self, uri: str, schema: pa.Schema, *, size_bytes: int) -> TableReport:
        """What has passed."""
        return TableReport(
            uri=uri,
            row_count=self._rows,
            failed_count=self._failed,
            errors=self._errors.by_class(),
            usage=TokenUsage(*self._usage),
            schema=schema,
            preview=self._preview,
            last_sequence=self._last,
            unfitting_count=self._unfitting,
            size_bytes=size_bytes,
        )


def _previewed(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    for place, column in enumerate(batch.schema):
        if pa.types.is_fixed_size_list(column.type):  # thousands of numbers are not readable
            words = f"{column.type.value_type}[{column.type.list_size}]"
            shown = [words if value.is_valid else None for value in batch.column(place)]
            batch = batch.set_column(place, column.name, pa.array(shown, pa.string()))
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ArithmeticError, ValueError):
        names = batch.schema.names
        rows = [{name: _shown(batch.column(name)[row]) for name in names} for row in range(batch.num_rows)]
    return rows


def _shown(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ArithmeticError, ValueError) as error:  # such as a date that is beyond the year 9999 in UTC
        return f"({error})"
