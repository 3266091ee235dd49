"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Time for tests: pass the clock as ``now=`` and its :meth:`sleep` as ``sleep=``, and nothing waits.

    Args:
        start: The first moment, aware; 1 January 2026, midnight UTC by default.

    Attributes:
        sleeps: Seconds of every :meth:`sleep`, in order.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be an aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC)")
        self._now = start.astimezone(UTC)
        self._lock = threading.Lock()
        self.sleeps: list[float] = []

    def __call__(self) -> datetime:
        """Return the present, in UTC."""
        return self._now

    def time(self) -> float:
        """Return the present as seconds since 1970, like ``time.time``."""
        return self._now.timestamp()

    def sleep(self, seconds: float) -> None:
        """Move the time forward instead of waiting, like ``time.sleep``."""
        self.advance(seconds)
        self.sleeps.append(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        if seconds < 0:
            raise ValueError(f"time can't go back by {seconds} seconds")
        with self._lock:
            self._now += timedelta(seconds=seconds)
