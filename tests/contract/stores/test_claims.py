"""Claiming items and giving them back: the documented methods, also under another driver's lease."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from batchor_core.core.enums import ItemStatus
from batchor_core.storage.state import PreparedSubmission, QueuedItemFailureRecord, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import (
    ALICE,
    BOB,
    MAX,
    RUN,
    Backend,
    Clock,
    claim,
    create,
    drive,
    records,
    statuses,
)

PENDING, QUEUED, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED


def test_items_are_claimed_in_item_order(any_store: StateStore) -> None:
    any_store.create_run(run_id=RUN, config=kit.config(), items=kit.items(10, 2, 33, 4))
    assert claim(any_store) == ["item-2", "item-4", "item-10", "item-33"]
    assert set(statuses(any_store)) == {QUEUED}


def test_a_limit_takes_the_first_ones(any_store: StateStore) -> None:
    create(any_store, 5)
    assert claim(any_store, 2) == ["item-0", "item-1"]
    assert claim(any_store, 2) == ["item-2", "item-3"]
    assert claim(any_store, 0) == []
    assert claim(any_store, 10) == ["item-4"]
    assert claim(any_store) == []


def test_a_claimed_item_has_all_that_a_request_needs(any_store: StateStore) -> None:
    create(any_store, 1)
    (claimed,) = any_store.claim_items_for_submission(run_id=RUN, max_attempts=MAX)
    assert (claimed.item_id, claimed.prompt, claimed.system_prompt) == ("item-0", "prompt 0", "be brief")
    assert (claimed.metadata, claimed.attempt_count) == ({"row": 0}, 0)
    assert (claimed.request_artifact_path, claimed.request_artifact_line, claimed.request_sha256) == (
        None,
    ) * 3


def test_items_without_attempts_left_are_not_claimed(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 2)
    kit.fail(any_store, custom_ids[:1])
    assert claim(any_store, max_attempts=1) == []
    (again,) = any_store.claim_items_for_submission(run_id=RUN, max_attempts=2)
    assert (again.item_id, again.attempt_count) == ("item-0", 1)


def test_a_failed_item_keeps_its_place_in_the_order(any_store: StateStore) -> None:
    create(any_store, 4)
    custom_ids = kit.hand_over(any_store, claim(any_store, 2))
    kit.fail(any_store, [custom_ids[1]])
    assert claim(any_store) == ["item-1", "item-2", "item-3"]


def test_two_claimers_never_share_an_item(backend: Backend, clock: Clock) -> None:
    create(backend.open(clock), 120)
    stores = [backend.open(clock) for _ in range(3)]
    start = Barrier(len(stores))

    def take_all(store: StateStore) -> list[str]:
        start.wait()
        mine: list[str] = []
        while taken := claim(store, 7):
            mine += taken
        return mine

    with ThreadPoolExecutor(len(stores)) as pool:
        shares = list(pool.map(take_all, stores))
    together = [item_id for share in shares for item_id in share]
    assert len(together) == len(set(together)) == 120


def test_claimed_items_are_given_back(any_store: StateStore) -> None:
    create(any_store, 3)
    claim(any_store, 2)
    any_store.release_items_to_pending(run_id=RUN, item_ids=["item-1", "item-1", "nobody"])
    assert statuses(any_store) == [QUEUED, PENDING, PENDING]
    assert claim(any_store) == ["item-1", "item-2"]


def test_only_claimed_items_are_given_back(any_store: StateStore) -> None:
    create(any_store, 3)
    done, flying = kit.hand_over(any_store, claim(any_store, 2))
    kit.complete(any_store, [done])
    any_store.release_items_to_pending(run_id=RUN, item_ids=["item-0", "item-1", "item-2"])
    assert statuses(any_store) == [ItemStatus.COMPLETED, SUBMITTED, PENDING]
    assert any_store.get_submitted_custom_ids_for_batch(run_id=RUN, provider_batch_id="p1") == [flying]


def test_what_a_dead_process_had_claimed_is_requeued(backend: Backend, clock: Clock) -> None:
    first = backend.open(clock)
    create(first, 4)
    kit.hand_over(first, claim(first, 1))
    claim(first, 2)
    second = backend.open(clock)
    assert second.requeue_local_items(run_id=RUN) == 2
    assert second.requeue_local_items(run_id=RUN) == 0
    assert statuses(second) == [SUBMITTED, PENDING, PENDING, PENDING]
    assert [record.attempt_count for record in second.get_item_records(run_id=RUN)] == [0] * 4


def test_requeueing_leaves_other_runs_alone(any_store: StateStore) -> None:
    create(any_store, 2)
    create(any_store, 2, run_id="run-2")
    claim(any_store)
    claim(any_store, run_id="run-2")
    assert any_store.requeue_local_items(run_id=RUN) == 2
    assert statuses(any_store, run_id="run-2") == [QUEUED, QUEUED]


def test_queued_items_fail_without_a_batch(any_store: StateStore) -> None:
    create(any_store, 4)
    claim(any_store, 3)
    failures = [
        QueuedItemFailureRecord("item-0", kit.failure(), count_attempt=True),
        QueuedItemFailureRecord("item-1", kit.failure(), count_attempt=False),
        QueuedItemFailureRecord("item-2", kit.failure(retryable=False), count_attempt=False),
        QueuedItemFailureRecord("item-3", kit.failure(retryable=False)),
        QueuedItemFailureRecord("nobody", kit.failure()),
    ]
    any_store.mark_queued_items_failed(run_id=RUN, failures=failures, max_attempts=MAX)
    retryable, permanent = ItemStatus.FAILED_RETRYABLE, ItemStatus.FAILED_PERMANENT
    assert statuses(any_store) == [retryable, retryable, permanent, PENDING]
    stored = records(any_store)
    assert [stored[f"item-{n}"].attempt_count for n in range(4)] == [1, 0, 0, 0]
    assert stored["item-2"].error == kit.failure(retryable=False)
    assert [record.item_id for record in kit.terminal(any_store)] == ["item-2"]


def test_the_last_attempt_of_a_queued_item_is_permanent(any_store: StateStore) -> None:
    create(any_store, 1)
    claim(any_store)
    failures = [QueuedItemFailureRecord("item-0", kit.failure())]
    any_store.mark_queued_items_failed(run_id=RUN, failures=failures, max_attempts=1)
    assert statuses(any_store) == [ItemStatus.FAILED_PERMANENT]


# --- beside a driver -------------------------------------------------------------------------------------------------


def test_requeueing_touches_nothing_that_a_live_driver_holds(store: StateStore) -> None:
    create(store, 3)
    session = drive(store)
    kit.take(session, 0, 1)
    assert store.requeue_local_items(run_id=RUN) == 0
    assert statuses(store) == [QUEUED, QUEUED, PENDING]
    kit.upload(session)  # the driver has noticed nothing
    assert kit.submission_states(store) == {"b1": "uploaded"}


@pytest.mark.parametrize("end", ["expired", "given up"])
def test_requeueing_frees_what_the_last_driver_left_unsent(store: StateStore, clock: Clock, end: str) -> None:
    create(store, 4)
    session = drive(store, ttl=60)
    kit.take(session, 0, local="claimed")
    kit.take(session, 1, local="uploaded")
    kit.upload(session, "uploaded")
    kit.send(session, 2, local="sending")
    if end == "expired":
        clock.advance(61)
    else:
        session.close()
    assert store.requeue_local_items(run_id=RUN) == 2
    assert statuses(store) == [PENDING, PENDING, QUEUED, PENDING]
    assert kit.submission_states(store) == {"claimed": "dropped", "uploaded": "dropped", "sending": "sending"}


def test_a_driver_takes_over_from_one_that_is_certainly_dead(store: StateStore) -> None:
    create(store, 2)
    kit.take(drive(store, owner=ALICE), 0)
    assert (
        store.open_session(run_id=RUN, owner=BOB, ttl_sec=60, owner_is_dead=lambda owner: owner == BOB)
        is None
    )
    heir = store.open_session(run_id=RUN, owner=BOB, ttl_sec=60, owner_is_dead=lambda owner: owner == ALICE)
    assert heir is not None
    assert heir.requeue_local() == 1
    assert statuses(store) == [PENDING, PENDING]


def test_hand_made_claims_are_requeued_by_the_next_driver(store: StateStore) -> None:
    create(store, 3)
    claim(store, 2)
    assert drive(store).requeue_local() == 2
    assert statuses(store) == [PENDING] * 3


def test_a_registered_batch_is_repaired_not_requeued(store: StateStore) -> None:
    """The process died between ``register_batch`` and ``mark_items_submitted``: its items are paid for."""
    create(store, 3)
    custom_ids = kit.engine_ids(claim(store, 2))
    store.register_batch(
        run_id=RUN, local_batch_id="l1", provider_batch_id="p1", status="validating", custom_ids=custom_ids
    )
    assert store.requeue_local_items(run_id=RUN) == 0
    assert statuses(store) == [SUBMITTED, SUBMITTED, PENDING]
    assert store.get_submitted_custom_ids_for_batch(run_id=RUN, provider_batch_id="p1") == custom_ids
    kit.complete(store, custom_ids)
    assert statuses(store) == [ItemStatus.COMPLETED, ItemStatus.COMPLETED, PENDING]


def test_items_of_a_registered_batch_are_not_given_back_by_hand(store: StateStore) -> None:
    create(store, 1)
    custom_ids = kit.engine_ids(claim(store))
    store.register_batch(
        run_id=RUN, local_batch_id="l1", provider_batch_id="p1", status="validating", custom_ids=custom_ids
    )
    store.release_items_to_pending(run_id=RUN, item_ids=["item-0"])
    assert statuses(store) == [QUEUED]
    submissions = [PreparedSubmission("item-0", custom_ids[0], 5)]
    store.mark_items_submitted(run_id=RUN, provider_batch_id="p1", submissions=submissions)
    assert statuses(store) == [SUBMITTED]


def test_documented_methods_leave_items_of_a_driver_alone(store: StateStore) -> None:
    create(store, 2)
    kit.send(drive(store), 0, 1)
    store.release_items_to_pending(run_id=RUN, item_ids=["item-0", "item-1"])
    failures = [QueuedItemFailureRecord("item-0", kit.failure(retryable=False))]
    store.mark_queued_items_failed(run_id=RUN, failures=failures, max_attempts=MAX)
    assert statuses(store) == [QUEUED, QUEUED]
