"""Which waiting items make up the next batches: arithmetic over sizes, in item order."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from batchor_core.core.exceptions import InvalidInputError

OVER_BATCH_CAP = "openai_request_exceeds_batch_token_limit"
OVER_FILE_LIMIT = "request_too_large"

MIN_BUDGET_SHARE = 0.1
"""A batch cut short by the budget leaves only with this share of a full batch's tokens.

Slivers of budget would otherwise become batches of a few rows each, and OpenAI takes 2,000 creations an hour.
"""


class Sized(Protocol):
    """A waiting item, as far as planning is concerned; ``storage.state.Candidate`` is one."""

    @property
    def item_index(self) -> int: ...
    @property
    def submission_tokens(self) -> int: ...
    @property
    def request_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Items that go into one input file.

    Attributes:
        item_indexes: In item order.
        tokens: Sum of their estimates.
        size_bytes: Sum of their lines, as far as known.
    """

    item_indexes: tuple[int, ...]
    tokens: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Oversized:
    """An item that fits no batch, whatever is in flight.

    Attributes:
        item_index: The item.
        error_class: ``openai_request_exceeds_batch_token_limit`` or ``request_too_large``.
        message: With the numbers, for people.
    """

    item_index: int
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to do with the waiting items; those that it does not name stay where they are.

    Attributes:
        batches: To submit now, in item order.
        oversized: To fail permanently.
        waiting_for_budget: Whether items are left over because too many tokens are in flight.
    """

    batches: list[PlannedBatch]
    oversized: list[Oversized]
    waiting_for_budget: bool = False


def effective_budget(limit: int, target_ratio: float, headroom: int) -> int:
    """Tokens that may be in flight: ``min(int(limit * target_ratio), limit - headroom)``; 0 (no budget) for limit 0.

    Raises:
        InvalidInputError: Nothing would be left of the limit.
    """
    if limit == 0:
        return 0
    budget = min(int(limit * target_ratio), limit - headroom)
    if budget < 1:
        raise InvalidInputError(
            f"an enqueued-token limit of {limit:,} with target ratio {target_ratio} and headroom {headroom:,} "
            "leaves no tokens to submit; raise the limit or the ratio, or lower the headroom"
        )
    return budget


def batch_token_cap(budget: int, max_batch_tokens: int) -> int:
    """Most tokens that one batch may hold: the smaller of both, where 0 means no limit."""
    return min(budget or max_batch_tokens, max_batch_tokens or budget)


def plan_batches(
    candidates: Iterable[Sized],
    *,
    max_requests: int,
    max_file_bytes: int,
    max_batch_tokens: int = 0,
    in_flight_tokens: int = 0,
    budget: int = 0,
    more_to_come: bool = False,
) -> BatchPlan:
    """Fill batches in item order, each up to the first limit that it meets.

    A batch that the budget cuts short leaves if it is worth one (:data:`MIN_BUDGET_SHARE`); nothing is planned after
    it. With nothing in flight, something always leaves.

    Args:
        candidates: Waiting items, in item order.
        max_requests: Items per batch.
        max_file_bytes: Bytes per input file. An item of unknown size counts 0.
        max_batch_tokens: Estimated tokens per batch, 0 for no limit.
        in_flight_tokens: Tokens that already count against the budget.
        budget: Tokens that may be in flight at once (:func:`effective_budget`), 0 for no limit.
        more_to_come: More items are being read, so a last batch that is not full is held back.
    """
    cap = batch_token_cap(budget, max_batch_tokens) or sys.maxsize
    room = budget - in_flight_tokens if budget else sys.maxsize
    batches: list[PlannedBatch] = []
    oversized: list[Oversized] = []
    indexes: list[int] = []
    tokens = size = 0
    out_of_budget = False
    for item in candidates:
        item_tokens, item_bytes = item.submission_tokens, item.request_bytes
        if item_tokens > cap or item_bytes > max_file_bytes:
            oversized.append(_oversized(item, cap, max_file_bytes))
            continue
        if len(indexes) == max_requests or tokens + item_tokens > cap or size + item_bytes > max_file_bytes:
            batches.append(PlannedBatch(tuple(indexes), tokens, size))
            room -= tokens
            indexes, tokens, size = [], 0, 0
        if tokens + item_tokens > room:
            out_of_budget = True
            break
        indexes.append(item.item_index)
        tokens += item_tokens
        size += item_bytes
    if out_of_budget:
        leaves = tokens >= cap * MIN_BUDGET_SHARE
    else:
        leaves = not more_to_come or len(indexes) == max_requests or tokens == cap or size == max_file_bytes
    if indexes and leaves:
        batches.append(PlannedBatch(tuple(indexes), tokens, size))
    return BatchPlan(batches, oversized, out_of_budget)


def _oversized(item: Sized, cap: int, max_file_bytes: int) -> Oversized:
    if item.submission_tokens > cap:
        message = f"the request is estimated at {item.submission_tokens:,} tokens; a batch may hold {cap:,}"
        return Oversized(item.item_index, OVER_BATCH_CAP, message)
    message = f"the request has {item.request_bytes:,} bytes; an input file may have {max_file_bytes:,}"
    return Oversized(item.item_index, OVER_FILE_LIMIT, message)
