"""How many prompt tokens may wait at a provider, as a config states it.

The limits are settings, so they are read from the config. A provider need not know of them: one that has the eight
documented methods alone is held to them like any other.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batchor_core.core.exceptions import InvalidInputError

UNKNOWN_ACCOUNT = "unknown"
DEFAULT_TARGET_RATIO = 0.7


@dataclass(frozen=True, slots=True)
class EnqueueBudget:
    """How many prompt tokens may wait at a provider.

    Attributes:
        key: Names what shares the limit, such as an account and model; runs with the same key share it.
        limit: Tokens in flight under this key, 0 for no limit.
        per_batch: Tokens in one batch, 0 for no limit.
    """

    key: str
    limit: int
    per_batch: int


def effective_budget(limit: int, target_ratio: float, headroom: int) -> int:
    """Tokens that may be in flight: ``min(int(limit * target_ratio), limit - headroom)``, at least 1; 0 (no budget) for 0.

    Raises:
        InvalidInputError: The headroom leaves nothing of the limit.
    """
    if limit == 0:
        return 0
    if headroom >= limit:
        raise InvalidInputError(f"headroom ({headroom}) must be smaller than enqueued_token_limit ({limit})")
    return max(1, min(int(limit * target_ratio), limit - headroom))


def smallest_limit(*limits: int) -> int:
    """The smallest of some limits, where 0 means no limit."""
    return min((limit for limit in limits if limit), default=0)


def budget_of(config: Any) -> EnqueueBudget | None:
    """The budget that a provider config sets, or None.

    A config states it with its method ``enqueue_budget()``. One without the method, or whose method returns None, may have
    a field ``enqueue_limits`` with the fields of ``OpenAIEnqueueLimitConfig``, as an object or a mapping.
    """
    stated = _method(config, "enqueue_budget")
    budget = stated() if stated is not None else None
    if budget is not None:
        return EnqueueBudget(key=budget.key, limit=budget.limit, per_batch=budget.per_batch)
    limits = getattr(config, "enqueue_limits", None)
    if limits is None:
        return None

    def field(name: str, default: float = 0) -> Any:
        found = limits.get(name) if isinstance(limits, Mapping) else getattr(limits, name, None)
        return default if found is None else found

    in_flight = effective_budget(
        int(field("enqueued_token_limit")),
        float(field("target_ratio", DEFAULT_TARGET_RATIO)),
        int(field("headroom")),
    )
    per_batch = smallest_limit(in_flight, int(field("max_batch_enqueued_tokens")))
    if not per_batch:
        return None
    return EnqueueBudget(budget_key(config, account_of(config)), limit=in_flight, per_batch=per_batch)


def budget_key(config: Any, account: str | None) -> str:
    """Names what shares a budget: the kind of provider, the account at its server, and the model."""
    return f"{config.provider_kind}:{account or UNKNOWN_ACCOUNT}:{getattr(config, 'model', '')}"


def account_of(config: Any) -> str | None:
    """What a config says of the account that it uses, or None: ``account_fingerprint()``, or its fields."""
    stated = _method(config, "account_fingerprint")
    found = stated() if stated is not None else None
    if found is not None:
        return str(found)
    names = ("api_key", "base_url", "organization", "project")
    key, *seen_by = (str(getattr(config, name, None) or "") for name in names)
    return fingerprint(key, *seen_by) if key or any(seen_by) else None


def fingerprint(key: str, *seen_by: str) -> str:
    """Sixteen hex digits that differ between keys, accounts and servers, and from which no key can be found."""
    message = "\0".join(["batchor", *seen_by])
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()[:16]


def _method(config: Any, name: str) -> Callable[[], Any] | None:
    found = getattr(config, name, None)
    return found if callable(found) else None
