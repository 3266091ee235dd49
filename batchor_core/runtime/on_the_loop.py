"""Runs on an event loop: cycles in a pool of threads, and the waiting between them on the loop.

A run that waits holds no thread, so that any number of runs share the pool. A cycle with much to do gives its thread up after
some seconds and goes on when it is its turn again. A task that is cancelled leaves its cycle to end by itself: what it does is
stored as ever, and the next wait, in whatever process, goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from batchor_core.runtime.progress import shown
from batchor_core.runtime.threads import Threads
from batchor_core.runtime.waiting import Waiting

SLICE_SEC = 5.0
"""After which a cycle begins no further step, so that others get its thread."""

T = TypeVar("T")


async def wait(threads: Threads, waiting: Waiting, *, progress: bool) -> None:
    """Step until the run is finished; what ``Run.wait_async`` documents."""
    with shown(waiting.run_id, progress=progress) as show:
        while (pause := await threads.run(waiting.step)) is not None:
            show(waiting.summary, waiting.next_cycle_in + pause)
            await asyncio.sleep(pause)
        show(waiting.summary, 0.0)


async def one_by_one(threads: Threads, pages: Iterator[list[T]]) -> AsyncIterator[T]:
    """What the pages hold, each page read in a thread."""
    while (page := await threads.run(lambda: next(pages, None))) is not None:
        for each in page:
            yield each
