"""Creating runs, adding items, checkpoints, control state: the documented methods."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import DuplicateItemError, LeaseLostError, RunNotFoundError, RunStateError
from batchor_core.core.models import ArtifactPolicy, ChunkPolicy, RetryPolicy
from batchor_core.storage.state import IngestCheckpoint, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import RUN, Backend, Clock, create, item, items, records, statuses

START = IngestCheckpoint(
    source_kind="csv",
    source_ref="rows.csv",
    source_fingerprint="abc",
    checkpoint_payload={"byte": 0, "é": [1, None]},
)


def test_a_run_exists_once_it_is_created(any_store: StateStore) -> None:
    assert not any_store.has_run(run_id=RUN)
    create(any_store)
    assert any_store.has_run(run_id=RUN)
    assert not any_store.has_run(run_id="run-2")


def test_a_second_run_of_the_same_id_is_refused(any_store: StateStore) -> None:
    create(any_store, 2)
    with pytest.raises(RunStateError):
        create(any_store, 5)
    assert len(records(any_store)) == 2


def test_a_run_is_created_with_its_items_or_not_at_all(any_store: StateStore) -> None:
    with pytest.raises(DuplicateItemError) as caught:
        any_store.create_run(
            run_id=RUN, config=kit.config(), items=[item(0), item(1), item(2, item_id="item-0")]
        )
    assert caught.value.item_ids == ["item-0"]
    assert not any_store.has_run(run_id=RUN)


def test_new_items_are_pending_in_index_order(any_store: StateStore) -> None:
    any_store.create_run(run_id=RUN, config=kit.config(), items=items(2, 0, 1))
    stored = any_store.get_item_records(run_id=RUN)
    assert [record.item_index for record in stored] == [0, 1, 2]
    assert [record.item_id for record in stored] == ["item-0", "item-1", "item-2"]
    assert [record.metadata for record in stored] == [{"row": 0}, {"row": 1}, {"row": 2}]
    assert {record.status for record in stored} == {ItemStatus.PENDING}
    assert {record.attempt_count for record in stored} == {0}
    assert {record.terminal_result_sequence for record in stored} == {None}


def test_appended_items_join_the_others(any_store: StateStore) -> None:
    create(any_store, 2)
    any_store.append_items(run_id=RUN, items=items(2, 3))
    any_store.append_items(run_id=RUN, items=[])
    assert list(records(any_store)) == ["item-0", "item-1", "item-2", "item-3"]


def test_a_replayed_chunk_adds_only_what_is_new(any_store: StateStore) -> None:
    create(any_store, 3)
    kit.claim(any_store, 1)
    any_store.append_items(run_id=RUN, items=items(0, 1, 2, 3))
    assert len(records(any_store)) == 4
    assert statuses(any_store) == [ItemStatus.QUEUED_LOCAL, *[ItemStatus.PENDING] * 3]
    assert any_store.get_run_summary(run_id=RUN).total_items == 4


_LINES = [b'{"custom_id":"%d-x","body":{"input":"text %d","model":"a model with a name of some length"}}' % (n, n)
          for n in range(40)]  # fmt: skip


def test_a_replayed_chunk_of_finished_lines_is_compared_with_the_whole_lines(store: StateStore) -> None:
    create(store, 0)
    metadata = {"a tuple": (1, 2), "not a number": float("nan")}  # which come back as a list and as null
    chunk = [item(n, prompt="", request_line=line, metadata=metadata) for n, line in enumerate(_LINES)]
    store.append_items(run_id=RUN, items=chunk)
    store.append_items(run_id=RUN, items=[*chunk, item(40)])
    assert len(records(store)) == 41


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"prompt": "another"}, "prompt"),
        ({"system_prompt": "another"}, "system_prompt"),
        ({"metadata": {"another": 1}}, "metadata"),
        ({"request_line": _LINES[3].replace(b"some", b"any")}, "request_line"),
    ],
)
def test_what_is_stored_is_not_given_again_with_other_contents(
    store: StateStore, changed: dict[str, Any], named: str
) -> None:
    create(store, 0)
    chunk = [item(n, prompt="", request_line=line) for n, line in enumerate(_LINES)]
    store.append_items(run_id=RUN, items=chunk)
    with pytest.raises(RunStateError, match=rf"item 3 \('item-3'\) is stored with another {named}"):
        store.append_items(run_id=RUN, items=[chunk[2], chunk[3]._replace(**changed), item(40)])
    assert len(records(store)) == 40


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param([item(5), item(6, item_id="item-1")], id="there under another index"),
        pytest.param([item(5), item(6, item_id="item-5")], id="twice in the chunk"),
    ],
)
def test_a_repeated_id_refuses_the_whole_chunk(any_store: StateStore, chunk: list[Any]) -> None:
    create(any_store, 3)
    with pytest.raises(DuplicateItemError) as caught:
        any_store.append_items(run_id=RUN, items=chunk)
    assert caught.value.item_ids == [chunk[1].item_id]
    assert len(records(any_store)) == 3


def test_the_same_item_id_may_occur_in_another_run(any_store: StateStore) -> None:
    create(any_store, 2)
    create(any_store, 2, run_id="run-2")
    assert len(records(any_store, run_id="run-2")) == 2


def test_the_config_comes_back_as_it_was(backend: Backend, clock: Clock) -> None:
    config = kit.config(
        chunk_policy=ChunkPolicy(max_requests=7, max_file_bytes=1234, chars_per_token=3),
        retry_policy=RetryPolicy(max_attempts=5, base_backoff_sec=0.5, max_backoff_sec=9.0),
        batch_metadata={"team": "données", "b": "2"},
        artifact_policy=ArtifactPolicy(persist_raw_output_artifacts=False),
        schema_name="answer",
        structured_output_module="some.module",
        structured_output_qualname="Answer",
        output_schema={"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}},
        budget_key="echo/account/model",
        extras={"asset": ["a", "b"], "partition": "2026-03-01"},
    )
    backend.open(clock).create_run(run_id=RUN, config=config, items=[])
    stored = backend.open(clock).get_run_config(run_id=RUN)
    assert replace(stored, provider_config=config.provider_config) == config
    assert stored.provider_config.provider_kind == "echo"
    assert stored.provider_config.to_public_payload() == {"model": "echo-1"}
    # the order of properties is part of a strict schema: a model answers in it
    assert json.dumps(stored.output_schema) == json.dumps(config.output_schema)


def test_a_run_has_no_checkpoint_until_one_is_set(any_store: StateStore) -> None:
    create(any_store)
    assert any_store.get_ingest_checkpoint(run_id=RUN) is None
    any_store.set_ingest_checkpoint(run_id=RUN, checkpoint=START)
    assert any_store.get_ingest_checkpoint(run_id=RUN) == START


def test_a_checkpoint_moves_with_the_reading(any_store: StateStore) -> None:
    create(any_store)
    any_store.set_ingest_checkpoint(run_id=RUN, checkpoint=START)
    any_store.update_ingest_checkpoint(
        run_id=RUN, next_item_index=3, checkpoint_payload={"byte": 99}, ingestion_complete=False
    )
    moved = replace(START, next_item_index=3, checkpoint_payload={"byte": 99})
    assert any_store.get_ingest_checkpoint(run_id=RUN) == moved
    any_store.update_ingest_checkpoint(run_id=RUN, next_item_index=4, ingestion_complete=True)
    ended = replace(START, next_item_index=4, checkpoint_payload=None, ingestion_complete=True)
    assert any_store.get_ingest_checkpoint(run_id=RUN) == ended


def test_a_run_is_not_finished_before_all_is_read(any_store: StateStore) -> None:
    create(any_store)
    any_store.set_ingest_checkpoint(run_id=RUN, checkpoint=START)
    summary = any_store.get_run_summary(run_id=RUN)
    assert (summary.status, summary.ingestion_complete) == (RunLifecycleStatus.RUNNING, False)
    any_store.update_ingest_checkpoint(run_id=RUN, next_item_index=0, ingestion_complete=True)
    summary = any_store.get_run_summary(run_id=RUN)
    assert (summary.status, summary.ingestion_complete) == (RunLifecycleStatus.COMPLETED, True)


def test_a_run_without_a_checkpoint_has_all_its_items(any_store: StateStore) -> None:
    create(any_store, 1)
    assert any_store.get_run_summary(run_id=RUN).ingestion_complete


def test_a_run_that_nobody_has_begun_to_read_is_not_finished(any_store: StateStore) -> None:
    """A crash between creating the run and setting its checkpoint must not look like an empty, finished run."""
    create(any_store)
    summary = any_store.get_run_summary(run_id=RUN)
    assert (summary.status, summary.ingestion_complete) == (RunLifecycleStatus.RUNNING, False)


@pytest.mark.parametrize("state", list(RunControlState))
def test_the_operators_wish_is_kept(any_store: StateStore, state: RunControlState) -> None:
    create(any_store)
    assert any_store.get_run_control_state(run_id=RUN) is RunControlState.RUNNING
    any_store.set_run_control_state(run_id=RUN, control_state=state)
    assert any_store.get_run_control_state(run_id=RUN) is state
    assert any_store.get_run_summary(run_id=RUN).control_state is state


def test_everything_outlives_the_store_object(backend: Backend, clock: Clock) -> None:
    first = backend.open(clock)
    create(first, 3)
    first.set_ingest_checkpoint(run_id=RUN, checkpoint=START)
    first.set_run_control_state(run_id=RUN, control_state=RunControlState.PAUSED)
    kit.complete(first, kit.hand_over(first, kit.claim(first, 1)))
    second = backend.open(clock)
    assert second.get_item_records(run_id=RUN) == first.get_item_records(run_id=RUN)
    assert second.get_run_summary(run_id=RUN) == first.get_run_summary(run_id=RUN)
    assert second.get_ingest_checkpoint(run_id=RUN) == START


def test_what_a_store_returns_is_the_callers_to_change(any_store: StateStore) -> None:
    create(any_store, 1)
    any_store.get_item_records(run_id=RUN)[0].metadata["row"] = "changed"
    any_store.get_run_config(run_id=RUN).batch_metadata["changed"] = "yes"
    assert records(any_store)["item-0"].metadata == {"row": 0}
    assert any_store.get_run_config(run_id=RUN).batch_metadata == {}


_ERROR = kit.failure()
_UNKNOWN_RUN: dict[str, Callable[[StateStore], object]] = {
    "append_items": lambda s: s.append_items(run_id="no", items=items(0)),
    "set_ingest_checkpoint": lambda s: s.set_ingest_checkpoint(run_id="no", checkpoint=START),
    "get_ingest_checkpoint": lambda s: s.get_ingest_checkpoint(run_id="no"),
    "update_ingest_checkpoint": lambda s: s.update_ingest_checkpoint(
        run_id="no", next_item_index=0, ingestion_complete=False
    ),
    "get_run_config": lambda s: s.get_run_config(run_id="no"),
    "get_run_control_state": lambda s: s.get_run_control_state(run_id="no"),
    "set_run_control_state": lambda s: s.set_run_control_state(
        run_id="no", control_state=RunControlState.PAUSED
    ),
    "claim_items_for_submission": lambda s: s.claim_items_for_submission(run_id="no", max_attempts=1),
    "release_items_to_pending": lambda s: s.release_items_to_pending(run_id="no", item_ids=["a"]),
    "requeue_local_items": lambda s: s.requeue_local_items(run_id="no"),
    "record_request_artifacts": lambda s: s.record_request_artifacts(run_id="no", pointers=[]),
    "get_request_artifact_paths": lambda s: s.get_request_artifact_paths(run_id="no"),
    "clear_request_artifact_pointers": lambda s: s.clear_request_artifact_pointers(
        run_id="no", artifact_paths=["a"]
    ),
    "record_batch_artifacts": lambda s: s.record_batch_artifacts(run_id="no", pointers=[]),
    "get_artifact_inventory": lambda s: s.get_artifact_inventory(run_id="no"),
    "clear_batch_artifact_pointers": lambda s: s.clear_batch_artifact_pointers(
        run_id="no", artifact_paths=["a"]
    ),
    "mark_artifacts_exported": lambda s: s.mark_artifacts_exported(run_id="no", export_root="out"),
    "register_batch": lambda s: s.register_batch(
        run_id="no", local_batch_id="l", provider_batch_id="p", status="validating", custom_ids=["c"]
    ),
    "mark_items_submitted": lambda s: s.mark_items_submitted(
        run_id="no", provider_batch_id="p", submissions=[]
    ),
    "update_batch_status": lambda s: s.update_batch_status(
        run_id="no", provider_batch_id="p", status="completed"
    ),
    "get_active_batches": lambda s: s.get_active_batches(run_id="no"),
    "get_submitted_custom_ids_for_batch": lambda s: s.get_submitted_custom_ids_for_batch(
        run_id="no", provider_batch_id="p"
    ),
    "mark_items_completed": lambda s: s.mark_items_completed(run_id="no", completions=[kit.good("c")]),
    "mark_items_failed": lambda s: s.mark_items_failed(run_id="no", failures=[kit.bad("c")], max_attempts=1),
    "mark_queued_items_failed": lambda s: s.mark_queued_items_failed(
        run_id="no", failures=[], max_attempts=1
    ),
    "reset_batch_items_to_pending": lambda s: s.reset_batch_items_to_pending(
        run_id="no", provider_batch_id="p", error=_ERROR
    ),
    "get_active_submitted_token_estimate": lambda s: s.get_active_submitted_token_estimate(run_id="no"),
    "record_batch_retry_failure": lambda s: s.record_batch_retry_failure(
        run_id="no", error_class="e", base_delay_sec=1, max_delay_sec=1
    ),
    "clear_batch_retry_backoff": lambda s: s.clear_batch_retry_backoff(run_id="no"),
    "get_batch_retry_backoff_remaining_sec": lambda s: s.get_batch_retry_backoff_remaining_sec(run_id="no"),
    "get_run_summary": lambda s: s.get_run_summary(run_id="no"),
    "get_item_records": lambda s: s.get_item_records(run_id="no"),
    "get_terminal_item_records": lambda s: s.get_terminal_item_records(run_id="no", after_sequence=0),
    "mark_nonterminal_items_cancelled": lambda s: s.mark_nonterminal_items_cancelled(
        run_id="no", error=_ERROR
    ),
}
_UNKNOWN_RUN_EXTRAS: dict[str, Callable[[StateStore], object]] = {
    "open_session": lambda s: s.open_session(run_id="no", owner=kit.ALICE, ttl_sec=1),
    "get_lease": lambda s: s.get_lease(run_id="no"),
    "get_control_reason": lambda s: s.get_control_reason(run_id="no"),
    "list_submissions": lambda s: s.list_submissions(run_id="no"),
    "get_batches": lambda s: s.get_batches(run_id="no"),
    "get_retry_backoff": lambda s: s.get_retry_backoff(run_id="no"),
    "reopen_failed_items": lambda s: s.reopen_failed_items(run_id="no"),
    "discard_unsent_run": lambda s: s.discard_unsent_run(run_id="no"),
    "delete_run": lambda s: s.delete_run(run_id="no"),
    "settle_submission": lambda s: s.settle_submission(run_id="no", local_batch_id="l", decision="fail"),
}


def test_the_table_of_unknown_runs_is_complete() -> None:
    assert sorted({*_UNKNOWN_RUN, "has_run", "create_run"}) == kit.DOCUMENTED_METHODS


def test_every_documented_method_says_that_a_run_is_unknown(any_store: StateStore) -> None:
    create(any_store, 1)
    for name, call in _UNKNOWN_RUN.items():
        with pytest.raises(RunNotFoundError) as caught:
            call(any_store)
        assert caught.value.run_id == "no", name
    assert len(records(any_store)) == 1


def test_every_further_method_says_that_a_run_is_unknown(store: StateStore) -> None:
    for name, call in _UNKNOWN_RUN_EXTRAS.items():
        with pytest.raises(RunNotFoundError) as caught:
            call(store)
        assert caught.value.run_id == "no", name


def test_runs_are_listed_newest_first(store: StateStore, clock: Clock) -> None:
    assert store.list_runs() == []
    for name in ("a", "b", "c"):
        create(store, 2, run_id=name, extras={"partition": name})
        clock.advance(1)
    listed = store.list_runs()
    assert [run.run_id for run in listed] == ["c", "b", "a"]
    assert [run.extras for run in listed] == [{"partition": "c"}, {"partition": "b"}, {"partition": "a"}]
    assert [run.created_at for run in listed] == [clock.seconds - 1, clock.seconds - 2, clock.seconds - 3]
    assert [run.last_sequence for run in listed] == [0, 0, 0]
    assert [run.summary for run in listed] == [store.get_run_summary(run_id=run.run_id) for run in listed]


def test_a_run_of_which_nothing_was_sent_is_discarded_wholly(store: StateStore, clock: Clock) -> None:
    create(store, 3)
    create(store, 1, run_id="run-2")
    session = kit.drive(store)
    kit.take(session, 0)
    kit.upload(session)
    clock.advance(61)
    assert store.discard_unsent_run(run_id=RUN)
    assert not store.has_run(run_id=RUN)
    assert [run.run_id for run in store.list_runs()] == ["run-2"]
    with pytest.raises(LeaseLostError):
        session.mark_sending(local_batch_id="b1", ttl_sec=60)
    session.close()
    create(store, 2)
    assert (len(records(store)), store.list_submissions(run_id=RUN), kit.active(store)) == (2, [], [])
    assert len(records(store, run_id="run-2")) == 1


def test_a_run_that_somebody_drives_is_not_discarded(store: StateStore) -> None:
    create(store, 1)
    session = kit.drive(store)
    assert not store.discard_unsent_run(run_id=RUN)
    session.close()
    assert store.discard_unsent_run(run_id=RUN)


def test_a_session_of_a_discarded_run_can_not_write_to_its_successor(store: StateStore, clock: Clock) -> None:
    create(store, 1)
    old = kit.drive(store)
    clock.advance(61)
    assert store.discard_unsent_run(run_id=RUN)
    create(store, 1)
    kit.drive(store, owner=kit.BOB)
    with pytest.raises(LeaseLostError):
        old.claim(local_batch_id="b1", artifact_key="k", item_indexes=[0], max_attempts=1)


@pytest.mark.parametrize("after", ["sending", "dropped", "registered", "by hand"])
def test_a_run_of_which_something_may_have_been_sent_is_kept(store: StateStore, after: str) -> None:
    create(store, 2)
    if after == "by hand":
        kit.hand_over(store, kit.claim(store, 1))
    else:
        session = kit.drive(store)
        kit.send(session, 0)
        if after == "dropped":
            session.drop(local_batch_id="b1", error_class="rejected")
        elif after == "registered":
            session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    assert not store.discard_unsent_run(run_id=RUN)
    assert len(records(store)) == 2
