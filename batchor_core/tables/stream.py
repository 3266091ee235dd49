"""A run's terminal results as a stream of Arrow record batches, from which files, frames and sinks are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa
from pydantic import BaseModel

from batchor_core.core.arguments import shown
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.pricing import CostTally
from batchor_core.core.results import Order as Order
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.storage.state import ResultRow
from batchor_core.tables.input_order import in_input_order, with_index
from batchor_core.tables.report import TableReport, Tally
from batchor_core.tables.result_columns import ResultColumns

_COMPLETED = ItemStatus.COMPLETED.value


class RowPages(Protocol):
    """What a run offers for streaming; ``batchor_core.Run`` does."""

    def iter_row_pages(self, *, page_size: int = ...) -> Iterator[list[ResultRow]]:
        """Terminal rows in the order of their sequence."""


class ResultStream:
    """Every terminal result of a run, once.

    Memory is bounded: a page of rows at a time, or for the order of the input about 100 MiB, and what is more is kept in the
    temporary folder meanwhile.

    Args:
        run: A ``batchor_core.Run``; it need not be finished.
        output: The run's output, or the model of a structured run; see :class:`ResultColumns`.
        order: ``ended`` is faster.
        costs: Gets the tokens of every row.

    Attributes:
        schema: The columns.

    Raises:
        InvalidInputError: There is no such order.
    """

    def __init__(
        self,
        run: RowPages,
        output: type[BaseModel] | OutputSpec | None = None,
        *,
        order: Order = "ended",
        costs: CostTally | None = None,
    ) -> None:
        if order not in ("input", "ended"):
            raise InvalidInputError(f"order must be 'input' or 'ended', not {shown(order)}")
        self._run = run
        self._columns = ResultColumns(output)
        self._order = order
        self._costs = costs
        self._tally = Tally()
        self.schema: pa.Schema = self._columns.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if self._order == "input":
            batches = in_input_order(
                with_index(batch, [row.item_index for row in page]) for page, batch in self._pages()
            )
        else:
            batches = (batch for _, batch in self._pages())
        for batch in batches:
            self._tally.show(batch)
            yield batch

    def table(self) -> pa.Table:
        """All rows, in memory."""
        return pa.Table.from_batches(list(self), self.schema)

    def report(self, uri: str, *, size_bytes: int) -> TableReport:
        """What has passed, and where it is now."""
        return self._tally.report(uri, self.schema, size_bytes=size_bytes)

    def _pages(self) -> Iterator[tuple[list[ResultRow], pa.RecordBatch]]:
        for page in self._run.iter_row_pages(page_size=self._columns.page_rows):
            batch, unfitting = self._columns.batch(page)
            self._tally.add(page, batch, unfitting)
            if self._costs is not None:
                _add_costs(self._costs, page)
            yield page, batch


def _add_costs(costs: CostTally, page: Sequence[ResultRow]) -> None:
    stated = [row for row in page if row.input_tokens is not None]
    costs.add({kind: [getattr(row, kind) or 0 for row in stated] for kind in TOKEN_KINDS})
    if len(stated) < len(page):
        # reused answers cost nothing
        unstated = [row for row in page if row.input_tokens is None and row.reused_run_id is None]
        answers = sum(row.status == _COMPLETED for row in unstated)
        costs.add_unstated(rows=len(unstated), answers=answers)
