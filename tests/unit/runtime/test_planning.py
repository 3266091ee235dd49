"""A plan says what the run then does, and leaves no trace."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchRunner,
    Cap,
    Cost,
    InvalidInputError,
    MemoryStateStore,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    PromptParts,
    RetryPolicy,
)
from batchor_core.core.plan import Plan, Range
from batchor_core.core.pricing import Unpriced
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.openai_server import OpenAIServer
from examples.dagster_project.daily import Quiz
from tests.support.world import World, items, text_job

GLOSSES = Path(__file__).parents[3] / "examples/data/time.csv"
PRICES = {
    "openai/gpt-5-mini": {"input_tokens": 1, "output_tokens": 4},
    "fake/*": {"input_tokens": 1, "output_tokens": 1},
}


def counts(plan: Plan) -> tuple[int, ...]:
    return (plan.rows, plan.rows_new, plan.rows_reused, plan.rows_duplicate, plan.rows_refused, plan.batches)


def same(count: int, *, start: int = 0) -> list[BatchItem[Any]]:
    """Items of which each third one is equal to the one before."""
    return [BatchItem(f"s{n}", {"text": f"question {n - (n % 3 == 2)}"}) for n in range(start, start + count)]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, kind=request.param)
    yield world
    world.close()


def done(world: World, job: BatchJob[Any, Any], run_id: str) -> tuple[int, ...]:
    """The same of the run itself."""
    before = len(world.provider.batches)
    summary = world.start(job, run_id=run_id).wait().summary()
    batches = list(world.provider.batches.values())[before:]
    return (
        summary.total_items,
        sum(len(batch.lines) for batch in batches),
        summary.reused_items,
        summary.deduplicated_items,
        summary.failed_items,
        len(batches),
    )


def test_the_run_does_what_the_plan_said(stored: World) -> None:
    for run_id, job in {
        "first": text_job(same(30), per_batch=10, reuse="store"),
        "again": text_job(same(30), per_batch=10, reuse="store"),
        "changed": text_job(same(40, start=20), per_batch=10, reuse="store"),
        "salted": text_job(same(30), per_batch=10, reuse="store", salt="other"),
        "young": text_job(same(30), per_batch=10, reuse="store", max_age=timedelta(hours=1)),
        "off": text_job(same(30), per_batch=7),
    }.items():
        if run_id == "young":
            stored.clock.advance(7_200)
        plan = stored.runner().plan(job, run_id=run_id)
        assert not stored.store.has_run(run_id=run_id)
        planned = list(counts(plan))
        if run_id == "off":
            assert "10 rows are equal to earlier ones, and would be paid for again" in " ".join(plan.warnings)
            planned[3] = 0  # they are sent, and told of
        assert tuple(planned) == done(stored, job, run_id), run_id
        assert any(
            "there is a run" in warning for warning in stored.runner().plan(job, run_id=run_id).warnings
        )


def test_rows_in_flight_elsewhere_are_waited_for(world: World) -> None:
    world.start(text_job(3, reuse="store"), run_id="first")
    plan = world.runner().plan(text_job(5, reuse="store"))
    assert (plan.rows_new, plan.rows_following, plan.rows_reused) == (2, 3, 0)


def test_rows_over_the_limits_are_named(world: World) -> None:
    limits = OpenAIEnqueueLimitConfig(enqueued_token_limit=100, target_ratio=1.0)
    config = OpenAIProviderConfig(model="gpt-5-mini", enqueue_limits=limits)
    rows = [BatchItem("long", {"text": "word " * 200}), *items(20)]
    with BatchRunner(storage=MemoryStateStore()) as runner:
        plan = runner.plan(text_job(rows, provider_config=config))
    assert [(row.item_id, "a batch may hold 100" in row.reason) for row in plan.refused] == [("long", True)]
    assert (plan.rows_new, plan.rows_refused, plan.queue_limit) == (20, 1, 100)
    assert plan.waves == plan.batches > 1
    assert any("1 row over the limits" in warning for warning in plan.warnings)


def test_what_single_rows_allow_is_in_the_plan(world: World) -> None:
    def ask_for_more(item: BatchItem[Any]) -> PromptParts:
        return PromptParts(
            "hello", options={"max_output_tokens": 1_000} if item.item_id == "item-1" else None
        )

    config = OpenAIProviderConfig(model="gpt-5-mini", max_output_tokens=10)
    plan = world.runner().plan(text_job(2, provider_config=config, build_prompt=ask_for_more))
    assert plan.output_tokens.high == 2 * 1_000
    assert "the bound of 1,000 tokens" in plan.output_basis


def test_a_job_that_would_be_refused_is_not_planned(world: World) -> None:
    runner = world.runner()
    with pytest.raises(InvalidInputError, match="the job has no model"):
        runner.plan(text_job(retry=RetryPolicy(repair=1)))
    for start in (runner.plan, runner.start):
        with pytest.raises(InvalidInputError, match="extras must be a dict"):
            start(text_job(), extras="team")  # type: ignore[arg-type]
    without_price = runner.plan(text_job(0, caps=[Cap(usd=1)]))
    assert [cap.stops for cap in without_price.caps] == ["unknown"]
    assert "the run would be refused" in without_price.warnings[-1]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (iter(items(3)), "can be read only once"),
        ([*items(2), *items(1)], "item 'item-0': an earlier row has this item_id too"),
    ],
)
def test_what_can_not_be_planned_says_why(world: World, given: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        world.runner().plan(text_job(given))


def test_a_plan_leaves_no_trace(world: World) -> None:
    folder = sorted(world.folder.rglob("*"))
    job = text_job(2_500, reuse="store", caps=[Cap(rows=7), Cap(usd=1)])
    plan = asyncio.run(world.runner(prices=PRICES).plan_async(job, run_id="planned"))
    assert plan.rows_new == 2_500
    assert [cap.stops for cap in plan.caps] == ["yes", "yes"]
    assert (world.store.list_runs(), world.store.list_caps(), world.events) == ([], [], [])
    assert (len(world.provider.batches), sorted(world.folder.rglob("*"))) == (0, folder)


def test_an_operators_cap_counts_before_that_of_the_job(world: World) -> None:
    runner = world.runner()
    job = text_job(5, caps=[Cap(rows=3)])
    runner.set_cap(Cap(rows=100, scope="run:mine"))
    world.start(text_job(4), run_id="other").wait()
    runner.set_cap(Cap(rows=8, scope="store"))
    found = {cap.cap: (cap.left, cap.stops) for cap in runner.plan(job, run_id="mine").caps}
    assert found == {"100 rows for run:mine": ("100 rows", "no"), "8 rows for store": ("4 rows", "yes")}


def test_a_long_common_beginning_is_worth_caching_from_1024_tokens_on(world: World) -> None:
    prices = {"fake/*": {"input_tokens": 1, "cached_tokens": 0.1}}
    for words, is_warned in ((20, False), (500, True), (2_000, False)):
        job = text_job(items(3), build_prompt=lambda item, n=words: "read " * n + item.item_id)
        warnings = " ".join(world.runner(prices=prices).plan(job).warnings)
        assert ("too short to be cached" in warnings) is is_warned, words


def glosses(server: OpenAIServer, *, key: str = "sk-local") -> BatchJob[Any, Any]:
    with GLOSSES.open(newline="", encoding="utf-8") as file:
        rows = [BatchItem(row["id"], row) for row in csv.DictReader(file)][:400]
    return BatchJob(
        items=rows,
        build_prompt=lambda item: f"Word: {item.payload['term']}\nMeaning: {item.payload['gloss']}",
        provider_config=OpenAIProviderConfig(
            model="gpt-5-mini", api_key=key, base_url=server.base_url, poll_interval_sec=0.0
        ),
        structured_output=Quiz,
        reuse="store",
    )


def test_the_bill_is_as_planned(openai_server: OpenAIServer, tmp_path: Path) -> None:
    job = glosses(openai_server)
    with BatchRunner(storage=MemoryStateStore(), temp_root=tmp_path, prices=PRICES) as runner:
        first = runner.plan(job)
        assert "no earlier answers" in first.output_basis
        summary = runner.run_and_wait(job, run_id="first").summary()
        assert first.input_tokens.expected == pytest.approx(summary.usage.input_tokens, rel=0.1)
        assert first.input_tokens.low <= summary.usage.input_tokens <= first.input_tokens.high
        # the same words, asked for something else: nothing is reused
        changed = replace(job, build_prompt=lambda item: f"Make it easy. {job.build_prompt(item)}")
        second = runner.plan(changed)
        assert second.output_basis == "400 earlier answers of the same model and output"
        billed = runner.run_and_wait(changed, run_id="second").summary().cost
        assert isinstance(billed, Cost)
        assert isinstance(second.cost, Range)
        assert float(second.cost.expected) == pytest.approx(float(billed.usd), rel=0.1)
        assert second.cost.low < billed.usd < second.cost.high
        without_key = runner.plan(
            replace(job, provider_config=glosses(openai_server, key="").provider_config)
        )
    assert (without_key.rows_new, without_key.rows_reused) == (0, 400)
    assert "there is no API key" in without_key.warnings[0]
    assert without_key.cost == Range(Decimal(0), Decimal(0), Decimal(0))


def test_without_a_list_price_the_figures_stay(world: World) -> None:
    plan = world.runner().plan(text_job(3, caps=[Cap(usd=1)], provider_config=FakeProviderConfig()))
    assert isinstance(plan.cost, Unpriced)
    assert plan.cost_text.startswith("no list price: ")
    assert plan.output_tokens.expected == 3 * 4_096
    assert plan.caps[0].stops == "unknown"
    assert any("would be refused" in warning for warning in plan.warnings)
