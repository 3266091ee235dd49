"""Threads for work that must not block an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

THREADS = 32
"""Cycles of one runner at the same time. A thread that waits for a provider costs little, and a provider may take its time."""

T = TypeVar("T")


class Threads:
    """The threads of one runner; they are started when they are needed."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="batchor-async")
        self._is_closed = False

    async def run(self, function: Callable[[], T]) -> T:
        """Call the function in one of the threads. If the task is cancelled, a call that has begun is not.

        Raises:
            RuntimeError: The runner has been closed.
        """
        if self._is_closed:
            raise RuntimeError(
                "this runner is closed: await inside its async with block, or make another runner"
            )
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, function)

    def close(self) -> None:
        """Wait for calls that have begun; those that have not are dropped."""
        self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
