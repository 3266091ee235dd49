"""A process that runs the command of one batch and outlives the driver: ``python runner.py FOLDER COMMAND...``.

It holds a lock on the batch while it lives, by which others see that it does, and a lock on the folder of all batches while
the command runs, so that one runs at a time. Its last act is to write how the command ended: without that, the batch is run again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

INPUT, OUTPUT, ENDED, CANCEL, PID, LOG = (
    "input.jsonl", "output.jsonl", "ended.json", "cancel", "pid", "log.txt",
)  # fmt: skip


class _CancelledError(Exception):
    pass


def take(path: Path, *, waits: bool = False) -> IO[str] | None:
    """A lock that is held as long as the file is open; None if somebody else has it."""
    import fcntl  # not on every system, and the package can be imported on all

    file = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    return file


def write(path: Path, value: Any) -> None:
    """A JSON file, whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def run(batch: Path, command: list[str]) -> None:
    """Run the command of a batch to its end; only for whoever has the lock on it."""
    signal.signal(signal.SIGTERM, _cancelled)
    (batch / PID).write_text(str(os.getpid()), encoding="utf-8")
    # a name of its own: the command of a process that was killed may still write
    unfinished = batch / f"output-{os.getpid()}.part"
    command = [word.replace("{output}", str(unfinished)) for word in command]
    process: subprocess.Popen[bytes] | None = None
    try:
        turn = take(batch.parent / "turn", waits=True)
        if (batch / CANCEL).exists():
            raise _CancelledError
        with (batch / LOG).open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            code = process.wait()
        ended: dict[str, int | None] = {"code": code, "cancelled": False}
        if turn is not None:
            turn.close()
    except _CancelledError:
        if process is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        ended = {"code": None, "cancelled": True}
    except OSError as error:  # there is no such program
        (batch / LOG).write_text(f"{error}\n", encoding="utf-8")
        ended = {"code": 127, "cancelled": False}
    with suppress(FileNotFoundError):
        unfinished.replace(batch / OUTPUT)
    write(batch / ENDED, ended)


def _cancelled(_signal: int, _frame: FrameType | None) -> None:
    raise _CancelledError


def main(batch: Path, command: list[str]) -> None:
    """Run the command in the background, unless it has ended or somebody else runs it; the lock is taken when this returns."""
    lock = take(batch / "lock")
    if lock is None or (batch / ENDED).exists() or os.fork():
        return
    os.setsid()  # a Ctrl-C at the driver's terminal is not meant for it
    run(batch, command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
