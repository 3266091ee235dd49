"""Token usage of one row, and the sum over a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_TOO_MANY = 2**62


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens as the provider billed them.

    Attributes:
        input_tokens: All prompt tokens, cached ones included.
        cached_tokens: Prompt tokens served from the prompt cache.
        output_tokens: All completion tokens, reasoning included.
        reasoning_tokens: Completion tokens spent on reasoning.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


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
    )


def _count(block: object, *names: str) -> int:
    if isinstance(block, dict):
        for name in names:
            value = block.get(name)
            # not a bool, which is an int in Python too; a number beyond the databases' integers is no token count
            if type(value) is int and 0 <= value < _TOO_MANY:
                return value
    return 0
