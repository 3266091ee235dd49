"""What goes wrong in a driver's own process: it dies, stops, or finds no room on its disk, at a boundary."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from pathlib import Path

from batchor_core.core.boundaries import Boundary, When
from batchor_core.testing.kill import Kill
from tests.chaos.scenario import Life

FULL_FOR_SEC = 0.5
"""How long a disk stays full that nobody gets to see an error of, since the engine tries again by itself."""


class FullDisk:
    """A disk without room for another byte: the system refuses this process every write to a file.

    It refuses them with EFBIG; to whoever writes, that is ENOSPC under another name. Nothing has to be mounted for it, and
    what is written in C, as a database's log, is refused too.
    """

    def __init__(self, *, spare_pages: int | None) -> None:
        self.spare_pages = spare_pages
        """Of the database, which is full while this is not None."""
        self.was_full = False
        self._since: float | None = None

    def fill(self) -> None:
        """There is no room from here on."""
        self.was_full = True
        self._since = time.monotonic()
        self._limit(0)

    def is_over(self) -> bool:
        """Whether it has been full for long enough."""
        return self._since is not None and time.monotonic() - self._since > FULL_FOR_SEC

    def is_full(self) -> bool:
        """Whether there is no room."""
        return self._since is not None or self.spare_pages is not None

    def make_room(self) -> None:
        """There is room again."""
        self._since = self.spare_pages = None
        self._limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])

    @staticmethod
    def _limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Faults:
    """The boundary hook of a driver: dies, stops, fills the disk, or writes down, as its life says."""

    def __init__(self, life: Life, trace: Path) -> None:
        self.disk = FullDisk(spare_pages=life.spare_pages)
        counted = life.kill.startswith("#")
        self._dies_at = int(life.kill[1:]) if counted else 0
        self._full_at = life.full_at
        self._kill = Kill(life.kill) if life.kill and not counted else None
        self._stop = Kill(life.stop, signal.SIGSTOP) if life.stop else None
        traced = life.trace or counted
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if traced else None
        self._passed = 0
        self._lock = threading.Lock()

    def __call__(self, name: Boundary, when: When) -> None:
        with self._lock:
            self._passed += 1
            if self._trace is not None:
                os.write(self._trace, f"{name}:{when}\n".encode())
            if self._passed == self._dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if self._passed == self._full_at:
                self.disk.fill()
        if self._stop is not None:
            self._stop(name, when)
        if self._kill is not None:
            self._kill(name, when)
