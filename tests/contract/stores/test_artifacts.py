"""Pointers to request files and raw files, and the mark of an export: the documented methods."""

from __future__ import annotations

from batchor_core.storage.state import (
    BatchArtifactPointer,
    RequestArtifactPointer,
    RunArtifactInventory,
    StateStore,
)
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, Clock, claim, create


def point(store: StateStore, path: str, *indexes: int) -> None:
    pointers = [
        RequestArtifactPointer(f"item-{index}", path, line, f"sha-{index}")
        for line, index in enumerate(indexes, 1)
    ]
    store.record_request_artifacts(run_id=RUN, pointers=pointers)


def test_a_run_without_files_has_an_empty_inventory(any_store: StateStore) -> None:
    create(any_store, 1)
    assert any_store.get_artifact_inventory(run_id=RUN) == RunArtifactInventory([], [], [])
    assert any_store.get_request_artifact_paths(run_id=RUN) == []


def test_request_files_are_named_once_and_sorted(any_store: StateStore) -> None:
    create(any_store, 4)
    point(any_store, "z.jsonl", 0, 1)
    point(any_store, "a.jsonl", 2)
    assert any_store.get_request_artifact_paths(run_id=RUN) == ["a.jsonl", "z.jsonl"]
    assert any_store.get_artifact_inventory(run_id=RUN).request_artifact_paths == ["a.jsonl", "z.jsonl"]


def test_a_claimed_item_knows_its_request_line(any_store: StateStore) -> None:
    create(any_store, 2)
    point(any_store, "a.jsonl", 1, 0)
    first, second = any_store.claim_items_for_submission(run_id=RUN, max_attempts=MAX)
    assert (first.request_artifact_path, first.request_artifact_line, first.request_sha256) == (
        "a.jsonl",
        2,
        "sha-0",
    )
    assert (second.request_artifact_path, second.request_artifact_line, second.request_sha256) == (
        "a.jsonl",
        1,
        "sha-1",
    )


def test_a_later_pointer_replaces_an_earlier_one(any_store: StateStore) -> None:
    create(any_store, 1)
    point(any_store, "a.jsonl", 0)
    point(any_store, "b.jsonl", 0)
    assert any_store.get_request_artifact_paths(run_id=RUN) == ["b.jsonl"]


def test_clearing_request_pointers_counts_items(any_store: StateStore) -> None:
    create(any_store, 4)
    point(any_store, "a.jsonl", 0, 1)
    point(any_store, "b.jsonl", 2, 3)
    assert any_store.clear_request_artifact_pointers(run_id=RUN, artifact_paths=[]) == 0
    assert any_store.clear_request_artifact_pointers(run_id=RUN, artifact_paths=["a.jsonl", "nobody"]) == 2
    assert any_store.clear_request_artifact_pointers(run_id=RUN, artifact_paths=["a.jsonl"]) == 0
    assert any_store.get_request_artifact_paths(run_id=RUN) == ["b.jsonl"]
    first, *_ = any_store.claim_items_for_submission(run_id=RUN, max_attempts=MAX)
    assert (first.request_artifact_path, first.request_artifact_line, first.request_sha256) == (
        None,
        None,
        None,
    )


def test_raw_files_are_kept_by_batch(any_store: StateStore) -> None:
    create(any_store, 2)
    for name in ("p1", "p2"):
        kit.hand_over(any_store, claim(any_store, 1), batch=name)
    kit.keep_files(any_store, "p1", "p1.out", None)
    kit.keep_files(any_store, "p1", None, "p1.err")
    kit.keep_files(any_store, "p2", "p2.out", None)
    inventory = any_store.get_artifact_inventory(run_id=RUN)
    assert inventory.output_artifact_paths == ["p1.out", "p2.out"]
    assert inventory.error_artifact_paths == ["p1.err"]


def test_clearing_raw_pointers_counts_batches(any_store: StateStore) -> None:
    create(any_store, 2)
    for name in ("p1", "p2"):
        kit.hand_over(any_store, claim(any_store, 1), batch=name)
        kit.keep_files(any_store, name, f"{name}.out", f"{name}.err")
    paths = ["p1.out", "p1.err", "p2.err", "nobody"]
    assert any_store.clear_batch_artifact_pointers(run_id=RUN, artifact_paths=paths) == 2
    assert any_store.clear_batch_artifact_pointers(run_id=RUN, artifact_paths=paths) == 0
    inventory = any_store.get_artifact_inventory(run_id=RUN)
    assert (inventory.output_artifact_paths, inventory.error_artifact_paths) == (["p2.out"], [])


def test_an_export_is_remembered_with_its_time(any_store: StateStore, clock: Clock) -> None:
    create(any_store)
    any_store.mark_artifacts_exported(run_id=RUN, export_root="/exports/one")
    clock.advance(60)
    any_store.mark_artifacts_exported(run_id=RUN, export_root="/exports/two")
    inventory = any_store.get_artifact_inventory(run_id=RUN)
    assert (inventory.export_root, inventory.exported_at) == ("/exports/two", clock.seconds)


def test_the_files_of_two_runs_do_not_mix(any_store: StateStore) -> None:
    create(any_store, 1)
    create(any_store, 1, run_id="run-2")
    point(any_store, "a.jsonl", 0)
    any_store.mark_artifacts_exported(run_id=RUN, export_root="out")
    assert any_store.clear_request_artifact_pointers(run_id="run-2", artifact_paths=["a.jsonl"]) == 0
    assert any_store.get_artifact_inventory(run_id="run-2") == RunArtifactInventory([], [], [])


def test_a_drivers_request_file_is_known_once_it_is_whole(any_store: StateStore) -> None:
    create(any_store, 3)
    session = kit.drive(any_store)
    kit.take(session, 0, 1)
    assert any_store.get_request_artifact_paths(run_id=RUN) == []
    kit.upload(session)
    assert any_store.get_request_artifact_paths(run_id=RUN) == ["requests/b1.jsonl"]
    session.mark_sending(local_batch_id="b1", ttl_sec=60)
    session.register(local_batch_id="b1", provider_batch_id="p1", status="validating")
    assert any_store.get_artifact_inventory(run_id=RUN).request_artifact_paths == ["requests/b1.jsonl"]
    assert any_store.clear_request_artifact_pointers(run_id=RUN, artifact_paths=["requests/b1.jsonl"]) == 2
    assert any_store.clear_request_artifact_pointers(run_id=RUN, artifact_paths=["requests/b1.jsonl"]) == 0
    assert any_store.get_request_artifact_paths(run_id=RUN) == []


def test_the_request_files_of_retried_items_are_all_known(store: StateStore) -> None:
    create(store, 2)
    session = kit.drive(store)
    custom_ids = kit.submit(session, 0, 1)
    session.apply_outcome(provider_batch_id="p1", released_custom_ids=custom_ids, max_attempts=MAX)
    kit.submit(session, 0, 1, local="b2", batch="p2")
    assert store.get_request_artifact_paths(run_id=RUN) == ["requests/b1.jsonl", "requests/b2.jsonl"]


def test_pointers_to_unknown_items_are_passed_over(any_store: StateStore) -> None:
    create(any_store, 1)
    pointers = [RequestArtifactPointer("nobody", "a.jsonl", 1, "sha")]
    any_store.record_request_artifacts(run_id=RUN, pointers=pointers)
    assert any_store.get_request_artifact_paths(run_id=RUN) == []
    any_store.record_batch_artifacts(run_id=RUN, pointers=[])
    assert any_store.get_artifact_inventory(run_id=RUN).output_artifact_paths == []


def test_pointers_are_recorded_in_one_call(any_store: StateStore) -> None:
    create(any_store, 2)
    for name in ("p1", "p2"):
        kit.hand_over(any_store, claim(any_store, 1), batch=name)
    pointers = [BatchArtifactPointer("p1", "p1.out", "p1.err"), BatchArtifactPointer("p2", "p2.out")]
    any_store.record_batch_artifacts(run_id=RUN, pointers=pointers)
    inventory = any_store.get_artifact_inventory(run_id=RUN)
    assert (inventory.output_artifact_paths, inventory.error_artifact_paths) == (
        ["p1.out", "p2.out"],
        ["p1.err"],
    )
