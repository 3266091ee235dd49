"""Which waiting items make up the next batches: arithmetic over sizes, in item order.

How many of them may leave now is decided in admission.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

OVER_BATCH_CAP = "openai_request_exceeds_batch_token_limit"
OVER_FILE_LIMIT = "request_too_large"


class Sized(Protocol):
    """A waiting item, as far as planning is concerned; ``storage.state.Candidate`` is one."""

    @property
    def item_index(self) -> int: ...
    @property
    def submission_tokens(self) -> int: ...
    @property
    def request_bytes(self) -> int: ...


class OfModel(Protocol):
    """A waiting item that may name a model of its own."""

    @property
    def model(self) -> str | None: ...


class SizedOfModel(Sized, OfModel, Protocol):
    """A waiting item to plan."""


ItemT = TypeVar("ItemT", bound=OfModel)


def of_one_model(candidates: Sequence[ItemT]) -> list[Sequence[ItemT]]:
    """Waiting items by the models that they name, in item order, those of the first item's model first.

    A batch has one model: providers want it so, and the price of an answer is that of its batch.
    """
    groups: dict[str | None, list[ItemT]] = {}
    for item in candidates:
        groups.setdefault(item.model, []).append(item)
    return [candidates] if len(groups) < 2 else list(groups.values())


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Items that go into one input file.

    Attributes:
        item_indexes: In item order.
        tokens: Sum of their estimates.
    """

    item_indexes: tuple[int, ...]
    tokens: int


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
class BatchSize:
    """What one batch may hold.

    Attributes:
        max_requests: Items.
        max_file_bytes: Bytes of its input file. An item of unknown size counts 0.
        max_tokens: Estimated tokens, 0 for no limit.
        row_bytes: Bytes that each line has besides the item's own, such as the mark of its submission.
    """

    max_requests: int
    max_file_bytes: int
    max_tokens: int = 0
    row_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Batches that the waiting items fill; what it does not name stays where it is.

    Attributes:
        batches: In item order.
        oversized: To fail permanently.
    """

    batches: list[PlannedBatch]
    oversized: list[Oversized]


def plan_batches(candidates: Iterable[Sized], limits: BatchSize, *, more_to_come: bool = False) -> BatchPlan:
    """Fill batches in item order, each up to the first limit that it meets.

    Args:
        candidates: Waiting items, in item order.
        limits: What one batch may hold.
        more_to_come: More items are being read, so a last batch that is not full is held back.
    """
    cap, max_requests, max_file_bytes = (
        limits.max_tokens or sys.maxsize,
        limits.max_requests,
        limits.max_file_bytes,
    )
    row_bytes = limits.row_bytes
    batches: list[PlannedBatch] = []
    oversized: list[Oversized] = []
    indexes: list[int] = []
    tokens = size = 0
    for item in candidates:
        item_tokens, item_bytes = item.submission_tokens, item.request_bytes + row_bytes
        if item_tokens > cap or item_bytes > max_file_bytes:
            oversized.append(_oversized(item, cap, max_file_bytes))
            continue
        if len(indexes) == max_requests or tokens + item_tokens > cap or size + item_bytes > max_file_bytes:
            batches.append(PlannedBatch(tuple(indexes), tokens))
            indexes, tokens, size = [], 0, 0
        indexes.append(item.item_index)
        tokens += item_tokens
        size += item_bytes
    is_full = len(indexes) == max_requests or tokens == cap or size == max_file_bytes
    if indexes and (is_full or not more_to_come):
        batches.append(PlannedBatch(tuple(indexes), tokens))
    return BatchPlan(batches, oversized)


def _oversized(item: Sized, cap: int, max_file_bytes: int) -> Oversized:
    if item.submission_tokens > cap:
        message = f"the request is estimated at {item.submission_tokens:,} tokens; a batch may hold {cap:,}"
        return Oversized(item.item_index, OVER_BATCH_CAP, message)
    message = f"the request has {item.request_bytes:,} bytes; an input file may have {max_file_bytes:,}"
    return Oversized(item.item_index, OVER_FILE_LIMIT, message)
