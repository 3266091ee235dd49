"""Starting again: after the end, in mid-reading, with another source or another job."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import (
    MissingCredentialsError,
    ModelResolutionError,
    RunConfigMismatchError,
    RunIngestionSourceRequiredError,
    RunStateError,
    SourceMismatchError,
    StorageError,
)
from batchor_core.core.models import BatchItem, PromptParts, RetryPolicy
from batchor_core.sources.files import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.sources.frames import FrameItemSource
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import http_error_row
from tests.support.world import (
    RUN,
    Verdict,
    World,
    ask,
    by_item,
    errors,
    items,
    structured_job,
    text_job,
    texts,
)

COUNT = 250
"""Three chunks: the reading stops in the second."""

Source = Any


def _csv(path: Path, changed: bool = False) -> Source:
    rows = "".join(f"{n},question {n}{'!' if changed else ''}\n" for n in range(COUNT))
    path.with_suffix(".csv").write_text("id,text\n" + rows)
    return CsvItemSource(path.with_suffix(".csv"), item_id_from_row=_row_id, payload_from_row=dict)


def _jsonl(path: Path, changed: bool = False) -> Source:
    rows = "".join(f'{{"id": "{n}", "text": "question {n}{"!" if changed else ""}"}}\n' for n in range(COUNT))
    path.with_suffix(".jsonl").write_text(rows)
    return JsonlItemSource(path.with_suffix(".jsonl"), item_id_from_row=_row_id, payload_from_row=dict)


def _parquet(path: Path, changed: bool = False) -> Source:
    table = pa.table(
        {
            "id": [str(n) for n in range(COUNT)],
            "text": [f"question {n}{'!' if changed else ''}" for n in range(COUNT)],
        }
    )
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=70)
    return ParquetItemSource(path.with_suffix(".parquet"), item_id_from_row=_row_id, payload_from_row=dict)


def _row_id(row: Any) -> str:
    return f"item-{row['id']}"


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.runtime.ingest.CHUNK", 100)


SOURCES = [_csv, _jsonl, _parquet]


class Killed(BaseException):
    """The process dies."""


def dies_at(row: int, prompt: Callable[[BatchItem[Any]], PromptParts | str] = ask) -> Any:
    def build(item: BatchItem[Any]) -> PromptParts | str:
        if item.item_id == f"item-{row}":
            raise Killed
        return prompt(item)

    return build


# --- finished runs ---------------------------------------------------------------------------------------------------


def test_starting_a_finished_run_again_asks_nobody(any_world: World) -> None:
    any_world.runner().run_and_wait(text_job(3), run_id=RUN)
    calls = len(any_world.provider.calls)

    def no_key(config: Any) -> Any:
        raise MissingCredentialsError("no key")

    again = any_world.runner(provider_factory=no_key).start(text_job(3), run_id=RUN)
    assert again.is_finished
    assert len(again.results()) == 3
    assert len(any_world.provider.calls) == calls


def test_starting_a_running_run_again_sends_nothing_twice(any_world: World) -> None:
    job = text_job(5, per_batch=2)
    runner = any_world.runner()
    runner.start(job, run_id=RUN)
    runner.start(job, run_id=RUN)
    run = runner.start(job, run_id=RUN).wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert set(any_world.provider.submitted().values()) == {1}


# --- in mid-reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_source", SOURCES)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_reading_goes_on_where_the_process_died(
    make_world: Callable[..., World], kind: str, make_source: Callable[..., Source]
) -> None:
    world = make_world(kind=kind)
    source = make_source(world.folder / "rows")
    with pytest.raises(Killed):
        world.start(text_job(source, build_prompt=dies_at(150), per_batch=40))
    assert world.summary().total_items == 100
    assert world.summary().status is RunLifecycleStatus.RUNNING
    assert world.lines() == [40, 40]
    built: list[str] = []

    def build(item: BatchItem[Any]) -> str:
        built.append(item.item_id)
        return ask(item)

    run = world.start(text_job(source, build_prompt=build, per_batch=40))
    run.wait()
    # those that are stored are compared first
    assert built == [f"item-{n}" for n in range(COUNT)]
    assert [result.item_id for result in run.results()] == [f"item-{n}" for n in range(COUNT)]
    assert set(world.provider.submitted().values()) == {1}


@pytest.mark.parametrize("make_source", SOURCES)
def test_another_content_is_refused(world: World, make_source: Callable[..., Source]) -> None:
    source = make_source(world.folder / "rows")
    with pytest.raises(Killed):
        world.start(text_job(source, build_prompt=dies_at(150)))
    with pytest.raises(SourceMismatchError, match="content") as raised:
        world.start(text_job(make_source(world.folder / "rows", changed=True)))
    assert raised.value.run_id == RUN
    assert world.summary().total_items == 100


def test_another_content_is_refused_after_the_end_too(world: World) -> None:
    world.runner().run_and_wait(text_job(_csv(world.folder / "rows")), run_id=RUN)
    with pytest.raises(SourceMismatchError):
        world.start(text_job(_csv(world.folder / "rows", changed=True)))


def test_another_kind_of_source_is_refused(world: World) -> None:
    with pytest.raises(Killed):
        world.start(text_job(_csv(world.folder / "rows"), build_prompt=dies_at(150)))
    with pytest.raises(SourceMismatchError, match="jsonl"):
        world.start(text_job(_jsonl(world.folder / "rows")))


@pytest.mark.parametrize("make_source", SOURCES)
def test_a_file_may_be_moved(world: World, make_source: Callable[..., Source]) -> None:
    with pytest.raises(Killed):
        world.start(text_job(make_source(world.folder / "rows"), build_prompt=dies_at(150)))
    (world.folder / "elsewhere").mkdir()
    run = world.start(text_job(make_source(world.folder / "elsewhere" / "moved"))).wait()
    assert len(run.results()) == COUNT


def test_an_interrupted_iterable_can_not_go_on(any_world: World) -> None:
    with pytest.raises(Killed):
        any_world.start(text_job(150, build_prompt=dies_at(120), per_batch=50))
    with pytest.raises(RunIngestionSourceRequiredError) as raised:
        any_world.start(text_job(150, per_batch=50))
    assert raised.value.run_id == RUN
    with pytest.raises(RunIngestionSourceRequiredError):
        any_world.runner().get_run(RUN).wait()
    assert any_world.summary().status is RunLifecycleStatus.RUNNING
    assert any_world.summary().completed_items == 100  # what was read is not lost


def test_an_interrupted_iterable_can_be_cancelled(any_world: World) -> None:
    with pytest.raises(Killed):
        any_world.start(text_job(150, build_prompt=dies_at(120)))
    run = any_world.runner().get_run(RUN)
    run.cancel()
    run.wait()
    assert run.summary().failed_items == 100


def test_a_prompt_that_fails_can_be_mended_in_the_same_process(any_world: World) -> None:
    def fails(item: BatchItem[Any]) -> str:
        if item.item_id == "item-120":
            raise ValueError("a bug in the prompt")
        return ask(item)

    runner = any_world.runner()
    source = _csv(any_world.folder / "rows")
    with pytest.raises(ValueError, match="a bug in the prompt") as raised:
        runner.start(text_job(source, build_prompt=fails, per_batch=50), run_id=RUN)
    assert "item-120" in raised.value.__notes__[0]
    assert any_world.lines() == [50, 50]
    run = runner.start(text_job(source, per_batch=50), run_id=RUN).wait()
    assert len(run.results()) == COUNT
    assert set(any_world.provider.submitted().values()) == {1}


def test_a_database_that_fails_at_the_start_loses_no_run(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other drivers may have joined the run by then, and would be told that there is none."""
    runner, job = any_world.runner(), text_job(_csv(any_world.folder / "rows"))
    with monkeypatch.context() as patch:
        patch.setattr(runner.storage, "open_session", _restarts)
        with pytest.raises(StorageError, match="the server restarts"):
            runner.start(job, run_id=RUN)
    assert runner.storage.has_run(run_id=RUN)
    run = runner.start(job, run_id=RUN).wait()
    assert len(run.results()) == COUNT


def _restarts(**_: object) -> None:
    raise StorageError("the server restarts", is_passing=True)


def test_a_prompt_of_an_iterable_can_be_mended_in_the_same_process(any_world: World) -> None:
    broken = True

    def build(item: BatchItem[Any]) -> str:
        if broken and item.item_id == "item-120":
            raise ValueError("a bug in the prompt")
        return ask(item)

    runner = any_world.runner()
    job = text_job(iter(items(150)), build_prompt=build, per_batch=50)
    with pytest.raises(ValueError, match="a bug in the prompt"):
        runner.start(job, run_id=RUN)
    broken = False
    run = runner.start(job, run_id=RUN).wait()
    assert [result.item_id for result in run.results()] == [f"item-{n}" for n in range(150)]


def _breaks(count: int, at: int) -> Iterator[BatchItem[Any]]:
    for item in items(count):
        if item.item_id == f"item-{at}":
            raise OSError("the network drive is gone")
        yield item


def test_an_iterable_that_broke_is_never_taken_for_read(any_world: World) -> None:
    runner = any_world.runner()
    job = text_job(_breaks(300, at=170), per_batch=50)
    with pytest.raises(OSError, match="network drive"):
        runner.start(job, run_id=RUN)
    with pytest.raises(RunIngestionSourceRequiredError):
        runner.start(job, run_id=RUN)
    with pytest.raises(RunIngestionSourceRequiredError):
        runner.get_run(RUN).wait()
    assert not any_world.summary().ingestion_complete


def test_a_source_that_broke_is_read_on_from_the_checkpoint(any_world: World) -> None:
    source = _csv(any_world.folder / "rows")
    read, broken = source.iter_from_checkpoint, True

    def breaks(checkpoint: Any) -> Iterator[Any]:
        for row in read(checkpoint):
            if broken and row.item.item_id == "item-170":
                raise OSError("the network drive is gone")
            yield row

    source.iter_from_checkpoint = breaks
    runner = any_world.runner()
    with pytest.raises(OSError, match="network drive"):
        runner.start(text_job(source, per_batch=50), run_id=RUN)
    broken = False
    run = runner.get_run(RUN).wait()
    assert len(run.results()) == COUNT


def test_a_run_that_was_only_just_created_goes_on(any_world: World) -> None:
    set_checkpoint = any_world.store.set_ingest_checkpoint

    def dies(**arguments: Any) -> None:
        raise Killed

    any_world.store.set_ingest_checkpoint = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        any_world.start(text_job(3))
    any_world.store.set_ingest_checkpoint = set_checkpoint  # type: ignore[method-assign]
    assert len(any_world.start(text_job(3)).wait().results()) == 3


# --- another process drives ------------------------------------------------------------------------------------------


def test_another_process_drives_a_run_to_its_end(any_world: World) -> None:
    any_world.provider.answer = by_item({1: [http_error_row(500), "second try"]})
    any_world.start(text_job(4, per_batch=2))
    run = any_world.runner(storage=any_world.open_store()).get_run(RUN).wait()
    assert texts(run)["item-1"] == "second try"
    assert run.status is RunLifecycleStatus.COMPLETED


def test_a_model_that_can_not_be_imported_is_missed_by_typed_reads_only(any_world: World) -> None:
    class Local(BaseModel):
        label: str
        score: float

    any_world.provider.answer = by_item({1: "no json"}, '{"label": "x", "score": 1}')
    any_world.start(structured_job(2, structured_output=Local, retry=RetryPolicy(max_attempts=1)))
    run = any_world.runner().get_run(RUN)
    run.wait()
    assert run.summary().completed_items == 1
    for read in (run.results, run.snapshot, run.read_terminal_results, lambda: list(run.iter_results())):
        with pytest.raises(ModelResolutionError, match="Local"):
            read()
    assert run.export_terminal_results(any_world.folder / "out.jsonl").exported_count == 2
    run.export_artifacts(any_world.folder / "bundle")


def test_a_model_is_imported_again_in_another_process(any_world: World) -> None:
    any_world.provider.answer = by_item({}, '{"label": "x", "score": 1}')
    any_world.start(structured_job(2))
    run = any_world.runner().get_run(RUN).wait()
    assert run.results()[0].output == Verdict(label="x", score=1)


def test_a_model_that_is_missing_is_looked_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("soon_gone")
    model = type("Gone", (BaseModel,), {"__annotations__": {"x": int}, "__module__": "soon_gone"})
    module.Gone = model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "soon_gone", module)
    world.provider.answer = by_item({}, '{"x": 1}')
    world.start(structured_job(50, structured_output=model))
    monkeypatch.delitem(sys.modules, "soon_gone")
    looked: list[str] = []

    def resolve(module_name: str, qualname: str, **rules: Any) -> Any:
        looked.append(module_name)
        raise ModelResolutionError(module_name, qualname)

    monkeypatch.setattr("batchor_core.runtime.outputs.resolve_stored_model", resolve)
    world.runner().get_run(RUN).wait()
    assert len(looked) < 10


# --- another job -----------------------------------------------------------------------------------------------------


class Other(BaseModel):
    label: str


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"provider_config": FakeProviderConfig(model="another")}, ["model"]),
        ({"structured_output": Other}, ["structured_output"]),
        ({"structured_output": None}, ["structured_output"]),
        ({"schema_name": "renamed"}, ["structured_output"]),
        (
            {"structured_output": Other, "provider_config": FakeProviderConfig(model="another")},
            ["model", "structured_output"],
        ),
    ],
)
def test_another_job_is_refused_by_name(any_world: World, changes: dict[str, Any], fields: list[str]) -> None:
    any_world.start(structured_job(2))
    with pytest.raises(RunConfigMismatchError) as raised:
        any_world.start(structured_job(2, **changes))
    assert raised.value.fields == fields
    assert raised.value.run_id == RUN


def test_settings_that_change_no_result_may_change(any_world: World) -> None:
    any_world.start(text_job(2))
    changed = FakeProviderConfig(poll_interval_sec=30.0, api_key="another key")
    run = any_world.start(text_job(2, provider_config=changed, retry=RetryPolicy(max_attempts=7)))
    assert run.wait().is_finished


class Elsewhere(FakeProviderConfig):
    """Calls what it asks through by a name of its own."""

    operational_settings = FakeProviderConfig.operational_settings | {"model"}


def test_a_provider_says_which_of_its_settings_change_no_result(any_world: World) -> None:
    any_world.start(text_job(2, provider_config=Elsewhere(model="here")))
    run = any_world.start(text_job(2, provider_config=Elsewhere(model="there")))
    assert run.wait().is_finished


def test_extras_are_kept_with_the_run(any_world: World) -> None:
    any_world.runner().start(text_job(1), run_id=RUN, extras={"asset": "glosses"})
    run = any_world.runner(storage=any_world.open_store()).start(
        text_job(1), run_id=RUN, extras={"asset": "no"}
    )
    assert run.config.extras == {"asset": "glosses"}


def test_the_stored_config_holds_no_key(any_world: World) -> None:
    any_world.start(text_job(1, provider_config=FakeProviderConfig(api_key="sk-secret")))
    if any_world.kind == "sqlite":
        stored = any_world.runner(storage=any_world.open_store()).get_run(RUN).config
        assert stored.provider_config.api_key == ""  # type: ignore[attr-defined]
        files = [path for path in any_world.folder.rglob("*") if path.is_file()]
        assert not any(b"sk-secret" in path.read_bytes() for path in files)


# --- failed rows again -----------------------------------------------------------------------------------------------


def test_failed_rows_get_fresh_attempts(any_world: World) -> None:
    any_world.provider.answer = by_item({1: [http_error_row(400), http_error_row(500), "third"]})
    runner = any_world.runner()
    run = runner.run_and_wait(text_job(3), run_id=RUN)
    assert errors(run) == {"item-1": "provider_item_error"}
    run = runner.retry_failed(RUN)
    assert run.status is RunLifecycleStatus.RUNNING
    assert [result.item_id for result in run.iter_results()] == ["item-0", "item-2"]
    run.wait()
    assert texts(run)["item-1"] == "third"
    assert run.results()[1].attempt_count == 2
    assert any_world.provider.paid.total() == 3


def test_failed_rows_can_be_sent_again_after_their_files_were_pruned(any_world: World) -> None:
    any_world.provider.answer = by_item({1: [http_error_row(400), "better"]})
    any_world.runner().run_and_wait(text_job(3), run_id=RUN)
    any_world.runner().get_run(RUN).prune_artifacts()
    run = any_world.runner().retry_failed(RUN).wait()
    assert texts(run)["item-1"] == "better"


def test_retrying_a_run_without_failures_changes_nothing(any_world: World) -> None:
    any_world.runner().run_and_wait(text_job(2), run_id=RUN)
    assert any_world.runner().retry_failed(RUN).is_finished


def test_a_cancelled_run_is_not_retried(any_world: World) -> None:
    run = any_world.start(text_job(2))
    run.cancel()
    run.wait()
    with pytest.raises(RunStateError, match="cancelled"):
        any_world.runner().retry_failed(RUN)


def test_what_a_killed_process_had_begun_to_write_is_removed(any_world: World) -> None:
    any_world.start(text_job(3))
    folder = any_world.folder / "artifacts" / RUN / "requests"
    stray = folder / ".batchor-tmp-0123456789abcdef"
    stray.write_bytes(b"half a line")
    kept = sorted(path.name for path in folder.iterdir() if path != stray)
    any_world.start(text_job(3))
    assert sorted(path.name for path in folder.iterdir()) == kept


def test_starting_again_makes_no_second_provider_and_closes_one_of_another_config(world: World) -> None:
    made: list[FakeProvider] = []

    def make(config: Any) -> FakeProvider:
        made.append(FakeProvider(config, clock=world.clock))
        return made[-1]

    with world.runner(provider_factory=make) as runner:
        job = text_job(
            FrameItemSource(
                pa.table({"id": ["a"], "text": ["x"]}), item_id_from_row=lambda row: str(row["id"])
            )
        )
        runner.start(job, run_id=RUN)
        runner.start(job, run_id=RUN)
        assert len(made) == 1
        other = replace(job, provider_config=FakeProviderConfig(poll_interval_sec=30.0))
        runner.start(other, run_id=RUN)
        runner.get_run(RUN).refresh()
        assert [provider.closed for provider in made] == [True, False]
    assert all(provider.closed for provider in made)
