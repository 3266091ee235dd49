"""Numbers and moments as people read them, in errors, logs, progress and metadata."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 row``, ``12,345 rows``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(seconds: float) -> str:
    """A moment, given in seconds since the epoch: ``2026-11-29 14:05:00 UTC``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def usd_text(usd: Decimal) -> str:
    """``$1,234.50``, below a dollar ``$0.0325``, and below a hundredth of a cent its first digit: ``$0.00003``."""
    if usd >= 1 or not usd:
        return f"${usd:,.2f}"
    if usd >= Decimal("0.0001"):
        return f"${usd:.4f}"
    return f"${usd.quantize(Decimal(1).scaleb(usd.adjusted())):f}"
