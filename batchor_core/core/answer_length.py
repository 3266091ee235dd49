"""How long the answers to a request may be, by what the request says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

DEFAULT_ANSWER_TOKENS = 4_096
"""Reserved for an answer if nothing limits its length."""

_NAMES = ("max_output_tokens", "max_completion_tokens", "max_tokens")


def longest_answer(fields: Mapping[str, Any]) -> int | None:
    """The most tokens that a request with these fields can be answered with; None if nothing limits them.

    ``n`` answers, or the ``best_of`` that are written for them, count together, each as long as the default if nothing limits it.
    """
    longest = next((most for name in _NAMES if _is_count(most := fields.get(name))), None)
    count = max((many for name in ("n", "best_of") if _is_count(many := fields.get(name))), default=1)
    if count == 1:
        return longest
    return count * (DEFAULT_ANSWER_TOKENS if longest is None else longest)


def longest_answer_to(line: Mapping[str, Any]) -> int | None:
    """The same for a request line, whatever its provider calls the body."""
    bodies = [part for part in line.values() if isinstance(part, dict)]
    return max((most for body in bodies if (most := longest_answer(body)) is not None), default=None)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
