"""Deleting a run: wholly, and never one that may bring something yet."""

from __future__ import annotations

import pytest

from batchor_core.core.exceptions import RunStateError
from batchor_core.storage.state import BatchEnd, DriverSession, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, create, records


def _end(session: DriverSession, *, good: list[str], bad: list[str]) -> None:
    session.apply_outcome(
        provider_batch_id="p1",
        completions=[kit.good(custom_id) for custom_id in good],
        failures=[kit.bad(custom_id) for custom_id in bad],
        max_attempts=MAX,
        end=BatchEnd("completed"),
    )


def test_a_finished_run_is_deleted_wholly_and_its_id_is_free(store: StateStore) -> None:
    create(store, 2)
    create(store, 1, run_id="run-2")
    session = kit.drive(store)
    _end(session, good=kit.submit(session, 0, 1), bad=[])
    session.close()
    store.delete_run(run_id=RUN)
    assert [run.run_id for run in store.list_runs()] == ["run-2"]
    create(store, 1)
    assert (len(records(store)), store.list_submissions(run_id=RUN)) == (1, [])
    assert (store.get_batches(run_id=RUN), kit.terminal(store)) == ([], [])
    assert len(records(store, run_id="run-2")) == 1


@pytest.mark.parametrize("state", ["driven", "sending", "unknown", "at the provider", "to be tried again"])
def test_a_run_that_may_bring_something_yet_is_not_deleted(store: StateStore, state: str) -> None:
    create(store, 1)
    session = kit.drive(store)
    match state:
        case "sending" | "unknown":
            kit.send(session, 0)
        case "at the provider":
            kit.submit(session, 0)
        case "to be tried again":
            _end(session, good=[], bad=kit.submit(session, 0))
        case _:
            pass
    if state == "unknown":
        session.mark_unknown(local_batch_id="b1", error_class="lost", next_check_at=0.0)
    if state != "driven":
        session.close()
    with pytest.raises(RunStateError, match="can't delete it"):
        store.delete_run(run_id=RUN)
    assert len(records(store)) == 1


def test_a_run_of_which_nothing_was_sent_is_deleted(store: StateStore) -> None:
    create(store, 2)
    store.delete_run(run_id=RUN)
    assert not store.has_run(run_id=RUN)
