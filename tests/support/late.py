"""Runs whose results are late, and what was sent for them."""

from __future__ import annotations

from typing import Any

from batchor_core.core.models import RetryPolicy
from batchor_core.runtime.run import Run
from tests.support.world import World, index_of, text_job

ROWS = 10
HOUR = 3_600.0
ONCE = list(range(ROWS))


def begin(world: World, **job: Any) -> Run:
    retry = RetryPolicy(base_backoff_sec=1.0, max_backoff_sec=5.0)
    return world.start(text_job(ROWS, retry=retry, **job))


def drive(world: World, run: Run, seconds: float, *, step: float = 30.0) -> None:
    """Refresh for so long."""
    until = world.clock.time() + seconds
    while world.clock.time() < until and not run.is_finished:
        run.refresh()
        world.clock.advance(step)


def sent(world: World) -> list[int]:
    """Indexes of all rows that were sent, each as often as it was."""
    return sorted(index_of(line) for batch in world.provider.batches.values() for line in batch.lines)
