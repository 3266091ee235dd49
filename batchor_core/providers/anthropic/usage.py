"""Token usage as Anthropic states it: what came from the cache and went to it stands beside the input."""

from __future__ import annotations

from typing import Any

from batchor_core.core.usage import TokenUsage

_TOO_MANY = 2**62


def read_usage(usage: Any) -> TokenUsage | None:
    """Read the usage of a message; None when there is none. Fields may be missing or null."""
    if not isinstance(usage, dict):
        return None
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    return TokenUsage(
        input_tokens=_count(usage, "input_tokens") + read + written,
        cached_tokens=read,
        output_tokens=_count(usage, "output_tokens"),
        reasoning_tokens=_count(usage.get("output_tokens_details"), "thinking_tokens"),
        cache_write_tokens=written,
    )


def _count(block: Any, name: str) -> int:
    value = block.get(name) if isinstance(block, dict) else None
    # not a bool, which is an int in Python too; a number beyond the databases' integers is no token count
    return value if type(value) is int and 0 <= value < _TOO_MANY else 0
