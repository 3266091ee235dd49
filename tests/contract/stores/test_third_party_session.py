"""What :class:`ThirdPartySession` promises beyond, and short of, a native session."""

from __future__ import annotations

import gc

import pytest

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import RunNotFoundError, RunStateError
from batchor_core.storage import third_party_book
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.storage.state import StateStore
from batchor_core.storage.third_party import ThirdPartySession
from tests.contract.stores import kit
from tests.contract.stores.kit import BOB, MAX, RUN, ThirdPartyStore, create, drive, statuses, take

PENDING, QUEUED, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED


@pytest.fixture
def inner() -> MemoryStateStore:
    return MemoryStateStore()


@pytest.fixture
def third_party(inner: MemoryStateStore) -> StateStore:
    """A store that has the documented methods only."""
    store: StateStore = ThirdPartyStore(inner)
    create(store, 4)
    return store


def restarted(inner: MemoryStateStore) -> StateStore:
    """The same data seen by a process that remembers nothing."""
    store: StateStore = ThirdPartyStore(inner)
    return store


def test_a_store_without_sessions_gets_one_of_its_documented_methods(third_party: StateStore) -> None:
    assert not third_party.supports_leases
    session = third_party.open_session(run_id=RUN, owner=kit.ALICE, ttl_sec=60)
    assert isinstance(session, ThirdPartySession)
    session.renew(ttl_sec=60)
    session.close()
    session.close()


def test_an_unknown_run_is_refused(third_party: StateStore) -> None:
    with pytest.raises(RunNotFoundError):
        third_party.open_session(run_id="nobody", owner=kit.ALICE, ttl_sec=60)


def test_nobody_is_turned_away(third_party: StateStore) -> None:
    drive(third_party)
    assert third_party.open_session(run_id=RUN, owner=BOB, ttl_sec=60) is not None


def test_candidates_are_claimed_and_given_back_at_the_end(third_party: StateStore) -> None:
    session = drive(third_party)
    assert [one.item_index for one in session.candidates(max_attempts=MAX, limit=3)] == [0, 1, 2]
    assert statuses(third_party) == [QUEUED, QUEUED, QUEUED, PENDING]
    session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[1], max_attempts=MAX)
    session.close()
    assert statuses(third_party) == [PENDING, QUEUED, PENDING, PENDING]


def test_only_candidates_can_be_claimed(third_party: StateStore) -> None:
    session = drive(third_party)
    session.candidates(max_attempts=MAX, limit=2)
    assert session.claim(local_batch_id="b1", artifact_key="k", item_indexes=[3], max_attempts=MAX) is None


def test_submissions_outlive_the_session(third_party: StateStore) -> None:
    first = drive(third_party)
    kit.send(first, 0)
    first.close()
    second = drive(third_party)
    assert [submission.local_batch_id for submission in second.open_submissions()] == ["b1"]
    assert second.requeue_local() == 0
    assert statuses(third_party)[0] is QUEUED
    second.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    assert statuses(third_party)[0] is SUBMITTED


def test_after_a_restart_the_items_are_given_back(inner: MemoryStateStore, third_party: StateStore) -> None:
    session = drive(third_party)
    kit.send(session, 0)
    session.candidates(max_attempts=MAX, limit=1)
    heir = drive(restarted(inner))
    assert heir.open_submissions() == []
    assert heir.requeue_local() == 2
    assert statuses(third_party) == [PENDING] * 4


def test_after_a_restart_a_batch_still_knows_its_items(
    inner: MemoryStateStore, third_party: StateStore
) -> None:
    custom_ids = kit.submit(drive(third_party), 1, 3)
    heir = drive(restarted(inner))
    owned = heir.submitted_items(provider_batch_id="p1")
    assert list(owned.items()) == [(custom_ids[0], 1), (custom_ids[1], 3)]
    outcome = heir.apply_outcome(
        provider_batch_id="p1",
        completions=[kit.good(custom_ids[0])],
        failures=[kit.bad(custom_ids[1])],
        max_attempts=1,
    )
    assert (outcome.completed, outcome.failed) == (1, 1)


def test_custom_ids_differ_after_a_restart(inner: MemoryStateStore, third_party: StateStore) -> None:
    first = kit.send(drive(third_party), 0, 1)
    heir = drive(restarted(inner))
    heir.requeue_local()
    assert not set(first) & set(take(heir, 0, 1, local="b2"))


def test_tokens_are_those_of_ingestion_or_estimated(inner: MemoryStateStore) -> None:
    store = restarted(inner)
    create(store)
    session = drive(store)
    session.append(kit.items(0), next_item_index=1, checkpoint_payload=None, ingestion_complete=True)
    assert [one.submission_tokens for one in session.candidates(max_attempts=MAX, limit=9)] == [10]
    session.close()
    again = drive(restarted(inner))  # "prompt 0" and "be brief" are 16 characters, four to a token
    assert [one.submission_tokens for one in again.candidates(max_attempts=MAX, limit=9)] == [4]


def test_the_budget_of_the_run_itself_is_kept(inner: MemoryStateStore) -> None:
    store = restarted(inner)
    create(store)
    session = drive(store)
    session.append(kit.items(0, 1, 2), next_item_index=3, checkpoint_payload=None, ingestion_complete=True)
    budget = [kit.tokens("key", 20)]
    kit.submit(session, 0)
    take(session, 1, local="b2", allowances=budget)
    session.candidates(max_attempts=MAX, limit=9)
    claim = session.claim(
        local_batch_id="b3", artifact_key="k", item_indexes=[2], max_attempts=MAX, allowances=budget
    )
    assert claim is None


def test_items_without_a_prompt_are_refused(third_party: StateStore) -> None:
    session = drive(third_party)
    item = kit.item(9, prompt="", request_line=b"{}")
    with pytest.raises(RunStateError, match="item-9"):
        session.append([item], next_item_index=10, checkpoint_payload=None, ingestion_complete=True)
    assert len(statuses(third_party)) == 4


def test_a_memory_of_a_store_goes_with_the_store() -> None:
    gc.collect()
    before = len(third_party_book._books)
    store: StateStore = ThirdPartyStore(MemoryStateStore())
    create(store, 1)
    drive(store)
    assert len(third_party_book._books) == before + 1
    del store
    gc.collect()
    assert len(third_party_book._books) == before


@pytest.mark.parametrize("call", ["list_runs", "reopen_failed_items", "settle_submission"])
def test_what_the_document_does_not_offer_says_so(third_party: StateStore, call: str) -> None:
    arguments: dict[str, dict[str, str]] = {
        "list_runs": {},
        "reopen_failed_items": {"run_id": RUN},
        "settle_submission": {"run_id": RUN, "local_batch_id": "b1", "decision": "fail"},
    }
    with pytest.raises(NotImplementedError, match="ThirdPartyStore"):
        getattr(third_party, call)(**arguments[call])


def test_defaults_of_a_documented_store_are_harmless(third_party: StateStore) -> None:
    kit.submit(drive(third_party), 0)
    assert third_party.get_lease(run_id=RUN) is None
    assert third_party.get_control_reason(run_id=RUN) is None
    assert third_party.list_submissions(run_id=RUN) == []
    assert [batch.provider_batch_id for batch in third_party.get_batches(run_id=RUN)] == ["p1"]
    assert third_party.get_retry_backoff(run_id=RUN).backoff_sec == 0.0
    assert third_party.now() > 1_600_000_000
    third_party.close()
