"""Rows are paid for once: answers of other runs are reused, and equal rows are sent once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from batchor_core.core.enums import ItemStatus, RunLifecycleStatus
from batchor_core.core.exceptions import (
    InvalidInputError,
    QuarantinedBatchError,
    RunItemsMismatchError,
    StructuredOutputError,
)
from batchor_core.core.models import BatchItem, BatchJob, RetryPolicy
from batchor_core.core.prompts import PromptParts
from batchor_core.core.results import ReusedFrom
from batchor_core.core.reuse import FLIGHT_PATIENCE_SEC
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.runtime.reuse import reuse_of
from batchor_core.runtime.run import Run
from batchor_core.storage.session import ReuseTerms
from batchor_core.storage.state import DriverIdentity
from batchor_core.testing.fake_rows import http_error_row
from tests.support.world import World, attempts, by_item, errors, structured_job, text_job, texts


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(kind=request.param)


def rows(*texts: str, prefix: str = "item") -> list[BatchItem[Any]]:
    return [BatchItem(f"{prefix}-{n}", {"text": text}) for n, text in enumerate(texts)]


def job(*texts: str, prefix: str = "item", **changes: Any) -> BatchJob[Any, Any]:
    return text_job(rows(*texts, prefix=prefix), **({"reuse": "store"} | changes))


def sent(world: World) -> list[str]:
    """What the provider was asked, in order of the asking."""
    return [line["body"]["input"] for batch in world.provider.batches.values() for line in batch.lines]


def reused(run: Run) -> dict[str, ReusedFrom | None]:
    return {result.item_id: result.reused_from for result in run.results()}


# --- answers of other runs -------------------------------------------------------------------------------------------


def test_an_answered_request_is_not_sent_again(world: World) -> None:
    world.start(job("a", "b"), run_id="first").wait()
    run = world.start(job("b", "c", prefix="row"), run_id="second").wait()
    assert sent(world) == ["a", "b", "c"]
    assert texts(run) == {"row-0": "answer to b", "row-1": "answer to c"}
    assert reused(run) == {"row-0": ReusedFrom("first", "item-1"), "row-1": None}
    assert attempts(run) == {"row-0": 0, "row-1": 1}
    summary = run.summary()
    assert (summary.completed_items, summary.reused_items, summary.deduplicated_items) == (2, 1, 0)
    assert summary.usage.input_tokens == 10


def test_keys_of_an_account_that_has_a_name_share_answers() -> None:
    def scope(api_key: str, account: str | None = None) -> str:
        config = OpenAIProviderConfig(model="m", api_key=api_key, reuse_account=account)
        reuse = reuse_of(BatchJob([], str, config, reuse="store"), {})
        assert reuse is not None
        return reuse.key

    assert scope("old") != scope("new")
    assert scope("old", "acme") == scope("new", "acme")
    assert scope("old", "acme") not in (scope("old"), scope("old", "other"))


def test_a_run_that_is_answered_wholly_sends_no_batch(world: World) -> None:
    world.start(job("a", "b"), run_id="first").wait()
    run = world.start(job("b", "a"), run_id="second")
    assert run.is_finished
    assert len(world.provider.batches) == 1
    assert run.summary().status is RunLifecycleStatus.COMPLETED


def test_a_result_without_usage_and_with_its_source_is_exported(world: World, tmp_path: Path) -> None:
    world.start(job("a"), run_id="first").wait()
    run = world.start(job("a", "b"), run_id="second").wait()
    run.export_terminal_results(tmp_path / "out.jsonl", append=False)
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["reused_from"] == {"run_id": "first", "item_id": "item-0"}
    assert "reused_from" not in second
    body = first["raw_response"]["response"]["body"]
    assert body["output"][0]["content"][0]["text"] == first["output_text"] == "answer to a"
    usages = {result.item_id: result.usage for result in run.results()}
    assert usages["item-0"] is None
    assert usages["item-1"] is not None


@pytest.mark.parametrize(
    "other",
    [{"reuse": "off"}, {"salt": "2"}, {"build_prompt": lambda item: item.payload["text"] + "?"}],
    ids=["off", "another salt", "another prompt"],
)
def test_what_is_not_the_same_is_asked(world: World, other: dict[str, Any]) -> None:
    world.start(job("a"), run_id="first").wait()
    world.start(job("a", **other), run_id="second").wait()
    assert len(sent(world)) == 2


def test_runs_without_reuse_give_nothing(world: World) -> None:
    world.start(job("a", reuse="off"), run_id="first").wait()
    world.start(job("a"), run_id="second").wait()
    assert sent(world) == ["a", "a"]


def test_scopes_are_those_of_an_asset_and_its_partition(world: World) -> None:
    def start(run_id: str, asset: str, partition: str, reuse: str) -> Run:
        extras = {"dagster_asset_key": asset, "dagster_partition_key": partition}
        return world.runner().start(job("a", reuse=reuse), run_id=run_id, extras=extras).wait()

    start("1", "x", "p", "asset")
    assert start("2", "x", "q", "asset").summary().reused_items == 1
    assert start("3", "y", "p", "asset").summary().reused_items == 0
    assert start("4", "x", "p", "partition").summary().reused_items == 0
    assert start("5", "x", "q", "partition").summary().reused_items == 0
    assert start("6", "x", "q", "partition").summary().reused_items == 1


def test_an_asset_has_to_be_named(world: World) -> None:
    with pytest.raises(InvalidInputError, match="dagster_asset_key"):
        world.start(job("a", reuse="asset"))
    assert not world.store.has_run(run_id="run-1")


def test_an_old_answer_is_asked_for_again_and_takes_the_place_of_the_first(world: World) -> None:
    world.start(job("a"), run_id="first").wait()
    world.clock.advance(3_600)
    fresh = job("a", max_age=timedelta(minutes=30))
    assert world.start(fresh, run_id="second").wait().summary().reused_items == 0
    run = world.start(fresh, run_id="third").wait()
    assert reused(run) == {"item-0": ReusedFrom("second", "item-0")}
    assert len(sent(world)) == 2


@pytest.mark.parametrize("end", ["in flight", "failed", "deleted"])
def test_an_answer_lasts_where_the_row_was_asked_again_in_vain(world: World, end: str) -> None:
    """The newer answer has not come yet, does not come, or goes with its run: nobody pays again for what is still there."""
    world.start(job("tea", "cup"), run_id="first").wait()
    world.clock.advance(3_600)
    if end == "failed":
        world.provider.answer = by_item({}, http_error_row(400))
    young = job("tea", "cup", max_age=timedelta(minutes=30))
    again = world.start(young, run_id="again")
    giver = "first"
    if end != "in flight":
        again.wait()
    if end == "deleted":
        giver = "again"  # by the copy of another run
        assert world.start(job("tea"), run_id="copy").wait().summary().reused_items == 1
        world.runner().delete_run("again")
    last = world.start(job("tea", "cup"), run_id="last").wait()
    assert reused(last) == {"item-0": ReusedFrom(giver, "item-0"), "item-1": ReusedFrom("first", "item-1")}
    assert sent(world) == ["tea", "cup"] * 2
    # the first answer is as old as it was
    plan = world.runner().plan(young)
    assert plan.rows_new + plan.rows_following == (1 if end == "deleted" else 2)


def test_a_copy_is_as_old_as_its_answer(world: World) -> None:
    world.start(job("a"), run_id="first").wait()
    world.clock.advance(3_600)
    world.start(job("a"), run_id="second").wait()
    world.runner().delete_run("first")
    run = world.start(job("a", max_age=timedelta(minutes=30)), run_id="third").wait()
    assert run.summary().reused_items == 0


def test_failed_rows_are_not_reused(world: World) -> None:
    world.provider.answer = by_item({0: http_error_row(400)})
    assert list(errors(world.start(job("a"), run_id="first").wait())) == ["item-0"]
    world.provider.answer = by_item({})
    run = world.start(job("a"), run_id="second").wait()
    assert texts(run) == {"item-0": "fine"}
    assert run.summary().reused_items == 0


def test_varying_requests_need_a_yes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def hot(item: BatchItem[Any]) -> PromptParts:
        return PromptParts(item.payload["text"], options={"temperature": 0.7})

    for number, varying in enumerate((False, False, True, True)):
        changes: dict[str, Any] = {"build_prompt": hot, "reuse_varying": varying}
        world.start(job("a", "a", **changes), run_id=f"{world.kind}-{number}").wait()
    assert sent(world) == ["a"] * 5
    assert caplog.text.count("reuse_varying=True") == 2


class Narrow(BaseModel):
    """The answer of a structured run."""

    label: str
    score: float

    @field_validator("label")
    @classmethod
    def no_good(cls, value: str) -> str:
        raise ValueError("a later version of the model takes no label at all")


def test_an_answer_that_the_model_does_not_accept_any_more_is_asked_for_again(world: World) -> None:
    said = json.dumps({"label": "x", "score": 1.0})
    world.provider.answer = by_item({}, said)
    world.start(structured_job(rows("a"), reuse="store"), run_id="first").wait()
    one = structured_job(rows("a"), reuse="store", structured_output=Narrow, schema_name="verdict")
    run = world.start(one, run_id="second").wait()
    assert run.summary().reused_items == 0
    assert run.summary().failed_items == 1
    assert len(sent(world)) == 4  # asked again, with all attempts
    again = world.start(structured_job(rows("a"), reuse="store"), run_id="third").wait()
    assert [result.output_text for result in again.results()] == [said]


class Broken(Narrow):
    """The answer of a structured run."""

    @field_validator("label")
    @classmethod
    def no_good(cls, value: str) -> str:
        raise NameError("name 'labels' is not defined")


def test_a_broken_validator_is_told_before_anything_is_paid_for(world: World) -> None:
    world.provider.answer = by_item({}, json.dumps({"label": "x", "score": 1.0}))
    world.start(structured_job(rows("a"), reuse="store"), run_id="first").wait()
    with pytest.raises(StructuredOutputError, match="labels"):
        world.start(
            structured_job(rows("a"), reuse="store", structured_output=Broken, schema_name="verdict"),
            run_id="second",
        )
    assert len(sent(world)) == 1
    assert not world.store.has_run(run_id="second")


# --- runs that go ----------------------------------------------------------------------------------------------------


def test_deleting_the_run_that_paid_leaves_answer_and_reuse(world: World) -> None:
    runner = world.runner()
    for name in ("first", "second", "third"):
        runner.start(job("a", "b"), run_id=name).wait()
    runner.delete_run("first")
    assert texts(runner.get_run("second")) == {"item-0": "answer to a", "item-1": "answer to b"}
    runner.delete_run("second")
    run = runner.start(job("b", "a"), run_id="fourth").wait()
    assert reused(run) == {"item-0": ReusedFrom("first", "item-1"), "item-1": ReusedFrom("first", "item-0")}
    for name in ("third", "fourth"):
        runner.delete_run(name)
    assert runner.start(job("a"), run_id="fifth").wait().summary().reused_items == 0
    assert sent(world) == ["a", "b", "a"]


def test_pruned_files_take_the_raw_response_and_no_answer(world: World, tmp_path: Path) -> None:
    runner = world.runner()
    first = runner.start(job("a"), run_id="first").wait()
    first.export_artifacts(destination_dir=tmp_path)
    first.prune_artifacts(include_raw_output_artifacts=True)
    run = runner.start(job("a"), run_id="second").wait()
    (result,) = run.results()
    assert (result.output, result.raw_response) == ("answer to a", None)


# --- equal rows of one run -------------------------------------------------------------------------------------------


def test_equal_rows_of_a_run_are_sent_once(world: World) -> None:
    run = world.start(job("a", "b", "a", "a", per_batch=2))
    world.clock.advance(1)
    run.wait()
    assert sorted(sent(world)) == ["a", "b"]
    assert texts(run) == {f"item-{n}": f"answer to {text}" for n, text in enumerate("abaa")}
    assert reused(run)["item-3"] == ReusedFrom("run-1", "item-0")
    summary = run.summary()
    assert (summary.completed_items, summary.deduplicated_items, summary.reused_items) == (4, 2, 0)
    assert sum(summary.status_counts.values()) == 4


def test_equal_rows_fail_together_and_are_tried_again_as_one(world: World) -> None:
    world.provider.answer = by_item({0: http_error_row(400)})
    run = world.start(job("a", "b", "a")).wait()
    assert list(errors(run)) == ["item-0", "item-2"]
    assert Counter(sent(world)) == {"a": 1, "b": 1}
    world.provider.answer = by_item({})
    run.retry_failed()
    run.wait()
    assert errors(run) == {}
    assert texts(run) == {"item-0": "fine", "item-1": "fine", "item-2": "fine"}
    assert Counter(sent(world)) == {"a": 2, "b": 1}


def test_a_row_that_is_tried_again_still_leads(world: World) -> None:
    world.provider.answer = by_item({0: [http_error_row(500), "fine"]})
    run = world.start(job("a", "a", retry=RetryPolicy(max_attempts=2))).wait()
    assert texts(run) == {"item-0": "fine", "item-1": "fine"}
    assert attempts(run) == {"item-0": 2, "item-1": 0}
    assert sent(world) == ["a", "a"]


def test_a_cancelled_run_gives_its_followers_what_its_batches_still_bring(world: World) -> None:
    run = world.start(job("a", "a", "b", "b", per_batch=1))
    run.cancel()
    while not run.is_finished:
        run.refresh()
    results = {result.item_id: result.status for result in run.results()}
    assert len(results) == 4
    assert results["item-0"] is results["item-1"]
    assert results["item-2"] is results["item-3"]


def test_a_cancelled_run_ends_when_nothing_was_sent(world: World) -> None:
    world.start(job("a"), run_id="other")
    run = world.start(job("a", "a"), run_id="mine")
    assert len(world.provider.batches) == 1
    run.cancel()
    run.refresh()
    assert errors(run) == {"item-0": "run_cancelled", "item-1": "run_cancelled"}


def test_followers_can_be_paused_and_resumed(world: World) -> None:
    run = world.start(job("a", "a"))
    run.pause()
    run.refresh()
    assert run.summary().status_counts[ItemStatus.PENDING] == 1
    run.resume()
    run.wait()
    assert texts(run) == {"item-0": "answer to a", "item-1": "answer to a"}
    assert sent(world) == ["a"]


def test_a_reader_with_a_cursor_misses_no_follower(world: World) -> None:
    run = world.start(job("a", "b", "a", per_batch=2))
    seen, cursor = [], 0
    while not run.is_finished:
        run.refresh()
        page = run.read_terminal_results(after_sequence=cursor)
        seen += [result.item_id for result in page.items]
        cursor = page.next_after_sequence
    assert sorted(seen) == ["item-0", "item-1", "item-2"]


# --- rows in flight in other runs ------------------------------------------------------------------------------------


def test_a_row_waits_for_an_equal_one_in_flight_in_another_run(world: World) -> None:
    runner = world.runner()
    first = runner.start(job("a", "b"), run_id="first")
    second = runner.start(job("b", "c"), run_id="second")
    assert sent(world) == ["a", "b", "c"]
    first.wait()
    second.wait()
    assert reused(second)["item-0"] == ReusedFrom("first", "item-1")
    assert second.summary().reused_items == 1
    assert len(sent(world)) == 3


@pytest.mark.parametrize("end", ["failed", "cancelled and deleted"])
def test_a_row_is_sent_when_the_one_it_waits_for_brings_nothing(world: World, end: str) -> None:
    runner = world.runner()
    first = runner.start(job("a"), run_id="first")
    second = runner.start(job("a", "a"), run_id="second")
    if end == "failed":
        world.provider.answer = by_item({0: http_error_row(400)})
        first.wait()
        world.provider.answer = by_item({})
    else:
        first.cancel()
        while not first.is_finished:
            first.refresh()
        if first.summary().completed_items == 0:
            runner.delete_run("first")
    second.wait()
    assert second.summary().completed_items == 2
    assert len(set(texts(second).values())) == 1
    assert len(sent(world)) <= 2


def test_a_row_does_not_wait_for_ever(world: World) -> None:
    runner = world.runner()
    runner.start(job("a"), run_id="first").pause()
    second = runner.start(job("a"), run_id="second")
    second.refresh()
    assert sent(world) == ["a"]
    world.clock.advance(FLIGHT_PATIENCE_SEC + 1)
    second.wait()
    assert texts(second) == {"item-0": "answer to a"}
    assert sent(world) == ["a", "a"]


def test_a_paused_run_that_has_sent_nothing_holds_up_nobody(world: World) -> None:
    world.provider.fail("upload_input_file", times=1)
    runner = world.runner()
    first = runner.start(job("a"), run_id="first")
    first.pause()
    assert sent(world) == []
    second = runner.start(job("a"), run_id="second").wait()
    assert second.summary().reused_items == 0
    first.resume()
    first.wait()
    assert first.summary().reused_items == 1
    assert sent(world) == ["a"]


# --- what a run that waits has to do ---------------------------------------------------------------------------------


def test_a_run_whose_rows_all_follow_needs_no_driver_until_they_can_go_on(world: World) -> None:
    runner = world.runner()
    first = runner.start(job("a"), run_id="first")
    second = runner.start(job("a", "a"), run_id="second")
    assert (second.summary().following_items, second.summary().items_to_send) == (2, 0)
    assert not second.has_work()
    first.wait()
    assert second.has_work()
    second.refresh()
    assert second.is_finished
    assert second.summary().following_items == 0


def test_a_wait_ends_where_a_person_has_to_decide_about_the_row_that_others_follow(world: World) -> None:
    run = world.start(job("a", "a"))
    (submission,) = world.store.list_submissions(run_id="run-1")
    session = world.store.open_session(run_id="run-1", owner=DriverIdentity("me"), ttl_sec=60)
    assert session is not None
    session.quarantine(local_batch_id=submission.local_batch_id, error_class="batch_not_found")
    session.close()
    with pytest.raises(QuarantinedBatchError):
        run.wait()
    run.resubmit(submission.local_batch_id)
    run.wait()
    assert run.summary().completed_items == 2


def test_reading_goes_on_in_the_scope_that_it_began_in(world: World) -> None:
    """A chunk that is stored again after a crash changes nothing, and neither does a job with other words about reuse."""
    world.start(job("a"), run_id="first").wait()
    run = world.start(job("a", "b"), run_id="second").wait()
    again = world.start(job("a", "b", reuse="off"), run_id="second")
    assert again.is_finished
    assert texts(again) == texts(run)
    with pytest.raises(RunItemsMismatchError):
        world.start(job("a", "c"), run_id="second")


def test_a_batch_that_a_restored_database_has_forgotten_is_adopted_with_the_rows_that_follow(
    world: World,
) -> None:
    """The store thinks that the row waits for another run's, and the batch in which it was sent after all is at the provider."""
    runner = world.runner()
    runner.start(job("a"), run_id="first")
    second = runner.start(job("a"), run_id="second")
    session = world.store.open_session(run_id="second", owner=DriverIdentity("me"), ttl_sec=60)
    assert session is not None
    assert second.summary().following_items == 1
    claim: dict[str, Any] = {"artifact_key": "k", "item_indexes": [0], "max_attempts": 3}
    assert session.claim(local_batch_id="b", reuse=ReuseTerms(), **claim) is None
    adopted = session.claim(local_batch_id="b", **claim)
    assert adopted is not None
    assert adopted.item_count == 1
    assert second.summary().following_items == 0
    session.close()
