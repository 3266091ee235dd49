"""Batches that the store does not know: those that a restored database has forgotten, and those that nobody waits for."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.caps import Cap
from batchor_core.core.enums import RunControlState, RunLifecycleStatus, SubmissionState
from batchor_core.core.exceptions import (
    MissingCredentialsError,
    ProviderError,
    ProviderErrorKind,
    RunIngestionSourceRequiredError,
    RunPausedError,
)
from batchor_core.providers.api import BatchState
from batchor_core.runtime.batch_list import read_list
from batchor_core.storage.postgres import PostgresStorage
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import StateStore
from batchor_core.testing.fake_provider import FakeProvider
from tests.contract.stores.kit import ThirdPartyStore
from tests.postgres_server import postgres_dsn, postgres_schema
from tests.support.world import RUN, World, index_of, text_job

ROWS, PER_BATCH = 9, 3

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


# --- databases that travel in time -----------------------------------------------------------------------------------


class Moments:
    """Copies of a world's database after each of its write transactions, made without closing anything."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world = world
        self._stack = stack
        self.count = 0
        database: Any = world.store.database  # type: ignore[attr-defined]
        write = database.write

        @contextmanager
        def watched(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with write(*args, **kwargs) as connection:
                yield connection
            self._copy()

        database.write = watched

    def open(self, number: int) -> StateStore:
        store = self._opened(number)
        self._stack.callback(store.close)
        return store

    def _copy(self) -> None:
        raise NotImplementedError

    def _opened(self, number: int) -> StateStore:
        raise NotImplementedError


class FileMoments(Moments):
    """The file and its write-ahead log as they lie on the disk: what a power cut would leave."""

    def path(self, number: int) -> Path:
        return self.world.folder / f"moment-{number}" / "runs.sqlite3"

    def _copy(self) -> None:
        self.path(self.count).parent.mkdir()
        for suffix in ("", "-wal"):  # the shared-memory file is only a cache, and is made anew
            source = self.world.folder / f"runs.sqlite3{suffix}"
            if source.exists():
                shutil.copyfile(source, f"{self.path(self.count)}{suffix}")
        self.count += 1

    def _opened(self, number: int) -> StateStore:
        with sqlite3.connect(self.path(number)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        return SQLiteStorage(
            path=self.path(number), now=self.world.clock, provider_registry=self.world.registry()
        )


class SchemaMoments(Moments):
    """All rows of all tables, and the sequences, in a schema of their own."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        super().__init__(world, stack)
        self._schemas: dict[int, str] = {}
        self._connection = stack.enter_context(psycopg.connect(postgres_dsn(), autocommit=True))

    def _copy(self) -> None:
        self.count += 1
        if self.count % 4 != 1:
            return
        schema = self._stack.enter_context(postgres_schema())
        source = str(self.world.schema)
        made = PostgresStorage(dsn=postgres_dsn(), schema=schema, provider_registry=self.world.registry())
        made.close()
        tables = self._connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
        ).fetchall()
        with self._connection.transaction():
            for (table,) in tables:
                names = {"to": sql.Identifier(schema, table), "of": sql.Identifier(source, table)}
                self._connection.execute(sql.SQL("DELETE FROM {to}").format(**names))
                self._connection.execute(sql.SQL("INSERT INTO {to} SELECT * FROM {of}").format(**names))
            for table, key in (("runs", "run_key"), ("submission_intents", "intent_key")):
                self._connection.execute(
                    sql.SQL("SELECT setval(%s, (SELECT coalesce(max({}), 0) + 1 FROM {}), false)").format(
                        sql.Identifier(key), sql.Identifier(schema, table)
                    ),
                    [f"{schema}.{table}_{key}_seq"],
                )
        self._schemas[self.count - 1] = schema

    def _opened(self, number: int) -> StateStore:
        return PostgresStorage(
            dsn=postgres_dsn(),
            schema=self._schemas[number],
            now=self.world.clock,
            provider_registry=self.world.registry(),
        )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def forked(provider: FakeProvider) -> FakeProvider:
    """A provider with the same books, which from here on are its own."""
    copied = FakeProvider(answer=provider.answer, statuses=provider.statuses, clock=provider._clock)
    copied.files, copied.filenames = dict(provider.files), dict(provider.filenames)
    copied.batches, copied.paid = copy.deepcopy(provider.batches), Counter(provider.paid)
    copied._numbers = itertools.count(10_000)
    return copied


def paid_by_item(provider: FakeProvider) -> Counter[int]:
    paid: Counter[int] = Counter()
    for batch in provider.batches.values():
        if batch.status in ("completed", "in_progress", "validating"):
            paid.update(index_of(line) for line in batch.lines)
    return paid


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cycles", [1, 9], ids=["in mid-run", "after its end"])
def test_a_database_from_an_earlier_moment_pays_for_nothing_again(
    make_world: Callable[..., World], stack: ExitStack, kind: str, cycles: int
) -> None:
    world = make_world(kind=kind)
    moments = (FileMoments if kind == "sqlite" else SchemaMoments)(world, stack)
    job = text_job(ROWS, per_batch=PER_BATCH, caps=[Cap(rows=ROWS)])
    run = world.start(job)
    for _ in range(cycles - 1):
        run.refresh()
    assert run.is_finished == (cycles == 9)
    tried, step = (
        0,
        1 if kind == "sqlite" else 4,
    )  # the rules are the same, and a copy of a schema takes its time
    for number in range(0, moments.count, step):
        store = moments.open(number)
        if not store.has_run(run_id=RUN):
            continue
        provider = forked(world.provider)
        # every other time the files on this machine are gone as well
        artifacts = LocalArtifactStore(
            world.folder / (f"lost-{number}" if number // step % 2 else "artifacts")
        )
        again = world.runner(
            storage=store,
            artifact_store=artifacts,
            provider_factory=lambda config, provider=provider: provider,
        ).start(job, run_id=RUN)
        again.wait(poll_interval=60.0)
        assert again.status is RunLifecycleStatus.COMPLETED, number
        assert paid_by_item(provider) == Counter(range(ROWS)), number
        assert again.summary().orphan_batches == 0, number
        tried += 1
    assert tried >= 20 // step, "the run has far more transactions than this"


def test_a_log_that_was_cut_off_at_any_frame_is_an_earlier_moment(
    make_world: Callable[..., World], stack: ExitStack
) -> None:
    world = make_world(kind="sqlite")
    moments = FileMoments(world, stack)
    job = text_job(ROWS, per_batch=PER_BATCH)
    world.start(job)
    log = Path(f"{moments.path(moments.count - 1)}-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    frames = (len(log) - 32) // (24 + page)
    assert frames > 30
    for number, kept in enumerate(range(0, frames, max(1, frames // 25))):
        path = world.folder / f"cut-{number}" / "runs.sqlite3"
        path.parent.mkdir()
        shutil.copyfile(moments.path(moments.count - 1), path)
        end = 32 + kept * (24 + page) + (number % 3) * page // 2  # some in the middle of a frame
        Path(f"{path}-wal").write_bytes(log[:end])
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        store = SQLiteStorage(path=path, now=world.clock, provider_registry=world.registry())
        stack.callback(store.close)
        if not store.has_run(run_id=RUN):
            continue
        provider = forked(world.provider)
        again = world.runner(
            storage=store, provider_factory=lambda config, provider=provider: provider
        ).start(job, run_id=RUN)
        again.wait(poll_interval=60.0)
        assert paid_by_item(provider) == Counter(range(ROWS)), number


def test_rows_that_are_not_read_yet_are_read_before_anything_is_sent(
    make_world: Callable[..., World], stack: ExitStack
) -> None:
    world = make_world(kind="sqlite")
    moments = FileMoments(world, stack)
    job = text_job(ROWS, per_batch=PER_BATCH)
    world.start(job)
    first = next(number for number in range(moments.count) if moments.open(number).has_run(run_id=RUN))
    store = moments.open(first)
    world.store.close()
    created = world.provider.count("create_batch")
    run = world.runner(storage=store).start(job, run_id=RUN)
    assert world.provider.count("create_batch") == created
    assert run.summary().active_batches == ROWS / PER_BATCH
    assert "orphan_batch" not in world.names()


def test_without_its_source_such_a_run_says_what_it_needs(
    make_world: Callable[..., World], stack: ExitStack
) -> None:
    world = make_world(kind="sqlite")
    moments = FileMoments(world, stack)
    world.start(text_job(ROWS, per_batch=PER_BATCH))
    states = [moments.open(number) for number in range(moments.count)]
    unread = next(
        store
        for store in states
        if store.has_run(run_id=RUN) and store.get_ingest_checkpoint(run_id=RUN) is not None
    )
    run = world.runner(storage=unread).get_run(RUN)
    run.refresh()
    assert world.provider.count("create_batch") == ROWS / PER_BATCH
    with pytest.raises(RunIngestionSourceRequiredError):
        run.wait(timeout=100, poll_interval=10)


def test_a_store_without_submissions_takes_none_of_its_batches_for_a_stranger(world: World) -> None:
    """It can't tell what an earlier process has sent; to cancel it for that would be the worst of all."""
    world.provider.statuses = ("in_progress",) * 8 + ("completed",)
    store = ThirdPartyStore(world.store)
    job = text_job(ROWS, per_batch=PER_BATCH)
    world.start(job, storage=store)
    world.provider.set_statuses(world.batch_ids()[0], "expired")
    run = world.start(job, storage=ThirdPartyStore(world.store))
    run.wait(poll_interval=60.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert world.provider.count("cancel_batch") == 0
    assert set(world.provider.paid.values()) == {1}


def test_a_store_that_hides_its_submissions_keeps_its_live_batches(world: World) -> None:
    """Such as a wrapper that passes on what it knows of."""
    world.provider.statuses = ("in_progress",)
    world.start(text_job(6, per_batch=2))
    store: Any = world.store
    store.list_submissions = lambda run_id: []
    store.reset_batch_items_to_pending(run_id=RUN, provider_batch_id=world.batch_ids()[0], error=_error())
    world.runner().get_run(RUN).refresh()
    assert world.provider.count("cancel_batch") == 0


# --- batches that nobody waits for -----------------------------------------------------------------------------------


def stray(world: World, *, of: int = 0) -> str:
    """A second batch of a submission of the run, such as a gateway's retry makes."""
    first = list(world.provider.batches.values())[of]
    world.provider.files[first.input_file_id] = b"".join(b"{}\n" for _ in first.lines)
    world.clock.advance(1.0)
    made = world.provider.create_batch(input_file_id=first.input_file_id, metadata=first.metadata)
    return made["id"]


def an_hour_passes(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    import time

    later = time.monotonic() + 3_601.0
    monkeypatch.setattr("batchor_core.runtime.drive.time.monotonic", lambda: later)
    world.clock.advance(3_601.0)


def test_the_twin_of_a_registered_batch_is_cancelled_counted_and_told(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_world.provider.statuses = ("in_progress",)
    run = any_world.start()
    twin = stray(any_world)
    an_hour_passes(monkeypatch, any_world)
    run.refresh()
    run.refresh()
    assert [event["provider_batch_id"] for event in any_world.data("orphan_batch")] == [twin]
    assert any_world.provider.batches[twin].status == "cancelling"
    assert run.summary().orphan_batches == 1
    assert run.summary().active_batches == 1


def test_several_strays_are_counted_once_each_however_often_they_are_found(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_world.provider.statuses = ("in_progress",)
    run = any_world.start()
    strays = {stray(any_world), stray(any_world), stray(any_world)}
    an_hour_passes(monkeypatch, any_world)
    run.refresh()
    assert run.summary().orphan_batches == 3
    any_world.runner().get_run(RUN).refresh()
    assert run.summary().orphan_batches == 3
    assert {event["provider_batch_id"] for event in any_world.data("orphan_batch")} == strays


def test_batches_of_other_stores_and_strangers_are_left_alone(make_world: Callable[..., World]) -> None:
    world = make_world()
    other = make_world(provider=world.provider)
    other.clock.advance(5.0)
    world.start(text_job(4, per_batch=2))
    other.start(text_job(4, per_batch=2))  # the same run id, another store
    world.provider.files["x"] = b"{}\n"
    world.provider.create_batch(input_file_id="x")
    world.provider.create_batch(input_file_id="x", metadata={"batchor_run_id": RUN})
    again = world.runner()
    again.get_run(RUN).wait(poll_interval=1)
    assert world.data("orphan_batch") == []
    assert "cancelling" not in {batch.status for batch in world.provider.batches.values()}


@pytest.mark.parametrize("custom_id", ["99999999999999999999999-0-ab", "٣-0-ab", "-1-0-ab", "x", "", "0"])
def test_a_batch_with_made_up_rows_is_an_orphan(
    any_world: World, monkeypatch: pytest.MonkeyPatch, custom_id: str
) -> None:
    any_world.provider.statuses = ("in_progress",)
    run = any_world.start()
    first = next(iter(any_world.provider.batches.values()))
    name = first.metadata["batchor_local_batch_id"][:-3] + "xyz"
    any_world.provider.files["f"] = b'{"custom_id": "%s"}\n' % custom_id.encode()
    any_world.provider.create_batch(
        input_file_id="f", metadata=first.metadata | {"batchor_local_batch_id": name}
    )
    an_hour_passes(monkeypatch, any_world)
    run.refresh()
    assert run.summary().orphan_batches == 1


def forgotten(world: World) -> str:
    """A batch of the run that its store does not know; returns the name of its input file."""
    world.provider.statuses = ("in_progress",)
    world.start(text_job(3))
    first = next(iter(world.provider.batches.values()))
    name = first.metadata["batchor_local_batch_id"][:-3] + "xyz"
    world.provider.files["f"] = b"".join(json.dumps(line).encode() + b"\n" for line in first.lines)
    world.provider.create_batch(input_file_id="f", metadata=first.metadata | {"batchor_local_batch_id": name})
    return "f"


def test_a_forgotten_batch_whose_files_can_not_be_read_just_now_is_no_orphan(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten(any_world)
    an_hour_passes(monkeypatch, any_world)
    any_world.provider.fail("download_to_path")
    run = any_world.runner().get_run(RUN)
    run.refresh()
    assert run.summary().orphan_batches == 0
    assert any_world.data("orphan_batch") == []
    any_world.clock.advance(600.0)
    run.refresh()
    assert run.summary().orphan_batches == 1, "its rows are in the batch that is registered"


def test_a_forgotten_batch_of_unknown_rows_is_asked_about_once(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be learned of it any more, and its rows may be among those that seem unsent."""
    del any_world.provider.files[forgotten(any_world)]
    an_hour_passes(monkeypatch, any_world)
    run = any_world.runner().get_run(RUN)
    run.refresh()
    lost = any_world.batch_ids()[-1]
    assert run.summary().control_state is RunControlState.PAUSED
    assert lost in str(run.summary().control_reason)
    run.resume()
    any_world.runner().get_run(RUN).refresh()
    assert run.summary().control_state is RunControlState.RUNNING


def given_back(world: World) -> Any:
    """A run that this process has not created, with rows to send again."""
    world.start(text_job(4, per_batch=2))
    world.store.reset_batch_items_to_pending(
        run_id=RUN, provider_batch_id=world.batch_ids()[0], error=_error()
    )
    return world.runner().get_run(RUN)


def test_a_list_that_can_not_be_read_just_now_holds_submission_back(world: World) -> None:
    run = given_back(world)
    created = world.provider.count("create_batch")
    world.provider.fail("list_batches", ProviderError("busy", status_code=503))
    run.refresh()
    assert world.provider.count("create_batch") == created
    assert run.summary().backoff_remaining_sec > 0
    world.clock.advance(60.0)
    run.refresh()
    assert world.provider.count("create_batch") > created


def test_a_list_that_can_never_be_read_is_not_waited_for_without_end(any_world: World) -> None:
    run = given_back(any_world)
    created = any_world.provider.count("create_batch")
    any_world.provider.fail("list_batches", ProviderError("broken", status_code=500), times=10_000)
    with pytest.raises(RunPausedError, match="broken"):
        run.wait(poll_interval=400.0)
    assert any_world.provider.count("create_batch") == created


@pytest.mark.parametrize("status", [401, 403, 404, 501])
def test_a_gateway_without_a_list_is_submitted_to(world: World, status: int) -> None:
    run = given_back(world)
    kind = ProviderErrorKind.RETRY if status == 501 else ProviderErrorKind.NOT_FOUND
    world.provider.fail("list_batches", ProviderError("none", kind=kind, status_code=status), times=10_000)
    run.wait(poll_interval=10.0)
    assert run.status is RunLifecycleStatus.COMPLETED


def test_a_refused_key_does_not_mean_that_there_is_no_list(world: World) -> None:
    run = given_back(world)
    created = world.provider.count("create_batch")
    refused = ProviderError("refused", kind=ProviderErrorKind.CREDENTIALS, status_code=401)
    world.provider.fail("list_batches", refused, times=10_000)
    with pytest.raises(RunPausedError, match="refused"):
        run.wait(poll_interval=400.0)
    assert world.provider.count("create_batch") == created


def test_a_run_that_has_ended_is_not_paused_for_a_list(any_world: World) -> None:
    run, _ = ended_in_doubt(any_world)
    any_world.provider.fail("list_batches", ProviderError("broken", status_code=500), times=10_000)
    for _ in range(15):
        any_world.clock.advance(3_700.0)
        summary = run.refresh()
    assert (summary.status, summary.control_reason) == (RunLifecycleStatus.COMPLETED, None)
    assert summary.backoff_remaining_sec == 0


def _error() -> Any:
    from batchor_core.core.models import ItemFailure

    return ItemFailure("test", "given back by hand", retryable=True)


# --- after the end ---------------------------------------------------------------------------------------------------


def ended_in_doubt(world: World) -> tuple[Any, Any]:
    """A run that has ended after it took a batch, which exists, for never created."""
    world.provider.fail("create_batch", ProviderError("lost"), after=True)
    run = world.start()
    late = next(iter(world.provider.batches.values()))
    late.listed = False
    late.steps.clear()
    for _ in range(12):
        run.refresh()
        world.clock.advance(50.0)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert world.store.list_submissions(run_id=RUN)[0].state is SubmissionState.DROPPED
    return run, late


@pytest.mark.parametrize("kind", ["memory", *KINDS])
def test_a_batch_that_turns_up_after_the_end_is_cancelled_and_told(
    make_world: Callable[..., World], kind: str
) -> None:
    world = make_world(kind=kind)
    _, late = ended_in_doubt(world)
    runner = world.runner()
    assert runner.sweep_ended_runs() == [RUN]
    assert world.data("orphan_batch") == []
    late.listed = True
    runner.sweep_ended_runs()
    assert world.data("orphan_batch") == [], "an hour has not passed"
    world.clock.advance(3_601.0)
    runner.sweep_ended_runs()
    assert [event["provider_batch_id"] for event in world.data("orphan_batch")] == [late.id]
    assert late.status == "cancelling"
    summary = world.summary()
    assert (summary.orphan_batches, summary.status) == (1, RunLifecycleStatus.COMPLETED)


def test_it_is_found_by_whoever_looks_at_the_run(any_world: World) -> None:
    run, late = ended_in_doubt(any_world)
    late.listed = True
    any_world.clock.advance(3_601.0)
    run.refresh()
    assert run.summary().orphan_batches == 1


def test_nobody_looks_longer_than_a_batch_can_take(any_world: World) -> None:
    run, _ = ended_in_doubt(any_world)
    any_world.clock.advance(26 * 3_600.0)
    asked = any_world.provider.count("list_batches")
    assert any_world.runner().sweep_ended_runs() == []
    run.refresh()
    assert any_world.provider.count("list_batches") == asked


def test_looking_after_an_ended_run_needs_no_key(any_world: World) -> None:
    ended_in_doubt(any_world)
    any_world.clock.advance(3_601.0)

    def no_key(config: Any) -> Any:
        raise MissingCredentialsError("no key")

    again = any_world.runner(provider_factory=no_key).get_run(RUN)
    assert again.refresh().completed_items == 3
    assert len(again.results()) == 3


def test_runs_without_doubts_cost_no_question(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(3), run_id=RUN)
    asked = len(any_world.provider.calls)
    any_world.clock.advance(3_601.0)
    run.refresh()
    assert any_world.runner().sweep_ended_runs() == []
    assert len(any_world.provider.calls) == asked


# --- reading a list --------------------------------------------------------------------------------------------------


def pages(*times: list[float | None]) -> Iterator[list[BatchState]]:
    number = itertools.count()
    for page in times:
        yield [BatchState(f"b{next(number)}", "completed", created_at=moment) for moment in page]


@pytest.mark.parametrize(
    ("times", "cap", "read", "is_complete"),
    [
        pytest.param([[9, 8], [7, 3], [2, 1]], 9, 2, True, id="newest first: up to the moment"),
        pytest.param([[1, 2], [3, 8], [9]], 9, 3, True, id="oldest first: to the end"),
        pytest.param([[3, 2, 9], [8]], 9, 2, True, id="no order at all: to the end"),
        pytest.param([[2, 2], [9, 9]], 9, 2, True, id="no order to be seen: to the end"),
        pytest.param([[2], [9]], 9, 2, True, id="a single one tells no order"),
        pytest.param([[9, None], [2, 1], [8]], 9, 3, True, id="no times: to the end"),
        pytest.param([[], [9, 3], [8]], 9, 2, True, id="an empty page is no end"),
        pytest.param([], 9, 0, True, id="an empty list"),
        pytest.param([[9], [8], [7]], 2, 2, False, id="too many pages"),
        pytest.param([[9, 8], [7, 3]], 2, 2, True, id="the moment comes with the last page that may be read"),
    ],
)
def test_a_list_is_read_as_far_as_it_proves_something(
    times: list[list[float | None]], cap: int, read: int, is_complete: bool
) -> None:
    seen: list[int] = []

    def counted() -> Iterator[list[Any]]:
        for number, page in enumerate(pages(*times), 1):
            seen.append(number)
            yield page

    listing = read_list(counted(), wanted=lambda batch: True, oldest=5.0, page_cap=cap)
    assert (len(seen), listing.is_complete) == (read, is_complete)
    moments = [batch.created_at or 0.0 for batch in listing.found]
    assert moments == sorted(moments)
