"""Which optional methods a provider has. One that is misspelt or forgotten would silently cost the promise to pay once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from typing import Any

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.providers.api import BatchApi, BatchLimits, FoundBy

_NEARLY = 0.85
"""How similar a method's name has to be to an optional one's to count as a misspelling."""

_OPTIONAL_OF_APIS = tuple(
    name
    for name, method in vars(BatchApi).items()
    if not name.startswith("_") and callable(method) and name not in BatchApi.__abstractmethods__
)


def own_methods(provider: Any, names: Iterable[str], base: type) -> dict[str, Callable[..., Any]]:
    """Those of the methods that ``provider`` has and does not inherit from ``base``."""
    found = {}
    for name in names:
        method = getattr(provider, name, None)
        if callable(method) and getattr(method, "__func__", method) is not getattr(base, name):
            found[name] = method
    return found


def check_spelling(
    provider: Any, optional: Collection[str], own: Collection[str], *, known: Collection[str] = ()
) -> None:
    """Refuse methods that are named nearly like an optional one which the provider does not have.

    Args:
        provider: The provider.
        optional: The names of all optional methods.
        own: Those that it has.
        known: Names of other methods that are looked for.

    Raises:
        InvalidInputError: It has such a method.
    """
    for name in dir(provider):
        if name.startswith("_") or name in optional or name in known:
            continue
        near = difflib.get_close_matches(name, optional, n=1, cutoff=_NEARLY)
        if near and near[0] not in own and callable(getattr(provider, name, None)):
            raise InvalidInputError(
                f"{type(provider).__name__}.{name} looks like a misspelling of the optional method {near[0]!r}, and would be "
                f"ignored. Rename it to {near[0]!r} or, if it is something else, to a less similar name."
            )


def check_complete(api: BatchApi) -> None:
    """Refuse a provider whose limits state more than it does.

    Raises:
        InvalidInputError: It misses a method, or has one that is misspelt.
    """
    kind, limits = type(api).__name__, getattr(api, "limits", None)
    if not isinstance(limits, BatchLimits):
        raise InvalidInputError(f"{kind}.limits must be a BatchLimits, not {shown(limits)}")
    own = own_methods(api, _OPTIONAL_OF_APIS, BatchApi)
    check_spelling(api, _OPTIONAL_OF_APIS, own, known=BatchApi.__abstractmethods__)
    for name, stated, is_stated in (
        ("list_batches", f"found_by={limits.found_by.value!r}", limits.found_by is not FoundBy.NOTHING),
        ("fence", "can_fence=True", limits.can_fence),
        ("cancel", "can_cancel=True", limits.can_cancel),
        ("continued_line", "can_continue=True", limits.can_continue),
        ("with_cache_key", "has_cache_keys=True", limits.has_cache_keys),
    ):
        if is_stated and name not in own:
            raise InvalidInputError(f"the limits of {kind} state {stated}, and it has no method {name!r}")
