"""Numbers and moments as people read them, in errors, logs, progress and metadata."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 row``, ``12,345 rows``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(seconds: float) -> str:
    """A moment, given in seconds since the epoch: ``2026-11-29 14:05:00 UTC``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 days 4 h``: its two largest units."""
    whole = round(seconds)
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        hours, minutes = divmod(whole // _MINUTE, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(whole // _HOUR, 24)
    return counted(days, "day") + (f" {hours} h" if hours else "")


def dollars(usd: Decimal) -> float:
    """An amount to the cent, or below a dollar to the hundredth of one; less than that to its first digit."""
    amount = float(usd)
    rounded = round(amount, 2 if amount >= 1 else 4)
    return rounded or float(f"{amount:.1g}")


def usd_text(usd: Decimal) -> str:
    """``$1,234.50``, ``$0.0123``: the digits of :func:`dollars`, two at least."""
    whole, _, cents = f"{Decimal(str(dollars(usd))):,f}".partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"
