"""A submission that waits for its input file keeps its rows and its file, whoever drives."""

from __future__ import annotations

import pytest

from batchor_core.core.enums import IntentState, ItemStatus
from batchor_core.core.exceptions import RunStateError
from batchor_core.storage.state import IntentRecord, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import BOB, RUN, Clock, create, drive, send


def intent_of(store: StateStore) -> IntentRecord:
    (intent,) = store.list_intents(run_id=RUN)
    return intent


def test_a_postponed_submission_is_unsent_and_says_when_to_try_again(store: StateStore, clock: Clock) -> None:
    create(store, 3)
    session = drive(store)
    send(session, 0, 1)
    assert intent_of(store).uploaded_at == clock.seconds
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 5)
    intent = intent_of(store)
    assert (intent.state, intent.last_error_class) == (IntentState.UPLOADED, "too_early")
    assert intent.next_check_at == clock.seconds + 5
    assert intent.is_postponed
    assert session.open_intents() == [intent]
    assert kit.statuses(store) == [ItemStatus.QUEUED_LOCAL] * 2 + [ItemStatus.PENDING]
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 9)
    assert intent_of(store).next_check_at == clock.seconds + 9


def test_it_may_be_sent_again_and_registered(store: StateStore, clock: Clock) -> None:
    create(store, 2)
    session = drive(store)
    names = send(session, 0, 1)
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 5)
    clock.advance(5)
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    intent = intent_of(store)
    assert (intent.state, intent.sending_at, intent.next_check_at) == (
        IntentState.SENDING,
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
    assert intent_of(store).is_postponed
    other.mark_sending(local_batch_id="b1", ttl_sec=60)


def test_dropped_it_leaves_no_doubt_behind(store: StateStore, clock: Clock) -> None:
    create(store, 2)
    session = drive(store)
    send(session, 0, 1)
    session.postpone(local_batch_id="b1", error_class="too_early", next_check_at=clock.seconds + 5)
    session.drop(local_batch_id="b1", error_class="too_early")
    assert kit.statuses(store) == [ItemStatus.PENDING] * 2
    assert intent_of(store).next_check_at is None
    assert store.runs_with_doubtful_past(sent_after=0) == []
    assert kit.take(session, 0, 1, local="b2") == kit.engine_ids(["item-0", "item-1"], generation=1)


def test_only_what_is_being_sent_can_be_postponed(store: StateStore) -> None:
    create(store, 2)
    session = drive(store)
    kit.take(session, 0, 1)
    with pytest.raises(RunStateError):
        session.postpone(local_batch_id="b1", error_class="e", next_check_at=1.0)
