"""A submission that waits for its input file keeps its rows and its file, whoever drives."""

from __future__ import annotations

import pytest

from batchor_core.core.enums import ItemStatus, SubmissionState
from batchor_core.core.exceptions import RunStateError
from batchor_core.storage.state import StateStore, SubmissionRecord
from tests.contract.stores import kit
from tests.contract.stores.kit import BOB, RUN, Clock, create, drive, send


def submission_of(store: StateStore) -> SubmissionRecord:
    (submission,) = store.list_submissions(run_id=RUN)
    return submission


def test_a_postponed_submission_is_unsent_and_says_when_to_try_again(store: StateStore, clock: Clock) -> None:
    create(store, 3)
    session = drive(store)
    send(session, 0, 1)
    assert submission_of(store).uploaded_at == clock.seconds
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 5)
    submission = submission_of(store)
    assert (submission.state, submission.last_error_class) == (SubmissionState.UPLOADED, "too_early")
    assert submission.next_check_at == clock.seconds + 5
    assert submission.is_postponed
    assert session.open_submissions() == [submission]
    assert kit.statuses(store) == [ItemStatus.QUEUED_LOCAL] * 2 + [ItemStatus.PENDING]
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 9)
    assert submission_of(store).next_check_at == clock.seconds + 9


def test_it_may_be_sent_again_and_registered(store: StateStore, clock: Clock) -> None:
    create(store, 2)
    session = drive(store)
    names = send(session, 0, 1)
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 5)
    clock.advance(5)
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    submission = submission_of(store)
    assert (submission.state, submission.sending_at, submission.next_check_at) == (
        SubmissionState.SENDING,
        clock.seconds,
        None,
    )
    session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    assert list(session.submitted_items(provider_batch_id="p1")) == names


def test_requeueing_leaves_it_alone_also_for_the_next_driver(store: StateStore, clock: Clock) -> None:
    create(store, 3)
    session = drive(store)
    send(session, 0, 1)
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 5)
    assert session.requeue_local() == 0
    session.close()
    assert store.requeue_local_items(run_id=RUN) == 0
    other = drive(store, owner=BOB)
    assert other.requeue_local() == 0
    assert submission_of(store).is_postponed
    other.mark_sending(local_batch_id="b1", ttl_sec=60)


def test_dropped_it_leaves_no_doubt_behind(store: StateStore, clock: Clock) -> None:
    create(store, 2)
    session = drive(store)
    send(session, 0, 1)
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 5)
    session.drop(local_batch_id="b1", error_class="too_early")
    assert kit.statuses(store) == [ItemStatus.PENDING] * 2
    assert submission_of(store).next_check_at is None
    assert store.runs_with_doubtful_past(sent_after=0) == []
    assert kit.take(session, 0, 1, local="b2") == kit.engine_ids(["item-0", "item-1"], generation=1)


def test_only_what_is_being_sent_can_be_postponed(store: StateStore) -> None:
    create(store, 2)
    session = drive(store)
    kit.take(session, 0, 1)
    with pytest.raises(RunStateError):
        session.postpone(local_batch_id="b1", error_class="e", next_check_at=1.0)
