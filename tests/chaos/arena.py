"""Where rounds are played: one zygote, one provider, one database, used by one round after the other."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
import psycopg
from psycopg import sql

from batchor_core.core.custom_ids import mark_of, marked
from batchor_core.core.enums import SubmissionState
from batchor_core.core.exceptions import RunNotFoundError, StorageError
from batchor_core.core.models import PromptParts
from batchor_core.providers.api import FoundBy
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.runtime.lookup import TAG
from batchor_core.runtime.submit import local_batch_prefix
from tests.chaos.disturbance import RestartingPostgres, terminate_backends
from tests.chaos.driver import open_store, provider_config
from tests.chaos.power import forget_unsynced, tear_log
from tests.chaos.profile import Request, profile
from tests.chaos.scenario import (
    DRIVER_DEADLINE_SEC,
    LIFETIME_OVER_SEC,
    RUN_ID,
    Life,
    Place,
    Scenario,
)
from tests.chaos.snapshot import PostgresSnapshot, Snapshot, SQLiteSnapshot
from tests.chaos.verdict import Facts, Verdict, judge
from tests.postgres_server import DSN_VARIABLE, new_engine

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
KEPT_FOLDERS = ("artifacts", "export")
SLACK_SEC = 10.0
PATIENCE_SEC = DRIVER_DEADLINE_SEC + SLACK_SEC
"""When a driver that does not even give up by itself is killed."""


class Driver:
    """A driver process, from outside."""

    def __init__(self, pid: int, result: Path, life: Life) -> None:
        self.pid = pid
        self.life = life
        self._result = result
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._handle = None

    def wait(self, timeout: float = PATIENCE_SEC) -> bool:
        """Wait for its end; False if that does not come in time."""
        if self._handle is None:
            return True
        ended, _, _ = select.select([self._handle], [], [], timeout)
        return bool(ended)

    def wait_stopped(self, timeout: float = PATIENCE_SEC) -> bool:
        """Wait until it has stopped itself; False if it ended, or went on, instead."""
        until = time.monotonic() + timeout
        while time.monotonic() < until and not self.wait(0):
            with suppress(OSError):
                state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state == "T":
                    return True
            time.sleep(0.002)
        return False

    def send(self, what: signal.Signals) -> None:
        """A signal, if it is still there to take it."""
        if self._handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, what)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def report(self) -> dict[str, Any] | None:
        """What it said in the end; None if it was killed."""
        return orjson.loads(self._result.read_bytes()) if self._result.exists() else None

    def died_at(self) -> str:
        """The boundary at which it killed itself, as ``name:when``."""
        if self.life.kill.startswith("#"):
            return self.trace()[-1]
        return ":".join(self.life.kill.split(":")[:2])

    def trace(self) -> list[str]:
        """The boundaries that it passed, as ``name:when``."""
        path = self._result.with_suffix(".trace")
        return path.read_text().split() if path.exists() else []

    def close(self) -> None:
        """Let go of the handle."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Arena:
    """Plays rounds on one kind of store.

    Args:
        store: ``sqlite`` or ``postgres``.
        dsn: Of Postgres; rounds use schemas of their own in it.
        server: A Postgres of its own instead, which rounds may restart.
        provider: The name of the provider's profile.

    Attributes:
        profile: That of the provider.
        passages: What an undisturbed driver passes in each scenario, by its name, once that was tried.
        durations: The seconds that it took.
        holds: Rounds that ended in a hold so far.
    """

    def __init__(
        self,
        store: str,
        dsn: str = "",
        server: RestartingPostgres | None = None,
        *,
        provider: str = "openai",
    ) -> None:
        self.store, self.server = store, server
        self.profile = profile(provider)
        self.holds = 0
        self.dsn = dsn if server is None else server.dsn
        # of its own, since a store that is closed closes all connections; its statements are compiled once
        self.engine = new_engine(self.dsn) if store == "postgres" else None
        self.passages: dict[str, Counter[str]] = {}
        self.durations: dict[str, float] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        memory = Path("/dev/shm")  # what is tested is what survives a process, not a disk
        self.folder = Path(
            tempfile.mkdtemp(prefix="chaos-", dir=memory if os.access(memory, os.W_OK) else None)
        )
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._provider = self._process("tests.chaos.provider", self.profile.name)
        self.url = self._line(self._provider)
        self._zygote = self._process("tests.chaos.zygote", self.profile.name)
        self._line(self._zygote)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _process(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "BATCHOR_"))
        }
        environment["PYTHONPATH"] = str(ROOT)
        environment["TMPDIR"] = str(self.folder)
        if self.store == "postgres":
            environment[DSN_VARIABLE] = self.dsn
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._stack.callback(_end, process)
        return process

    @staticmethod
    def _line(process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the process ended"
        return line.decode().strip()

    # --- the provider ------------------------------------------------------------------------------------------------

    def control(self, method: str, path: str, body: Any = None) -> bytes:
        """A request to the provider's control routes, which no fault strikes."""
        url = f"{self.url}/_control/{path}"
        data = None if body is None else orjson.dumps(body)
        with urllib.request.urlopen(
            urllib.request.Request(url, data=data, method=method), timeout=30
        ) as answer:
            return bytes(answer.read())

    def books(self) -> dict[str, Any]:
        """The provider's books; every batch is moved to the present first."""
        books: dict[str, Any] = orjson.loads(self.control("GET", "books"))
        return books

    def executions(self) -> list[dict[str, Any]]:
        """Every row that was executed."""
        return [orjson.loads(line) for line in self.control("GET", "executions").splitlines()]

    def disturb(self, *, restarts: bool) -> None:
        """Cut every connection to the database, or restart it, which takes a server of its own."""
        if restarts:
            assert self.server is not None
            self.server.restart()
        else:
            patiently(lambda: terminate_backends(self.dsn))

    # --- rounds ------------------------------------------------------------------------------------------------------

    def round(self, scenario: Scenario) -> Round:
        """A new round: an empty store, and a provider with nothing but the scenario's faults."""
        return Round(self, scenario)

    def fork(self, place: Place, life: Life) -> Driver:
        """Start a driver."""
        result = place.folder / f"{uuid.uuid4().hex}.json"
        command = {
            "place": {**asdict(place), "folder": str(place.folder)},
            "life": life.as_json(),
            "result": str(result),
        }
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(orjson.dumps(command) + b"\n")
        return Driver(int(self._line(self._zygote)), result, life)


@dataclass
class Reached:
    """Whether the harness did what it says: how many kills and stops were meant, and how many came to pass, and where."""

    meant: int = 0
    happened: int = 0
    places: Counter[str] = field(default_factory=Counter)

    def count(self, driver: Driver) -> None:
        """A driver that was to be killed has ended."""
        self.note(driver.report() is None)
        if driver.report() is None and driver.life.kill:
            self.places[driver.died_at()] += 1

    def note(self, happened: bool) -> None:
        """Something was meant to happen."""
        self.meant += 1
        self.happened += happened

    def __add__(self, other: Reached) -> Reached:
        return Reached(self.meant + other.meant, self.happened + other.happened, self.places + other.places)


class Round:
    """One run, and the drivers that are let loose on it. Use it as a context manager."""

    def __init__(self, arena: Arena, scenario: Scenario) -> None:
        self.arena, self.scenario = arena, scenario
        self.drivers: list[Driver] = []
        self.reached = Reached()
        self.clock_offset = 0.0

    def __enter__(self) -> Self:
        name = uuid.uuid4().hex[:12]
        folder = self.arena.folder / name
        folder.mkdir()
        self.place = Place(
            folder,
            self.arena.profile.name,
            self.arena.url,
            self.arena.store,
            self.arena.dsn,
            f"chaos_{name}",
        )
        self.arena.control("POST", "reset", {"clock": True})
        if self.scenario.faults:
            faults = [self.arena.profile.fault(fault) for fault in self.scenario.faults]
            self.arena.control("POST", "faults", {"faults": faults})
        return self

    def __exit__(self, *exc: object) -> None:
        for driver in self.drivers:
            driver.kill()
            driver.close()
        # the provider writes down a request when it answers it: one that is held back would be taken for the next round's
        time.sleep(self.scenario.arrives_within_sec())
        if self.arena.store == "postgres":
            patiently(self._drop_schema)
        shutil.rmtree(self.place.folder, ignore_errors=True)

    def _drop_schema(self) -> None:
        with psycopg.connect(self.arena.dsn, autocommit=True) as connection:
            name = sql.Identifier(self.place.schema)
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))

    def start(self, **how: Any) -> Driver:
        """A driver process; ``how`` are fields of :class:`Life`."""
        clock = {"clock_offset": self.clock_offset} if self.clock_offset else {}
        driver = self.arena.fork(self.place, replace(Life(scenario=self.scenario), **how | clock))
        self.drivers.append(driver)
        return driver

    def live(self, **how: Any) -> Driver:
        """A driver process, to its end."""
        driver = self.start(**how)
        self.ended([driver])
        return driver

    def ended(self, drivers: Iterable[Driver]) -> None:
        """Wait for the end of these; what does not end is killed."""
        for driver in drivers:
            if not driver.wait(max(PATIENCE_SEC, driver.life.deadline_sec + SLACK_SEC)):
                driver.kill()

    def verdict(self, **how: Any) -> Verdict:
        """Let one last driver bring the run to its end, and judge what came of it."""
        self.live(**how)
        return self.judged(**how)

    def judged(self, **how: Any) -> Verdict:
        """What came of it, once what the last driver has left on hold is settled.

        That is right only where a create can't be fenced, and where nothing at the provider tells yet. Every other time an
        operator has a word, else a day passes.
        """
        ended = self.drivers[-1].report()
        if ended is None or ended["end"] != "held":
            # what is still on its way arrives, and may yet be paid
            time.sleep(self.scenario.arrives_within_sec())
            return judge(patiently(self.facts), self.scenario)
        time.sleep(self.scenario.arrives_within_sec())  # whoever decides has waited for longer
        wrong = [] if how.get("clock_offset") else patiently(self._wrongly_held)
        self.arena.holds += 1
        if self.arena.holds % 2:
            self.live(**how | {"decides": True})
        else:
            self.pass_lifetime(how.get("clock_offset", 0.0))
            self.live(**how)
        verdict = judge(patiently(self.facts), self.scenario)
        return verdict + Verdict(held=1, stuck=len(wrong), why=wrong)

    def pass_lifetime(self, offset: float = 0.0) -> None:
        """Let so much time pass, here and at the provider, that no batch of before can still run."""
        self.arena.control("POST", "advance", {"seconds": LIFETIME_OVER_SEC})
        self.clock_offset = max(offset, self.clock_offset) + LIFETIME_OVER_SEC

    def _wrongly_held(self) -> list[str]:
        """Why submissions should not be on hold."""
        if self.arena.profile.limits.can_fence:
            return ["held, though a create can be fenced"]
        if any(fault["kind"] in ("unlisted", "late_files", "gone_files") for fault in self.scenario.faults):
            return []
        store = open_store(self.place, engine=self.arena.engine)
        submissions = store.list_submissions(run_id=RUN_ID)
        store.close()
        unknown = [one.local_batch_id for one in submissions if one.state is SubmissionState.UNKNOWN]
        doubtful = {*unknown, *map(mark_of, unknown)}
        return [
            f"held, though {batch['id']} is {batch['status']}"
            for batch in self.arena.books()["batches"]
            if (batch["metadata"] or {}).get(TAG) in doubtful
            and (batch["output_file_id"] or batch["error_file_id"])
        ]

    def cut_power(self) -> None:
        """Let everything vanish that was not synced. No driver may be alive."""
        forget_unsynced(self.place.folder / "synced", [self.place.folder / name for name in KEPT_FOLDERS])
        if self.arena.server is not None:
            self.arena.server.restart()
        elif self.arena.store == "sqlite":
            tear_log(self.place.folder / "runs.sqlite3")

    def create_stray_batch(self) -> None:
        """A batch that carries the run's name, with a row of nobody's."""
        store = open_store(self.place, engine=self.arena.engine)
        created_at = store.get_run_summary(run_id=RUN_ID).created_at
        store.close()
        name = f"{local_batch_prefix(RUN_ID, created_at)}{uuid.uuid4().hex}"
        api = as_batch_api(self.arena.profile.api(provider_config(self.place, self.scenario)))
        by_rows = api.limits.found_by is FoundBy.ROWS
        custom_id = marked("stray-0", mark=mark_of(name)) if by_rows else "stray-0"
        line = api.request_line(custom_id=custom_id, prompt=PromptParts("what nobody asked"), output=None)
        path = self.place.folder / "stray.jsonl"
        path.write_bytes(orjson.dumps(line) + b"\n")
        handle = api.prepare(path)
        tags = {"batchor_run_id": RUN_ID, TAG: name} if api.limits.max_tags else None
        api.create(None if handle else path, handle=handle, tags=tags)
        api.close()

    def snapshot(self) -> None:
        """Keep the database as it is. No driver may be alive."""
        self._database().keep()

    def restore(self) -> None:
        """Put the kept database back, as a restored backup would. No driver may be alive."""
        self._database().put_back()

    def _database(self) -> Snapshot:
        if self.place.store == "postgres":
            return PostgresSnapshot(self.place.dsn, self.place.schema)
        return SQLiteSnapshot(self.place.folder / "runs.sqlite3")

    def facts(self) -> Facts:
        """Everything that can be known of the round."""
        reports = [report for driver in self.drivers if (report := driver.report()) is not None]
        books, executions = self.arena.books(), self.arena.executions()
        export = self.place.folder / "export" / RUN_ID
        store = open_store(self.place, engine=self.arena.engine)
        try:
            summary = store.get_run_summary(run_id=RUN_ID)
            submissions = store.list_submissions(run_id=RUN_ID)
            records = store.get_terminal_item_records(run_id=RUN_ID, after_sequence=0)
            finished = summary.status.value != "running"
            total = summary.total_items
            open_work = summary.active_batches + summary.unknown_batches + summary.quarantined_batches
        except RunNotFoundError:
            submissions, records, finished, open_work, total = [], [], False, 0, 0
        finally:
            store.close()
        return Facts(
            items=[
                {
                    "item_id": record.item_id,
                    "status": record.status.value,
                    "sequence": record.terminal_result_sequence,
                    "text": record.output_text,
                    "error_class": record.error.error_class if record.error else None,
                }
                for record in records
            ],
            total_items=total,
            exported=_lines(export / "results.jsonl"),
            manifest_ok=_is_whole(export),
            is_finished=finished and any(report["end"] == "finished" for report in reports[-1:]),
            open_work=open_work,
            executions=[(row["custom_id"], row["outcome"]) for row in executions],
            batches={
                batch["id"]: (batch["metadata"] or {}).get(TAG, batch["id"]) for batch in books["batches"]
            },
            posts=sum(
                (request["method"], request["path"]) == self.arena.profile.requests[Request.CREATE]
                and request["status"] != 400
                for request in books["requests"]
            ),
            sent_submissions=sum(submission.sending_at is not None for submission in submissions),
            input_files=[
                file["filename"]
                for file in books["files"]
                if file["purpose"] == "batch" and self.arena.profile.has(Request.UPLOAD)
            ],
            unfinished_files=_unfinished(self.place.folder),
            is_intact=self.arena.store != "sqlite" or _is_intact(self.place.folder / "runs.sqlite3"),
            shown=[text for report in reports for text in report["shown"]],
        )


def patiently(act: Callable[[], T]) -> T:
    """Do what a database that is just restarting refuses, once it no longer does."""
    gives_up_at = time.monotonic() + PATIENCE_SEC
    while True:
        try:
            return act()
        except (psycopg.OperationalError, StorageError):
            if time.monotonic() >= gives_up_at:
                raise
            time.sleep(0.1)


def _is_intact(path: Path) -> bool:
    if not path.exists():
        return True
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


def _lines(path: Path) -> list[Mapping[str, Any]]:
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().split(b"\n") if line]


def _is_whole(bundle: Path) -> bool:
    """Whether a bundle is what its manifest says; its artifacts stay when the store's are pruned."""
    try:
        files = orjson.loads((bundle / "manifest.json").read_bytes())["files"]
        return all(
            hashlib.sha256((bundle / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
            for entry in files
        )
    except (OSError, ValueError, KeyError):
        return False


def _unfinished(folder: Path) -> list[str]:
    artifacts, export = folder / "artifacts", folder / "export"
    left = [path for path in artifacts.rglob("*") if path.is_file()]  # the last driver has pruned
    lock = ".batchor.lock"  # of the place, which stays there
    left += [path for path in export.glob(".*") if path.name != lock]
    return [str(path.relative_to(folder)) for path in left]


def _end(process: subprocess.Popen[bytes]) -> None:
    """It ends when its input does."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
