"""Who drives: dead drivers are replaced at once, live ones never, not even by their own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchor_core.core import boundaries
from batchor_core.core.boundaries import Boundary, When
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.runtime import runner as runner_module
from batchor_core.runtime.engine import EngineSettings
from batchor_core.storage import identity
from batchor_core.storage.identity import driver_done, is_certainly_gone, new_driver
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import DriverIdentity
from tests.contract.stores.kit import ThirdPartyStore, create
from tests.support.world import RUN, World, text_job

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="other processes are seen in /proc"
)


@pytest.fixture(params=["memory", "sqlite"])
def any_world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    """On both: the memory store has a way of its own to let threads take turns."""
    return make_world(kind=request.param)


@pytest.fixture
def me() -> Iterator[DriverIdentity]:
    driver = new_driver()
    yield driver
    driver_done(driver)


def test_a_live_session_of_this_process_is_not_gone(me: DriverIdentity) -> None:
    assert not is_certainly_gone(me)


def test_a_closed_session_of_this_process_is_gone(me: DriverIdentity) -> None:
    """The pid alone says too little: a timed-out tick runs on beside the next one."""
    other = new_driver()
    assert not is_certainly_gone(other)
    driver_done(other)
    assert is_certainly_gone(other)
    assert not is_certainly_gone(me)


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"host": "another"},
        {"boot_id": "another"},
        {"pid_namespace": "pid:[1]"},
        {"boot_id": ""},
        {"pid": 0},
        {"pid_start": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_can_not_be_seen_from_here_is_not_gone(me: DriverIdentity, elsewhere: dict[str, Any]) -> None:
    driver_done(me)
    assert is_certainly_gone(me)
    assert not is_certainly_gone(replace(me, **elsewhere))


def test_a_process_that_has_ended_is_gone(me: DriverIdentity) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        start = identity._start_time(child.pid)
        assert start is not None
        driver = replace(me, session="theirs", pid=child.pid, pid_start=start)
        assert not is_certainly_gone(driver)
        assert is_certainly_gone(replace(driver, pid_start="1")), "the pid was used again by another process"
        os.kill(child.pid, signal.SIGSTOP)
        assert not is_certainly_gone(driver), "it may wake up"
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_certainly_gone(driver), "a zombie runs no more"
    assert is_certainly_gone(driver)


DIES = """
import os, sys
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.identity import new_driver
from batchor_core.core import boundaries
from batchor_core.core.boundaries import Boundary, When
from batchor_core.core.enums import ItemStatus
store = SQLiteStorage(path=sys.argv[1])
session = store.open_session(run_id="run-1", owner=new_driver(), ttl_sec=3600)
session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[0, 1], max_attempts=3)
os.kill(os.getpid(), 9)
"""


def test_what_a_dead_process_had_claimed_is_free_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite3"
    store = SQLiteStorage(path=path)
    create(store, 3, run_id=RUN)
    died = subprocess.run([sys.executable, "-c", DIES, str(path)], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    assert store.get_lease(run_id=RUN) is not None, "its lease has an hour to go"
    assert store.requeue_local_items(run_id=RUN) == 2
    assert store.get_lease(run_id=RUN) is None
    store.close()


def test_a_live_driver_keeps_its_claims(tmp_path: Path, me: DriverIdentity) -> None:
    store = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    create(store, 3, run_id=RUN)
    session = store.open_session(run_id=RUN, owner=me, ttl_sec=60)
    assert session is not None
    session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[0, 1], max_attempts=3)
    assert store.requeue_local_items(run_id=RUN) == 0
    store.close()


# --- several at once -------------------------------------------------------------------------------------------------


class Gate:
    """Holds a call of the provider up until it is told to go on."""

    def __init__(self, world: World, method: str) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        call = getattr(world.provider, method)

        def held(*args: Any, **kwargs: Any) -> Any:
            self.reached.set()
            assert self.opened.wait(30)
            return call(*args, **kwargs)

        setattr(world.provider, method, held)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failed


@pytest.mark.parametrize("method", ["create_batch", "upload_input_file"])
def test_overlapping_ticks_of_one_process_send_nothing_twice(any_world: World, method: str) -> None:
    gate = Gate(any_world, method)
    thread, failed = in_thread(lambda: any_world.start())
    assert gate.reached.wait(30)
    for _ in range(3):  # the next ticks, while the first is still at it
        summary = any_world.runner().get_run(RUN).refresh()
        assert summary.total_items == 3
    gate.opened.set()
    thread.join()
    assert failed == []
    run = any_world.runner().get_run(RUN).wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert any_world.provider.count("create_batch") == 1


def test_a_driver_that_was_replaced_in_mid_request_pays_for_nothing_twice(any_world: World) -> None:
    """Stopped between its SENDING row and the request for longer than its lease; the request arrives at last."""
    gate = Gate(any_world, "create_batch")
    thread, failed = in_thread(lambda: any_world.start(settings=EngineSettings(lease_ttl_sec=3_600.0)))
    assert gate.reached.wait(30)
    any_world.clock.advance(
        4_000.0
    )  # its renewals come every quarter of an hour by the wall clock: none came
    other = any_world.runner().get_run(RUN)
    for _ in range(3):
        other.refresh()
        any_world.clock.advance(1.0)
    assert any_world.store.list_submissions(run_id=RUN)[0].fenced_at is not None
    gate.opened.set()  # the stalled driver wakes up and posts
    thread.join()
    assert failed == [], "losing a run is no error"
    for _ in range(12):
        any_world.clock.advance(60.0)
        other.refresh()
    assert other.status is RunLifecycleStatus.COMPLETED
    assert set(any_world.provider.paid.values()) == {1}
    assert sum(any_world.provider.paid.values()) == 3


@pytest.mark.parametrize("place", [Boundary.RENAME_FILE, Boundary.UPLOAD_FILE])
def test_a_driver_whose_files_its_successor_has_removed_gives_way_in_silence(
    any_world: World, place: Boundary
) -> None:
    """Stopped while it writes or uploads its request file, for longer than its lease."""
    other = any_world.runner()
    overtaken: list[Boundary] = []

    def overtake(name: Boundary, when: When) -> None:
        if (name, when) == (place, "before") and not overtaken:
            overtaken.append(name)
            any_world.clock.advance(4_000.0)
            other.get_run(RUN).refresh()

    boundaries.install(overtake)
    try:
        run = any_world.start(settings=EngineSettings(lease_ttl_sec=3_600.0))
    finally:
        boundaries.install(None)
    assert overtaken == [place]
    assert run.wait().status is RunLifecycleStatus.COMPLETED
    assert sum(any_world.provider.paid.values()) == 3


def test_the_lease_is_renewed_while_an_upload_takes_its_time(any_world: World) -> None:
    gate = Gate(any_world, "upload_input_file")
    thread, failed = in_thread(lambda: any_world.start(settings=EngineSettings(lease_ttl_sec=0.4)))
    assert gate.reached.wait(30)
    lease = any_world.store.get_lease(run_id=RUN)
    assert lease is not None
    renewed = threading.Event()

    def watch() -> None:
        for _ in range(500):
            any_world.clock.advance(0.01)
            now = any_world.store.get_lease(run_id=RUN)
            if now is not None and now.expires_at > lease.expires_at:
                renewed.set()
                return
            threading.Event().wait(0.01)

    watcher, _ = in_thread(watch)
    assert renewed.wait(20)
    watcher.join()
    gate.opened.set()
    thread.join()
    assert failed == []


def test_looking_at_a_run_that_somebody_drives_writes_nothing(any_world: World) -> None:
    gate = Gate(any_world, "create_batch")
    thread, _ = in_thread(lambda: any_world.start())
    assert gate.reached.wait(30)
    before = any_world.store.get_lease(run_id=RUN)
    observer = any_world.runner().get_run(RUN)
    observer.refresh()
    observer.summary()
    assert any_world.store.get_lease(run_id=RUN) == before
    gate.opened.set()
    thread.join()


def test_a_store_without_leases_is_named_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    runner_module._warn_of_single_driver.cache_clear()
    for _ in range(3):
        world.runner(storage=ThirdPartyStore(world.store))
    world.runner()
    told = [record.message for record in caplog.records if "no leases" in record.message]
    assert len(told) == 1
    assert told[0].startswith("ThirdPartyStore")


def test_two_stores_objects_on_one_file_are_two_drivers(make_world: Callable[..., World]) -> None:
    world = make_world(kind="sqlite")
    gate = Gate(world, "create_batch")
    thread, failed = in_thread(lambda: world.start(text_job(4, per_batch=2)))
    assert gate.reached.wait(30)
    other = world.runner(storage=world.open_store())
    other.get_run(RUN).refresh()
    gate.opened.set()
    thread.join()
    assert failed == []
    other.get_run(RUN).wait()
    assert world.provider.count("create_batch") == 2
