"""A look at a run tells whether a driver would find something to do, and leaves everything as it is."""

from __future__ import annotations

from typing import Any

import pytest

from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus, SubmissionState
from batchor_core.core.models import RunSummary
from batchor_core.runtime.pending_work import has_local_work
from batchor_core.storage.state import ActiveBatchRecord, SubmissionRecord
from tests.support.world import RUN, World, text_job

NOW = 1_000.0
CANCELLING = RunControlState.CANCEL_REQUESTED


def summary(
    control: RunControlState = RunControlState.RUNNING,
    *,
    backoff: float = 0.0,
    read: bool = True,
    **counts: int,
) -> RunSummary:
    return RunSummary(
        run_id=RUN,
        status=RunLifecycleStatus.RUNNING,
        control_state=control,
        total_items=10,
        completed_items=0,
        failed_items=0,
        status_counts=dict.fromkeys(ItemStatus, 0)
        | {ItemStatus(name): count for name, count in counts.items()},
        active_batches=0,
        backoff_remaining_sec=backoff,
        ingestion_complete=read,
    )


def batch(status: str) -> ActiveBatchRecord:
    return ActiveBatchRecord("batch_1", status)


def submission(state: SubmissionState, next_check_at: float | None = None) -> SubmissionRecord:
    return SubmissionRecord("local-1", state, 1, 3, 30, NOW, next_check_at=next_check_at)


@pytest.mark.parametrize(
    ("state", "batches", "submissions", "expected"),
    [
        (summary(submitted=3), [batch("in_progress")], [], False),
        (summary(pending=3), [], [], True),
        (summary(failed_retryable=1, submitted=2), [batch("in_progress")], [], True),
        (summary(pending=3, backoff=5.0), [], [], False),
        (summary(queued_local=3), [], [submission(SubmissionState.CLAIMED)], True),
        (summary(queued_local=3), [], [submission(SubmissionState.UPLOADED)], True),
        (summary(queued_local=3), [], [submission(SubmissionState.SENDING)], True),
        (summary(queued_local=3), [], [submission(SubmissionState.UNKNOWN, NOW + 1)], False),
        (summary(queued_local=3), [], [submission(SubmissionState.UNKNOWN, NOW)], True),
        (summary(queued_local=3), [], [submission(SubmissionState.QUARANTINED)], False),
        (summary(CANCELLING, submitted=3), [batch("in_progress")], [], True),
        (summary(CANCELLING, submitted=3), [batch("cancelling")], [], False),
        (summary(CANCELLING, submitted=3), [batch("cancelled")], [], False),  # asking after it tells
        (summary(CANCELLING, submitted=3, pending=1, backoff=5.0), [batch("cancelling")], [], True),
        (summary(CANCELLING, submitted=3, read=False), [batch("cancelling")], [], True),
        (summary(CANCELLING), [], [], True),
    ],
)
def test_what_the_store_alone_can_tell(
    state: RunSummary, batches: list[ActiveBatchRecord], submissions: list[SubmissionRecord], expected: bool
) -> None:
    assert has_local_work(state, batches, submissions, NOW) is expected


def test_a_batch_that_has_ended_is_work_and_one_that_runs_is_none(any_world: World) -> None:
    run = any_world.start()
    [batch_id] = any_world.batch_ids()
    any_world.provider.set_statuses(batch_id, "in_progress", "completed")
    assert [run.has_work(), run.has_work()] == [False, True]
    run.wait()
    assert not run.has_work()


def test_a_poll_that_fails_is_work_until_it_is_on_record(any_world: World) -> None:
    run = any_world.start()
    any_world.provider.fail("get_batch", ConnectionError("no route"), times=2)
    assert run.has_work()
    run.refresh()
    assert not run.has_work()  # its backoff runs


def test_a_paused_run_is_left_alone_and_needs_no_provider(world: World) -> None:
    world.start().pause()

    def no_provider(config: Any) -> Any:
        raise AssertionError("nobody may be asked")

    assert not world.runner(provider_factory=no_provider).get_run(RUN).has_work()


def test_a_run_that_another_driver_holds_is_no_work(world: World) -> None:
    from batchor_core.storage.state import DriverIdentity

    run = world.start(text_job(3))
    session = world.store.open_session(run_id=RUN, owner=DriverIdentity(session="other"), ttl_sec=60)
    assert session is not None
    assert run.is_driven()
    assert not run.has_work()
    session.close()
    assert not run.is_driven()
