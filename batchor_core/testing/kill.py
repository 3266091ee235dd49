"""A switch that kills its own process at a named boundary, for crash tests.

A test's driver process installs it: ``boundaries.install(Kill("claim:after"))``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

from batchor_core.core.boundaries import Boundary, When


class Kill:
    """Ends this process like a power cut when a boundary is passed for the n-th time.

    Args:
        spec: ``<name>:<before or after>[:<n>]``; several are separated by commas.
        sent: The signal it sends itself, by default SIGKILL; SIGSTOP makes a driver that wakes up late.

    Raises:
        ValueError: A name or a side is unknown.
    """

    def __init__(self, spec: str, sent: signal.Signals | None = None) -> None:
        self._signal = signal.SIGKILL if sent is None else sent  # Windows has none
        self._places = set(map(_place, spec.split(",")))
        self._passed: Counter[tuple[Boundary, When]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, name: Boundary, when: When) -> None:
        with self._lock:
            self._passed[name, when] += 1
            is_here = (name, when, self._passed[name, when]) in self._places
        if is_here:
            os.kill(os.getpid(), self._signal)


def _place(spec: str) -> tuple[Boundary, When, int]:
    name, side, *rest = spec.split(":")
    if side not in ("before", "after") or len(rest) > 1:
        raise ValueError(f"{spec!r} is not <name>:<before or after>[:<n>]")
    return Boundary(name), "before" if side == "before" else "after", int(rest[0]) if rest else 1
