"""The progress of a wait: a bar in a terminal, and the run as a table in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from batchor_core.core.models import RunSummary
from batchor_core.core.words import counted
from batchor_core.runtime.bar import RunBar

Show: TypeAlias = Callable[[RunSummary | None, float], None]
"""Is told where a run stands, and in how many seconds its batches are polled again."""


@contextmanager
def shown(run_id: str, *, progress: bool) -> Iterator[Show]:
    """Shows the progress while the context is open; nothing without ``progress``.

    Raises:
        ImportError: rich is needed, and is not installed.
    """
    if not progress:
        yield _show_nothing
    elif _is_notebook():
        yield _notebook()
    else:
        with _terminal(run_id) as show:
            yield show


def _show_nothing(summary: RunSummary | None, next_poll_in: float) -> None:
    pass


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")  # not imported: no notebook
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def _notebook() -> Show:
    from IPython.display import display  # type: ignore[import-not-found, unused-ignore]

    handle: Any = None

    def show(summary: RunSummary | None, next_poll_in: float) -> None:
        nonlocal handle
        if summary is None:
            return
        if handle is None:
            handle = display(summary, display_id=True)
        else:
            handle.update(summary)

    return show


@contextmanager
def _terminal(run_id: str) -> Iterator[Show]:
    try:
        bar = RunBar()
    except ImportError as error:
        raise ImportError(
            "wait(progress=True) draws with rich: pip install 'batchor-core[progress]', or leave progress out and read the log"
        ) from error

    def show(summary: RunSummary | None, next_poll_in: float) -> None:
        if summary is not None:
            bar.show(summary, run_id, [state(summary, next_poll_in)])

    try:
        yield show
    finally:
        bar.close()


def state(summary: RunSummary, next_poll_in: float) -> str:
    """What stands beside the bar: failures, batches in flight, when they are polled next, and what is in the way."""
    if summary.trouble:
        # a provider's words, on a terminal that obeys what it is sent
        return "".join(each if each.isprintable() else " " for each in summary.trouble)
    parts = []
    if summary.failed_items:
        parts.append(f"{summary.failed_items:,} failed")
    if summary.active_batches:
        batches = counted(summary.active_batches, "batch", "batches")
        parts.append(f"{batches} in flight, polled in {next_poll_in:.0f} s")
    return ", ".join(parts) or summary.status.value
