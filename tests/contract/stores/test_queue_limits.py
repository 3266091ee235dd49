"""What a provider has shown of its queue is kept for every run of the account, and for the next process."""

from __future__ import annotations

from batchor_core.core.enums import ItemStatus
from batchor_core.storage.state import StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, Backend, Clock, create, drive

KEY = "echo/account/model"


def _limit(store: StateStore, key: str = KEY) -> int | None:
    found = store.get_queue_limit(key=key)
    return None if found is None else found.tokens


def test_a_refusal_is_remembered_once(store: StateStore) -> None:
    create(store, 6, budget_key=KEY)
    session = drive(store)
    assert _limit(store) is None
    kit.submit(session, 0, 1)
    kit.send(session, 2, 3, 4, 5, local="b2")
    for _ in range(2):  # the same refusal, found again after a crash
        store.queue_refused(run_id=RUN, key=KEY, local_batch_id="b2")
        assert _limit(store) == 20 + 40 // 2
    session.drop(local_batch_id="b2", error_class="token_limit_exceeded")
    kit.send(session, 2, 3, local="b3")
    store.queue_refused(run_id=RUN, key=KEY, local_batch_id="b3")
    assert _limit(store) == 20 + 20 // 2
    assert _limit(store, "another") is None


def test_other_runs_of_the_account_count(store: StateStore) -> None:
    create(store, 2, budget_key=KEY)
    create(store, 2, run_id="run-2", budget_key=KEY)
    create(store, 2, run_id="run-3", budget_key="another")
    for run_id in ("run-2", "run-3"):
        kit.submit(drive(store, run_id=run_id), 0, 1, batch=f"p-{run_id}")
    kit.send(drive(store), 0, 1)
    store.queue_refused(run_id=RUN, key=KEY, local_batch_id="b1")
    assert _limit(store) == 20 + 20 // 2


def test_it_grows_with_what_is_accepted_and_outlives_the_run(backend: Backend, clock: Clock) -> None:
    store = backend.open(clock)
    create(store, 4, budget_key=KEY)
    session = drive(store)
    kit.send(session, 0, 1, 2, 3)
    store.queue_accepted(run_id=RUN, key=KEY, local_batch_id="b1")
    assert _limit(store) is None
    store.queue_refused(run_id=RUN, key=KEY, local_batch_id="b1")
    session.drop(local_batch_id="b1", error_class="token_limit_exceeded")
    kit.submit(session, 0, 1, local="b2")
    store.queue_accepted(run_id=RUN, key=KEY, local_batch_id="b2")
    assert _limit(store) == 20 + 2
    assert store.get_run_summary(run_id=RUN).queue_limit == 22
    names = list(session.submitted_items(provider_batch_id="p1"))
    session.apply_outcome(provider_batch_id="p1", released_custom_ids=names, max_attempts=MAX)
    assert kit.statuses(store) == [ItemStatus.PENDING] * 4
    session.close()
    again = backend.open(clock)
    found = again.get_queue_limit(key=KEY)
    assert found is not None
    assert (found.tokens, found.is_observed) == (22, True)
    assert found.refused_at == again.now()


def test_a_store_that_remembers_nothing_says_so(any_store: StateStore) -> None:
    assert any_store.get_queue_limit(key="nobody") is None
