"""Registered batches and the items they own: the documented methods."""

from __future__ import annotations

import pytest

from batchor_core.core.enums import ItemStatus
from batchor_core.storage.state import PreparedSubmission, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import RUN, Clock, active, claim, create, statuses

PENDING, QUEUED, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED
END_STATES = ["completed", "failed", "expired", "cancelled"]


def owned(store: StateStore, batch: str = "p1") -> list[str]:
    return store.get_submitted_custom_ids_for_batch(run_id=RUN, provider_batch_id=batch)


def poll(store: StateStore, status: str, batch: str = "p1", **files: str) -> None:
    store.update_batch_status(run_id=RUN, provider_batch_id=batch, status=status, **files)


def test_a_batch_owns_the_items_that_were_submitted_in_it(any_store: StateStore) -> None:
    create(any_store, 3)
    custom_ids = kit.hand_over(any_store, claim(any_store, 2))
    assert statuses(any_store) == [SUBMITTED, SUBMITTED, PENDING]
    assert owned(any_store) == custom_ids
    assert owned(any_store, "p2") == []


def test_custom_ids_come_in_item_order(any_store: StateStore) -> None:
    create(any_store, 3)
    kit.hand_over(any_store, list(reversed(claim(any_store))))
    assert owned(any_store) == ["item-0_p1", "item-1_p1", "item-2_p1"]


def test_a_batch_is_recorded_with_what_is_known_of_it(store: StateStore, clock: Clock) -> None:
    kit.submitted_run(store, 2)
    (batch,) = store.get_active_batches(run_id=RUN)
    assert (batch.provider_batch_id, batch.local_batch_id, batch.status) == ("p1", "local-p1", "validating")
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert (batch.item_count, batch.created_at, batch.poll_failures) == (2, clock.seconds, 0)


def test_registering_and_submitting_may_be_repeated(any_store: StateStore) -> None:
    create(any_store, 2)
    item_ids = claim(any_store)
    custom_ids = kit.hand_over(any_store, item_ids)
    kit.complete(any_store, custom_ids[:1])
    poll(any_store, "in_progress")
    assert kit.hand_over(any_store, item_ids) == custom_ids
    assert statuses(any_store) == [ItemStatus.COMPLETED, SUBMITTED]
    assert active(any_store) == ["p1"]
    assert [batch.status for batch in any_store.get_active_batches(run_id=RUN)] == ["in_progress"]
    assert any_store.get_active_submitted_token_estimate(run_id=RUN) == 10


def test_only_claimed_items_are_submitted(any_store: StateStore) -> None:
    create(any_store, 2)
    item_ids = claim(any_store, 1)
    kit.hand_over(any_store, [*item_ids, "item-1"])
    assert statuses(any_store) == [SUBMITTED, PENDING]
    assert owned(any_store) == ["item-0_p1"]


def test_tokens_in_flight_are_those_of_submitted_items(any_store: StateStore) -> None:
    create(any_store, 4)
    assert any_store.get_active_submitted_token_estimate(run_id=RUN) == 0
    custom_ids = kit.hand_over(any_store, claim(any_store, 2), tokens=25)
    kit.hand_over(any_store, claim(any_store, 1), batch="p2", tokens=7)
    assert any_store.get_active_submitted_token_estimate(run_id=RUN) == 57
    kit.complete(any_store, custom_ids[:1])
    kit.fail(any_store, custom_ids[1:])
    assert any_store.get_active_submitted_token_estimate(run_id=RUN) == 7


def test_file_ids_stay_when_a_later_poll_lacks_them(any_store: StateStore) -> None:
    kit.submitted_run(any_store, 1)
    poll(any_store, "finalizing", output_file_id="out")
    poll(any_store, "finalizing", error_file_id="err")
    poll(any_store, "in_progress")
    (batch,) = any_store.get_active_batches(run_id=RUN)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("in_progress", "out", "err")


@pytest.mark.parametrize("status", END_STATES)
def test_a_final_status_is_never_taken_back(any_store: StateStore, status: str) -> None:
    kit.submitted_run(any_store, 1)
    poll(any_store, status)
    poll(any_store, "in_progress", output_file_id="late")
    (batch,) = any_store.get_active_batches(run_id=RUN)
    assert (batch.status, batch.output_file_id) == (status, "late")


@pytest.mark.parametrize("status", ["validating", "in_progress", "cancelling", "a status of next year"])
def test_other_statuses_go_either_way(any_store: StateStore, status: str) -> None:
    kit.submitted_run(any_store, 1)
    poll(any_store, status)
    poll(any_store, "finalizing")
    assert [batch.status for batch in any_store.get_active_batches(run_id=RUN)] == ["finalizing"]


@pytest.mark.parametrize("status", [*END_STATES, "COMPLETED"])
def test_a_finished_batch_is_active_while_it_owns_items(any_store: StateStore, status: str) -> None:
    """Its results would be lost for ever if a crash fell between its final status and them."""
    custom_ids = kit.submitted_run(any_store, 2)
    poll(any_store, status)
    assert active(any_store) == ["p1"]
    kit.complete(any_store, custom_ids[:1])
    assert active(any_store) == ["p1"]
    kit.complete(any_store, custom_ids[1:])
    assert active(any_store) == []
    assert any_store.get_run_summary(run_id=RUN).active_batches == 0


def test_a_batch_without_items_is_active_until_it_ends(any_store: StateStore) -> None:
    kit.complete(any_store, kit.submitted_run(any_store, 1))
    assert active(any_store) == ["p1"]
    poll(any_store, "completed")
    assert active(any_store) == []


def test_active_batches_come_oldest_first(any_store: StateStore, clock: Clock) -> None:
    create(any_store, 3)
    for name in ("z", "a", "m"):
        kit.hand_over(any_store, claim(any_store, 1), batch=name)
        clock.advance(1)
    assert active(any_store) == ["z", "a", "m"]
    assert any_store.get_run_summary(run_id=RUN).active_batches == 3


def test_all_batches_are_listed_also_finished_ones(store: StateStore) -> None:
    create(store, 2)
    kit.complete(store, kit.hand_over(store, claim(store, 1), batch="p1"))
    poll(store, "completed")
    kit.hand_over(store, claim(store, 1), batch="p2")
    assert active(store) == ["p2"]
    listed = [(batch.provider_batch_id, batch.status) for batch in store.get_batches(run_id=RUN)]
    assert listed == [("p1", "completed"), ("p2", "validating")]


def test_batches_of_two_runs_do_not_mix(any_store: StateStore) -> None:
    create(any_store, 1)
    create(any_store, 1, run_id="run-2")
    kit.hand_over(any_store, claim(any_store))
    kit.hand_over(any_store, claim(any_store, run_id="run-2"), run_id="run-2")  # the same ids, in another run
    kit.complete(any_store, ["item-0_p1"])
    poll(any_store, "completed")
    assert statuses(any_store, run_id="run-2") == [SUBMITTED]
    assert [b.status for b in any_store.get_active_batches(run_id="run-2")] == ["validating"]


def test_a_lost_batch_gives_its_items_back_without_an_attempt(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 3)
    kit.complete(any_store, custom_ids[:1])
    lost = kit.failure("batch_terminal_expired")
    any_store.reset_batch_items_to_pending(run_id=RUN, provider_batch_id="p1", error=lost)
    any_store.reset_batch_items_to_pending(run_id=RUN, provider_batch_id="nobody", error=lost)
    assert statuses(any_store) == [ItemStatus.COMPLETED, PENDING, PENDING]
    stored = any_store.get_item_records(run_id=RUN)
    assert [record.attempt_count for record in stored] == [1, 0, 0]
    assert [record.error for record in stored] == [None, lost, lost]
    assert owned(any_store) == []
    assert any_store.get_active_submitted_token_estimate(run_id=RUN) == 0


def test_a_late_answer_of_a_lost_batch_changes_nothing(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 1)
    any_store.reset_batch_items_to_pending(run_id=RUN, provider_batch_id="p1", error=kit.failure())
    kit.complete(any_store, custom_ids)
    assert statuses(any_store) == [PENDING]
    kit.hand_over(any_store, claim(any_store), batch="p2")
    kit.complete(any_store, custom_ids)
    kit.fail(any_store, custom_ids)
    assert statuses(any_store) == [SUBMITTED]


def test_a_token_estimate_given_at_submission_replaces_the_first(store: StateStore) -> None:
    create(store, 1)
    claim(store)
    store.register_batch(
        run_id=RUN, local_batch_id="l", provider_batch_id="p1", status="validating", custom_ids=["c"]
    )
    submissions = [PreparedSubmission("item-0", "c", 999)]
    store.mark_items_submitted(run_id=RUN, provider_batch_id="p1", submissions=submissions)
    assert store.get_active_submitted_token_estimate(run_id=RUN) == 999
    assert store.get_run_summary(run_id=RUN).estimated_tokens == 999
