"""Running a job to its end, and reading what it brought: in order, by pages, as files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batchor_core.core.enums import ItemStatus, RunLifecycleStatus
from batchor_core.core.exceptions import (
    InvalidInputError,
    ModelResolutionError,
    RunNotFinishedError,
    RunNotFoundError,
    RunStateError,
    StorageError,
)
from batchor_core.core.models import ArtifactPolicy, BatchItem, PromptParts
from batchor_core.core.usage import TokenUsage
from batchor_core.runtime import line_order, reading
from batchor_core.runtime.run import Run
from batchor_core.testing.fake_rows import http_error_row
from tests.support.world import RUN, Verdict, World, by_item, items, structured_job, text_job, texts


def rows(path: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_bytes().split(b"\n") if line]


def test_a_text_job_runs_to_its_end(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(3), run_id=RUN)
    assert run.is_finished
    assert run.status is RunLifecycleStatus.COMPLETED
    assert texts(run) == {f"item-{n}": f"answer to question {n}" for n in range(3)}
    result = run.results()[0]
    assert result.status is ItemStatus.COMPLETED
    assert result.attempt_count == 1
    assert result.metadata == {"row": 0}
    assert result.usage == TokenUsage(input_tokens=10, output_tokens=5)
    assert result.error is None
    assert result.raw_response is not None
    assert result.raw_response["response"]["status_code"] == 200


def test_a_run_is_reported_on_while_it_goes_on_and_after(any_world: World) -> None:
    any_world.provider.answer = by_item({1: http_error_row(400, "bad", "no luck")})
    run = any_world.start(text_job(3))
    assert "| State | running |" in run.report()
    any_world.clock.advance(600)
    run.wait()
    report = run.report()
    assert "| Failed | 1 (33.3 %) |" in report
    assert "| Cost | unknown: no price list known for the provider fake |" in report
    assert re.search(r"\| item-1 \| .*no luck", report)
    assert "Half of the rows were back within 10 min" in report


def test_a_structured_job_gives_models(any_world: World) -> None:
    any_world.provider.answer = by_item({}, '{"label": "good", "score": 0.5}')
    run = any_world.runner().run_and_wait(structured_job(2), run_id=RUN)
    assert [result.output for result in run.results()] == [Verdict(label="good", score=0.5)] * 2
    assert run.results()[0].output_text == '{"label": "good", "score": 0.5}'


def test_a_system_prompt_is_sent_with_each_row(world: World) -> None:
    job = text_job(1, build_prompt=lambda item: PromptParts("hello", "be brief"))
    world.start(job)
    assert next(iter(world.provider.batches.values())).lines[0]["body"]["instructions"] == "be brief"


def test_a_run_without_items_is_complete_and_asks_nobody(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(0), run_id=RUN)
    assert run.status is RunLifecycleStatus.COMPLETED
    assert run.results() == []
    assert any_world.provider.calls == []


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000])
def test_every_item_is_read_whatever_the_chunk(any_world: World, count: int) -> None:
    run = any_world.runner().run_and_wait(text_job(count), run_id=RUN)
    assert [result.item_id for result in run.results()] == [f"item-{n}" for n in range(count)]


def test_results_come_in_item_order_and_pages_in_the_order_they_ended(any_world: World) -> None:
    any_world.provider.answer = by_item({0: [http_error_row(500), "late"]})
    run = any_world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    assert [result.item_id for result in run.results()] == ["item-0", "item-1", "item-2", "item-3"]
    assert [result.item_id for result in run.iter_results()] == ["item-1", "item-2", "item-3", "item-0"]


def test_results_of_an_unfinished_run_are_refused(world: World) -> None:
    run = world.start()
    for read in (run.results, lambda: run.export_artifacts(world.folder), run.prune_artifacts):
        with pytest.raises(RunNotFinishedError) as raised:
            read()
        assert raised.value.run_id == RUN


def test_a_run_that_does_not_exist_is_not_found(any_world: World) -> None:
    runner = any_world.runner()
    for read in (
        runner.get_run,
        runner.read_terminal_results,
        lambda run_id: list(reading.iter_row_pages(runner._runs.engine, run_id, page_size=1)),
        runner.pause_run,
        runner.cancel_run,
        runner.retry_failed,
        lambda run_id: runner.export_terminal_results(run_id, destination=any_world.folder / "x"),
    ):
        with pytest.raises(RunNotFoundError, match="nobody"):
            read("nobody")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, None])
def test_a_cursor_reads_every_result_once(any_world: World, limit: int | None) -> None:
    run = any_world.runner().run_and_wait(text_job(7, per_batch=3), run_id=RUN)
    seen: list[str] = []
    cursor = 0
    while True:
        page = run.read_terminal_results(after_sequence=cursor, limit=limit)
        if not page.items:
            break
        assert limit is None or len(page.items) <= limit
        seen += [result.item_id for result in page.items]
        cursor = page.next_after_sequence
    assert sorted(seen) == [f"item-{n}" for n in range(7)]
    assert cursor == page.next_after_sequence == 7


def test_a_cursor_goes_on_while_the_run_does(any_world: World) -> None:
    run = any_world.start(text_job(4, per_batch=2))
    first, second = any_world.batch_ids()
    any_world.provider.set_statuses(first, "completed")
    any_world.provider.set_statuses(second, "in_progress", "in_progress", "completed")
    run.refresh()
    page = run.read_terminal_results()
    assert [result.item_id for result in page.items] == ["item-0", "item-1"]
    assert run.read_terminal_results(after_sequence=page.next_after_sequence).items == []
    run.wait()
    rest = run.read_terminal_results(after_sequence=page.next_after_sequence)
    assert [result.item_id for result in rest.items] == ["item-2", "item-3"]


@pytest.mark.parametrize(("after", "limit"), [(-1, None), (0, 0), (0, -5)])
def test_cursors_that_can_not_be_are_refused(world: World, after: int, limit: int | None) -> None:
    run = world.runner().run_and_wait(text_job(1), run_id=RUN)
    with pytest.raises(ValueError, match=r"after_sequence|limit"):
        run.read_terminal_results(after_sequence=after, limit=limit)
    with pytest.raises(ValueError, match=r"after_sequence|limit"):
        run.export_terminal_results(world.folder / "out.jsonl", after_sequence=after, limit=limit)
    assert not (world.folder / "out.jsonl").exists()


def test_record_pages_are_untyped_and_sized(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(5), run_id=RUN)
    pages = list(run.iter_record_pages(page_size=2))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [record.terminal_result_sequence for page in pages for record in page] == [1, 2, 3, 4, 5]
    assert all(record.raw_response is None for page in pages for record in page)


def test_a_snapshot_shows_what_has_ended_so_far(any_world: World) -> None:
    run = any_world.start(text_job(4, per_batch=2))
    any_world.provider.set_statuses(any_world.batch_ids()[0], "completed")
    run.refresh()
    snapshot = run.snapshot()
    assert [result.item_id for result in snapshot.items] == ["item-0", "item-1"]
    assert (snapshot.total_items, snapshot.completed_items, snapshot.active_batches) == (4, 2, 1)


# --- files -----------------------------------------------------------------------------------------------------------


def test_exported_rows_hold_the_documented_columns(any_world: World) -> None:
    any_world.provider.answer = by_item({1: http_error_row(400, "bad", "no good")})
    run = any_world.runner().run_and_wait(text_job(2), run_id=RUN)
    done = run.export_terminal_results(any_world.folder / "out.jsonl")
    assert done.exported_count == 2
    assert done.next_after_sequence == 2
    good, bad = sorted(rows(done.destination_path), key=lambda row: row["item_id"])
    assert list(good) == [
        "item_id",
        "status",
        "attempt_count",
        "metadata",
        "output_text",
        "raw_response",
        "error",
        "cost_usd",
    ]
    assert good["output_text"] == "fine"
    assert good["raw_response"]["response"]["status_code"] == 200
    assert good["error"] is None
    assert bad["status"] == "failed_permanent"
    assert bad["error"]["error_class"] == "provider_item_error"
    assert bad["raw_response"]["response"]["status_code"] == 400


def ended_backwards(world: World) -> Run:
    """A finished run of six rows, whose second batch ended first."""
    run = world.start(text_job(6, per_batch=3))
    first, second = world.batch_ids()
    world.provider.set_statuses(first, "in_progress", "in_progress", "completed")
    world.provider.set_statuses(second, "completed")
    return run.wait()


@pytest.mark.parametrize("in_memory_bytes", [10, 1_000_000])
def test_the_whole_of_a_finished_run_is_exported_in_input_order(
    any_world: World, monkeypatch: pytest.MonkeyPatch, in_memory_bytes: int
) -> None:
    monkeypatch.setattr(line_order, "IN_MEMORY_BYTES", in_memory_bytes)
    run, path = ended_backwards(any_world), any_world.folder / "out.jsonl"
    in_order = [f"item-{n}" for n in range(6)]
    done = run.export_terminal_results(path)
    assert (done.exported_count, done.next_after_sequence) == (6, 6)
    assert [row["item_id"] for row in rows(path)] == in_order
    bundle = run.export_artifacts(any_world.folder / "bundles")
    assert [row["item_id"] for row in rows(bundle.results_path)] == in_order


def test_cursors_and_runs_that_go_on_have_the_order_of_the_end(any_world: World) -> None:
    run, path = ended_backwards(any_world), any_world.folder / "out.jsonl"
    ended = [result.item_id for result in run.iter_results()]
    assert ended[0] == "item-3"
    first = run.export_terminal_results(path, limit=4)
    run.export_terminal_results(path, after_sequence=first.next_after_sequence)
    assert [row["item_id"] for row in rows(path)] == ended
    run.export_terminal_results(path, append=False, order="ended")
    assert [row["item_id"] for row in rows(path)] == ended
    with pytest.raises(ValueError, match="leave out order='input'"):
        run.export_terminal_results(path, order="input", limit=3)
    with pytest.raises(ValueError, match="order must be"):
        run.export_terminal_results(path, order="random")  # type: ignore[arg-type]


def test_raw_responses_can_be_left_out(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(2), run_id=RUN)
    path = any_world.folder / "out.jsonl"
    run.export_terminal_results(path, raw_responses=False)
    assert [list(row) for row in rows(path)] == [
        ["item_id", "status", "attempt_count", "metadata", "output_text", "error", "cost_usd"]
    ] * 2


def test_a_model_that_is_given_reads_what_can_not_be_imported(any_world: World) -> None:
    class Local(BaseModel):
        label: str

    any_world.provider.answer = by_item({}, '{"label": "x", "score": 1}')
    any_world.runner().run_and_wait(text_job(2, structured_output=Local), run_id=RUN)
    run = any_world.runner().get_run(RUN)  # as another process has it
    with pytest.raises(ModelResolutionError, match=r"iter_results\(model=\.\.\.\).*iter_record_pages"):
        run.results()
    assert [result.output for result in run.iter_results(model=Local)] == [Local(label="x")] * 2
    assert [result.output for result in run.results(model=Local)] == [Local(label="x")] * 2
    with pytest.raises(ValueError, match="model must be a Pydantic model class"):
        run.results(model=Local(label="x"))  # type: ignore[arg-type]


def test_structured_rows_hold_the_json_too(any_world: World) -> None:
    any_world.provider.answer = by_item({}, '{"label": "x", "score": 1}')
    run = any_world.runner().run_and_wait(structured_job(1), run_id=RUN)
    (row,) = rows(run.export_terminal_results(any_world.folder / "out.jsonl").destination_path)
    assert row["output_json"] == {"label": "x", "score": 1}


def test_exporting_goes_on_where_it_stopped(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(5), run_id=RUN)
    path = any_world.folder / "deep" / "out.jsonl"
    first = run.export_terminal_results(path, limit=2)
    second = run.export_terminal_results(path, after_sequence=first.next_after_sequence)
    nothing = run.export_terminal_results(path, after_sequence=second.next_after_sequence)
    assert (first.exported_count, second.exported_count, nothing.exported_count) == (2, 3, 0)
    assert nothing.next_after_sequence == 5
    assert [row["item_id"] for row in rows(path)] == [f"item-{n}" for n in range(5)]


def test_a_replacing_export_leaves_the_new_rows_only(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(3), run_id=RUN)
    path = any_world.folder / "out.jsonl"
    path.write_text("old\n")
    run.export_terminal_results(path, append=False, limit=1)
    assert [row["item_id"] for row in rows(path)] == ["item-0"]
    assert [child.name for child in any_world.folder.glob("*.tmp")] == []


def test_appending_begins_on_a_line_of_its_own(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(1), run_id=RUN)
    path = any_world.folder / "out.jsonl"
    path.write_text('{"item_id": "half wri')
    run.export_terminal_results(path)
    assert path.read_text().splitlines()[0] == '{"item_id": "half wri'
    assert json.loads(path.read_text().splitlines()[1])["item_id"] == "item-0"


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize("before", [None, "old\n"])
def test_an_export_that_fails_midway_leaves_the_file_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, append: bool, before: str | None
) -> None:
    run = world.runner().run_and_wait(text_job(2_500), run_id=RUN)
    path = world.folder / "out.jsonl"
    if before is not None:
        path.write_text(before)
    read, calls = world.store.get_result_rows, []

    def fails_on_the_third_page(**arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("disk trouble")
        return read(**arguments)

    monkeypatch.setattr(world.store, "get_result_rows", fails_on_the_third_page)
    with pytest.raises(OSError, match="disk trouble"):
        run.export_terminal_results(path, append=append)
    assert (path.read_text() if path.exists() else None) == before
    assert list(world.folder.glob(".out*")) == []


def test_a_place_that_can_not_be_written_is_one_clear_error(world: World) -> None:
    run = world.runner().run_and_wait(text_job(1), run_id=RUN)
    (world.folder / "file").write_text("in the way")
    for place in (world.folder / "file" / "out.jsonl", world.folder):
        for append in (True, False):
            with pytest.raises(StorageError, match=str(world.folder)):
                run.export_terminal_results(place, append=append)
    with pytest.raises(StorageError, match=str(world.folder)):
        run.export_artifacts(world.folder / "file" / "bundle")


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_bundle_holds_every_file_with_its_sum(any_world: World) -> None:
    any_world.provider.answer = by_item({1: http_error_row(400)})
    run = any_world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    done = run.export_artifacts(any_world.folder / "bundles")
    bundle = Path(done.destination_dir)
    assert bundle == any_world.folder / "bundles" / RUN
    manifest = json.loads(Path(done.manifest_path).read_bytes())
    assert manifest["run_id"] == RUN
    listed = {entry["path"]: entry for entry in manifest["files"]}
    found = _files(bundle)
    assert set(listed) | {"manifest.json"} == set(found)
    for name, entry in listed.items():
        assert entry["size_bytes"] == len(found[name])
        assert entry["sha256"] == hashlib.sha256(found[name]).hexdigest()
    # two request files, two output files and one error file
    assert len(done.exported_artifact_paths) == 5
    assert len(rows(done.results_path)) == 4
    beside = _files(any_world.folder / "bundles").keys() - {f"{RUN}/{name}" for name in found}
    assert beside == {".batchor.lock"}


def test_exporting_twice_gives_the_same_bytes(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(3), run_id=RUN)
    first = _files(Path(run.export_artifacts(any_world.folder / "one").destination_dir))
    again = _files(Path(run.export_artifacts(any_world.folder / "one").destination_dir))
    elsewhere = _files(
        Path(any_world.runner().get_run(RUN).export_artifacts(any_world.folder / "two").destination_dir)
    )
    assert first == again == elsewhere


def test_a_failed_export_leaves_the_bundle_before_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.runner().run_and_wait(text_job(3), run_id=RUN)
    run.export_artifacts(world.folder / "bundles")
    before = _files(world.folder / "bundles")

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise OSError("disk full")

    monkeypatch.setattr(world.artifacts, "export_to_directory", fails)
    with pytest.raises(OSError, match="disk full"):
        run.export_artifacts(world.folder / "bundles")
    assert _files(world.folder / "bundles") == before


def test_a_pruning_that_was_cut_short_leaves_the_run_exportable(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    request_files = any_world.store.get_artifact_inventory(run_id=RUN).request_artifact_paths
    any_world.artifacts.delete(request_files[0])  # and then the process died
    done = run.export_artifacts(any_world.folder / "bundles")
    assert request_files[0] not in done.exported_artifact_paths
    assert request_files[1] in done.exported_artifact_paths


def test_a_raw_output_that_is_lost_is_no_bundle(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    any_world.artifacts.delete(any_world.store.get_artifact_inventory(run_id=RUN).output_artifact_paths[0])
    with pytest.raises(FileNotFoundError):
        run.export_artifacts(any_world.folder / "bundles")
    assert not (any_world.folder / "bundles" / RUN).exists()


def test_request_files_are_pruned_without_an_export(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    done = run.prune_artifacts()
    assert len(done.removed_artifact_paths) == 2
    assert done.missing_artifact_paths == []
    assert done.cleared_item_pointers == 4
    assert done.cleared_batch_pointers == 0
    assert not any(any_world.artifacts.exists(key) for key in done.removed_artifact_paths)
    assert run.results()[0].raw_response is not None
    again = run.prune_artifacts()
    assert (again.removed_artifact_paths, again.cleared_item_pointers) == ([], 0)


def test_raw_outputs_are_kept_until_they_are_exported(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    with pytest.raises(RunStateError, match="export_artifacts"):
        run.prune_artifacts(include_raw_output_artifacts=True)
    assert run.results()[0].raw_response is not None
    assert all(
        map(
            any_world.artifacts.exists,
            any_world.store.get_artifact_inventory(run_id=RUN).request_artifact_paths,
        )
    )


def test_pruned_raw_outputs_read_as_none(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(4, per_batch=2), run_id=RUN)
    run.export_artifacts(any_world.folder / "bundles")
    done = run.prune_artifacts(include_raw_output_artifacts=True)
    assert len(done.removed_artifact_paths) == 4
    assert done.cleared_batch_pointers == 2
    assert [result.raw_response for result in run.results()] == [None] * 4
    assert texts(run)["item-0"] == "answer to question 0"
    (row, *_) = rows(run.export_terminal_results(any_world.folder / "after.jsonl").destination_path)
    assert row["raw_response"] is None


@pytest.mark.parametrize("harm", ["gone", "truncated", "file missing"])
def test_raw_outputs_are_not_pruned_when_the_bundle_has_suffered(world: World, harm: str) -> None:
    run = world.runner().run_and_wait(text_job(2), run_id=RUN)
    bundle = Path(run.export_artifacts(world.folder / "bundles").destination_dir)
    (raw,) = world.store.get_artifact_inventory(run_id=RUN).output_artifact_paths
    match harm:
        case "gone":
            bundle.rename(world.folder / "elsewhere")
        case "truncated":
            (bundle / "artifacts" / raw).write_bytes(b"{")
        case _:
            (bundle / "artifacts" / raw).unlink()
    with pytest.raises(RunStateError, match="again"):
        run.prune_artifacts(include_raw_output_artifacts=True)
    assert world.artifacts.exists(raw)
    assert run.results()[0].raw_response is not None


def test_files_that_were_gone_already_are_named(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(2), run_id=RUN)
    (key,) = any_world.store.get_artifact_inventory(run_id=RUN).request_artifact_paths
    any_world.artifacts.delete(key)
    done = run.prune_artifacts()
    assert done.removed_artifact_paths == []
    assert done.missing_artifact_paths == [key]
    assert done.cleared_item_pointers == 2


def test_a_bundle_that_holds_pruned_files_is_never_replaced(any_world: World) -> None:
    run = any_world.runner().run_and_wait(text_job(2), run_id=RUN)
    run.export_artifacts(any_world.folder / "bundles")
    run.prune_artifacts(include_raw_output_artifacts=True)
    before = _files(any_world.folder / "bundles")
    with pytest.raises(RunStateError, match="pruned"):
        run.export_artifacts(any_world.folder / "bundles")
    assert _files(any_world.folder / "bundles") == before
    run.export_artifacts(any_world.folder / "others")


def test_raw_responses_are_kept_in_the_store_where_raw_files_are_not(any_world: World) -> None:
    job = text_job(2, artifact_policy=ArtifactPolicy(persist_raw_output_artifacts=False))
    run = any_world.runner().run_and_wait(job, run_id=RUN)
    inventory = any_world.store.get_artifact_inventory(run_id=RUN)
    assert inventory.output_artifact_paths == inventory.error_artifact_paths == []
    raw = run.results()[0].raw_response
    assert raw is not None
    assert raw["response"]["status_code"] == 200


# --- what is not usable ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_id", ["", "a/b", "..", "x" * 201, "ends."])
def test_a_run_id_that_can_not_be_a_folder_is_refused(world: World, run_id: str) -> None:
    with pytest.raises(InvalidInputError, match="run id"):
        world.start(run_id=run_id)
    assert world.store.list_runs() == []
    assert world.provider.calls == []


def test_a_run_gets_an_id_of_its_own_without_one(world: World) -> None:
    runner = world.runner()
    one, two = runner.start(text_job(1)), runner.start(text_job(1))
    assert one.run_id != two.run_id
    assert runner.has_run(one.run_id)
    assert {listing.run_id for listing in runner.list_runs()} == {one.run_id, two.run_id}


def test_items_are_read_once(world: World) -> None:
    def reads() -> Any:
        for item in items(5):
            asked.append(item.item_id)
            yield item

    asked: list[str] = []
    job = text_job(reads())
    built: list[BatchItem[Any]] = []

    def build(item: BatchItem[Any]) -> str:
        built.append(item)
        return "hi"

    world.runner().run_and_wait(text_job(job.items, build_prompt=build), run_id=RUN)
    assert asked == [f"item-{n}" for n in range(5)]
    assert [item.item_id for item in built] == asked


def test_a_text_result_has_its_text_as_output_and_a_failed_one_has_none(world: World) -> None:
    world.provider.answer = by_item({1: http_error_row(400)}, otherwise="fine")
    good, bad = world.runner().run_and_wait(text_job(2), run_id=RUN).results()
    assert (good.output, good.error) == ("fine", None)
    assert bad.output is None
    assert bad.error is not None
