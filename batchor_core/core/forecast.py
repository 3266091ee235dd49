"""What a plan expects of answers and prices: arithmetic over the sizes of rows and the tokens of earlier answers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from batchor_core.core.answer_length import DEFAULT_ANSWER_TOKENS
from batchor_core.core.caps import (
    CapMeasure,
    CapStanding,
    Reservation,
    amount_text,
    reservation_at,
)
from batchor_core.core.plan import CapForecast, Range
from batchor_core.core.pricing import PICODOLLARS, BatchRates, Bracket, Rates, Unpriced, dollars_of
from batchor_core.core.usage import TokenUsage

CACHED_FROM_TOKENS = 1_024
"""Providers cache what prompts have in common at their beginning from this length on."""

_LEVELS = ("low", "expected", "high")


class AnswerTokens(NamedTuple):
    """What the answer of a row is expected to have.

    Attributes:
        tokens: Tokens of one answer; the expected one is a mean, and need not be whole.
        basis: What that is derived from.
        cached: Of the tokens of a prompt, the share that was read from the provider's cache.
        written: The share that was written to it.
        reasoning: Of the tokens of an answer, the share that was reasoning.
        is_bound: Whether nothing but a bound is known.
    """

    tokens: tuple[float, float, float]
    basis: str
    cached: float = 0.0
    written: float = 0.0
    reasoning: float = 0.0
    is_bound: bool = False


def answers_like(usages: Sequence[TokenUsage], basis: str) -> AnswerTokens:
    """What to expect after these answers: a tenth of them was shorter than the low figure, and a tenth longer than the high one."""
    lengths = sorted(usage.output_tokens for usage in usages)
    whole = sum(usages, TokenUsage())
    mean = whole.output_tokens / len(lengths)
    last = len(lengths) - 1
    low, high = lengths[round(0.1 * last)], lengths[round(0.9 * last)]
    return AnswerTokens(
        (min(low, mean), mean, max(high, mean)),
        f"{len(lengths):,} {basis}",
        whole.cached_tokens / max(1, whole.input_tokens),
        whole.cache_write_tokens / max(1, whole.input_tokens),
        whole.reasoning_tokens / max(1, whole.output_tokens),
    )


def answers_within(longest: int | None) -> AnswerTokens:
    """What to expect without any earlier answers: the bound that requests state, or else a default."""
    if longest is not None:
        basis = f"the bound of {longest:,} tokens an answer, since there are no earlier answers"
        return AnswerTokens((0, longest, longest), basis, is_bound=True)
    basis = f"a default of {DEFAULT_ANSWER_TOKENS:,} tokens an answer, since there are no earlier answers and no bound"
    return AnswerTokens((0, DEFAULT_ANSWER_TOKENS, DEFAULT_ANSWER_TOKENS), basis, is_bound=True)


NO_ANSWERS = AnswerTokens((0, 0, 0), "vectors have no tokens")


class NewRows:
    """The rows that would be sent, counted by what their sizes cost.

    Args:
        rates: What tokens cost.
        around: Tokens that a request has besides its texts.
        unbilled: Tokens of those that are not billed.

    Attributes:
        rows: Rows.
        largest: Prompt tokens of the largest one.
    """

    def __init__(self, rates: Rates, *, around: int, unbilled: int) -> None:
        self.rows = self.largest = 0
        self._rates = rates
        self._less = (around, unbilled, 0)
        self._thresholds = rates.thresholds if isinstance(rates, BatchRates) else []
        # rows and tokens in each bracket, at each level
        self._counts = [[[0, 0] for _ in range(len(self._thresholds) + 1)] for _ in _LEVELS]

    def add(self, tokens: Sequence[int]) -> None:
        """Count rows by their estimated prompt tokens."""
        self.rows += len(tokens)
        self.largest = max(self.largest, max(tokens, default=0))
        for less, brackets in zip(self._less, self._counts, strict=True):
            for count in tokens:
                billed = max(1, count - less)
                bracket = brackets[bisect_left(self._thresholds, billed)]
                bracket[0] += 1
                bracket[1] += billed

    def input_tokens(self) -> Range[int]:
        """Prompt tokens of all of them."""
        return Range(*[sum(tokens for _, tokens in brackets) for brackets in self._counts])

    def output_tokens(self, answer: AnswerTokens) -> Range[int]:
        """Tokens of their answers."""
        return Range(*[round(self.rows * each) for each in answer.tokens])

    def cost(self, answer: AnswerTokens) -> Range[Decimal] | Unpriced:
        """US dollars for both."""
        if isinstance(self._rates, Unpriced):
            return self._rates
        figures = []
        for brackets, length in zip(self._counts, answer.tokens, strict=True):
            picodollars = sum(
                _amount(bracket, rows * length, tokens, answer)
                for bracket, (rows, tokens) in zip(self._rates.brackets, brackets, strict=True)
            )
            figures.append(dollars_of(round(picodollars)))
        return Range(*sorted(figures))

    def writes_cost_more(self, answer: AnswerTokens) -> bool:
        """Whether writing to the provider's cache costs more than reading from it saves."""
        if isinstance(self._rates, Unpriced):
            return False
        prices = self._rates.brackets[0].prices
        plain = prices.get("input_tokens", 0)
        extra = (prices.get("cache_write_tokens", plain) - plain) * round(answer.written * 1_000_000)
        return extra > (plain - prices.get("cached_tokens", plain)) * round(answer.cached * 1_000_000)

    def caches(self) -> bool:
        """Whether the model has a price for prompts that are read from a cache."""
        return isinstance(self._rates, BatchRates) and "cached_tokens" in self._rates.brackets[0].prices

    def reservation(self, longest: int | None) -> Reservation:
        """What a row reserves under caps."""
        if isinstance(self._rates, Unpriced):
            return Reservation(0, 0)
        return reservation_at(self._rates, largest=self.largest, answer_tokens=longest)


def _amount(bracket: Bracket, output: float, tokens: int, answer: AnswerTokens) -> float:
    """Picodollars for so many tokens."""
    prices = bracket.prices
    plain, long = float(prices.get("input_tokens", 0)), float(prices.get("output_tokens", 0))
    other = 1 - answer.cached - answer.written
    rate_in = (
        other * plain
        + answer.cached * float(prices.get("cached_tokens", plain))
        + answer.written * float(prices.get("cache_write_tokens", plain))
    )
    rate_out = (1 - answer.reasoning) * long + answer.reasoning * float(prices.get("reasoning_tokens", long))
    return tokens * rate_in + output * rate_out


def forecast(
    standing: CapStanding,
    rows: int,
    cost: Range[Decimal] | Unpriced,
    *,
    largest: int,
    reservation: Reservation,
) -> CapForecast:
    """Whether a run of so many rows would stop at a cap: when its last row finds no room to reserve what it may cost."""
    measure, left = standing.cap.measure, standing.left
    shown = str(standing.cap), amount_text(measure, max(0, left))
    if measure is CapMeasure.USD and isinstance(cost, Unpriced):
        return CapForecast(*shown, "unknown")  # refused at the start, whatever there is to send
    if not rows:
        return CapForecast(*shown, "no")
    if measure is CapMeasure.ROWS or isinstance(cost, Unpriced):
        return CapForecast(*shown, "yes" if rows > left else "no")
    last = reservation.of(measure, rows=1, tokens=largest)

    def stops(usd: Decimal) -> bool:
        return int(usd * PICODOLLARS) * (rows - 1) // rows + last > left

    return CapForecast(*shown, "yes" if stops(cost.expected) else "perhaps" if stops(cost.high) else "no")
