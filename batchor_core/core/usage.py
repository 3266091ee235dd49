"""Token usage of one row, and the sum over a run.

The fields of :class:`TokenUsage` define the kinds of tokens: columns of the database and of tables, and the keys of
prices, come from :data:`TOKEN_KINDS`. A provider maps its own names to these kinds when it reads an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens as the provider billed them.

    Attributes:
        input_tokens: All prompt tokens, those read from and written to the prompt cache included.
        cached_tokens: Prompt tokens that were read from the prompt cache.
        output_tokens: All completion tokens, reasoning included.
        reasoning_tokens: Completion tokens spent on reasoning.
        cache_write_tokens: Prompt tokens that were written to the prompt cache, which some models charge extra for.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(*map(sum, zip(counts(self), counts(other), strict=True)))


TOKEN_KINDS: tuple[str, ...] = tuple(kind.name for kind in fields(TokenUsage))
"""Every kind of token, in the order of columns."""

counts = attrgetter(*TOKEN_KINDS)
"""The numbers of a :class:`TokenUsage`, in the order of :data:`TOKEN_KINDS`."""
