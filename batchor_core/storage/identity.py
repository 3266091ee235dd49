"""Who drives a run, and whether a driver that holds a lease is certainly gone.

A process is named by its host, boot, pid namespace, pid *and start time*, since pids are used again. Within one process a
driver is named by its session: Dagster runs a timed-out sensor tick to its end beside the next one, so the pid alone says
too little.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import uuid
from pathlib import Path

from batchor_core.storage.session import DriverIdentity

_live_sessions: set[str] = set()
_lock = threading.Lock()


def new_driver() -> DriverIdentity:
    """An identity for one stretch of driving; call :func:`driver_done` when it ends."""
    session = uuid.uuid4().hex
    with _lock:
        _live_sessions.add(session)
    pid = os.getpid()
    return DriverIdentity(
        session=session,
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid=pid,
        pid_start=_start_time(pid) or "",
        pid_namespace=_pid_namespace(),
    )


def driver_done(identity: DriverIdentity) -> None:
    """The identity drives no more."""
    with _lock:
        _live_sessions.discard(identity.session)


def is_certainly_gone(owner: DriverIdentity) -> bool:
    """Whether the owner of a lease can't come back; False whenever that can't be seen from here."""
    here = DriverIdentity(
        session="",
        host=socket.gethostname(),
        boot_id=_boot_id(),
        pid=os.getpid(),
        pid_namespace=_pid_namespace(),
    )
    if not owner.pid or not owner.pid_start or not here.same_machine(owner):
        return False
    if _start_time(owner.pid) != owner.pid_start:
        return True
    if owner.pid == here.pid:
        with _lock:
            return owner.session not in _live_sessions
    return False


@functools.cache
def _boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id")


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Clock ticks between boot and the start of ``pid`` (field 22 of proc_pid_stat(5)); None if there is no such process."""
    stat = _read(f"/proc/{pid}/stat")
    # the command name, in parentheses, may itself hold spaces and parentheses
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return fields[19]


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
