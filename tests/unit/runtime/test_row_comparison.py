"""The same run id with another job: what was rendered is compared, and the first difference is named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchor_core.core.boundaries import Boundary
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import (
    InvalidInputError,
    MissingCredentialsError,
    RunIngestionSourceRequiredError,
    RunItemsMismatchError,
    SourceMismatchError,
)
from batchor_core.core.models import BatchItem, PromptParts
from batchor_core.runtime.runner import BatchRunner
from batchor_core.sources.files import CsvItemSource
from batchor_core.storage.schema import rendered_chunks
from batchor_core.storage.sql import SQLStore
from tests.contract.stores.kit import ThirdPartyStore
from tests.support.world import RUN, World, ask, items, text_job

COUNT = 250
"""Three chunks."""


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.runtime.ingest.CHUNK", 100)


class Killed(BaseException):
    """The process dies."""


def _with(index: int, **changes: Any) -> list[BatchItem[Any]]:
    given = items(COUNT)
    given[index] = replace(given[index], **changes)
    return given


def _other_prompt(item: BatchItem[Any]) -> str:
    return ask(item) + ("!" if item.item_id == "item-170" else "")


def _system(item: BatchItem[Any]) -> PromptParts:
    return PromptParts(ask(item), "be brief" if item.item_id == "item-170" else None)


def _both(item: BatchItem[Any]) -> PromptParts:
    return PromptParts(_other_prompt(item), _system(item).system_prompt)


CHANGES: dict[str, tuple[dict[str, Any], list[str], int | None]] = {
    "prompt": ({"build_prompt": _other_prompt}, ["prompt"], 170),
    "system prompt": ({"build_prompt": _system}, ["system_prompt"], 170),
    "both": ({"build_prompt": _both}, ["prompt", "system_prompt"], 170),
    "payload": ({"given": _with(3, payload={"text": "another"})}, ["prompt"], 3),
    "metadata": ({"given": _with(249, metadata={"row": 1})}, ["metadata"], 249),
    "id": ({"given": _with(100, item_id="x")}, ["item_id"], 100),
    "one less at the end": ({"given": items(COUNT - 1)}, ["number of items"], None),
    "one more at the end": ({"given": items(COUNT + 1)}, ["number of items"], None),
    "a chunk less": ({"given": items(200)}, ["number of items"], None),
    "none": ({"given": []}, ["number of items"], None),
    "one less within": ({"given": [i for i in items(COUNT) if i.item_id != "item-7"]}, ["item_id"], 7),
    "another order": ({"given": items(COUNT)[::-1]}, ["item_id"], 0),
}


@pytest.mark.parametrize("again", ["same process", "another process"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_finished_run_is_not_returned_for_another_job(any_world: World, change: str, again: str) -> None:
    changes, fields, index = CHANGES[change]
    runner = any_world.runner()
    runner.run_and_wait(text_job(COUNT), run_id=RUN)
    calls, events = len(any_world.provider.calls), len(any_world.events)
    if again == "another process":
        runner = any_world.runner(storage=any_world.open_store())
    with pytest.raises(RunItemsMismatchError) as raised:
        runner.start(text_job(**({"given": COUNT} | changes)), run_id=RUN)
    assert (raised.value.run_id, raised.value.fields, raised.value.item_index) == (RUN, fields, index)
    assert "another run id" in str(raised.value)
    assert "on_change='keep'" in str(raised.value)
    assert len(any_world.provider.calls) == calls
    assert len(any_world.events) == events
    assert len(runner.get_run(RUN).results()) == COUNT


def test_the_error_says_what_was_and_what_is(any_world: World) -> None:
    any_world.runner().run_and_wait(text_job(3), run_id=RUN)

    def told(**changes: Any) -> str:
        with pytest.raises(RunItemsMismatchError) as raised:
            any_world.start(text_job(**({"given": 3} | changes)))
        return raised.value.difference

    renamed = [BatchItem("x", {"text": "question 0"}, {"row": 0}), *items(3)[1:]]
    assert told(given=renamed) == "item 0 was 'item-0' when the run was started, and is 'x' now"
    assert told(given=2) == "the job has 2 items, but the run was started with 3 items"
    assert told(given=5) == "the job has 5 items, but the run was started with 3 items"
    assert told(given=iter(items(5))) == "the job has more than 3 items, but the run was started with 3 items"
    assert (
        told(build_prompt=lambda item: "another" if item.item_id == "item-1" else ask(item))
        == "item 1 ('item-1') has another prompt than when the run was started"
    )


@pytest.mark.parametrize("state", ["running", "paused", "cancelled"])
def test_no_run_is_carried_on_for_another_job(any_world: World, state: str) -> None:
    run = any_world.start(text_job(COUNT, per_batch=100))
    if state == "paused":
        run.pause()
    if state == "cancelled":
        run.cancel()
    calls = len(any_world.provider.calls)
    with pytest.raises(RunItemsMismatchError):
        any_world.start(text_job(COUNT, per_batch=100, build_prompt=_other_prompt))
    assert len(any_world.provider.calls) == calls


def test_the_same_job_is_the_same_in_any_form(any_world: World) -> None:
    any_world.runner().run_and_wait(text_job(COUNT), run_id=RUN)
    swapped = [
        BatchItem(i.item_id, dict(reversed(i.payload.items())), dict(i.metadata)) for i in items(COUNT)
    ]
    for given in (COUNT, tuple(items(COUNT)), iter(items(COUNT)), (i for i in items(COUNT)), swapped):
        run = any_world.start(text_job(given, build_prompt=lambda item: PromptParts(ask(item))))
        assert run.is_finished


def test_the_order_of_metadata_is_no_difference(any_world: World) -> None:
    def given(*keys: str) -> list[BatchItem[Any]]:
        return [BatchItem("one", {"text": "x"}, {key: {"n": key} for key in keys})]

    any_world.runner().run_and_wait(text_job(given("a", "b")), run_id=RUN)
    assert any_world.start(text_job(given("b", "a"))).is_finished


def test_an_iterator_that_was_read_before_is_named_as_such(any_world: World) -> None:
    job = text_job(iter(items(3)))
    runner = any_world.runner()
    runner.run_and_wait(job, run_id=RUN)
    assert runner.start(job, run_id=RUN).is_finished  # this process knows that it has read them
    with pytest.raises(RunItemsMismatchError, match="read only once"):
        any_world.start(job)


@pytest.mark.parametrize("is_read_on", [False, True])
def test_a_used_up_iterator_is_not_taken_for_one_of_another_prompt(
    any_world: World, is_read_on: bool
) -> None:
    def job(build_prompt: Any) -> Any:
        return text_job(given, build_prompt=build_prompt)

    given = iter(items(COUNT))
    runner = any_world.runner()
    run = runner.start(job(lambda item: ask(item)), run_id=RUN)
    if not is_read_on:
        run.wait()
    with pytest.raises(RunItemsMismatchError, match="another build_prompt"):
        runner.start(job(_other_prompt), run_id=RUN)
    endings = ["!", "?"]
    made = [job(lambda item, end=end: ask(item) + end) for end in endings]
    with pytest.raises(RunItemsMismatchError, match="another build_prompt"):
        runner.start(made[0], run_id=RUN)
    assert runner.start(made[0], run_id=RUN, on_change="keep").run_id == RUN
    assert runner.start(job(made[0].build_prompt), run_id=RUN).run_id == RUN
    with pytest.raises(RunItemsMismatchError, match="another build_prompt"):
        runner.start(made[1], run_id=RUN)


@pytest.mark.parametrize("last", [False, True])
def test_metadata_beside_a_lineage_is_compared_wherever_it_is(any_world: World, last: bool) -> None:
    def given(value: int) -> list[BatchItem[Any]]:
        pairs = [("batchor_lineage", {"row_index": value}), ("x", value)]
        return [BatchItem("one", {"text": "x"}, dict(pairs[::-1] if last else pairs))]

    any_world.runner().run_and_wait(text_job(given(1)), run_id=RUN)
    assert any_world.start(text_job(given(1))).is_finished
    with pytest.raises(RunItemsMismatchError, match="metadata"):
        any_world.start(text_job(given(2)))


def test_a_list_that_was_changed_in_place_is_noticed(any_world: World) -> None:
    given = items(3)
    job, runner = text_job(given), any_world.runner()
    runner.run_and_wait(job, run_id=RUN)
    given.append(items(4)[3])
    with pytest.raises(RunItemsMismatchError, match="has 4 items"):
        runner.start(job, run_id=RUN)


def test_a_run_of_an_earlier_build_with_half_a_surrogate_in_an_id_is_read_and_compared(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(item_id: str) -> list[BatchItem[Any]]:
        return [BatchItem(item_id, {"text": "x"})]

    with monkeypatch.context() as earlier:
        earlier.setattr("batchor_core.runtime.ingest.check_ids", lambda items: None)
        any_world.runner().run_and_wait(text_job(given("\ud800")), run_id=RUN)
    run = any_world.start(text_job(given("\ud800")))
    assert run.is_finished
    assert [result.item_id for result in run.results()] == ["\ud800"]
    with pytest.raises(RunItemsMismatchError, match="item 0 was"):
        any_world.start(text_job(given("\ud801")))


# --- prompts that are never the same ---------------------------------------------------------------------------------


def test_a_prompt_that_is_never_the_same_is_told_so(any_world: World) -> None:
    ticks = iter(range(1_000_000))
    job = text_job(3, build_prompt=lambda item: f"{ask(item)} at {next(ticks)}")
    any_world.runner().run_and_wait(job, run_id=RUN)
    with pytest.raises(RunItemsMismatchError) as raised:
        any_world.start(job)
    assert "two different prompts" in str(raised.value)
    assert "keep the time, random numbers and the order of sets out of them" in str(raised.value)
    assert any_world.runner().start(job, run_id=RUN, on_change="keep").is_finished


# --- the explicit word -----------------------------------------------------------------------------------------------


def test_keep_returns_what_is_stored_and_renders_nothing(any_world: World) -> None:
    any_world.runner().run_and_wait(text_job(3), run_id=RUN)
    built: list[str] = []
    job = text_job(7, build_prompt=lambda item: built.append(item.item_id) or "x")  # type: ignore[func-returns-value]
    assert len(any_world.runner().run_and_wait(job, run_id=RUN, on_change="keep").results()) == 3
    assert built == []


def test_keep_looks_at_no_file_once_all_is_read(any_world: World) -> None:
    any_world.runner().run_and_wait(text_job(_csv(any_world.folder)), run_id=RUN)
    changed = _csv(any_world.folder, text="another")
    with pytest.raises(SourceMismatchError):
        any_world.start(text_job(changed))
    run = any_world.runner().start(text_job(changed), run_id=RUN, on_change="keep")
    assert len(run.results()) == COUNT


@pytest.mark.parametrize("word", ["Keep", "", None, "new"])
def test_any_other_word_is_refused(any_world: World, word: Any) -> None:
    with pytest.raises(InvalidInputError, match="'refuse' or 'keep'"):
        any_world.runner().start(text_job(3), run_id=RUN, on_change=word)
    assert not any_world.runner().has_run(RUN)


# --- in mid-reading --------------------------------------------------------------------------------------------------


def _csv(folder: Path, text: str = "question") -> CsvItemSource[Any]:
    path = folder / "rows.csv"
    path.write_text("id,text\n" + "".join(f"item-{n},{text} {n}\n" for n in range(COUNT)))
    return CsvItemSource(path, item_id_from_row=lambda row: row["id"], payload_from_row=dict)


def _dies_at(index: int) -> Callable[[BatchItem[Any]], str]:
    def build(item: BatchItem[Any]) -> str:
        if item.item_id == f"item-{index}":
            raise Killed
        return ask(item)

    return build


def _half_read(world: World) -> CsvItemSource[Any]:
    """A run of 200 of 250 rows, whose driver has died."""
    source = _csv(world.folder)
    with pytest.raises(Killed):
        world.start(text_job(source, build_prompt=_dies_at(240), per_batch=40))
    assert world.summary().total_items == 200
    return source


@pytest.mark.parametrize("index", [0, 99, 100, 199])
def test_a_half_read_run_is_not_read_on_with_other_prompts(any_world: World, index: int) -> None:
    source = _half_read(any_world)
    sent, calls = any_world.lines(), len(any_world.provider.calls)
    job = text_job(
        source, per_batch=40, build_prompt=lambda i: "x" if i.item_id == f"item-{index}" else ask(i)
    )
    with pytest.raises(RunItemsMismatchError) as raised:
        any_world.start(job)
    assert (raised.value.fields, raised.value.item_index) == (["prompt"], index)
    assert (any_world.lines(), len(any_world.provider.calls)) == (sent, calls)
    assert any_world.summary().total_items == 200


@pytest.mark.parametrize("what", ["item_id_from_row", "payload_from_row", "metadata_from_row"])
def test_the_same_file_read_in_another_way_is_another_job(any_world: World, what: str) -> None:
    source = _half_read(any_world)
    how: dict[str, Any] = {
        "item_id_from_row": lambda row: row["id"],
        "payload_from_row": dict,
        "metadata_from_row": None,
    }
    how[what] = {
        "item_id_from_row": lambda row: row["id"] + "x",
        "payload_from_row": lambda row: {"text": row["text"].upper()},
        "metadata_from_row": lambda row: {"id": row["id"]},
    }[what]
    path = any_world.folder / "rows.csv"
    with pytest.raises(RunItemsMismatchError) as raised:
        any_world.start(text_job(CsvItemSource(path, **how), per_batch=40))
    fields = {"item_id_from_row": "item_id", "payload_from_row": "prompt", "metadata_from_row": "metadata"}
    assert raised.value.fields == [fields[what]]
    assert any_world.start(text_job(source, per_batch=40)).wait().status is RunLifecycleStatus.COMPLETED


def test_keep_reads_on_with_the_new_prompts(any_world: World) -> None:
    source = _half_read(any_world)
    job = text_job(source, per_batch=40, build_prompt=lambda item: f"new {ask(item)}")
    any_world.runner().start(job, run_id=RUN, on_change="keep").wait()
    asked = [line["body"]["input"] for batch in any_world.provider.batches.values() for line in batch.lines]
    assert len(asked) == COUNT
    assert [text.startswith("new ") for text in asked] == [False] * 200 + [True] * 50


def test_an_iterator_of_a_half_read_run_still_can_not_go_on(any_world: World) -> None:
    with pytest.raises(Killed):
        any_world.start(text_job(iter(items(COUNT)), build_prompt=_dies_at(240), per_batch=40))
    with pytest.raises(RunIngestionSourceRequiredError):
        any_world.start(text_job(iter(items(COUNT)), per_batch=40))


def _failing_at(index: int) -> Callable[[BatchItem[Any]], str]:
    def build(item: BatchItem[Any]) -> str:
        if item.item_id == f"item-{index}":
            raise ValueError("a bug")
        return ask(item)

    return build


@pytest.mark.parametrize("form", [list, iter])
def test_in_one_process_reading_goes_on_with_the_items_that_were_given_last(
    any_world: World, form: Any
) -> None:
    runner = any_world.runner()
    with pytest.raises(ValueError, match="a bug"):
        runner.start(text_job(items(COUNT), per_batch=40, build_prompt=_failing_at(240)), run_id=RUN)
    given = _with(220, item_id="renamed")
    run = runner.start(text_job(form(given), per_batch=40), run_id=RUN).wait()
    assert [result.item_id for result in run.results()] == [item.item_id for item in given]


def test_in_one_process_other_rows_than_the_stored_ones_are_refused(any_world: World) -> None:
    runner = any_world.runner()
    with pytest.raises(ValueError, match="a bug"):
        runner.start(text_job(items(COUNT), per_batch=40, build_prompt=_failing_at(240)), run_id=RUN)
    with pytest.raises(RunItemsMismatchError):
        runner.start(text_job(_with(20, item_id="renamed"), per_batch=40), run_id=RUN)
    run = runner.start(text_job(items(COUNT), per_batch=40), run_id=RUN).wait()
    assert len(run.results()) == COUNT


# --- another driver --------------------------------------------------------------------------------------------------


def test_rows_that_another_driver_stores_meanwhile_are_compared(any_world: World) -> None:
    """Both start the run before a row is stored; one of them reads all of it."""
    source = _csv(any_world.folder)
    here, there = any_world.runner(), any_world.runner(storage=any_world.open_store())
    with pytest.raises(Killed):
        here.start(text_job(source, build_prompt=_dies_at(0)), run_id=RUN)
    other = text_job(source, build_prompt=_other_prompt)

    def joins(item: BatchItem[Any]) -> str:
        if item.item_id == "item-0":
            run = there.start(other, run_id=RUN)  # the lease is held: it looks on
            assert run.summary().total_items == 0
        return ask(item)

    here.start(text_job(source, build_prompt=joins), run_id=RUN).wait()
    with pytest.raises(RunItemsMismatchError) as raised:
        there.get_run(RUN).wait()
    assert raised.value.item_index == 170


# --- stores and builds without digests -------------------------------------------------------------------------------


def _forget_digests(world: World, *, up_to: int = COUNT) -> None:
    """Make the store what an earlier build would have written."""
    assert isinstance(world.store, SQLStore)
    with world.store.database.write(Boundary.APPEND_ITEMS) as connection:
        connection.execute(rendered_chunks.delete().where(rendered_chunks.c.first_index < up_to))


@pytest.mark.parametrize("up_to", [100, 200, COUNT])
def test_runs_of_earlier_builds_are_compared_by_what_is_stored_of_them(any_world: World, up_to: int) -> None:
    any_world.runner().run_and_wait(text_job(COUNT), run_id=RUN)
    _forget_digests(any_world, up_to=up_to)
    assert any_world.start(text_job(COUNT)).is_finished
    for change, (changes, fields, index) in CHANGES.items():
        with pytest.raises(RunItemsMismatchError) as raised:
            any_world.start(text_job(**({"given": COUNT} | changes)))
        # a whole line does not tell prompt and system prompt apart
        expected = ["prompt"] if index == 170 and up_to > 100 else fields
        assert (change, raised.value.fields, raised.value.item_index) == (change, expected, index)


def _no_key(_: Any) -> Any:
    raise MissingCredentialsError("no key")


def test_without_a_key_digests_say_in_which_piece_the_difference_is(any_world: World) -> None:
    any_world.runner().run_and_wait(text_job(COUNT), run_id=RUN)
    runner = any_world.runner(provider_factory=_no_key)
    with pytest.raises(RunItemsMismatchError, match="one of the items 100 to 199 has another prompt"):
        runner.start(text_job(COUNT, build_prompt=_other_prompt), run_id=RUN)


def test_what_can_not_be_compared_is_logged(any_world: World, caplog: pytest.LogCaptureFixture) -> None:
    any_world.runner().run_and_wait(text_job(COUNT), run_id=RUN)
    _forget_digests(any_world)
    runner = any_world.runner(provider_factory=_no_key)
    with caplog.at_level(logging.WARNING, "batchor_core"):
        assert runner.start(text_job(COUNT, build_prompt=_other_prompt), run_id=RUN).is_finished
    [record] = [entry for entry in caplog.records if "no stored prompts to compare" in entry.message]
    assert "item 0 on" in record.message
    with pytest.raises(RunItemsMismatchError, match="item 3 "):
        runner.start(text_job(_with(3, item_id="x")), run_id=RUN)


@pytest.fixture
def third_party(make_world: Callable[..., World]) -> tuple[World, Any]:
    """A store with the documented methods alone."""
    world = make_world(kind="memory")
    return world, ThirdPartyStore(world.store)


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_of_the_documented_methods_is_compared_in_its_process(
    third_party: tuple[World, Any], change: str
) -> None:
    world, store = third_party
    changes, fields, index = CHANGES[change]
    world.runner(storage=store).run_and_wait(text_job(COUNT), run_id=RUN)
    assert world.runner(storage=store).start(text_job(COUNT), run_id=RUN).is_finished
    with pytest.raises(RunItemsMismatchError) as raised:
        world.runner(storage=store).start(text_job(**({"given": COUNT} | changes)), run_id=RUN)
    assert raised.value.fields == fields
    assert raised.value.item_index == (None if "prompt" in str(fields) else index)


def test_a_store_of_the_documented_methods_is_compared_by_ids_in_another_process(
    third_party: tuple[World, Any],
) -> None:
    world, store = third_party
    world.runner(storage=store).run_and_wait(text_job(COUNT), run_id=RUN)
    another = ThirdPartyStore(world.store)  # with a book of its own, as in another process
    runner: BatchRunner = world.runner(storage=another)
    assert runner.start(text_job(COUNT), run_id=RUN).is_finished
    for change in ("id", "metadata", "one less at the end", "one more at the end"):
        changes, fields, index = CHANGES[change]
        with pytest.raises(RunItemsMismatchError) as raised:
            runner.start(text_job(**({"given": COUNT} | changes)), run_id=RUN)
        assert (raised.value.fields, raised.value.item_index) == (fields, index)
