"""Databases that are put back and clocks that are set back: what was paid for stays known, and nothing waits for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from batchor_core.core import boundaries
from batchor_core.core.boundaries import Boundary, When
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.models import RetryPolicy
from batchor_core.runtime import ingest
from batchor_core.sources.files import JsonlItemSource
from batchor_core.storage.sqlite import SQLiteStorage
from tests.support.world import RUN, World, text_job, texts

ROWS = 8
ANSWERS = {f"row-{n}": f"answer to: question {n}" for n in range(ROWS)}


@pytest.fixture
def world(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(ingest, "CHUNK", 3)
    yield make_world(kind="sqlite")
    boundaries.install(None)


def job(folder: Path) -> object:
    path = folder / "rows.jsonl"
    if not path.exists():
        path.write_text("".join(f'{{"n": {n}, "text": "question {n}"}}\n' for n in range(ROWS)))
    source = JsonlItemSource(
        path, item_id_from_row=lambda row: f"row-{row['n']}", payload_from_row=lambda row: row
    )
    return text_job(source, per_batch=2)


def keep_at(world: World, place: tuple[Boundary, When], nth: int) -> Path:
    """A backup of the database, taken behind the driver's back when it passes a place for the n-th time."""
    kept = world.folder / "kept.sqlite3"
    passed = 0

    def back_up(name: Boundary, when: When) -> None:
        nonlocal passed
        if (name, when) == place:
            passed += 1
            if passed == nth:
                _copy(world.folder / "runs.sqlite3", kept)

    boundaries.install(back_up)
    return kept


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)


@pytest.mark.parametrize(
    "place",
    [
        Boundary.APPEND_ITEMS,
        Boundary.CLAIM,
        Boundary.MARK_WRITTEN,
        Boundary.MARK_UPLOADED,
        Boundary.MARK_SENDING,
        Boundary.REGISTER,
    ],
)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_restored_database_buys_nothing_again(world: World, place: Boundary, nth: int) -> None:
    kept = keep_at(world, (place, "after"), nth)
    before = world.start(job(world.folder)).wait()  # type: ignore[arg-type]
    assert before.status is RunLifecycleStatus.COMPLETED
    paid = dict(world.provider.paid)

    boundaries.install(None)
    world.store.close()
    _copy(kept, world.folder / "runs.sqlite3")
    run = world.start(job(world.folder), storage=world.open_store()).wait()  # type: ignore[arg-type]

    assert run.status is RunLifecycleStatus.COMPLETED
    assert len(texts(run)) == ROWS
    assert dict(world.provider.paid) == paid
    assert run.summary().orphan_batches == 0
    world.store.close()


@pytest.mark.parametrize(
    "place", [Boundary.CLAIM, Boundary.MARK_WRITTEN, Boundary.MARK_UPLOADED, Boundary.MARK_SENDING]
)
def test_nor_does_one_whose_rows_were_sent_under_another_name_since(world: World, place: Boundary) -> None:
    class Died(BaseException):
        pass

    def die(name: Boundary, when: When) -> None:
        if (name, when) == (place, "after"):
            raise Died

    kept = world.folder / "kept.sqlite3"
    boundaries.install(die)
    with pytest.raises(Died):
        world.start(job(world.folder))  # type: ignore[arg-type]
    boundaries.install(None)
    _copy(world.folder / "runs.sqlite3", kept)
    # the next process gives the submission up, or finds that it was never created, and sends its rows in another
    world.start(job(world.folder), storage=world.open_store()).wait()  # type: ignore[arg-type]
    paid = dict(world.provider.paid)
    _copy(kept, world.folder / "runs.sqlite3")

    run = world.start(job(world.folder), storage=world.open_store()).wait()  # type: ignore[arg-type]
    assert len(texts(run)) == ROWS
    assert dict(world.provider.paid) == paid


def test_an_adoption_that_was_cut_short_is_begun_anew(world: World) -> None:
    kept = keep_at(world, (Boundary.APPEND_ITEMS, "after"), 3)
    world.start(job(world.folder)).wait()  # type: ignore[arg-type]
    paid = dict(world.provider.paid)
    _copy(kept, world.folder / "runs.sqlite3")

    class Died(BaseException):
        pass

    def die(name: Boundary, when: When) -> None:
        if (name, when) == (Boundary.MARK_WRITTEN, "after"):
            raise Died

    boundaries.install(die)
    with pytest.raises(Died):
        world.start(job(world.folder), storage=world.open_store())  # type: ignore[arg-type]
    boundaries.install(None)
    run = world.start(job(world.folder), storage=world.open_store()).wait()  # type: ignore[arg-type]
    assert len(texts(run)) == ROWS
    assert dict(world.provider.paid) == paid
    assert run.summary().orphan_batches == 0


@pytest.mark.parametrize("back", [timedelta(hours=1), timedelta(days=1)], ids=["an hour", "a day"])
def test_a_clock_that_is_set_back_holds_up_no_look_up(world: World, back: timedelta) -> None:
    world.provider.fail(
        "create_batch"
    )  # whether there is a batch is unknown: it is looked up over the grace period
    run = world.start(text_job(3, retry=RetryPolicy(base_backoff_sec=50.0)))
    world.clock.advance(60.0)
    run.refresh()
    assert run.summary().unknown_batches == 1

    slow = SQLiteStorage(
        path=world.folder / "runs.sqlite3",
        now=lambda: world.clock() - back,
        provider_registry=world.registry(),
    )
    again = world.runner(storage=slow).get_run(RUN)
    again.wait(timeout=300.0)
    assert again.status is RunLifecycleStatus.COMPLETED
    assert set(world.provider.paid.values()) == {1}
    slow.close()
