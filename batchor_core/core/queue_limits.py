"""Queue limits that are learned: how many tokens may wait at a provider that has refused a batch for want of room.

Nobody publishes these limits, and others may use the account too. So they are found as senders find the rate of a line: a refusal
takes back half of what was tried, and what is accepted adds a little.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from batchor_core.core.admission import Granted

REFUSED_FOR_TOKENS = frozenset({"token_limit_exceeded", "enqueue_token_limit"})
"""Error classes of a create, or of a batch, that was refused since too many tokens wait."""

_GROWTH = 10
"""Accepted tokens per token by which a limit grows: a tenth for each time that the queue was filled."""


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """How many prompt tokens may wait, as a config says or a provider has shown.

    Attributes:
        key: Names what shares it: provider, account and model.
        tokens: The most estimated tokens in flight.
        is_observed: Whether it was learned from refusals; else the config says so.
        refused_at: When a batch was refused last, by the store's clock; None for a limit of the config.
    """

    key: str
    tokens: int
    is_observed: bool = False
    refused_at: float | None = None


def after_refusal(known: int | None, *, in_flight: int, tried: int) -> int:
    """The limit after a batch was refused: what was in flight beside it, and half of what it had; never more than before.

    Args:
        known: The limit before; None if there was none.
        in_flight: Tokens in flight under the same key, without the batch.
        tried: Tokens of the batch.
    """
    found = max(1, in_flight + tried // 2)
    return found if known is None else min(known, found)


def growth(accepted: int) -> int:
    """By how much a limit grows after a batch of so many tokens was accepted."""
    return max(1, accepted // _GROWTH)


def with_room_for(granted: Collection[Granted], least: int) -> list[Granted]:
    """Allowances under which an item of so many tokens can be sent at all, if nothing else is in flight.

    An item that is larger than a limit which the provider has stated never passes, and fails. What was learned is not
    so certain: it must not cost a row.
    """
    return [
        one
        if not one.allowance.is_observed or one.allowance.limit >= least
        else one._replace(allowance=replace(one.allowance, limit=least))
        for one in granted
    ]
