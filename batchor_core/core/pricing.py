"""What the requests of a batch cost, by the price list of the ``genai-prices`` package; nothing is looked up online.

A price holds for one request: models with long-context tiers charge every token of a request more once its input passes
a threshold, so the sum of a run can't be priced as one request. Between two thresholds a price is linear in the tokens.
:class:`CostTally` therefore adds requests up per bracket and prices each sum. The result is the same as pricing the
requests one by one, in constant memory.

If no batch price is known there is no figure: the standard price, or a share of it, would be a guess.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import compress
from operator import gt
from typing import TYPE_CHECKING, TypeAlias, assert_never

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

TokenCounts: TypeAlias = Mapping[str, int]
"""Tokens by kind: those of :data:`~batchor_core.core.usage.TOKEN_KINDS`, or some of them."""

PARTS = {"input_tokens": ("cached_tokens", "cache_write_tokens"), "output_tokens": ("reasoning_tokens",)}
"""Kinds that are counted within another kind."""

_LIST_NAMES = {
    "input_tokens": "input_tokens",
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
}
_BATCH = {"processing": "batch"}


@dataclass(frozen=True, slots=True)
class Unpriced:
    """There is no figure.

    Attributes:
        reason: Why not, for people.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Bracket:
    """The price of requests of a certain size.

    Attributes:
        above: It holds for requests with more input tokens than this.
        price: US dollars for so many tokens, of one request or of several.
    """

    above: int
    price: Callable[[TokenCounts], Decimal]


@dataclass(frozen=True, slots=True)
class BatchRates:
    """What a model's tokens cost in a batch.

    Attributes:
        brackets: By size, the smallest requests first.
        bills_cache_writes: Tokens written to the prompt cache have a price of their own.
        unseen: What is billed besides tokens; a cost at these rates is a lower bound then.
    """

    brackets: tuple[Bracket, ...]
    bills_cache_writes: bool = False
    unseen: tuple[str, ...] = ()

    @property
    def thresholds(self) -> list[int]:
        """Input tokens of a request above which it costs more, in ascending order."""
        return [bracket.above for bracket in self.brackets[1:]]

    def estimate(self, *, input_tokens: int, requests: int) -> Decimal:
        """US dollars for the input of so many requests of about the same size."""
        average = input_tokens // max(1, requests)
        return self.brackets[bisect_left(self.thresholds, average)].price({"input_tokens": input_tokens})


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


def batch_rates(price_list: str, model: str, *, at: datetime, unseen: Sequence[str] = ()) -> Rates:
    """What a model's tokens cost in a batch on a day.

    Args:
        price_list: The provider, by its id in genai-prices.
        model: As the provider calls it; aliases and dated names are known to the list.
        at: An aware time; prices change.
        unseen: What these requests are billed for besides tokens.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return Unpriced("prices need the genai-prices package: install batchor-core[prices]")
    try:
        # one token, to learn which model and which prices the list means
        found = calc_price(
            Usage(input_tokens=1),
            model,
            provider_id=price_list,
            genai_request_timestamp=at,
            price_context=_BATCH,
        )
    except LookupError:
        return Unpriced(f"no batch price known for {model}")
    # The list answers with the standard price where it has no batch price, and where the price is another provider's.
    if not _has_batch_price(found.model, at) or not any(found.model is one for one in found.provider.models):
        return Unpriced(f"no batch price known for {model} on {at.date()}")
    return BatchRates(
        _brackets(found.model_price),
        bills_cache_writes=found.model_price.cache_write_mtok is not None,
        unseen=tuple(unseen),
    )


def _has_batch_price(model: ModelInfo, at: datetime) -> bool:
    """Whether the list says what a batch costs, even if that is the standard price."""
    return any(
        variant.when.items() <= _BATCH.items()
        and (variant.constraint is None or variant.constraint.active(at))
        for variant in model.price_variants or ()
    )


def _brackets(prices: ModelPrice) -> tuple[Bracket, ...]:
    from genai_prices.types import ModelPrice, TieredPrices

    def flat(price: Decimal | TieredPrices, above: int) -> Decimal:
        if not isinstance(price, TieredPrices):
            return price
        reached = [tier.price for tier in price.tiers if tier.start <= above]  # in ascending order
        return reached[-1] if reached else price.base

    known = {name: price for name, price in vars(prices).items() if price is not None}
    tiered = [price for price in known.values() if isinstance(price, TieredPrices)]
    starts = sorted({tier.start for price in tiered for tier in price.tiers})
    brackets = []
    for above in (-1, *starts):
        prices = ModelPrice(**{name: flat(price, above) for name, price in known.items()})
        brackets.append(Bracket(above, partial(_price, prices)))
    return tuple(brackets)


def _price(prices: ModelPrice, tokens: TokenCounts) -> Decimal:
    from genai_prices import Usage

    usage = Usage(**{_LIST_NAMES[kind]: count for kind, count in tokens.items()})
    return prices.calc_price(usage)["total_price"]


class CostTally:
    """Adds up what the answers of a run cost."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._thresholds = rates.thresholds if isinstance(rates, BatchRates) else []
        self._sums: list[dict[str, int]] = [{} for _ in range(len(self._thresholds) + 1)]
        self._seen: dict[str, int] = {}
        self._largest = 0
        self._contradictory = 0
        self._unstated_answers = 0
        self._unstated = 0

    def add(self, kinds: Mapping[str, Sequence[int]]) -> None:
        """Add requests: for each kind of token, how many each request used."""
        if not kinds["input_tokens"]:
            return
        _add(self._seen, _sums(kinds))
        self._largest = max(self._largest, max(kinds["input_tokens"]))
        wrong = _contradictions(kinds)
        if any(wrong):
            self._contradictory += sum(wrong)
            kinds = _selected(kinds, [not is_wrong for is_wrong in wrong])
        if max(kinds["input_tokens"], default=0) <= min(self._thresholds, default=self._largest):
            _add(self._sums[0], _sums(kinds))
            return
        brackets = [bisect_left(self._thresholds, count) for count in kinds["input_tokens"]]
        for number, total in enumerate(self._sums):
            _add(total, _sums(_selected(kinds, [bracket == number for bracket in brackets])))

    def add_unstated(self, *, rows: int, answers: int) -> None:
        """Add rows whose tokens the provider did not state; so many of them have an answer."""
        self._unstated += rows
        self._unstated_answers += answers

    def cost(self, billed: TokenCounts) -> Cost | Unpriced:
        """What the run has cost.

        Args:
            billed: The sum over every answer that the provider billed. What it has beyond the requests that were added
                belongs to earlier attempts at the same requests, of which only this sum is kept.
        """
        match self._rates:
            case Unpriced() as unpriced:
                return unpriced
            case BatchRates() as rates:
                usd = sum(
                    (
                        bracket.price(tokens)
                        for bracket, tokens in zip(rates.brackets, self._sums, strict=True)
                    ),
                    Decimal(0),
                )
                earlier, doubts = self._earlier_attempts(rates, billed)
                return Cost(usd + earlier, (*self._missing(rates, billed), *doubts, *rates.unseen))
            case _:
                assert_never(self._rates)

    def _earlier_attempts(self, rates: BatchRates, billed: TokenCounts) -> tuple[Decimal, list[str]]:
        """What earlier attempts cost, and why it may be more."""
        rest = {kind: max(0, count - self._seen.get(kind, 0)) for kind, count in billed.items()}
        if not any(rest.values()):
            return Decimal(0), []
        if any(_contradictions({kind: [count] for kind, count in rest.items()})):
            return Decimal(0), ["retried answers whose token counts contradict each other"]
        # a request has the same input in each attempt, so where no stored row is large no earlier attempt was
        largest = rest["input_tokens"] if self._unstated else min(rest["input_tokens"], self._largest)
        is_small = largest <= min(self._thresholds, default=largest)
        cheapest = min(bracket.price(rest) for bracket in rates.brackets)
        doubt = [] if is_small else ["the long-context price of retried answers"]
        return (rates.brackets[0].price(rest) if is_small else cheapest), doubt

    def _missing(self, rates: BatchRates, billed: TokenCounts) -> list[str]:
        missing = []
        if self._unstated_answers:
            missing.append(f"{self._unstated_answers} answers without token counts")
        if self._contradictory:
            missing.append(f"{self._contradictory} answers whose token counts contradict each other")
        if rates.bills_cache_writes and "cache_write_tokens" not in billed:
            missing.append("the surcharge for writing to the prompt cache, which is not recorded")
        return missing


def _add(total: dict[str, int], more: TokenCounts) -> None:
    for kind, count in more.items():
        total[kind] = total.get(kind, 0) + count


def _sums(kinds: Mapping[str, Sequence[int]]) -> TokenCounts:
    return {kind: sum(counts) for kind, counts in kinds.items()}


def _selected(kinds: Mapping[str, Sequence[int]], wanted: Sequence[bool]) -> Mapping[str, Sequence[int]]:
    return {kind: list(compress(counts, wanted)) for kind, counts in kinds.items()}


def _contradictions(kinds: Mapping[str, Sequence[int]]) -> list[bool]:
    """For each request, whether it has more tokens of the parts than of the whole."""
    wrong = [False] * len(kinds["input_tokens"])
    for whole, parts in PARTS.items():
        found = [kinds[part] for part in parts if part in kinds]
        if not found:
            continue
        counted = found[0] if len(found) == 1 else list(map(sum, zip(*found, strict=True)))
        if any(map(gt, counted, kinds[whole])):
            wrong = [
                was or part > all_of for was, part, all_of in zip(wrong, counted, kinds[whole], strict=True)
            ]
    return wrong
