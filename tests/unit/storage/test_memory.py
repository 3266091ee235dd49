"""What the memory store has beyond the contract: one connection for all threads, which goes with the store."""

from __future__ import annotations

import gc
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from batchor_core.core.boundaries import Boundary
from batchor_core.core.exceptions import RunNotFoundError
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.storage.state import StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import RUN, create, drive


def test_threads_take_turns() -> None:
    store = MemoryStateStore()
    create(store, 400)

    def claim(_: int) -> list[str]:
        store.get_run_summary(run_id=RUN)
        return kit.claim(store, limit=5)

    with ThreadPoolExecutor(8) as threads:
        claimed = [item_id for found in threads.map(claim, range(80)) for item_id in found]
    assert len(claimed) == len(set(claimed)) == 400


def test_a_step_that_fails_leaves_nothing_behind_and_lets_others_in() -> None:
    store = MemoryStateStore()
    create(store, 2)

    def break_off() -> None:
        with store.database.write(Boundary.PAUSE) as connection:
            connection.execute(text("DELETE FROM items"))
            raise KeyError

    with ThreadPoolExecutor(1) as other, pytest.raises(KeyError):
        other.submit(break_off).result()
    assert len(kit.claim(store)) == 2


def test_no_engine_leads_to_an_empty_database() -> None:
    assert not hasattr(MemoryStateStore(), "engine")


def test_two_stores_share_nothing() -> None:
    create(MemoryStateStore(), 1)
    assert not MemoryStateStore().has_run(run_id=RUN)


def test_closing_keeps_what_is_stored() -> None:
    store = MemoryStateStore()
    create(store, 1)
    store.close()
    assert store.has_run(run_id=RUN)


def test_a_config_stays_the_object_that_was_given() -> None:
    store = MemoryStateStore()
    create(store, provider_config=kit.EchoConfig("echo-2", api_key="its own"))
    create(store, run_id="run-2")
    assert store.get_run_config(run_id=RUN).provider_config == kit.EchoConfig("echo-2", api_key="its own")
    assert store.get_run_config(run_id="run-2").provider_config == kit.EchoConfig()


def test_a_session_outlives_the_name_of_its_store() -> None:
    store = MemoryStateStore()
    create(store, 1)
    session = drive(store)
    del store
    gc.collect()
    assert len(session.candidates(max_attempts=1, limit=9)) == 1


def test_the_connection_is_closed_with_the_store() -> None:
    store = MemoryStateStore()
    with store.database.read() as connection:
        raw = connection.connection.driver_connection
    assert raw is not None
    del store, connection
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        raw.execute("SELECT 1")


def test_its_clock_may_be_given() -> None:
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    store = MemoryStateStore(now=lambda: moment)
    create(store)
    assert store.now() == store.get_run_summary(run_id=RUN).created_at == moment.timestamp()


def test_a_missing_run_is_looked_for_in_this_memory_store() -> None:
    with pytest.raises(RunNotFoundError, match="this memory store"):
        MemoryStateStore().get_run_summary(run_id=RUN)


def test_runs_in_memory_have_no_place_for_files() -> None:
    store: StateStore = MemoryStateStore()
    assert store.artifact_root() is None
