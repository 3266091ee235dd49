"""Polling, results and the run as a whole, on every kind of session."""

from __future__ import annotations

import pytest

from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.core.models import ItemFailure
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.state import ActiveBatchRecord, AppliedOutcome, BatchEnd, DriverSession, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, Clock, bad, create, drive, good, statuses, submit, terminal

PENDING, QUEUED, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED
COMPLETED, RETRYABLE, PERMANENT = (
    ItemStatus.COMPLETED,
    ItemStatus.FAILED_RETRYABLE,
    ItemStatus.FAILED_PERMANENT,
)
GONE = ItemFailure("run_cancelled", "an operator cancelled the run", retryable=False)


def test_a_batch_knows_the_items_it_owns(any_session: DriverSession) -> None:
    custom_ids = submit(any_session, 1, 4)
    expected = {custom_ids[0]: 1, custom_ids[1]: 4}
    assert any_session.submitted_items(provider_batch_id="p1") == expected
    any_session.apply_outcome(provider_batch_id="p1", failures=[bad(custom_ids[0])], max_attempts=MAX)
    assert list(any_session.submitted_items(provider_batch_id="p1")) == custom_ids[1:]
    (again,) = submit(any_session, 1, local="b2", batch="p2")
    assert any_session.submitted_items(provider_batch_id="p2") == {again: 1}


def test_a_chunk_of_results_says_what_it_changed(any_store: StateStore) -> None:
    create(any_store, 6)
    session = drive(any_store)
    ids = submit(session, *range(6))
    outcome = session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(ids[5]), good(ids[0])],
        failures=[bad(ids[1], retryable=False), bad(ids[2]), bad(ids[3], count_attempt=False)],
        released_custom_ids=[ids[4]],
        max_attempts=MAX,
    )
    assert outcome == AppliedOutcome(completed=2, failed=1, retrying=2, released=1)
    stored = any_store.get_item_records(run_id=RUN)
    assert [record.attempt_count for record in stored] == [1, 1, 1, 0, 0, 1]
    assert [record.status for record in stored[:4]] == [COMPLETED, PERMANENT, RETRYABLE, RETRYABLE]
    assert stored[4].status in (PENDING, RETRYABLE)
    order = [(record.item_id, record.terminal_result_sequence) for record in terminal(any_store)]
    assert order == [("item-5", 1), ("item-0", 2), ("item-1", 3)]


def test_a_replayed_chunk_changes_nothing(any_store: StateStore) -> None:
    create(any_store, 4)
    session = drive(any_store)
    ids = submit(session, *range(4))

    def apply() -> AppliedOutcome:
        return session.apply_outcome(
            provider_batch_id="p1",
            completions=[good(ids[0], usage=kit.usage(5)), good(ids[0])],
            failures=[bad(ids[1], usage=kit.usage(7)), bad(ids[0]), bad(ids[2], retryable=False)],
            released_custom_ids=[ids[3], ids[3], "stranger"],
            max_attempts=MAX,
            end=BatchEnd("completed"),
        )

    assert apply() == AppliedOutcome(completed=1, failed=1, retrying=1, released=1)
    before = any_store.get_item_records(run_id=RUN), any_store.get_run_summary(run_id=RUN)
    assert apply() == AppliedOutcome()
    assert (any_store.get_item_records(run_id=RUN), any_store.get_run_summary(run_id=RUN)) == before


def test_what_was_read_of_a_batch_is_not_believed_when_somebody_moved_its_items(
    any_store: StateStore,
) -> None:
    """Results are applied to what the transaction finds, whatever ``submitted_items`` had said."""
    create(any_store, 4)
    session = drive(any_store)
    ids = submit(session, *range(4))
    assert list(session.submitted_items(provider_batch_id="p1")) == ids
    any_store.mark_items_completed(run_id=RUN, completions=[good(ids[1], usage=kit.usage(3))])
    outcome = session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(ids[0]), good(ids[1], usage=kit.usage(7))],
        released_custom_ids=ids[2:3],
        max_attempts=MAX,
    )
    assert outcome == AppliedOutcome(completed=1, released=1)
    order = [(record.item_id, record.attempt_count, record.usage) for record in terminal(any_store)]
    assert order == [("item-1", 1, kit.usage(3)), ("item-0", 1, None)]
    any_store.reset_batch_items_to_pending(
        run_id=RUN, provider_batch_id="p1", error=ItemFailure("lost", "lost", True)
    )
    (again,) = submit(session, 3, local="b2", batch="p2")
    late = session.apply_outcome(provider_batch_id="p1", completions=[good(ids[3])], max_attempts=MAX)
    assert late == AppliedOutcome()
    assert again != ids[3]
    assert statuses(any_store)[3] is SUBMITTED


def test_results_move_only_items_of_their_own_batch(any_store: StateStore) -> None:
    create(any_store, 2)
    session = drive(any_store)
    (first,) = submit(session, 0)
    (second,) = submit(session, 1, local="b2", batch="p2")
    outcome = session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(second)],
        failures=[bad(second)],
        released_custom_ids=[second],
        max_attempts=MAX,
    )
    assert outcome == AppliedOutcome()
    assert statuses(any_store) == [SUBMITTED, SUBMITTED]
    assert session.apply_outcome(
        provider_batch_id="p1", completions=[good(first)], max_attempts=MAX
    ) == AppliedOutcome(completed=1)


def test_the_last_attempt_ends_the_item(any_session: DriverSession) -> None:
    for attempt in range(MAX):
        (custom_id,) = submit(any_session, 0, local=f"b{attempt}", batch=f"p{attempt}")
        outcome = any_session.apply_outcome(
            provider_batch_id=f"p{attempt}", failures=[bad(custom_id)], max_attempts=MAX
        )
        last = attempt == MAX - 1
        assert outcome == AppliedOutcome(failed=int(last), retrying=int(not last))


def test_the_end_of_a_batch_comes_with_its_last_results(any_store: StateStore) -> None:
    create(any_store, 2)
    session = drive(any_store)
    ids = submit(session, 0, 1)
    session.apply_outcome(provider_batch_id="p1", completions=[good(ids[0])], max_attempts=MAX)
    assert kit.active(any_store) == ["p1"]
    end = BatchEnd("completed", usage=TokenUsage(10, 0, 5, 0))
    session.apply_outcome(provider_batch_id="p1", completions=[good(ids[1])], max_attempts=MAX, end=end)
    assert kit.active(any_store) == []
    assert statuses(any_store) == [COMPLETED, COMPLETED]


def test_an_end_alone_leaves_a_batch_active_while_it_owns_items(any_store: StateStore) -> None:
    create(any_store, 1)
    session = drive(any_store)
    ids = submit(session, 0)
    session.apply_outcome(provider_batch_id="p1", max_attempts=MAX, end=BatchEnd("expired"))
    assert kit.active(any_store) == ["p1"]
    session.apply_outcome(
        provider_batch_id="p1", released_custom_ids=ids, max_attempts=MAX, end=BatchEnd("expired")
    )
    assert kit.active(any_store) == []


def test_a_poll_is_kept_and_never_goes_back_from_an_end(any_store: StateStore) -> None:
    create(any_store, 1)
    session = drive(any_store)
    submit(session, 0)

    def poll(status: str, output: str | None = None) -> tuple[str, str | None]:
        session.update_batch(provider_batch_id="p1", status=status, output_file_id=output, error_file_id=None)
        (batch,) = any_store.get_active_batches(run_id=RUN)
        return batch.status, batch.output_file_id

    assert poll("in_progress") == ("in_progress", None)
    assert poll("completed", "out") == ("completed", "out")
    assert poll("finalizing") == ("completed", "out")


def test_poll_failures_are_counted_until_a_poll_succeeds(any_session: DriverSession) -> None:
    submit(any_session, 0)
    submit(any_session, 1, local="b2", batch="p2")

    def fail(batch: str = "p1") -> int:
        return any_session.record_poll_failure(provider_batch_id=batch, next_poll_at=123.0)

    assert [fail(), fail(), fail("p2")] == [1, 2, 1]
    any_session.update_batch(
        provider_batch_id="p1", status="in_progress", output_file_id=None, error_file_id=None
    )
    assert [fail(), fail("p2")] == [1, 2]


def test_poll_failures_are_shown_with_the_batch(store: StateStore) -> None:
    create(store, 1)
    session = drive(store)
    submit(session, 0)
    session.record_poll_failure(provider_batch_id="p1", next_poll_at=123.5)
    (batch,) = store.get_active_batches(run_id=RUN)
    assert (batch.poll_failures, batch.next_poll_at) == (1, 123.5)
    session.update_batch(
        provider_batch_id="p1", status="in_progress", output_file_id=None, error_file_id=None
    )
    (batch,) = store.get_active_batches(run_id=RUN)
    assert batch.poll_failures == 0


def remembered(store: StateStore, session: DriverSession) -> ActiveBatchRecord:
    (batch,) = session.remembered(store.get_active_batches(run_id=RUN))
    return batch


def test_a_batch_that_is_over_keeps_its_items_while_results_are_waited_for(any_store: StateStore) -> None:
    create(any_store, 2)
    session = drive(any_store)
    ids = submit(session, 0, 1)
    session.apply_outcome(provider_batch_id="p1", completions=[good(ids[0])], max_attempts=MAX)
    session.record_wait(provider_batch_id="p1", wait=kit.wait(output_file_id="out", late_rows=1))
    batch = remembered(any_store, session)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("completed", "out", None)
    assert (batch.ended_at, batch.late_rows, batch.looks, batch.wait_reason) == (40.0, 1, 3, "late")
    assert batch.next_poll_at == 60.0
    assert list(session.submitted_items(provider_batch_id="p1")) == [ids[1]]
    assert statuses(any_store) == [ItemStatus.COMPLETED, ItemStatus.SUBMITTED]


def test_a_batch_keeps_when_it_ended(store: StateStore) -> None:
    create(store, 2)
    session = drive(store)
    on_time, late = submit(session, 0), submit(session, 1, local="b2", batch="p2")
    session.record_wait(provider_batch_id="p2", wait=kit.wait())
    for batch, (custom_id,) in (("p1", on_time), ("p2", late)):
        session.apply_outcome(
            provider_batch_id=batch,
            completions=[good(custom_id)],
            max_attempts=MAX,
            end=BatchEnd("completed"),
        )
    ended = [batch.ended_at for batch in store.get_batches(run_id=RUN)]
    assert ended == [store.now(), kit.wait().ended_at], "a late one has ended when the wait began"
    assert store.get_run_summary(run_id=RUN).late_batches == 0


def test_the_end_of_a_batch_ends_the_waiting(any_store: StateStore) -> None:
    create(any_store, 2)
    session = drive(any_store)
    ids = submit(session, 0, 1)
    session.record_wait(provider_batch_id="p1", wait=kit.wait())
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(name) for name in ids],
        max_attempts=MAX,
        end=BatchEnd("completed"),
    )
    assert any_store.get_active_batches(run_id=RUN) == []
    summary = any_store.get_run_summary(run_id=RUN)
    assert (summary.late_batches, summary.late_rows) == (0, 0)


def test_when_a_batch_should_end_is_kept_until_it_is_said_anew(any_store: StateStore) -> None:
    create(any_store, 1)
    session = drive(any_store)
    submit(session, 0)

    def poll(due_at: float | None, next_poll_at: float = 0.0) -> tuple[float | None, float]:
        session.update_batch(
            provider_batch_id="p1",
            status="in_progress",
            output_file_id=None,
            error_file_id=None,
            due_at=due_at,
            next_poll_at=next_poll_at,
        )
        batch = remembered(any_store, session)
        return batch.due_at, batch.next_poll_at

    assert poll(50.0) == (50.0, 0.0)
    assert poll(None, 7.0) == (50.0, 7.0)
    assert poll(20.0) == (20.0, 0.0)


def test_the_summary_counts_what_is_late_and_what_is_overdue(store: StateStore) -> None:
    create(store, 5)
    session = drive(store)
    submit(session, 0, 1)
    submit(session, 2, local="b2", batch="p2")
    submit(session, 3, local="b3", batch="p3")
    session.record_wait(provider_batch_id="p1", wait=kit.wait())
    now = store.now()
    for batch, due_at in (("p2", now - 1.0), ("p3", now + 1_000.0)):
        session.update_batch(
            provider_batch_id=batch,
            status="finalizing",
            output_file_id=None,
            error_file_id=None,
            due_at=due_at,
        )
    summary = store.get_run_summary(run_id=RUN)
    assert (summary.active_batches, summary.late_batches, summary.late_rows) == (3, 1, 2)
    assert summary.overdue_batches == 1
    assert store.list_runs()[0].summary == summary


# --- the run as a whole ----------------------------------------------------------------------------------------------


def test_the_engine_pauses_a_run(any_store: StateStore) -> None:
    create(any_store)
    drive(any_store).pause(reason="insufficient_quota")
    assert any_store.get_run_control_state(run_id=RUN) is RunControlState.PAUSED


def test_a_cancel_request_wins_over_a_pause(any_store: StateStore) -> None:
    create(any_store)
    any_store.set_run_control_state(run_id=RUN, control_state=RunControlState.CANCEL_REQUESTED)
    drive(any_store).pause(reason="insufficient_quota")
    assert any_store.get_run_control_state(run_id=RUN) is RunControlState.CANCEL_REQUESTED
    assert any_store.get_control_reason(run_id=RUN) is None


def test_the_reason_of_a_pause_is_shown_until_the_operator_acts(store: StateStore) -> None:
    create(store)
    assert store.get_control_reason(run_id=RUN) is None
    drive(store).pause(reason="insufficient_quota: pay\0 first")
    assert store.get_control_reason(run_id=RUN) == "insufficient_quota: pay\0 first"
    assert store.get_run_summary(run_id=RUN).control_reason == "insufficient_quota: pay\0 first"
    store.set_run_control_state(run_id=RUN, control_state=RunControlState.RUNNING)
    assert store.get_control_reason(run_id=RUN) is None


def test_cancelling_spares_what_may_still_be_answered(any_store: StateStore) -> None:
    create(any_store, 7)
    session = drive(any_store)
    ids = submit(session, 0, 1, 2)
    session.apply_outcome(
        provider_batch_id="p1", completions=[good(ids[0])], failures=[bad(ids[1])], max_attempts=MAX
    )
    kit.send(session, 3, local="b2")
    session.mark_unknown(local_batch_id="b2", error_class="timeout", next_check_at=0.0)
    session.candidates(max_attempts=MAX, limit=2)
    assert session.cancel_remaining(error=GONE) == 4
    assert session.cancel_remaining(error=GONE) == 0
    assert statuses(any_store) == [COMPLETED, PERMANENT, SUBMITTED, QUEUED, PERMANENT, PERMANENT, PERMANENT]
    stored = any_store.get_item_records(run_id=RUN)
    assert [record.error == GONE for record in stored] == [False, True, False, False, True, True, True]
    assert [record.attempt_count for record in stored] == [1, 1, 0, 0, 0, 0, 0]


def test_cancelling_ends_hand_made_claims(any_store: StateStore) -> None:
    create(any_store, 3)
    session = drive(any_store)
    session.candidates(max_attempts=MAX, limit=2)
    assert session.cancel_remaining(error=GONE) == 3
    assert statuses(any_store) == [PERMANENT] * 3


def test_claims_made_by_hand_are_cancelled_too(store: StateStore) -> None:
    create(store, 2)
    kit.claim(store, 1)
    assert drive(store).cancel_remaining(error=GONE) == 2


def test_orphan_batches_are_shown(store: StateStore) -> None:
    create(store)
    session = drive(store)
    session.count_orphan_batches(2)
    assert store.get_run_summary(run_id=RUN).orphan_batches == 2


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
def test_results_of_a_lost_batch_are_kept_and_the_rest_is_released(
    any_store: StateStore, status: str
) -> None:
    create(any_store, 4)
    session = drive(any_store)
    ids = submit(session, *range(4))
    session.update_batch(provider_batch_id="p1", status=status, output_file_id="out", error_file_id=None)
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[good(ids[0])],
        released_custom_ids=ids[1:],
        max_attempts=MAX,
        end=BatchEnd(status),
    )
    assert statuses(any_store)[0] is COMPLETED
    assert kit.active(any_store) == []
    assert [one.item_index for one in session.candidates(max_attempts=MAX, limit=10)] == [1, 2, 3]


def test_a_whole_run_goes_through(any_store: StateStore, clock: Clock) -> None:
    create(any_store, 50)
    session = drive(any_store)
    number = 0
    while candidates := session.candidates(max_attempts=MAX, limit=20):
        number += 1
        indexes = [one.item_index for one in candidates]
        ids = submit(session, *indexes, local=f"b{number}", batch=f"p{number}")
        session.apply_outcome(
            provider_batch_id=f"p{number}",
            completions=[good(name) for name in ids[::2]],
            failures=[bad(name) for name in ids[1::2]],
            max_attempts=MAX,
            end=BatchEnd("completed"),
        )
        clock.advance(1)
    summary = any_store.get_run_summary(run_id=RUN)
    assert summary.completed_items + summary.failed_items == summary.total_items == 50
    assert [record.terminal_result_sequence for record in terminal(any_store)] == list(range(1, 51))
    assert all(record.attempt_count <= MAX for record in any_store.get_item_records(run_id=RUN))
    assert kit.active(any_store) == []
