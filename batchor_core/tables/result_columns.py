"""The columns of every table of results: our own around those of the answers.

Failed rows are in the same table, with ``error_class`` and ``error_message`` and without the answers' columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from batchor_core.core.outputs import OutputSpec
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.storage.columns import plain_json
from batchor_core.storage.rows import cost_usd, failure_of
from batchor_core.storage.state import ResultRow
from batchor_core.tables.answer_columns import answer_columns, as_output
from batchor_core.tables.model_columns import to_array

PAGE_ROWS = 4_096
PAGE_BYTES = 2 * 1024 * 1024  # of vectors, which are in memory several times; larger pages are no faster

_LEADING = {"item_id": pa.string(), "status": pa.string(), "attempt_count": pa.int32()}
_TRAILING = {
    "output_text": pa.string(),
    "error_class": pa.string(),
    "error_message": pa.string(),
    **dict.fromkeys(TOKEN_KINDS, pa.int64()),
    "cost_usd": pa.float64(),
    "metadata": pa.string(),
    "reused_run_id": pa.string(),
    "reused_item_id": pa.string(),
}
OWN_COLUMNS = (*_LEADING, *_TRAILING)
"""Columns of every file; a model's field of the same name is prefixed with ``output_``."""

DESCRIPTIONS = {
    "item_id": "Id of the row, as the job gives it",
    "status": "completed or failed_permanent: whether the row was answered",
    "attempt_count": "How often the row was sent and answered, failures included",
    "output_text": "The answer as the model wrote it",
    "error_class": "Why the row failed, in a word; null where it did not",
    "error_message": "Why the row failed, in the provider's words",
    "input_tokens": "Tokens of the request, cached ones included, as billed",
    "cached_tokens": "Of these, tokens read from the provider's prompt cache",
    "cache_write_tokens": "Tokens written to the provider's prompt cache",
    "output_tokens": "Tokens of the answer, reasoning included, as billed",
    "reasoning_tokens": "Of these, tokens of reasoning",
    "cost_usd": "US dollars for the row, its attempts that were tried again included; null where no price is known",
    "metadata": "The row's metadata, as the job gives it, in JSON",
    "reused_run_id": "The run that the answer was paid for in, where the row was not sent itself",
    "reused_item_id": "And the row in it",
}
"""What our own columns hold."""


def result_schema(output: type[BaseModel] | OutputSpec | None) -> pa.Schema:
    """The columns of the results of a job with this output."""
    return ResultColumns(output).schema


class ResultColumns:
    """The columns of the results of a job with this output.

    Args:
        output: The job's output, or the model of a structured job. Without it the only column of the answer is
            ``output_text``, which also has the answers that a model does not accept.

    Attributes:
        schema: The columns. Descriptions of a model's fields are in the fields' metadata.
    """

    def __init__(self, output: type[BaseModel] | OutputSpec | None = None) -> None:
        self._answers = answer_columns(as_output(output), taken=OWN_COLUMNS)
        self.schema = pa.schema([*_LEADING.items(), *self._answers.fields, *_TRAILING.items()])

    @property
    def page_rows(self) -> int:
        """How many rows to turn into columns at a time."""
        row_bytes = self._answers.row_bytes
        return max(1, min(PAGE_ROWS, PAGE_BYTES // row_bytes)) if row_bytes else PAGE_ROWS

    def batch(self, page: Sequence[ResultRow]) -> tuple[pa.RecordBatch, int]:
        """A page as Arrow, and how many of its answers are not what the output says."""
        typed, unfitting = self._answers.arrays(page)
        own = _own_values(page)
        texts = self._answers.texts(page)
        if texts is not None:
            own["output_text"] = texts
        leading, trailing = (
            [to_array(own[name], arrow) for name, arrow in columns.items()]
            for columns in (_LEADING, _TRAILING)
        )
        return pa.RecordBatch.from_arrays([*leading, *typed, *trailing], schema=self.schema), unfitting


def _own_values(page: Sequence[ResultRow]) -> dict[str, Sequence[Any]]:
    """The values of our own columns. The page is turned over as a whole, which is far faster than field by field."""
    of: dict[str, Sequence[Any]] = dict.fromkeys(ResultRow._fields, ())
    if page:
        of.update(zip(ResultRow._fields, zip(*page, strict=True), strict=True))
    values = {name: of[name] for name in (*_LEADING, *_TRAILING) if name in of}
    values["error_class"] = values["error_message"] = of["error"]
    if of["error"].count(None) < len(page):
        failures = [failure_of(row) for row in page]
        values["error_class"] = [failure and failure.error_class for failure in failures]
        values["error_message"] = [failure and failure.message for failure in failures]
    values["cost_usd"] = list(map(cost_usd, page))
    values["metadata"] = list(map(plain_json, of["metadata"]))
    return values
