"""The server's time: any clock, moved ahead by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float | datetime]
"""Gives the present: seconds since the epoch or an aware datetime."""


class ServerClock:
    """Seconds since the epoch by ``source``, plus what :meth:`advance` added."""

    def __init__(self, source: Clock = time.time) -> None:
        self._source = source
        self._ahead = 0.0

    @classmethod
    def standing_still(cls) -> ServerClock:
        """A clock that starts at the present and moves by :meth:`advance` alone."""
        start = time.time()
        return cls(lambda: start)

    def __call__(self) -> float:
        present = self._source()
        seconds = present.timestamp() if isinstance(present, datetime) else float(present)
        return seconds + self._ahead

    def advance(self, seconds: float) -> None:
        """Move ahead of the source by ``seconds`` more. The source itself stays as it is."""
        if seconds < 0:
            raise ValueError("time only moves forward")
        self._ahead += seconds

    def put_right(self) -> None:
        """Go back to the source's time. Only an account that holds nothing can stand that."""
        self._ahead = 0.0
