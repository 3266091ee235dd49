"""A database server that drops its connections: what was committed counts, and ``wait()`` goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from batchor_core.core.boundaries import Boundary
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import StorageError
from batchor_core.storage.postgres import PostgresStorage
from batchor_core.storage.state import StateStore
from tests.contract.stores.kit import RUN, create
from tests.postgres_server import postgres_dsn, postgres_schema
from tests.support.world import World, text_job

pytestmark = pytest.mark.postgres

NAME = f"batchor-outage-{os.getpid()}"


@pytest.fixture
def store() -> Iterator[PostgresStorage]:
    dsn = postgres_dsn()
    named = f"{dsn}{'&' if '?' in dsn else '?'}application_name={NAME}"
    with postgres_schema() as schema:
        store = PostgresStorage(dsn=named, schema=schema)
        yield store
        store.close()


def cut_connections() -> int:
    """Drop every connection of this test's store, as a restarting server does."""
    with psycopg.connect(postgres_dsn(), autocommit=True) as connection:
        cut = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s",
            [NAME],
        ).fetchone()
    assert cut is not None
    return int(cut[0])


def test_a_broken_connection_is_a_passing_trouble(store: PostgresStorage) -> None:
    create(store, 1)

    def cut_off() -> None:
        with store.database.write(Boundary.SET_CONTROL_STATE) as connection:
            assert cut_connections() > 0
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(StorageError) as caught:
        cut_off()
    assert caught.value.is_passing
    assert "password" not in str(caught.value)
    assert store.has_run(run_id=RUN)


def test_a_server_that_is_not_there_is_a_passing_trouble() -> None:
    with pytest.raises(StorageError) as caught:
        PostgresStorage(dsn="postgresql://nobody:secret@127.0.0.1:1/none?connect_timeout=1")
    assert caught.value.is_passing
    assert "secret" not in str(caught.value)


def test_a_run_outlives_a_server_that_keeps_dropping_it(store: PostgresStorage, tmp_path: Any) -> None:
    world = World(tmp_path)
    world.provider.statuses = ("in_progress", "in_progress", "completed")
    done, cuts = threading.Event(), []

    def drop() -> None:
        while not done.wait(0.15):
            cuts.append(cut_connections())

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        job = text_job(40, per_batch=4)
        run = _patiently(lambda: world.runner(storage=store).start(job, run_id=RUN))
        _patiently(lambda: run.wait(poll_interval=20.0))
    finally:
        done.set()
        thread.join()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert sum(cuts) > 0
    assert set(world.provider.paid.values()) == {1}
    assert len(run.results()) == 40
    world.close()


def _patiently(attempt: Any) -> Any:
    """As a supervisor restarts a process."""
    for _ in range(200):
        try:
            return attempt()
        except StorageError as error:
            if not error.is_passing:
                raise
    raise AssertionError("never got through")


def test_a_wait_rides_out_an_outage_and_ends_at_last(tmp_path: Any) -> None:
    world = World(tmp_path, kind="sqlite")
    run = world.start()
    refresh, broken = run.refresh, [5]

    def failing() -> Any:
        if broken[0] > 0:
            broken[0] -= 1
            raise StorageError("gone", is_passing=True)
        return refresh()

    run.refresh = failing  # type: ignore[method-assign, assignment]
    run.wait(poll_interval=10.0)
    assert run.is_finished
    broken[0] = 10**6
    with pytest.raises(StorageError, match="gone"):
        run.wait(poll_interval=10.0)
    assert 10**6 - broken[0] == 61, "ten minutes of it are enough"
    broken[0] = 10**6
    with pytest.raises(TimeoutError):
        run.wait(poll_interval=10.0, timeout=50.0)
    world.close()


def test_a_child_process_uses_connections_of_its_own(store: StateStore) -> None:
    create(store, 1)
    pool: Any = store.engine.pool  # type: ignore[attr-defined]
    assert pool.checkedin() > 0
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        try:
            os.write(writing, b"%d" % store.engine.pool.checkedin())  # type: ignore[attr-defined]
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 10) == b"0"
    os.close(reading)
    assert store.has_run(run_id=RUN)
