"""Caps: how much may be spent, in US dollars or rows, by a run, an asset, a tag or a whole store, for good or a day.

A submission reserves the most that it may cost when it claims its rows; what has been settled since takes the place of what was
reserved. So a cap is kept by all drivers of a store together: each claim looks, under a lock, at what is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from batchor_core.core.answer_length import DEFAULT_ANSWER_TOKENS
from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.pricing import PICODOLLARS, BatchRates, dollars_of
from batchor_core.core.spending import ASSET_EXTRA, key_text
from batchor_core.core.words import counted, usd_text

DAY_SEC = 86_400

_ANY_OF = ("run", "asset")
_MOST = 10**18


class CapMeasure(StrEnum):
    """What a cap counts."""

    USD = "usd"
    """Picodollars: what answers have cost, and what is reserved for those that are still to come."""
    ROWS = "rows"
    """Rows that were sent, each as often as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """The most that may be spent.

    Attributes:
        usd: US dollars; or
        rows: rows, each counted as often as it is sent.
        scope: What it holds for: ``run``, ``asset`` or ``tag:NAME`` (a key of ``batch_metadata``) for each of them by itself;
            ``run:ID``, ``asset:KEY`` or ``tag:NAME=VALUE`` for one of them, which counts before a cap for each; or ``store``.
        per: ``day`` (in UTC) for what is sent on a day; None for all time.

    Raises:
        InvalidInputError: It is not one of dollars and rows, or there is no such scope.
    """

    usd: Decimal | float | None = None
    rows: int | None = None
    scope: str = "run"
    per: Literal["day"] | None = None

    def __post_init__(self) -> None:
        _check_scope(self.scope)
        if (self.usd is None) == (self.rows is None):
            raise InvalidInputError("a cap has usd or rows: give one of them")
        if self.per not in (None, "day"):
            raise InvalidInputError(f"per must be 'day' or None, not {shown(self.per)}")
        given: Any = self.usd if self.rows is None else self.rows
        kinds = (int,) if self.usd is None else (int, float, Decimal)
        most = _MOST if self.usd is None else _MOST // PICODOLLARS
        # NaN is in no order with anything
        if not isinstance(given, kinds) or isinstance(given, bool) or not 0 <= self.limit <= _MOST:
            raise InvalidInputError(
                f"the {self.measure.value} of a cap must be a number from 0 to {most:,}, not {shown(given)}"
            )

    @property
    def measure(self) -> CapMeasure:
        """What it counts."""
        return CapMeasure.ROWS if self.usd is None else CapMeasure.USD

    @property
    def limit(self) -> int:
        """Picodollars or rows."""
        if self.usd is None:
            return self.rows or 0
        number = Decimal(str(self.usd) if isinstance(self.usd, float) else self.usd)
        is_possible = number.is_finite() and number.adjusted() < len(
            str(_MOST)
        )  # a larger one would overflow
        return int(number * PICODOLLARS) if is_possible else -1

    def __str__(self) -> str:
        return f"{amount_text(self.measure, self.limit)} for {self.scope}" + (" a day" if self.per else "")


def check_caps(name: str, caps: Any) -> None:
    """Refuse what is no list of caps.

    Raises:
        InvalidInputError: It is none.
    """
    if not isinstance(caps, list | tuple) or not all(isinstance(cap, Cap) for cap in caps):
        raise InvalidInputError(f"{name} must be a list of Cap(...), not {shown(caps)}")


def _check_scope(scope: Any) -> None:
    if isinstance(scope, str):
        kind, colon, rest = scope.partition(":")
        if scope in ("store", *_ANY_OF) or (colon and rest and kind in ("tag", *_ANY_OF)):
            return
    raise InvalidInputError(
        f"the scope of a cap must be store, run, asset, tag:NAME, run:ID, asset:KEY or tag:NAME=VALUE, not {shown(scope)}"
    )


def amount_text(measure: CapMeasure, amount: int) -> str:
    """Picodollars or rows, for people."""
    return usd_text(dollars_of(amount)) if measure is CapMeasure.USD else counted(amount, "row")


class ActiveCap(NamedTuple):
    """A cap as it holds for a run: ``label`` is the one run, asset or tag that it is for."""

    label: str
    measure: CapMeasure
    per_day: bool
    limit: int

    def __str__(self) -> str:
        return f"{amount_text(self.measure, self.limit)} for {self.label}" + (
            " a day" if self.per_day else ""
        )


class CapStanding(NamedTuple):
    """A cap, and how far it is used.

    Attributes:
        cap: The cap.
        settled: What is spent for good.
        reserved: What may come to that, at most.
    """

    cap: ActiveCap
    settled: int
    reserved: int

    @property
    def left(self) -> int:
        """What may be reserved now; negative if the cap was lowered."""
        return self.cap.limit - self.settled - self.reserved

    def used(self) -> str:
        """What is spent and reserved, for people."""
        settled = amount_text(self.cap.measure, self.settled)
        return (
            f"{settled} and {amount_text(self.cap.measure, self.reserved)} reserved"
            if self.reserved
            else settled
        )

    def holds_back(self) -> str | None:
        """What rows may be waiting for that don't fit, for people; None if nothing that is reserved is in their way."""
        needed = 1 if self.cap.measure is CapMeasure.ROWS else self.reserved
        if not self.reserved or self.left >= needed:
            return None
        return f"the cap of {self.cap}: {self.used()} used; rows that do not fit wait until it is known what those in flight cost"


class Reservation(NamedTuple):
    """What rows may cost at most.

    Attributes:
        token: Picodollars for a token of a prompt.
        answer: Picodollars for the answer of a row.
    """

    token: int
    answer: int

    def of(self, measure: CapMeasure, *, rows: int, tokens: int) -> int:
        """What rows with so many tokens together reserve."""
        return rows if measure is CapMeasure.ROWS else self.token * tokens + self.answer * rows


def reservation_at(rates: BatchRates, *, largest: int, answer_tokens: int | None) -> Reservation:
    """What rows reserve at these rates.

    Args:
        rates: What their tokens cost.
        largest: Prompt tokens of the largest row.
        answer_tokens: The longest answer; None if nothing limits it.
    """
    prices = [bracket.prices for bracket in rates.brackets if bracket.above < largest] or [
        rates.brackets[0].prices
    ]

    def most(*kinds: str) -> int:
        return -int(-max((each[kind] for each in prices for kind in kinds if kind in each), default=0) // 1)

    answer = most("output_tokens", "reasoning_tokens")
    longest = DEFAULT_ANSWER_TOKENS if answer_tokens is None else answer_tokens
    return Reservation(most("input_tokens", "cache_write_tokens", "cached_tokens"), answer * longest)


def labels_of(run_id: str, *, tags: Mapping[str, str], extras: Mapping[str, Any]) -> list[str]:
    """Whatever caps may be for, of a run."""
    asset = key_text(extras.get(ASSET_EXTRA))
    named = [f"tag:{name}={value}" for name, value in sorted(tags.items())]
    return ["store", f"run:{run_id}", *([] if asset is None else [f"asset:{asset}"]), *named]


def active_caps(caps: Iterable[Cap], labels: Sequence[str]) -> list[ActiveCap]:
    """The caps that hold for a run with these labels, in the order of their names."""
    found: dict[tuple[str, str, bool], tuple[bool, ActiveCap]] = {}
    for cap in caps:
        for label in labels:
            is_exact = cap.scope == label
            if is_exact or _is_each(cap.scope, label):
                active = ActiveCap(label, cap.measure, cap.per == "day", cap.limit)
                known = found.get((label, active.measure, active.per_day))
                if known is None or is_exact:
                    found[label, active.measure, active.per_day] = (is_exact, active)
    return [active for _, (_, active) in sorted(found.items())]


def _is_each(scope: str, label: str) -> bool:
    """Whether a label is one of those that a scope stands for. A run's id and an asset's key may have a ``=`` in them."""
    if scope in _ANY_OF:
        return label.startswith(f"{scope}:")
    return scope.startswith("tag:") and label.startswith(f"{scope}=")


class Sent(NamedTuple):
    """What may be sent under caps.

    Attributes:
        rows: How many of the waiting rows, from the first on.
        short: A cap that holds the next one back; None if none does.
        need: What the next one needs of it.
    """

    rows: int
    short: CapStanding | None = None
    need: int = 0

    @property
    def may_fit_later(self) -> bool:
        """Whether there is room for the next row if what is reserved turns out to cost nothing."""
        return self.short is not None and self.short.settled + self.need <= self.short.cap.limit

    def reason(self) -> str:
        """Why nothing is sent, for people."""
        assert self.short is not None
        cap, need = self.short.cap, amount_text(self.short.cap.measure, self.need)
        return (
            f"the cap of {cap} is reached: {self.short.used()} used, and the next row may need {need}. Raise it (batchor cap), "
            "and resume the run"
        )


def admit_under_caps(
    tokens: Sequence[int], standings: Sequence[CapStanding], reservation: Reservation
) -> Sent:
    """How many of the waiting rows, given by their prompt tokens, fit what is left of every cap."""
    sent = Sent(len(tokens))
    for standing in standings:
        left = standing.left
        for position, count in enumerate(tokens[: sent.rows]):
            need = reservation.of(standing.cap.measure, rows=1, tokens=count)
            left -= need
            if left < 0:
                sent = Sent(position, standing, need)
                break
    return sent
