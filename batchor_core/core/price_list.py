"""The public batch prices that the ``genai-prices`` package comes with; nothing is looked up online."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from batchor_core.core.pricing import PER_MILLION, BatchRates, Bracket, Rates, Unpriced

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_LIST_NAMES = {
    "input_tokens": "input_mtok",
    "cached_tokens": "cache_read_mtok",
    "cache_write_tokens": "cache_write_mtok",
    "output_tokens": "output_mtok",
    "reasoning_tokens": "output_reasoning_mtok",
}
"""Our kinds of tokens, as the list calls the price of a million of them."""

_BATCH = {"processing": "batch"}


def batch_rates(
    price_list: str,
    model: str,
    *,
    at: datetime,
    unseen: Sequence[str] = (),
    names: Mapping[str, str] = MappingProxyType({}),
) -> Rates:
    """What a model's tokens cost in a batch on a day.

    Args:
        price_list: The provider, by its id in genai-prices.
        model: As the provider calls it; aliases and dated names are known to the list.
        at: An aware time; prices change.
        unseen: What these requests are billed for besides tokens.
        names: The list's names of prices, by our kinds of tokens, where these requests have others than usual.
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
    return BatchRates(_brackets(found.model_price, {**_LIST_NAMES, **names}), tuple(unseen))


def _has_batch_price(model: ModelInfo, at: datetime) -> bool:
    """Whether the list says what a batch costs, even if that is the standard price."""
    return any(
        variant.when.items() <= _BATCH.items()
        and (variant.constraint is None or variant.constraint.active(at))
        for variant in model.price_variants or ()
    )


def _brackets(prices: ModelPrice, names: Mapping[str, str]) -> tuple[Bracket, ...]:
    from genai_prices.types import TieredPrices

    def flat(price: Decimal | TieredPrices, above: int) -> Fraction:
        if isinstance(price, TieredPrices):
            reached = [tier.price for tier in price.tiers if tier.start <= above]  # in ascending order
            price = reached[-1] if reached else price.base
        return Fraction(price) * PER_MILLION

    listed = {kind: vars(prices).get(name) for kind, name in names.items()}
    known = {kind: price for kind, price in listed.items() if price is not None}
    tiered = [price for price in known.values() if isinstance(price, TieredPrices)]
    starts = sorted({tier.start for price in tiered for tier in price.tiers})
    return tuple(
        Bracket(above, {kind: flat(price, above) for kind, price in known.items()}) for above in (-1, *starts)
    )
