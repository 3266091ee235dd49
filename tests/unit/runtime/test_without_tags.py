"""Paying once at a provider whose batches carry no tags and whose creates can't be fenced: what can't be told is waited for."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.custom_ids import unmarked
from batchor_core.core.enums import RunLifecycleStatus, SubmissionState
from batchor_core.core.exceptions import (
    InvalidInputError,
    MissingCredentialsError,
    ProviderError,
    ProviderErrorKind,
)
from batchor_core.core.models import BatchItem, BatchJob, ChunkPolicy, RunEvent
from batchor_core.core.prompts import PromptParts
from batchor_core.providers.api import BatchLimits, BatchState, FoundBy
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.testing.fake_clock import FakeClock
from batchor_core.testing.local_server.faults import BatchFault, HttpFault
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from tests.support.stranger import PREFIX, StrangerApi, StrangerConfig, register_stranger, routes

RUN = "run-1"
HOUR = 3_600.0
JOBS = f"{PREFIX}/jobs"


class Place:
    """A provider, a store and a clock that outlive their runners."""

    def __init__(self, folder: Path, server: OpenAIServer, clock: FakeClock) -> None:
        self.folder, self.server, self.clock = folder, server, clock
        self.config = StrangerConfig(server.base_url.removesuffix("/v1"))
        self.events: list[RunEvent] = []
        self.stores: list[SQLiteStorage] = []
        self.ahead = timedelta(0)
        """By how much this machine's clock is ahead of the provider's."""
        self.open()

    def open(self) -> None:
        self.store = SQLiteStorage(
            path=self.folder / "runs.sqlite3",
            now=lambda: self.clock() + self.ahead,
            provider_registry=register_stranger(),
        )
        self.stores.append(self.store)

    def start(self, rows: int = 3, *, run_id: str = RUN, per_batch: int = 50) -> Run:
        job: BatchJob[Any, Any] = BatchJob(
            items=[BatchItem(f"row {number}", f"{run_id} question {number}") for number in range(rows)],
            build_prompt=lambda item: item.payload,
            provider_config=self.config,
            chunk_policy=ChunkPolicy(max_requests=per_batch),
        )
        runner = BatchRunner(
            storage=self.store,
            provider_registry=register_stranger(),
            artifact_store=LocalArtifactStore(self.folder / "artifacts"),
            observer=self.events.append,
            sleep=self.clock.sleep,
        )
        return runner.start(job, run_id=run_id)

    def pass_time(self, run: Run, seconds: float, *, steps: int = 20) -> None:
        for _ in range(steps):
            if run.refresh().status is not RunLifecycleStatus.RUNNING:
                return
            self.clock.advance(seconds / steps)
        run.refresh()

    def lose(self, *, after_work: bool, times: int = 1) -> None:
        self.server.faults.add(HttpFault("cut", method="POST", path=JOBS, after_work=after_work, times=times))

    def neighbour(self) -> None:
        """Another program of the same account has a job made, of as many rows as ours have."""
        body = {
            "calls": [
                {"key": f"theirs {n}", "ask": {"engine": "stranger-1", "say": "hello"}} for n in range(3)
            ]
        }
        request = urllib.request.Request(
            f"{self.config.url}{JOBS}",
            data=json.dumps(body).encode(),
            headers={"authorization": "Bearer theirs", "content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()

    def creates(self) -> int:
        return sum(
            request.method == "POST" and request.path == JOBS for request in self.server.books.requests
        )

    def submissions(self) -> list[Any]:
        return list(self.store.list_submissions(run_id=RUN))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    clock = FakeClock()
    with OpenAIServer(clock=clock, batch_seconds=600, protocols=[routes]) as server:
        server.responder = lambda body, endpoint, custom_id: Reply.answer(body["messages"][-1]["content"])
        made = Place(tmp_path, server, clock)
        yield made
        for store in made.stores:
            store.close()


def paid_once(place: Place, rows: int) -> bool:
    executed = place.server.books.bodies_executed
    return len(executed) == rows and set(executed.values()) == {1}


def test_a_run_goes_through_and_its_rows_name_their_submission(place: Place) -> None:
    run = place.start(5, per_batch=2)
    place.pass_time(run, HOUR)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert [result.output_text for result in run.results()] == [f"{RUN} question {n}" for n in range(5)]
    assert all(result.usage and result.usage.input_tokens for result in run.results())
    sent = [execution.custom_id for execution in place.server.books.executions()]
    assert len({parts[1] for custom_id in sent if (parts := unmarked(custom_id))}) == 3
    assert all(len(custom_id) <= 64 for custom_id in sent)
    assert paid_once(place, 5)


def test_rows_whose_name_the_engine_cannot_change_are_not_sent(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of the submission would be missing in what is sent, and a lost create could never be found."""

    def under_a_key(self: StrangerApi, *, custom_id: str, prompt: PromptParts, output: object) -> Any:
        return {"key": custom_id, "body": {"say": prompt.prompt}}

    monkeypatch.setattr(StrangerApi, "request_line", under_a_key)
    with pytest.raises(
        InvalidInputError, match=r"item 'row 0': the provider stranger reads .* as the custom_id"
    ):
        place.start().refresh()
    assert place.creates() == 0


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"found_by": "row"}, "found_by must be of 'tags', 'rows', 'nothing', and is 'row'"),
        ({"max_requests": 0}, "max_requests must be at least 1"),
        ({"max_bytes": -1}, "max_bytes must be at least 1"),
        ({"max_tags": None}, "max_tags must be an int"),
        ({"lifetime_sec": float("nan")}, "lifetime_sec must be a number of seconds"),
        ({"outputs": ["texts"]}, "outputs must be of 'text'"),
    ],
)
def test_limits_that_cannot_be_right_are_refused(limits: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        BatchLimits(**limits)


def test_limits_may_be_given_as_text() -> None:
    found_by: Any = "rows"
    assert BatchLimits(found_by=found_by).found_by is FoundBy.ROWS


def test_a_batch_of_a_long_life_is_not_overdue_after_a_day(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider states no dates, and says how long its batches live."""

    class LongLived(StrangerApi):
        def __init__(self, config: StrangerConfig) -> None:
            super().__init__(config, lifetime_sec=7 * 24 * HOUR)

        def _state(self, job: Any) -> BatchState:
            return replace(super()._state(job), created_at=None, expires_at=None)

    monkeypatch.setattr("tests.support.stranger.StrangerApi", LongLived)
    place.server.faults.add(BatchFault("never_ends"))
    run = place.start()
    place.pass_time(run, 100 * HOUR)
    assert (run.summary().overdue_batches, run.summary().quarantined_batches) == (0, 0)
    place.pass_time(run, 100 * HOUR)
    assert run.summary().quarantined_batches == 1


def test_a_lost_answer_is_settled_by_the_first_result_and_not_before(place: Place) -> None:
    place.lose(after_work=True)
    run = place.start()
    place.pass_time(run, 500.0)
    (submission,) = place.submissions()
    assert submission.state is SubmissionState.UNKNOWN  # a job is listed that runs, and could be anybody's
    place.pass_time(run, HOUR)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert place.creates() == 1
    assert paid_once(place, 3)


def test_a_lost_request_holds_until_a_batch_could_live_no_more(place: Place) -> None:
    place.lose(after_work=False)
    run = place.start()
    place.pass_time(run, 25 * HOUR, steps=50)
    (submission,) = place.submissions()
    assert submission.state is SubmissionState.UNKNOWN
    assert place.creates() == 1
    assert run.summary().unknown_batches == 1
    place.pass_time(run, 3 * HOUR, steps=50)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert place.creates() == 2
    assert paid_once(place, 3)


@pytest.fixture(params=[-3, 3], ids=["our clock is behind", "our clock is ahead"])
def wrong_clock(request: pytest.FixtureRequest, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks differ by hours, which only the provider's responses tell: the create is mostly the first of them."""
    place.ahead = timedelta(hours=request.param)
    read_list = StrangerApi.list_batches

    def told(self: StrangerApi) -> Iterator[list[BatchState]]:
        for page in read_list(self):
            self.clock_offset = lambda: place.clock.time() - time.time()  # type: ignore[method-assign]
            yield page

    monkeypatch.setattr(StrangerApi, "list_batches", told)


@pytest.mark.usefixtures("wrong_clock")
def test_a_lost_response_is_settled_though_the_clocks_differ(place: Place) -> None:
    place.lose(after_work=True)
    run = place.start()
    place.pass_time(run, 30 * HOUR)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert place.creates() == 1
    assert paid_once(place, 3)


def restored(place: Place) -> Run:
    """A run of two rows that were sent after the backup to which its store went back."""
    place.server.faults.add(HttpFault("status", method="POST", path=JOBS, status=429))
    place.start(2)
    place.store.close()
    kept = (place.folder / "runs.sqlite3").read_bytes()
    place.open()
    place.pass_time(place.start(2), 100.0)
    place.store.close()
    for path in place.folder.glob("runs.sqlite3*"):
        path.unlink()
    (place.folder / "runs.sqlite3").write_bytes(kept)
    place.clock.advance(60.0)
    place.open()
    return place.start(2)


@pytest.mark.usefixtures("wrong_clock")
def test_a_restored_backup_finds_what_it_has_forgotten_though_the_clocks_differ(place: Place) -> None:
    run = restored(place)
    place.pass_time(run, 30 * HOUR)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert paid_once(place, 2)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("list_batches", ProviderError("no", kind=ProviderErrorKind.CREDENTIALS, status_code=403)),
        ("list_batches", ProviderError("no", kind=ProviderErrorKind.NO_ROUTE, status_code=404)),
        ("fetch", ProviderError("no", kind=ProviderErrorKind.CREDENTIALS, status_code=403)),
        ("fetch", ProviderError("no", kind=ProviderErrorKind.NOT_FOUND, status_code=404)),
    ],
)
def test_what_a_restored_backup_cannot_read_proves_nothing_absent(
    place: Place, monkeypatch: pytest.MonkeyPatch, call: str, error: ProviderError
) -> None:
    run = restored(place)
    real = getattr(StrangerApi, call)
    errors = [error]

    def failing(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return real(*arguments)

    monkeypatch.setattr(StrangerApi, call, failing)
    place.pass_time(run, 30 * HOUR)
    assert not errors
    assert run.status is RunLifecycleStatus.COMPLETED
    assert paid_once(place, 2)


def test_a_create_without_a_key_leaves_nothing_in_doubt(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was uploaded before, so the create is the first to need the key."""

    def no_key(*_: Any, **__: Any) -> Any:
        raise MissingCredentialsError("no key")

    with monkeypatch.context() as patch:
        patch.setattr(StrangerApi, "create", no_key)
        with pytest.raises(MissingCredentialsError):
            place.start()
    run = place.start()
    assert [one.state for one in place.submissions()] == [SubmissionState.DROPPED, SubmissionState.REGISTERED]
    place.pass_time(run, HOUR)
    assert paid_once(place, 3)


def test_an_operator_need_not_wait(place: Place) -> None:
    place.lose(after_work=False)
    run = place.start()
    place.pass_time(run, HOUR)
    (submission,) = place.submissions()
    run.resubmit(submission.local_batch_id)
    place.pass_time(run, HOUR)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert paid_once(place, 3)


def test_jobs_of_other_runs_in_the_store_are_not_waited_for(place: Place) -> None:
    other = place.start(3, run_id="other")
    place.lose(after_work=True)
    run = place.start()
    place.pass_time(run, 700.0, steps=10)
    place.pass_time(other, 700.0, steps=10)
    place.pass_time(run, HOUR)
    assert (run.status, other.status) == (RunLifecycleStatus.COMPLETED, RunLifecycleStatus.COMPLETED)
    assert paid_once(place, 6)


def test_results_that_are_late_prove_nothing(place: Place) -> None:
    """The job has ended, and there is nothing yet to tell whose it is by."""
    place.server.faults.add(BatchFault("late_files", seconds=2 * HOUR))
    place.lose(after_work=True)
    run = place.start()
    place.pass_time(run, HOUR)
    assert place.submissions()[0].state is SubmissionState.UNKNOWN
    place.pass_time(run, 4 * HOUR)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert place.creates() == 1
    assert paid_once(place, 3)


@pytest.mark.parametrize("waited", [0.0, HOUR])
def test_a_restored_backup_finds_what_it_has_forgotten(place: Place, waited: float) -> None:
    """Nothing is sent while a job that runs may be one of the run's own; its results tell, and it is adopted."""
    place.server.faults.add(HttpFault("status", method="POST", path=JOBS, status=429))
    place.start(4, per_batch=2)  # refused for once, so that the backup knows of nothing that was sent
    place.store.close()
    kept = place.folder / "kept.sqlite3"
    shutil.copy(place.folder / "runs.sqlite3", kept)
    place.open()
    run = place.start(4, per_batch=2)
    place.pass_time(run, 100.0)
    assert place.creates() == 3
    before = place.creates()
    place.store.close()
    for path in place.folder.glob("runs.sqlite3*"):
        path.unlink()
    shutil.copy(kept, place.folder / "runs.sqlite3")
    place.clock.advance(waited)
    place.open()
    run = place.start(4, per_batch=2)
    place.pass_time(run, 60 * HOUR, steps=200)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert place.creates() == before
    assert paid_once(place, 4)


def test_a_doubt_ends_with_the_lifetime_at_an_account_that_is_always_busy(place: Place) -> None:
    """There is always somebody's job that runs; one of later cannot be what was sent so long ago."""
    place.lose(after_work=False)
    run = place.start()
    place.pass_time(run, 20 * HOUR, steps=5)
    place.server.faults.add(BatchFault("stuck"))
    place.neighbour()
    place.pass_time(run, 5.5 * HOUR, steps=5)
    assert place.submissions()[0].state is SubmissionState.UNKNOWN
    place.pass_time(run, HOUR, steps=8)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert [submission.state for submission in place.submissions()] == [
        SubmissionState.DROPPED,
        SubmissionState.REGISTERED,
    ]


def test_a_job_that_never_ends_and_may_be_the_one_in_doubt_is_a_persons_decision(place: Place) -> None:
    place.server.faults.add(BatchFault("never_ends"))
    place.lose(after_work=True)
    run = place.start()
    place.pass_time(run, 25 * HOUR, steps=8)
    assert place.submissions()[0].state is SubmissionState.UNKNOWN
    place.pass_time(run, 3 * HOUR, steps=6)
    (submission,) = place.submissions()
    assert (submission.state, submission.last_error_class) == (
        SubmissionState.QUARANTINED,
        "batches_still_running",
    )
    assert place.creates() == 1


def test_a_process_that_comes_back_waits_for_the_jobs_it_finds_and_for_no_later_ones(place: Place) -> None:
    place.server.faults.add(HttpFault("status", method="POST", path=JOBS, status=429))
    place.server.faults.add(BatchFault("late_files", seconds=1_800.0), BatchFault("stuck", nth=2))
    place.start()
    place.neighbour()
    run = place.start()
    place.pass_time(run, 1_000.0, steps=4)
    place.neighbour()  # runs for a day
    place.pass_time(run, 1_000.0, steps=4)
    assert [submission.state for submission in place.submissions()] == [SubmissionState.DROPPED]
    place.pass_time(run, 1_500.0, steps=6)
    assert [submission.state for submission in place.submissions()] == [
        SubmissionState.DROPPED,
        SubmissionState.REGISTERED,
    ]


def test_own_jobs_that_run_are_not_waited_for(place: Place) -> None:
    """They are registered, so that they can't be the one in doubt."""
    place.server.faults.add(HttpFault("cut", method="POST", path=JOBS, nth=2))
    run = place.start(4, per_batch=2)
    place.pass_time(run, 400.0, steps=10)
    doubtful = next(
        submission for submission in place.submissions() if submission.state is SubmissionState.UNKNOWN
    )
    assert doubtful.clean_listings >= 3
