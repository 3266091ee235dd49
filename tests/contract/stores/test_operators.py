"""What a person decides: settling a submission of unknown outcome, and trying failed items once more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus, SubmissionState
from batchor_core.core.exceptions import InvalidInputError, RunStateError
from batchor_core.storage.state import BatchEnd, DriverSession, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import (
    MAX,
    RUN,
    bad,
    create,
    custom_id_for,
    drive,
    good,
    statuses,
    submit,
    terminal,
)

PENDING, QUEUED, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED
COMPLETED, PERMANENT = ItemStatus.COMPLETED, ItemStatus.FAILED_PERMANENT


@pytest.fixture(params=["unknown", "quarantined"])
def stuck(request: pytest.FixtureRequest, store: StateStore) -> StateStore:
    """A run of three items, two of them in a submission that nobody knows the outcome of."""
    create(store, 3)
    session = drive(store)
    kit.send(session, 0, 1)
    session.mark_unknown(local_batch_id="b1", error_class="timeout", next_check_at=0.0)
    if request.param == "quarantined":
        session.quarantine(local_batch_id="b1", error_class="can't look")
    return store


def test_adopting_a_batch_registers_it(stuck: StateStore) -> None:
    stuck.settle_submission(run_id=RUN, local_batch_id="b1", decision="adopt", provider_batch_id="p1")
    assert statuses(stuck) == [SUBMITTED, SUBMITTED, PENDING]
    (batch,) = stuck.get_active_batches(run_id=RUN)
    assert (batch.provider_batch_id, batch.local_batch_id, batch.item_count) == ("p1", "b1", 2)
    (submission,) = stuck.list_submissions(run_id=RUN)
    assert (submission.state, submission.provider_batch_id) == (SubmissionState.REGISTERED, "p1")
    kit.complete(stuck, kit.engine_ids(["item-0", "item-1"]))
    assert statuses(stuck) == [COMPLETED, COMPLETED, PENDING]


def test_adopting_needs_the_batch(stuck: StateStore) -> None:
    with pytest.raises(InvalidInputError):
        stuck.settle_submission(run_id=RUN, local_batch_id="b1", decision="adopt")
    assert statuses(stuck) == [QUEUED, QUEUED, PENDING]


def test_resubmitting_frees_the_items_under_new_custom_ids(stuck: StateStore) -> None:
    stuck.settle_submission(run_id=RUN, local_batch_id="b1", decision="resubmit")
    assert statuses(stuck) == [PENDING] * 3
    assert kit.submission_states(stuck) == {"b1": "dropped"}
    custom_ids = kit.take(drive(stuck), 0, 1, local="b2")
    assert custom_ids == [custom_id_for(RUN, f"item-{index}", index, 1) for index in (0, 1)]


def test_failing_ends_the_items(stuck: StateStore) -> None:
    stuck.settle_submission(run_id=RUN, local_batch_id="b1", decision="fail")
    assert statuses(stuck) == [PERMANENT, PERMANENT, PENDING]
    assert [record.terminal_result_sequence for record in terminal(stuck)] == [1, 2]
    assert all(record.error is not None and record.attempt_count == 0 for record in terminal(stuck))
    assert kit.submission_states(stuck) == {"b1": "dropped"}


def test_a_settled_submission_leaves_the_summary(stuck: StateStore) -> None:
    stuck.settle_submission(run_id=RUN, local_batch_id="b1", decision="resubmit")
    summary = stuck.get_run_summary(run_id=RUN)
    assert (summary.unknown_batches, summary.quarantined_batches) == (0, 0)


@pytest.fixture
def late(store: StateStore) -> StateStore:
    """A batch of three items that is over; it has brought one of them, and a person is asked about the others."""
    create(store, 3)
    session = drive(store)
    ids = submit(session, 0, 1, 2)
    session.apply_outcome(provider_batch_id="p1", completions=[good(ids[0])], max_attempts=MAX)
    session.record_wait(provider_batch_id="p1", wait=kit.wait())
    session.quarantine(local_batch_id="b1", error_class="results_late")
    return store


def test_who_waits_on_is_asked_again_after_as_long(late: StateStore) -> None:
    (batch,) = late.get_active_batches(run_id=RUN)
    assert (batch.quarantined, batch.quarantine_cause) == (True, "results_late")
    late.settle_submission(run_id=RUN, local_batch_id="b1", decision="wait")
    (batch,) = late.get_active_batches(run_id=RUN)
    assert (batch.quarantined, batch.quarantine_cause) == (False, None)
    assert (batch.ended_at, batch.looks, batch.next_poll_at) == (late.now(), 0, 0.0)
    assert statuses(late) == [COMPLETED, SUBMITTED, SUBMITTED]
    assert kit.submission_states(late) == {"b1": "registered"}


@pytest.mark.parametrize(("decision", "rest"), [("resubmit", PENDING), ("fail", PERMANENT)])
def test_who_does_not_wait_keeps_what_is_there(late: StateStore, decision: str, rest: ItemStatus) -> None:
    late.settle_submission(run_id=RUN, local_batch_id="b1", decision=decision)  # type: ignore[arg-type]
    assert statuses(late) == [COMPLETED, rest, rest]
    assert late.get_active_batches(run_id=RUN) == []
    assert kit.submission_states(late) == {"b1": "registered"}, "the provider's list holds nothing unknown"
    summary = late.get_run_summary(run_id=RUN)
    assert (summary.quarantined_batches, summary.late_batches, summary.late_rows) == (0, 0, 0)


def test_the_end_of_a_batch_answers_the_question(late: StateStore) -> None:
    session = drive(late)
    ids = list(session.submitted_items(provider_batch_id="p1"))
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(name) for name in ids],
        max_attempts=MAX,
        end=BatchEnd("completed"),
    )
    assert statuses(late) == [COMPLETED] * 3
    assert kit.submission_states(late) == {"b1": "registered"}
    assert late.get_run_summary(run_id=RUN).quarantined_batches == 0


def test_nothing_is_waited_for_without_a_batch(stuck: StateStore) -> None:
    with pytest.raises(RunStateError):
        stuck.settle_submission(run_id=RUN, local_batch_id="b1", decision="wait")
    assert statuses(stuck) == [QUEUED, QUEUED, PENDING]


def _uploaded(session: DriverSession) -> None:
    kit.take(session, 0)
    kit.upload(session)


_STEPS: dict[str, Callable[[DriverSession], object]] = {
    "claimed": lambda s: kit.take(s, 0),
    "uploaded": _uploaded,
    "registered": lambda s: submit(s, 0),
    "dropped": lambda s: (kit.take(s, 0), s.drop(local_batch_id="b1", error_class="e")),
}


@pytest.mark.parametrize("state", [*_STEPS, "no such submission"])
def test_only_unknown_outcomes_are_settled(store: StateStore, state: str) -> None:
    create(store, 2)
    session = drive(store)
    if state in _STEPS:
        _STEPS[state](session)
    before = statuses(store), store.list_submissions(run_id=RUN)
    with pytest.raises(RunStateError):
        store.settle_submission(run_id=RUN, local_batch_id="b1", decision="fail")
    assert (statuses(store), store.list_submissions(run_id=RUN)) == before


def test_failed_items_are_tried_once_more(store: StateStore) -> None:
    create(store, 4)
    session = drive(store)
    ids = submit(session, 0, 1, 2)
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(ids[1])],
        failures=[bad(ids[0], retryable=False), bad(ids[2], retryable=False)],
        max_attempts=MAX,
    )
    store.set_run_control_state(run_id=RUN, control_state=RunControlState.PAUSED)
    assert store.reopen_failed_items(run_id=RUN) == 2
    assert store.reopen_failed_items(run_id=RUN) == 0
    assert statuses(store) == [PENDING, COMPLETED, PENDING, PENDING]
    first = store.get_item_records(run_id=RUN)[0]
    assert (first.attempt_count, first.terminal_result_sequence, first.output_text) == (0, None, None)
    assert [record.item_id for record in terminal(store)] == ["item-1"]
    assert store.get_run_control_state(run_id=RUN) is RunControlState.RUNNING


def test_a_reopened_item_gets_a_later_sequence_and_a_new_custom_id(store: StateStore) -> None:
    create(store, 2)
    session = drive(store)
    ids = submit(session, 0, 1)
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(ids[1])],
        failures=[bad(ids[0], retryable=False)],
        max_attempts=MAX,
    )
    assert store.get_run_summary(run_id=RUN).status is RunLifecycleStatus.COMPLETED_WITH_FAILURES
    store.reopen_failed_items(run_id=RUN)
    assert store.get_run_summary(run_id=RUN).status is RunLifecycleStatus.RUNNING
    session = drive(store)
    again = submit(session, 0, local="b2", batch="p2")
    assert again == [custom_id_for(RUN, "item-0", 0, 1)]
    session.apply_outcome(provider_batch_id="p2", completions=[good(again[0])], max_attempts=MAX)
    # a reader whose cursor is past the withdrawn result sees the new one
    assert [(r.item_id, r.terminal_result_sequence) for r in terminal(store, after=2)] == [("item-0", 3)]
    assert store.get_run_summary(run_id=RUN).status is RunLifecycleStatus.COMPLETED


def test_nothing_is_reopened_in_a_run_without_failures(store: StateStore) -> None:
    kit.complete(store, kit.submitted_run(store, 1))
    assert store.reopen_failed_items(run_id=RUN) == 0
    assert statuses(store) == [COMPLETED]
