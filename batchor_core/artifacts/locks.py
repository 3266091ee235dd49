"""Locks that end with the process that holds them: what a killed process left can be told from what another one still writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".lock"


def lock_of(path: Path) -> Path:
    """The lock of a file or folder that is being written."""
    return path.with_name(path.name + SUFFIX)


@contextmanager
def locked(lock: Path, *, timeout: float = -1) -> Iterator[bool]:
    """Hold a lock during the block; False if somebody else has it, or there are no locks here."""
    from filelock import FileLock  # would take an eighth of the time in which the engine is imported

    held = FileLock(lock)
    try:
        held.acquire(timeout=timeout)
    except (OSError, NotImplementedError):  # among them filelock.Timeout
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def remove_if_free(lock: Path) -> bool:
    """Remove a lock that no process holds; False if one does."""
    with locked(lock, timeout=0) as free:
        pass
    if free:
        lock.unlink(missing_ok=True)
    return free
