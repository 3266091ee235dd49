"""Where a run's prices come from: the user's own table, then the user's function, then what the provider's price list says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from os import PathLike
from typing import Any, TypeAlias

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_core.core.price_table import PriceTable, price_entry
from batchor_core.core.pricing import BatchRates, Rates, Unpriced

PriceFunction: TypeAlias = Callable[[str, str, date], "Mapping[str, Any] | None"]
"""Called with provider, model and the day in UTC that a batch was created on. Returns the batch's prices as a table of
``prices.toml`` has them, or None if it does not know."""

PricesGiven: TypeAlias = "str | PathLike[str] | Mapping[str, Any] | PriceFunction | PriceBook"
"""Prices as users give them: a TOML file, a mapping of the same shape, a function, or a book of several of these."""

log = logging.getLogger("batchor_core")


class PriceBook:
    """The prices that runs are priced with.

    Args:
        table: Your own prices, which come first: a TOML file, or a mapping of the same shape (see
            :mod:`batchor_core.core.price_table`).
        function: Asked where the table has no price.
        in_use: What a stored config becomes before it is used, where something is added to it, such as the server.

    Raises:
        InvalidInputError: The table can't be read or used; names the file, the table and the key.
    """

    def __init__(
        self,
        table: str | PathLike[str] | Mapping[str, Any] | None = None,
        function: PriceFunction | None = None,
        *,
        in_use: Callable[[ProviderConfig], ProviderConfig] | None = None,
    ) -> None:
        self._table = PriceTable.load(table) if isinstance(table, str | PathLike) else PriceTable(table or {})
        self._function = function
        self._in_use = in_use

    @classmethod
    def of(cls, given: PricesGiven | None) -> PriceBook:
        """The book that is meant.

        Raises:
            InvalidInputError: It is none of those that :data:`PricesGiven` names, or can't be used.
        """
        match given:
            case PriceBook():
                return given
            case None | str() | PathLike() | Mapping():
                return cls(given)
            case _ if callable(given):
                return cls(function=given)
        raise InvalidInputError(
            f"prices must be the path of a TOML file, a mapping, a function or a PriceBook, not {shown(given)}"
        )

    def rates(self, config: ProviderConfig, *, at: datetime) -> Rates:
        """What answers of this provider and model cost if their batch was created then.

        Raises:
            InvalidInputError: The function returned what is no table of prices.
        """
        if self._in_use is not None:
            config = self._in_use(config)
        own = self._own(config, at.astimezone(UTC).date())
        if own is not None:
            return replace(own, unseen=tuple(config.billed_besides()))
        return config.batch_rates(at=at)

    def _own(self, config: ProviderConfig, day: date) -> BatchRates | None:
        provider, model = str(config.provider_kind), str(getattr(config, "model", ""))
        found = self._table.rates(provider, model, day)
        if found is None and self._function is not None:
            prices = self._function(provider, model, day)
            if prices is not None:
                found = price_entry(
                    f"the prices that the function returned for {provider}/{model}", prices
                ).rates
        return found


def rates_at(prices: PriceBook, config: ProviderConfig, at: float) -> Rates:
    """What answers cost in a batch that is created at this time, in seconds since 1970."""
    try:
        return prices.rates(config, at=datetime.fromtimestamp(at, UTC))
    except (
        Exception
    ) as error:  # of the user's function, or of a config: what was answered is kept all the same
        log.exception("the prices of %s can't be looked up", config.provider_kind)
        return Unpriced(f"the prices can't be looked up: {type(error).__name__}: {error}")
