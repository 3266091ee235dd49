"""Token usage as OpenAI and servers like it state it."""

from __future__ import annotations

from typing import Any

from batchor_core.core.usage import TokenUsage

_TOO_MANY = 2**62


def usage_from_body(body: dict[str, Any]) -> TokenUsage | None:
    """Read the usage block of a Responses or Chat Completions body; None when there is none.

    Both spellings occur (``input_tokens`` and ``prompt_tokens``), every field may be missing or null, and
    compatible servers send other types, which count as 0.
    """
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    input_details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details")
    output_details = usage.get("output_tokens_details") or usage.get("completion_tokens_details")
    return TokenUsage(
        _count(usage, "input_tokens", "prompt_tokens"),
        _count(input_details, "cached_tokens"),
        _count(usage, "output_tokens", "completion_tokens"),
        _count(output_details, "reasoning_tokens"),
        _count(input_details, "cache_write_tokens"),
    )


def _count(block: object, *names: str) -> int:
    if isinstance(block, dict):
        for name in names:
            value = block.get(name)
            # not a bool, which is an int in Python too; a number beyond the databases' integers is no token count
            if type(value) is int and 0 <= value < _TOO_MANY:
                return value
    return 0
