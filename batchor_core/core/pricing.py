"""What answers cost: rates of a model by kind of token, and the exact price of one answer at them.

Amounts are whole picodollars, of which 10\\ :sup:`12` are a US dollar, so that sums are exact in any order. A price holds for
one request: models with long-context tiers charge every token of a request more once its input passes a threshold. So each
answer is priced by itself when it is settled, and the store keeps the amount.

If no batch price is known there is no figure: the standard price, or a share of it, would be a guess.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial, reduce
from itertools import chain, repeat
from math import lcm
from operator import add, mul
from typing import NamedTuple, TypeAlias

from batchor_core.core.usage import TOKEN_KINDS, TokenUsage, counts
from batchor_core.core.words import counted, usd_text

PICODOLLARS = 10**12
"""Of one US dollar."""

PER_MILLION = PICODOLLARS // 10**6
"""Picodollars for a token at a price of one US dollar for a million of them."""

LARGEST_AMOUNT = 1_000 * PICODOLLARS
"""What one answer may cost: more is a mistake in its token counts, and some of those would overflow the sums."""

WITHIN: Mapping[str, tuple[str, ...]] = {
    "cached_tokens": ("input_tokens",),
    "cache_write_tokens": ("input_tokens",),
    "reasoning_tokens": ("output_tokens",),
}
"""The kinds whose tokens are counted in other kinds too, with all of these.

Two kinds may overlap if a third one counts what they share: with ``audio_tokens`` in the input, cached audio would be within
``audio_tokens``, ``cached_tokens`` and ``input_tokens``.
"""

Prices: TypeAlias = Mapping[str, Fraction]
"""Picodollars for a token, by kind. A kind that is left out costs what the tokens that it is counted in cost."""

Price: TypeAlias = Callable[[Sequence[TokenUsage]], "list[int | None]"]
"""Picodollars for each of some answers; None if its token counts can't be right."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """There is no figure.

    Attributes:
        reason: Why not, for people.
    """

    reason: str


NO_AMOUNTS = Unpriced("the store keeps no amounts")


@dataclass(frozen=True, slots=True)
class Bracket:
    """The prices of requests of a certain size.

    Attributes:
        above: They hold for requests with more input tokens than this.
        prices: By kind of token.
    """

    above: int
    prices: Prices


@dataclass(frozen=True, slots=True)
class BatchRates:
    """What a model's tokens cost in a batch.

    Attributes:
        brackets: By size, the smallest requests first.
        unseen: What is billed besides tokens; a cost at these rates is a lower bound then.
    """

    brackets: tuple[Bracket, ...]
    unseen: tuple[str, ...] = ()

    @property
    def thresholds(self) -> list[int]:
        """Input tokens of a request above which it costs more, in ascending order."""
        return [bracket.above for bracket in self.brackets[1:]]

    def estimate(self, *, input_tokens: int, requests: int) -> Decimal:
        """US dollars for the input of so many requests of about the same size."""
        average = input_tokens // max(1, requests)
        bracket = self.brackets[bisect_left(self.thresholds, average)]
        return dollars_of(int(bracket.prices.get("input_tokens", 0) * input_tokens))


Rates: TypeAlias = BatchRates | Unpriced


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars.

    Attributes:
        usd: The figure.
        missing: What it leaves out. The run has cost at least ``usd`` then, else exactly that by the price list.
    """

    usd: Decimal
    missing: tuple[str, ...] = ()


def cost_text(cost: Cost | Unpriced) -> str:
    """``$3.25``, or ``at least $3.25``; nothing where there is no figure."""
    if isinstance(cost, Unpriced):
        return ""
    return ("at least " if cost.missing else "") + usd_text(cost.usd)


def dollars_of(picodollars: int) -> Decimal:
    """The same amount in US dollars, exactly."""
    return Decimal(picodollars).scaleb(-12)


def cost_of(picodollars: int, *, unpriced: int, notes: Sequence[str] = ()) -> Cost | Unpriced:
    """What answers have cost all in all.

    Args:
        picodollars: The sum of those that have a price.
        unpriced: How many have none.
        notes: Why, and what the amounts leave out.
    """
    if not unpriced:
        return Cost(dollars_of(picodollars), tuple(notes))
    if not picodollars:
        return Unpriced("; ".join(notes) or f"no price known for {counted(unpriced, 'answer')}")
    return Cost(dollars_of(picodollars), (f"{counted(unpriced, 'answer')} without a price", *notes))


def price_at(rates: BatchRates) -> Price:
    """What answers cost at these rates.

    Each answer costs whole picodollars. Prices of up to six decimals a million tokens are whole numbers for a token; with
    any others the price of an answer is rounded to the nearest one, half of one upwards.
    """
    thresholds = rates.thresholds
    tables = [_weights(bracket.prices) for bracket in rates.brackets]

    def prices(usages: Sequence[TokenUsage]) -> list[int | None]:
        # all of a kind at once, which takes a third of the time that answer by answer would
        columns = list(zip(*map(counts, usages), strict=True))
        if not columns:
            return []
        can_be_wrong = any(max(_combined(form, columns)) > 0 for form in _CONTRADICTIONS)
        if can_be_wrong or (thresholds and max(columns[0]) > thresholds[0]):
            return [price(tokens) for tokens in zip(*columns, strict=True)]
        amounts = _rounded(tables[0], columns)
        return list(amounts) if max(amounts) < LARGEST_AMOUNT else list(map(_possible, amounts))

    def price(tokens: tuple[int, ...]) -> int | None:
        columns = [(count,) for count in tokens]
        if any(_combined(form, columns)[0] > 0 for form in _CONTRADICTIONS):
            return None
        return _possible(_rounded(tables[bisect_left(thresholds, tokens[0])], columns)[0])

    return prices


def _rounded(table: _Weights, columns: Sequence[tuple[int, ...]]) -> list[int]:
    amounts = _combined(table.weights, columns)
    return (
        amounts if table.unit == 1 else [(2 * amount + table.unit) // (2 * table.unit) for amount in amounts]
    )


def _possible(amount: int) -> int | None:
    return amount if amount < LARGEST_AMOUNT else None


def _combined(form: Sequence[int], columns: Sequence[tuple[int, ...]]) -> list[int]:
    """For each answer, the sum of its counts, each so many times."""
    parts = [
        map(mul, column, repeat(times))
        for times, column in zip(form, columns, strict=True)
        if times and any(column)
    ]
    return list(reduce(partial(map, add), parts)) if parts else [0] * len(columns[0])


class _Weights(NamedTuple):
    """How much each kind adds to the price of the tokens that it is within, in parts of a picodollar, and how many parts there are.

    The price of an answer is then one sum over the counts as they are stated.
    """

    weights: tuple[int, ...]
    unit: int


def _weights(prices: Prices) -> _Weights:
    if unknown := prices.keys() - set(TOKEN_KINDS):
        raise KeyError(f"prices name {min(unknown)}, which is no kind of token")
    weights: dict[str, Fraction] = {}
    for kind in _CONTAINERS_FIRST:
        known = sum((weights[whole] for whole in WITHIN.get(kind, ())), Fraction(0))
        weights[kind] = prices[kind] - known if kind in prices else Fraction(0)
    unit = lcm(*(weight.denominator for weight in weights.values()))
    return _Weights(tuple(int(weights[kind] * unit) for kind in TOKEN_KINDS), unit)


_CONTAINERS_FIRST = sorted(TOKEN_KINDS, key=lambda kind: len(WITHIN.get(kind, ())))


def _contradictions() -> tuple[tuple[int, ...], ...]:
    """For each kind that others are within, a sum over the counts that is above 0 where those are more than the whole."""
    own: dict[str, dict[str, int]] = {}  # the tokens that are of this kind and of none within it
    for kind in reversed(_CONTAINERS_FIRST):
        form = dict.fromkeys(TOKEN_KINDS, 0) | {kind: 1}
        for part in own:
            if kind in WITHIN.get(part, ()):
                form = {name: form[name] - own[part][name] for name in TOKEN_KINDS}
        own[kind] = form
    wholes = set(chain.from_iterable(WITHIN.values()))
    return tuple(tuple(-own[kind][name] for name in TOKEN_KINDS) for kind in TOKEN_KINDS if kind in wholes)


_CONTRADICTIONS = _contradictions()
