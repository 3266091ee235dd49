"""Why rows failed: error classes, how often each occurs, and one example of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from batchor_core.core.failures import ItemFailure


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often an error class occurs.

    Attributes:
        rows: Number of rows.
        item_id: One of them.
        message: Its error message.
    """

    rows: int
    item_id: str
    message: str


class ErrorCounts:
    """Counts errors by class; keeps one example of each."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, str]] = {}

    def add(self, item_id: str, failure: ItemFailure | None) -> None:
        """Count a failed row; the first one of its class is the example."""
        error_class = failure.error_class if failure else "unknown"
        self._rows[error_class] += 1
        self._examples.setdefault(error_class, (item_id, failure.message if failure else ""))

    def by_class(self) -> dict[str, ErrorCount]:
        """The classes, the most frequent first."""
        return {name: ErrorCount(rows, *self._examples[name]) for name, rows in self._rows.most_common()}
