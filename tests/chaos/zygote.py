"""A process that has imported everything and forks a driver for each line it reads: a round costs no import.

It has one thread and no connection, so that its children inherit nothing that a fork would break. It ends, and its children
with it, when its standard input does.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import orjson

from tests.chaos.driver import engines, live
from tests.chaos.profile import profile
from tests.chaos.scenario import Place, life_from_json
from tests.postgres_server import DSN_VARIABLE, postgres_dsn, postgres_engine
from tests.support.world import RUN, World, text_job


def warm_up() -> None:
    """Import what a driver would import on the way, and compile the statements that it would compile."""
    for name in ("alembic", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "sqlite3"):
        importlib.import_module(name)
    profile(sys.argv[1]).warm_up()
    for kind in ("sqlite", "postgres") if DSN_VARIABLE in os.environ else ("sqlite",):
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), kind=kind)
            with world.runner() as runner:
                runner.start(text_job(), run_id=RUN).wait()
            world.close()
    if DSN_VARIABLE in os.environ:
        engines[postgres_dsn()] = postgres_engine()
    assert threading.active_count() == 1


def main() -> None:
    """Fork for each line; answer with the child's pid."""
    warm_up()
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    children: set[int] = set()
    # not readline of a buffered stream: a child would inherit what has been read ahead
    with os.fdopen(0, "rb", buffering=0, closefd=False) as commands:
        while line := commands.readline():
            children -= _reaped()
            pid = os.fork()
            if pid == 0:
                _be_driver(line)
            children.add(pid)
            print(pid, flush=True)
    for pid in children - _reaped():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _reaped() -> set[int]:
    """Children that have ended. Until the next command they stay there, so that their pids are not used again."""
    ended = set()
    with suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            ended.add(pid)
    return ended


def _be_driver(line: bytes) -> None:
    code = 1
    try:
        command = orjson.loads(line)
        place = Place(**{**command["place"], "folder": Path(command["place"]["folder"])})
        log = os.open(place.folder / "driver.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        os.environ["TMPDIR"] = str(place.folder)
        live(place, life_from_json(command["life"]), Path(command["result"]))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
