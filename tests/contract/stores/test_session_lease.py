"""Who may drive a run: leases, fencing tokens, and the fence before every write."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from batchor_core.core.admission import Wait
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import LeaseLostError
from batchor_core.storage.records import BatchArtifactPointer
from batchor_core.storage.state import BatchEnd, DriverIdentity, DriverSession, LeaseRecord, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import ALICE, BOB, MAX, RUN, Backend, Clock, create, drive


def attempt(store: StateStore, owner: DriverIdentity = BOB) -> DriverSession | None:
    return store.open_session(run_id=RUN, owner=owner, ttl_sec=60)


def test_a_free_run_is_taken(store: StateStore, clock: Clock) -> None:
    create(store)
    assert store.supports_leases
    assert store.get_lease(run_id=RUN) is None
    session = drive(store, ttl=60)
    assert session.run_id == RUN
    lease = store.get_lease(run_id=RUN)
    assert lease is not None
    assert (lease.owner, lease.expires_at) == (ALICE, clock.seconds + 60)


def test_a_second_driver_is_turned_away(store: StateStore) -> None:
    create(store)
    drive(store)
    assert attempt(store) is None
    assert holder(store) == ALICE


def holder(store: StateStore) -> DriverIdentity | None:
    lease: LeaseRecord | None = store.get_lease(run_id=RUN)
    return None if lease is None else lease.owner


def test_runs_are_driven_independently(store: StateStore) -> None:
    create(store)
    create(store, run_id="run-2")
    drive(store, owner=ALICE)
    drive(store, owner=BOB, run_id="run-2")


def test_a_lease_that_was_given_up_is_free(store: StateStore) -> None:
    create(store)
    session = drive(store)
    session.close()
    session.close()
    assert holder(store) is None
    assert attempt(store) is not None


def test_an_expired_lease_is_free(store: StateStore, clock: Clock) -> None:
    create(store)
    drive(store, ttl=60)
    clock.advance(59)
    assert attempt(store) is None
    clock.advance(2)
    assert holder(store) is None
    assert attempt(store) is not None
    assert holder(store) == BOB


def test_renewing_extends_the_lease(store: StateStore, clock: Clock) -> None:
    create(store)
    session = drive(store, ttl=60)
    for _ in range(3):
        clock.advance(50)
        session.renew(ttl_sec=60)
    assert attempt(store) is None
    lease = store.get_lease(run_id=RUN)
    assert lease is not None
    assert lease.expires_at == clock.seconds + 60


def test_a_late_holder_goes_on_if_nobody_took_over(store: StateStore, clock: Clock) -> None:
    create(store, 1)
    session = drive(store, ttl=60)
    clock.advance(3600)
    session.renew(ttl_sec=60)
    kit.take(session, 0)
    assert attempt(store) is None


def test_a_dead_holder_is_replaced_at_once(store: StateStore) -> None:
    create(store)
    drive(store)
    asked: list[DriverIdentity] = []

    def is_dead(owner: DriverIdentity) -> bool:
        asked.append(owner)
        return True

    assert store.open_session(run_id=RUN, owner=BOB, ttl_sec=60, owner_is_dead=is_dead) is not None
    assert asked == [ALICE]
    assert holder(store) == BOB


def test_the_same_driver_keeps_its_fencing_token(store: StateStore) -> None:
    create(store, 1)
    first = drive(store)
    before = store.get_lease(run_id=RUN)
    again = drive(store)
    after = store.get_lease(run_id=RUN)
    assert before is not None
    assert after is not None
    assert before.fencing_token == after.fencing_token
    kit.take(first, 0)
    kit.upload(again)


def test_a_take_over_raises_the_fencing_token(store: StateStore, clock: Clock) -> None:
    create(store)
    tokens = []
    for owner in (ALICE, BOB, ALICE):
        session = drive(store, owner=owner)
        lease = store.get_lease(run_id=RUN)
        assert lease is not None
        tokens.append(lease.fencing_token)
        session.close()
    assert tokens == sorted(set(tokens))


def test_of_many_drivers_one_wins(backend: Backend, clock: Clock) -> None:
    create(backend.open(clock))
    stores = [backend.open(clock) for _ in range(4)]
    start = Barrier(len(stores))

    def race(number: int) -> bool:
        start.wait()
        return attempt(stores[number], DriverIdentity(session=f"driver-{number}")) is not None

    with ThreadPoolExecutor(len(stores)) as pool:
        assert sorted(pool.map(race, range(len(stores)))) == [False, False, False, True]


WRITES: dict[str, Callable[[DriverSession], object]] = {
    "renew": lambda s: s.renew(ttl_sec=60),
    "append": lambda s: s.append(
        kit.items(7), next_item_index=8, checkpoint_payload=None, ingestion_complete=True
    ),
    "claim": lambda s: s.claim(local_batch_id="new", artifact_key="k", item_indexes=[5], max_attempts=MAX),
    "mark_written": lambda s: s.mark_written(local_batch_id="claimed", sha256="x", size_bytes=1),
    "mark_uploaded": lambda s: s.mark_uploaded(local_batch_id="claimed", input_file_id="f"),
    "mark_sending": lambda s: s.mark_sending(local_batch_id="uploaded", ttl_sec=60),
    "register": lambda s: s.register(local_batch_id="sending", provider_batch_id="p9", status="validating"),
    "drop": lambda s: s.drop(local_batch_id="sending", error_class="e"),
    "mark_unknown": lambda s: s.mark_unknown(local_batch_id="sending", error_class="e", next_check_at=1.0),
    "record_look_up": lambda s: s.record_look_up(
        local_batch_id="unknown", clean_listings=1, fenced_at=None, next_check_at=1.0
    ),
    "quarantine": lambda s: s.quarantine(local_batch_id="unknown", error_class="e"),
    "requeue_local": lambda s: s.requeue_local(),
    "fail_unsubmitted": lambda s: s.fail_unsubmitted([(5, kit.failure())]),
    "update_batch": lambda s: s.update_batch(
        provider_batch_id="p1", status="completed", output_file_id="o", error_file_id=None
    ),
    "record_wait": lambda s: s.record_wait(provider_batch_id="p1", wait=kit.wait()),
    "record_files": lambda s: s.record_files(BatchArtifactPointer("p1", "output.jsonl")),
    "record_poll_failure": lambda s: s.record_poll_failure(provider_batch_id="p1", next_poll_at=1.0),
    "apply_outcome": lambda s: s.apply_outcome(
        provider_batch_id="p1",
        completions=[kit.good(kit.engine_ids(["item-0"])[0])],
        max_attempts=MAX,
        end=BatchEnd("completed"),
    ),
    "keep_place": lambda s: s.keep_place(kit.tokens("key", 10), Wait(need=5)),
    "postpone": lambda s: s.postpone(local_batch_id="b1", error_class="e", next_check_at=1.0),
    "pause": lambda s: s.pause(reason="because"),
    "cancel_remaining": lambda s: s.cancel_remaining(error=kit.failure()),
    "record_failure": lambda s: s.record_failure(error_class="e", base_delay_sec=1, max_delay_sec=1),
    "clear_backoff": lambda s: s.clear_backoff(),
    "count_orphan_batches": lambda s: s.count_orphan_batches(3),
}
_READS = {"standing", "candidates", "drafts", "open_submissions", "submitted_items", "close"}


def test_the_table_of_writes_is_complete() -> None:
    has_default = {"record_files"}  # for sessions of others, which may leave it to the store
    assert set(WRITES) | _READS == DriverSession.__abstractmethods__ | has_default


def test_a_driver_that_was_replaced_writes_nothing(store: StateStore, clock: Clock) -> None:
    create(store, 7)
    old = drive(store, owner=ALICE)
    kit.submit(old, 0, local="registered")
    kit.take(old, 1, local="claimed")
    kit.take(old, 2, local="uploaded")
    kit.upload(old, "uploaded")
    kit.send(old, 3, local="sending")
    kit.send(old, 4, local="unknown")
    old.mark_unknown(local_batch_id="unknown", error_class="timeout", next_check_at=1.0)
    old.record_failure(error_class="e", base_delay_sec=100, max_delay_sec=100)
    clock.advance(61)
    drive(store, owner=BOB)
    before = everything(store)
    for name, write in WRITES.items():
        with pytest.raises(LeaseLostError) as caught:
            write(old)
        assert (caught.value.run_id, name) == (RUN, name)
        assert everything(store) == before, name
    old.close()
    assert everything(store) == before


def everything(store: StateStore) -> tuple[object, ...]:
    return (
        store.get_run_summary(run_id=RUN),
        store.get_item_records(run_id=RUN),
        store.list_submissions(run_id=RUN),
        store.get_batches(run_id=RUN),
        store.get_lease(run_id=RUN),
        store.get_control_reason(run_id=RUN),
        store.get_retry_backoff(run_id=RUN),
        store.get_ingest_checkpoint(run_id=RUN),
        store.get_artifact_inventory(run_id=RUN),
    )


def test_a_closed_session_writes_nothing(store: StateStore) -> None:
    create(store, 1)
    session = drive(store)
    session.close()
    with pytest.raises(LeaseLostError):
        session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[0], max_attempts=MAX)
    assert kit.statuses(store) == [ItemStatus.PENDING]


def test_closing_a_lost_session_leaves_the_new_driver_alone(store: StateStore, clock: Clock) -> None:
    create(store)
    old = drive(store, owner=ALICE)
    clock.advance(61)
    drive(store, owner=BOB)
    old.close()
    assert holder(store) == BOB


def test_requeueing_by_hand_fences_the_driver_whose_items_it_took(store: StateStore, clock: Clock) -> None:
    create(store, 1)
    old = drive(store, ttl=60)
    kit.take(old, 0)
    kit.upload(old)
    clock.advance(61)
    assert store.requeue_local_items(run_id=RUN) == 1
    with pytest.raises((LeaseLostError, RuntimeError)):
        old.mark_sending(local_batch_id="b1", ttl_sec=60)


def test_sending_renews_the_lease(store: StateStore, clock: Clock) -> None:
    create(store, 1)
    session = drive(store, ttl=60)
    kit.take(session, 0)
    kit.upload(session)
    clock.advance(50)
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    clock.advance(50)
    assert attempt(store) is None


def test_reading_is_open_to_everybody(backend: Backend, clock: Clock) -> None:
    first, second = backend.open(clock), backend.open(clock)
    create(first, 3)
    session = drive(first)
    custom_ids = kit.submit(session, 0, 1)
    session.apply_outcome(provider_batch_id="p1", completions=[kit.good(custom_ids[0])], max_attempts=MAX)
    assert attempt(second) is None
    assert second.get_run_summary(run_id=RUN).completed_items == 1
    assert [record.item_id for record in kit.terminal(second)] == ["item-0"]
    assert kit.active(second) == ["p1"]


def test_the_lease_is_renewed_from_another_thread(store: StateStore, clock: Clock) -> None:
    create(store, 200)
    session = drive(store)
    with ThreadPoolExecutor(1) as pool:
        renewals = pool.submit(lambda: [session.renew(ttl_sec=60) for _ in range(20)])
        for index in range(20):
            kit.take(session, index, local=f"b{index}")
        renewals.result()
    assert len(session.open_submissions()) == 20
