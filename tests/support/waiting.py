"""Waiting for what other processes do: until it is so, or until the time is up, which fails with what is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    look: Callable[[], T | None],
    what: str,
    explain: Callable[[], object] = lambda: "",
    *,
    seconds: float = 150,
    every: float = 0.2,
) -> T:
    """Look again and again until there is something to see; returns it."""
    stop_at = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > stop_at:
            raise AssertionError(f"waited {seconds:.0f} s for {what}\n{explain()}")
        time.sleep(every)
