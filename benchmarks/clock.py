"""Time by phase: on the wall, and of this process' CPU, which says the same on a busy machine as on a quiet one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from batchor_core import RunEvent


@dataclass(slots=True)
class Lap:
    """Seconds that one phase took.

    Attributes:
        wall: On the wall.
        cpu: Of all threads of this process. A database server's are not among them.
    """

    wall: float = 0.0
    cpu: float = 0.0

    def add(self, wall: float, cpu: float) -> None:
        """Some more of it."""
        self.wall += wall
        self.cpu += cpu


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


@dataclass(slots=True)
class Stopwatch:
    """Laps by name. :meth:`lap` names what has passed since the last one."""

    laps: dict[str, Lap] = field(default_factory=dict)
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=_cpu)

    def start(self) -> None:
        """Forget what has passed since the last lap."""
        self._wall, self._cpu = time.perf_counter(), _cpu()

    def lap(self, name: str) -> None:
        """What has passed was ``name``."""
        wall, cpu = time.perf_counter(), _cpu()
        self.laps.setdefault(name, Lap()).add(wall - self._wall, cpu - self._cpu)
        self._wall, self._cpu = wall, cpu


PHASE_OF = {
    "run_created": "ingest",
    "items_ingested": "ingest",
    "items_claimed_for_submission": "submit",
    "batch_submitted": "submit",
    "batch_polled": "collect",
    "items_completed": "collect",
    "batch_completed": "collect",
    "run_finished": "collect",
}
"""Each event of a run ends a stretch of work; this is whose work it was."""


@dataclass(slots=True)
class EventClock:
    """An observer that tells a run's phases apart by its events, without a look inside the engine."""

    watch: Stopwatch = field(default_factory=Stopwatch)

    def __call__(self, event: RunEvent) -> None:
        """Note the phase that this event ends."""
        phase = PHASE_OF.get(event.event_type)
        if phase is not None:
            self.watch.lap(phase)
