"""SQLite's write-ahead log: copying it into the database file, one process at a time, and which process blocks writers.

By default SQLite copies the log after a commit, while other processes write. Versions before 3.51.3 have a data race
there (the WAL-reset bug): a checkpoint that begins while another process restarts the log can lose commits. So our
connections switch that off. A process that has written and finds the log long takes the write lock first, as for a
transaction, and copies the log under it: no other process writes or copies meanwhile. Processes that only read never
copy and need not, since only writing makes the log grow. If a process is killed, the next writer copies the log, or the
last connection that is closed, for which SQLite locks the whole file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine

from batchor_core.storage.sql_engine import driver_connection

LONG_LOG_FRAMES = 1_000
"""The log is copied from this number of pages on: SQLite's own default."""

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_WRITE_LOCK_BYTE = 120  # in the -shm file: https://sqlite.org/walformat.html#wal_locks

log = logging.getLogger("batchor_core")


class WriteAheadLog:
    """The log of one file, for the connections of one engine."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self._path = path.with_name(f"{path.name}-wal")
        self._engine = engine

    def carry_over_if_long(self) -> None:
        """Copy the log into the file once it has become long. If that fails, the next writer does it."""
        if not reaches(self._path, LONG_LOG_FRAMES):
            return
        try:
            self._carry_over()
        except Exception as error:  # the transaction before is committed in any case
            log.warning("the write-ahead log %s could not be carried over: %s", self._path, error)

    def _carry_over(self) -> None:
        with driver_connection(self._engine) as holds, driver_connection(self._engine) as copies:
            holds.execute("BEGIN IMMEDIATE")
            try:
                # PASSIVE waits for no reader, and leaves to the next time what an old one still needs
                copies.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                holds.execute("ROLLBACK")


def reaches(path: Path, frames: int) -> bool:
    """Whether a log holds so many frames. Its size does not show it: a restarted log keeps the old frames behind the new ones.

    A frame is of this log if it carries the salt of the header: https://sqlite.org/fileformat2.html#walformat. Reading the
    file is safe, since SQLite's locks lie on other ones.
    """
    try:
        with path.open("rb", buffering=0) as file:
            header = file.read(_HEADER_BYTES)
            page_bytes = int.from_bytes(header[8:12], "big")
            file.seek(_HEADER_BYTES + (frames - 1) * (_FRAME_HEADER_BYTES + page_bytes))
            frame = file.read(_FRAME_HEADER_BYTES)
    except OSError:
        return False  # no log
    return len(frame) == _FRAME_HEADER_BYTES and frame[8:16] == header[16:24]


class Writer(NamedTuple):
    """A process that holds the write lock."""

    pid: int
    is_stopped: bool


def writer_of(path: Path) -> Writer | None:
    """The process that holds the write lock of a file; None if unknown, which is always the case except on Linux."""
    try:
        inode = path.with_name(f"{path.name}-shm").stat().st_ino
        pid = holder_of(inode, Path("/proc/locks").read_text())
        if pid is None:
            return None
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    return Writer(pid, is_stopped=state in ("T", "t"))


def holder_of(inode: int, locks: str) -> int | None:
    """The process that has the write lock in the -shm file with this inode, by the text of ``/proc/locks``."""
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) != 8 or fields[1] != "POSIX" or fields[3] != "WRITE":
            continue  # among them those who wait, whose lines have an arrow
        pid, place, first, last = fields[4:]
        if place.rpartition(":")[2] != str(inode) or not first.isdigit() or int(first) > _WRITE_LOCK_BYTE:
            continue
        if int(pid) > 0 and (last == "EOF" or int(last) >= _WRITE_LOCK_BYTE):
            return int(pid)
    return None
