"""A user's own prices: a table by provider and model, from ``prices.toml`` or a mapping of the same shape.

::

    ["acme/large"]                         # provider/model; a * at the end stands for anything
    input_tokens = 0.80                    # US dollars for a million tokens of this kind
    cached_tokens = 0.20
    output_tokens = 3.20
    batch_rate = 0.5                       # what a batch costs of these prices; 1 unless given

    [["acme/house-model"]]                 # prices that change: a table for each day from which they hold
    valid_from = 2026-01-01
    input_tokens = 0.10
    output_tokens = 0.30
    tiers = [{ above = 200000, input_tokens = 0.20 }]

Requests with more input tokens than a tier's ``above`` cost what the tier says, every token of them; what it leaves out costs the
same as without it. A kind of token that is left out costs what the tokens that it is counted in cost, or nothing.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.pricing import PER_MILLION, BatchRates, Bracket
from batchor_core.core.usage import TOKEN_KINDS

HIGHEST_PRICE = 1_000_000
"""US dollars a million tokens: what is more is a mistake, such as a price for a thousand of them."""

_ENTRY_KEYS = (*TOKEN_KINDS, "batch_rate", "valid_from", "tiers")
_TIER_KEYS = (*TOKEN_KINDS, "above")


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """The prices of a model from a day on.

    Attributes:
        rates: The prices.
        valid_from: The first day in UTC that they hold on; None for all days before the next entry.
    """

    rates: BatchRates
    valid_from: date | None = None


class PriceTable:
    """A user's own prices.

    Args:
        tables: By ``provider/model``, a table or a list of tables; see the head of this file.
        where: What errors call the table, such as its file.

    Raises:
        InvalidInputError: A table or a key of it can't be used; names the file, the table and the key.
    """

    def __init__(self, tables: Mapping[str, Any], *, where: str = "prices") -> None:
        self._entries: dict[str, list[PriceEntry]] = {}
        if not isinstance(tables, Mapping):
            raise InvalidInputError(f"{where} must be tables by provider/model, not {shown(tables)}")
        for name, given in tables.items():
            self._entries[name] = _entries(f"{where}: [{name!r}]", name, given)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> PriceTable:
        """Read a TOML file.

        Raises:
            InvalidInputError: It can't be read, is no TOML, or holds what can't be used.
        """
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8-sig")
            # as they are written: the float next to 0.1 is another price
            tables = tomllib.loads(text, parse_float=Decimal)
        except OSError as error:
            raise InvalidInputError(f"the prices can't be read: {path}: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{path} is not TOML: {error}") from None
        return cls(tables, where=str(path))

    def rates(self, provider: str, model: str, day: date) -> BatchRates | None:
        """The prices of a model on a day; None if the table has none."""
        name = f"{provider}/{model}"
        patterns = [key for key in self._entries if key.endswith("*") and name.startswith(key[:-1])]
        for key in (name, *sorted(patterns, key=len, reverse=True)):
            valid = [
                one for one in self._entries.get(key, ()) if one.valid_from is None or one.valid_from <= day
            ]
            if valid:
                return valid[-1].rates
        return None


def _entries(where: str, name: str, given: Any) -> list[PriceEntry]:
    provider, slash, model = name.partition("/") if isinstance(name, str) else ("", "", "")
    if not (provider and slash and model):
        raise InvalidInputError(f'{where} must be named provider/model, such as ["acme/large"]')
    tables = [given] if isinstance(given, Mapping) else given
    if not isinstance(tables, Sequence) or isinstance(tables, str | bytes) or not tables:
        raise InvalidInputError(f"{where} must be a table of prices, and is {shown(given)}")
    entries = [price_entry(where, table) for table in tables]
    days = [entry.valid_from or date.min for entry in entries]
    if len(set(days)) < len(days):
        raise InvalidInputError(f"{where} has two tables for the same time: give each another valid_from")
    return sorted(entries, key=lambda entry: entry.valid_from or date.min)


def price_entry(where: str, table: Any) -> PriceEntry:
    """One table of prices.

    Args:
        where: What errors call it.
        table: As it is in the file.

    Raises:
        InvalidInputError: It can't be used; names the key.
    """
    if not isinstance(table, Mapping):
        raise InvalidInputError(f"{where} must be a table of prices, and is {shown(table)}")
    _check_keys(where, table, _ENTRY_KEYS)
    rate = _number(where, "batch_rate", table["batch_rate"], most=1) if "batch_rate" in table else Fraction(1)
    base = _prices(where, table, rate)
    if not base:
        raise InvalidInputError(f"{where} has no price: give one of {', '.join(TOKEN_KINDS)}")
    brackets = [Bracket(-1, base)]
    tiers = table.get("tiers", [])
    if not isinstance(tiers, Sequence) or isinstance(tiers, str | bytes):
        raise InvalidInputError(f"{where}: tiers must be a list of tables, and is {shown(tiers)}")
    for number, tier in enumerate(tiers):
        place = f"{where}: tiers[{number}]"
        if not isinstance(tier, Mapping):
            raise InvalidInputError(f"{place} must be a table with above and prices, and is {shown(tier)}")
        _check_keys(place, tier, _TIER_KEYS)
        above = tier.get("above")
        if not isinstance(above, int) or isinstance(above, bool) or above <= brackets[-1].above or above < 1:
            raise InvalidInputError(
                f"{place}: above must be a number of tokens, larger than that of the tier before, and is {shown(above)}"
            )
        brackets.append(Bracket(above, {**brackets[-1].prices, **_prices(place, tier, rate)}))
    return PriceEntry(BatchRates(tuple(brackets)), _day(where, table.get("valid_from")))


def _check_keys(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise InvalidInputError(f"{where}: there is no key {key!r}; {advice}")


def _prices(where: str, table: Mapping[str, Any], rate: Fraction) -> dict[str, Fraction]:
    return {
        kind: _number(where, kind, table[kind], most=HIGHEST_PRICE) * rate * PER_MILLION
        for kind in TOKEN_KINDS
        if kind in table
    }


def _number(where: str, key: str, value: Any, *, most: int) -> Fraction:
    is_number = isinstance(value, int | float | Decimal | Fraction) and not isinstance(value, bool)
    try:
        # the shortest decimal that is this float is what was written
        number = Fraction(str(value) if isinstance(value, float) else value) if is_number else None
    except (ValueError, OverflowError):  # infinity, or not a number
        number = None
    if number is None or not 0 <= number <= most:
        raise InvalidInputError(f"{where}: {key} must be a number from 0 to {most:,}, and is {shown(value)}")
    return number


def _day(where: str, value: Any) -> date | None:
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    try:
        if isinstance(value, str):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise InvalidInputError(f"{where}: valid_from must be a date such as 2026-11-01, and is {shown(value)}")
