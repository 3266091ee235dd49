"""A plan: what a job would send and cost if it was started now."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, NamedTuple, TypeVar

from batchor_core.core.pricing import Unpriced
from batchor_core.core.words import usd_text

NumberT = TypeVar("NumberT", int, Decimal)


@dataclass(frozen=True, slots=True)
class Range(Generic[NumberT]):
    """A figure that is not known exactly.

    Attributes:
        low: It is hardly less.
        expected: What it probably is.
        high: It is hardly more.
    """

    low: NumberT
    expected: NumberT
    high: NumberT


class RefusedRow(NamedTuple):
    """A row that no batch can hold: it would fail without being sent.

    Attributes:
        item_id: The row.
        reason: Why.
    """

    item_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CapForecast:
    """A cap that would hold for the run.

    Attributes:
        cap: The cap, in words.
        left: What is left under it, in words.
        stops: Whether the run would stop at it: ``"no"``, ``"perhaps"`` if it costs more than expected, ``"yes"``, or
            ``"unknown"`` without a price.
    """

    cap: str
    left: str
    stops: str

    def __str__(self) -> str:
        return f"{self.cap}: {self.left} left; {_STOPS[self.stops]}"


_STOPS = {
    "no": "the run would stay below it",
    "perhaps": "the run may stop at it",
    "yes": "the run would stop at it",
    "unknown": "without a price, the run would be refused",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would do if it was started now. Nothing was sent, and nothing stored.

    Attributes:
        rows: Rows of the job.
        rows_new: Rows that would be sent, and paid for.
        rows_reused: Rows whose answers are in the store already.
        rows_following: Rows that would wait for an equal row in flight in another run.
        rows_duplicate: Rows that are equal to an earlier row of the job that would be sent. With reuse they are sent once;
            with ``reuse="off"`` each of them is sent, and they are among ``rows_new`` too.
        rows_refused: Rows that fit no batch, and would fail.
        refused: The first of them, and why.
        input_tokens: Prompt tokens of the new rows: of their texts alone, as the provider probably bills them, and of whole
            requests.
        output_tokens: Tokens of their answers.
        output_basis: What ``output_tokens`` is derived from.
        cost: US dollars for the new rows; or why there is no figure.
        not_included: What the cost leaves out.
        batches: Batches.
        waves: How often batches would be sent and waited for, if no other run used the queue; 0 if nothing is sent.
        queue_limit: The most prompt tokens that may be in flight; None for no limit.
        caps: The caps that would hold.
        warnings: What to know before the run is started.
    """

    rows: int
    rows_new: int
    rows_reused: int
    rows_following: int
    rows_duplicate: int
    rows_refused: int
    refused: tuple[RefusedRow, ...]
    input_tokens: Range[int]
    output_tokens: Range[int]
    output_basis: str
    cost: Range[Decimal] | Unpriced
    not_included: tuple[str, ...]
    batches: int
    waves: int
    queue_limit: int | None
    caps: tuple[CapForecast, ...]
    warnings: tuple[str, ...]

    @property
    def cost_text(self) -> str:
        """``$1.20 (from $0.90 to $2.50)``, or ``no list price: ...``."""
        if isinstance(self.cost, Unpriced):
            return f"no list price: {self.cost.reason}"
        low, expected, high = map(usd_text, (self.cost.low, self.cost.expected, self.cost.high))
        return f"{'at least ' if self.not_included else ''}{expected} (from {low} to {high})"
