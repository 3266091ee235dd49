"""How many prompt tokens may wait at a provider, as a config states it.

The limits are settings, so they are read from the config. A provider need not know of them: one that has the eight
documented methods alone is held to them like any other.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.server_address import normal_address, spellings

UNKNOWN_ACCOUNT = "unknown"
_LIMITS = {
    "enqueued_token_limit": 0.0,
    "target_ratio": 0.7,
    "headroom": 0.0,
    "max_batch_enqueued_tokens": 0.0,
}
"""The fields of ``enqueue_limits``, and what they are where they are left out or None."""


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
    in_flight, per_batch = token_limits(getattr(config, "enqueue_limits", None))
    if not per_batch:
        return None
    return EnqueueBudget(budget_key(config, account_of(config)), limit=in_flight, per_batch=per_batch)


def token_limits(enqueue_limits: Any) -> tuple[int, int]:
    """How many tokens may be in flight and in one batch, by the fields of ``enqueue_limits``; 0 for no limit.

    Raises:
        InvalidInputError: A field is unknown or can't be used.
    """
    if enqueue_limits is None:
        return 0, 0
    field = _fields_of(enqueue_limits)
    in_flight = effective_budget(
        int(field["enqueued_token_limit"]), field["target_ratio"], int(field["headroom"])
    )
    return in_flight, smallest_limit(in_flight, int(field["max_batch_enqueued_tokens"]))


def budget_key(config: Any, account: str | None) -> str:
    """Names what shares a budget: the kind of provider, the account at its server, and the model."""
    return f"{config.provider_kind}:{account or UNKNOWN_ACCOUNT}:{getattr(config, 'model', '')}"


def account_of(config: Any) -> str | None:
    """What a config says of the account that it uses, or None: ``account_fingerprint()``, or its fields."""
    stated = _method(config, "account_fingerprint")
    found = stated() if stated is not None else None
    if found is not None:
        return str(found)
    key, url, *others = _account_fields(config)
    return fingerprint(key, normal_address(url), *others) if key or url or any(others) else None


def earlier_accounts_of(config: Any) -> frozenset[str]:
    """What builds that took each spelling of a server for a server of its own called the account of a config."""
    stated = _method(config, "earlier_fingerprints")
    if stated is not None:
        return frozenset(stated())
    key, url, *others = _account_fields(config)
    return (
        frozenset(fingerprint(key, spelling, *others) for spelling in spellings(url)) if url else frozenset()
    )


def _account_fields(config: Any) -> list[str]:
    return [
        str(getattr(config, name, None) or "") for name in ("api_key", "base_url", "organization", "project")
    ]


def fingerprint(key: str, *seen_by: str) -> str:
    """Sixteen hex digits that differ between keys, accounts and servers, and from which no key can be found."""
    message = "\0".join(["batchor", *seen_by])
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()[:16]


def _fields_of(limits: Any) -> dict[str, float]:
    """The fields of a config's ``enqueue_limits``; a limit that can't be read is never taken for none."""
    if isinstance(limits, Mapping):
        unknown = [str(name) for name in limits if name not in _LIMITS]
        if unknown:
            near = get_close_matches(unknown[0], _LIMITS, n=1)
            raise InvalidInputError(
                f"enqueue_limits has no field {unknown[0]!r}"
                + (f": do you mean {near[0]!r}?" if near else f"; its fields are {', '.join(_LIMITS)}")
            )
        given = dict(limits)
    elif any(hasattr(limits, name) for name in _LIMITS) or getattr(limits, "__dict__", None) == {}:
        given = {name: getattr(limits, name, None) for name in _LIMITS}
    else:
        raise InvalidInputError(
            f"enqueue_limits is {limits!r}, and must be an OpenAIEnqueueLimitConfig or a mapping with its fields, such as "
            '{"enqueued_token_limit": 1_000_000}'
        )
    return {name: _limit(name, given.get(name), default) for name, default in _LIMITS.items()}


def _limit(name: str, value: Any, default: float) -> float:
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    is_good = 0 < number <= 1 if name == "target_ratio" else 0 <= number < math.inf
    if not is_good or isinstance(value, bool):
        expected = "above 0 and at most 1" if name == "target_ratio" else "a number of tokens, 0 or more"
        raise InvalidInputError(f"enqueue_limits: {name} is {value!r}, and must be {expected}")
    return number


def _method(config: Any, name: str) -> Callable[[], Any] | None:
    found = getattr(config, name, None)
    return found if callable(found) else None
