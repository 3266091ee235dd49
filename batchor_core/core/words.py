"""Numbers and moments as people read them, in errors, logs, progress and metadata."""

from __future__ import annotations

from datetime import UTC, datetime


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 row``, ``12,345 rows``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(seconds: float) -> str:
    """A moment, given in seconds since the epoch: ``2026-11-29 14:05:00 UTC``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
