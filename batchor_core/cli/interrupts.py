"""Ctrl-C while a run is driven: the step in progress is finished, then the command ends and says how to continue.

Nothing would be lost at any other moment either. But a process that dies while a batch is created leaves the next one with the
question whether it exists, and looking that up takes minutes.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from batchor_core.cli.console import say


class Interrupted(KeyboardInterrupt):
    """The command was asked to stop, and has reached a place where it can.

    Attributes:
        signal_number: What asked it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Interrupts:
    """Handles SIGINT and SIGTERM within a block. The second one ends the process as usual."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._sleeps = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # no other one gets signals
            for number in (signal.SIGINT, signal.SIGTERM):
                if (
                    signal.getsignal(number) is not signal.SIG_IGN
                ):  # as a shell has it of a job in the background
                    self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """A place where the command can stop."""
        if self._number is not None:
            raise Interrupted(self._number)

    def sleep(self, seconds: float) -> None:
        """Sleep; a request to stop ends it at once."""
        self._sleeps = True
        try:
            self.check()
            time.sleep(seconds)
        finally:
            self._sleeps = False

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._number is not None:
            raise Interrupted(number)
        self._number = number
        if self._sleeps:
            raise Interrupted(number)
        say("stopping when the step in progress is done; press Ctrl-C again to stop at once")
