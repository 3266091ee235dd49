"""The progress of a wait: a bar in a terminal, which rich draws, and the run as a table in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from batchor_core.core.models import RunSummary
from batchor_core.core.words import counted

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
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError as error:
        raise ImportError(
            "wait(progress=True) draws with rich: pip install 'batchor-core[progress]', or leave progress out and read the log"
        ) from error
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(run_id, total=None, state="")

        def show(summary: RunSummary | None, next_poll_in: float) -> None:
            if summary is None:
                return
            bar.update(
                task,
                total=summary.total_items if summary.ingestion_complete else None,
                completed=summary.completed_items + summary.failed_items,
                state=state(summary, next_poll_in),
            )

        yield show


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
