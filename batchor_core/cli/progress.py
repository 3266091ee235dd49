"""How far a run is, while it is driven: a bar on a terminal, lines elsewhere. On stderr, since stdout is for results.

What is shown is read from the store by a thread of its own, so that a long step, such as reading a million rows, shows too.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Protocol

from rich.console import Console

from batchor_core.cli.console import say, stderr, text
from batchor_core.cli.printable import printable
from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import BatchorError
from batchor_core.core.models import RunSummary
from batchor_core.core.pricing import cost_text
from batchor_core.core.words import counted, duration
from batchor_core.runtime.bar import RunBar

LOOK_SEC = 0.5
LINE_SEC = 10.0
"""Between two lines, unless what they say of the run's state changes."""


class ProgressMode(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    BAR = "bar"
    LINES = "lines"
    NONE = "none"


@dataclass(slots=True)
class Pace:
    """How fast rows have ended while this process looked on.

    Attributes:
        seen: Times and the rows that had ended then. Batches end all at once, so the whole span counts.
    """

    seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=2))

    def left(self, summary: RunSummary, now: float) -> int | None:
        """Whole seconds until all rows have ended at the pace seen so far, rounded up; None while that is unknown."""
        ended = summary.completed_items + summary.failed_items
        if not self.seen:
            self.seen.append((now, ended))
        since, before = self.seen[0]
        if ended < before:  # rows were withdrawn to be tried again
            self.seen.clear()
            return self.left(summary, now)
        is_held = summary.control_state is not RunControlState.RUNNING or not summary.ingestion_complete
        if is_held or ended == before or now <= since:
            return None
        return math.ceil((summary.total_items - ended) * (now - since) / (ended - before))


def phase(summary: RunSummary) -> str:
    """The state of a run in a word or two."""
    if summary.status is not RunLifecycleStatus.RUNNING:
        return "done" if summary.status is RunLifecycleStatus.COMPLETED else "done, with failures"
    match summary.control_state:
        case RunControlState.PAUSED:
            return "paused"
        case RunControlState.CANCEL_REQUESTED:
            return "being cancelled"
        case RunControlState.RUNNING:
            pass
    if summary.trouble:
        return "trying again"
    if not summary.ingestion_complete:
        return "reading rows"
    return "at the provider" if summary.status_counts[ItemStatus.SUBMITTED] else "sending"


def figures(summary: RunSummary) -> str:
    """Failures, tokens, and what they have cost so far."""
    parts = [f"{summary.failed_items:,} failed"] if summary.failed_items else []
    total = summary.usage.total_tokens
    parts += [f"{total:,} tokens", cost_text(summary.cost)] if total else []
    parts = [part for part in parts if part]
    return ", ".join(parts)


def line(summary: RunSummary, left: float | None) -> str:
    """The state of a run in a line."""
    total = f"{summary.total_items:,} rows" + ("" if summary.ingestion_complete else " read so far")
    ended = summary.completed_items + summary.failed_items
    parts = [f"{phase(summary)}: {ended:,} of {total}", figures(summary)]
    if summary.active_batches:
        sent = summary.status_counts[ItemStatus.SUBMITTED]
        batches = counted(summary.active_batches, "batch", "batches")
        parts.append(f"{sent:,} at the provider in {batches}")
    parts.append(f"about {duration(left)} left" if left else "")
    parts.append(summary.trouble or "")
    return ", ".join(part for part in parts if part)


class _Shown(Protocol):
    def show(self, summary: RunSummary, left: float | None) -> None: ...
    def close(self) -> None: ...


class _Lines:
    def __init__(self, say: Callable[[str], None], now: Callable[[], float]) -> None:
        self._say, self._now = say, now
        self._last = ("", "")
        self._said_at = 0.0

    def show(self, summary: RunSummary, left: float | None) -> None:
        if summary.status is not RunLifecycleStatus.RUNNING:
            return  # whoever drives it says how it ended
        said, state = line(summary, left), phase(summary)
        is_news = state != self._last[0]
        if not is_news and (said == self._last[1] or self._now() - self._said_at < LINE_SEC):
            return
        self._last, self._said_at = (state, said), self._now()
        self._say(f"{time.strftime('%H:%M:%S')} {said}")

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, console: Console) -> None:
        self._bar = RunBar(console)
        self._console = console
        self._trouble: str | None = None

    def show(self, summary: RunSummary, left: float | None) -> None:
        time_left = f"about {duration(left)} left" if left else ""
        self._bar.show(summary, phase(summary), (figures(summary), time_left))
        if summary.trouble and summary.trouble != self._trouble:
            self._console.print(text(printable(summary.trouble)), soft_wrap=True)
        self._trouble = summary.trouble

    def close(self) -> None:
        self._bar.close()


class Progress:
    """Shows a run's progress for the length of a block.

    Args:
        look: Reads the run's summary; what it raises while there is no run, or no store, is passed over.
        mode: How.
    """

    def __init__(self, look: Callable[[], RunSummary], mode: ProgressMode) -> None:
        self._look = look
        self._mode = mode
        self._pace = Pace()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="batchor-progress", daemon=True)
        self._shown: _Shown | None = None

    def __enter__(self) -> Progress:
        console = stderr()
        match self._mode:
            case ProgressMode.NONE:
                return self
            case ProgressMode.BAR:
                self._shown = _Bar(console)
            case ProgressMode.LINES:
                self._shown = _Lines(say, time.monotonic)
            case ProgressMode.AUTO:
                self._shown = _Bar(console) if console.is_terminal else _Lines(say, time.monotonic)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._stop.set()
            self._thread.join()
            self._draw()
            self._shown.close()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SEC):
            self._draw()

    def _draw(self) -> None:
        try:
            summary = self._look()
        except BatchorError:
            return  # there is no run yet; and what is wrong with a store, whoever drives the run will say
        if self._shown is not None:
            self._shown.show(summary, self._pace.left(summary, time.monotonic()))
