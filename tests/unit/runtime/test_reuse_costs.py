"""What is not sent costs nothing and counts under no cap; what its answer cost where it was paid for is saved."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchor_core import BatchItem, BatchJob, Cap, Cost, RunControlState, RunPausedError, Unpriced
from batchor_core.core.models import RetryPolicy
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
from batchor_core.tables.stream import ResultStream
from batchor_core.testing.fake_rows import answer_row, http_error_row
from tests.support.world import World, by_item, text_job, texts

ANSWER = Decimal("0.00002")
"""What ten tokens in and five out cost at these prices."""

NOTHING = Decimal(0)


def prices(provider: str, model: str, day: date) -> dict[str, Any]:
    return {"input_tokens": 1, "output_tokens": 2}


@pytest.fixture
def runner(any_world: World) -> BatchRunner:
    return any_world.runner(prices=prices)


def job(*texts: str, **changes: Any) -> BatchJob[Any, Any]:
    rows = [BatchItem(f"item-{n}", {"text": text}) for n, text in enumerate(texts)]
    return text_job(rows, **({"reuse": "store"} | changes))


def costs(run: Run) -> dict[str, float | None]:
    return {result.item_id: result.cost_usd for result in run.results()}


def billed_and_saved(run: Run) -> tuple[Any, Decimal]:
    summary = run.summary()
    return summary.cost, summary.usd_saved


def test_answers_of_other_runs_and_of_equal_rows_save_what_they_cost(runner: BatchRunner) -> None:
    first = runner.start(job("a", "b"), run_id="first").wait()
    assert billed_and_saved(first) == (Cost(2 * ANSWER), NOTHING)
    run = runner.start(job("a", "c", "c", "c"), run_id="second").wait()
    assert billed_and_saved(run) == (Cost(ANSWER), 3 * ANSWER)
    assert costs(run) == {"item-0": 0.0, "item-1": float(ANSWER), "item-2": 0.0, "item-3": 0.0}
    assert {line.key: line.cost for line in runner.spending("run")} == {
        "first": Cost(2 * ANSWER),
        "second": Cost(ANSWER),
    }


def test_tables_and_lines_have_the_cost_before_the_metadata_and_the_source_after_it(
    runner: BatchRunner, tmp_path: Path
) -> None:
    runner.start(job("a"), run_id="first").wait()
    run = runner.start(job("a", "b"), run_id="second").wait()
    table = ResultStream(run).table()
    assert table.column_names[-4:] == ["cost_usd", "metadata", "reused_run_id", "reused_item_id"]
    named = ("cost_usd", "reused_run_id", "reused_item_id")
    assert [table.column(name).to_pylist() for name in named] == [
        [0.0, float(ANSWER)],
        ["first", None],
        ["item-0", None],
    ]
    run.export_terminal_results(tmp_path / "out.jsonl", append=False)
    lines = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [line["cost_usd"] for line in lines] == [0.0, float(ANSWER)]


def test_without_a_price_reused_rows_still_cost_nothing(any_world: World) -> None:
    runner = any_world.runner()
    first = runner.start(job("a"), run_id="first").wait()
    assert isinstance(first.summary().cost, Unpriced)
    run = runner.start(job("a"), run_id="second").wait()
    assert costs(run) == {"item-0": 0.0}
    assert billed_and_saved(run) == (Cost(NOTHING), NOTHING)


def test_the_amount_stays_on_the_run_that_paid_and_copies_save_it_when_that_is_gone(
    runner: BatchRunner,
) -> None:
    for name in ("first", "second"):
        runner.start(job("a"), run_id=name).wait()
    runner.delete_run("first")
    run = runner.start(job("a"), run_id="third").wait()
    assert billed_and_saved(runner.get_run("second")) == billed_and_saved(run) == (Cost(NOTHING), ANSWER)
    assert runner.spending("run") == []


def test_every_attempt_of_the_row_that_leads_is_paid_once_and_saved_by_the_others(
    any_world: World, runner: BatchRunner
) -> None:
    bad = answer_row("late") | {"error": None}
    bad["response"]["body"] |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    any_world.provider.answer = by_item({0: [bad, answer_row("fine")]})
    retry = RetryPolicy(max_attempts=2, base_backoff_sec=0, max_backoff_sec=0)
    run = runner.start(job("a", "a", "a", retry=retry, caps=[Cap(rows=2)])).wait()
    assert set(texts(run).values()) == {"fine"}
    assert costs(run) == {"item-0": float(2 * ANSWER), "item-1": 0.0, "item-2": 0.0}
    assert billed_and_saved(run) == (Cost(2 * ANSWER), 4 * ANSWER)
    [standing] = any_world.store.get_cap_standings(run_id=run.run_id)
    assert (standing.settled, standing.reserved) == (2, 0)


def test_a_row_that_has_to_be_sent_after_all_counts_like_any_other(
    any_world: World, runner: BatchRunner
) -> None:
    any_world.provider.answer = by_item({0: http_error_row(400)})
    first = runner.start(job("a"), run_id="first")
    second = runner.start(job("a", caps=[Cap(rows=1)]), run_id="second")
    [waiting] = any_world.store.get_cap_standings(run_id="second")
    assert (waiting.settled, waiting.reserved) == (0, 0)
    first.wait()
    any_world.provider.answer = by_item({}, answer_row("fine"))
    second.wait()
    assert billed_and_saved(second) == (Cost(ANSWER), NOTHING)
    [counted] = any_world.store.get_cap_standings(run_id="second")
    assert (counted.settled, counted.reserved) == (1, 0)


@pytest.mark.parametrize("cap", [Cap(rows=1), Cap(usd=0.01)], ids=["rows", "dollars"])
def test_rows_that_need_no_sending_need_no_room_under_a_cap(
    any_world: World, runner: BatchRunner, cap: Cap
) -> None:
    """A row reserves 0.8 cents for its answer, since nothing limits its length."""
    run = runner.start(job("a", "a", "a", caps=[cap])).wait()
    assert any_world.lines() == [1]
    assert run.summary().deduplicated_items == 2
    [standing] = any_world.store.get_cap_standings(run_id=run.run_id)
    assert standing.reserved == 0


def test_a_run_at_its_cap_pauses_when_the_rows_that_follow_have_their_answers(
    any_world: World, runner: BatchRunner
) -> None:
    run = runner.start(job("a", "b", "a", "a", caps=[Cap(rows=1)]))
    with pytest.raises(RunPausedError, match="the cap of 1 row"):
        run.wait()
    assert (run.summary().completed_items, run.summary().deduplicated_items) == (3, 2)
    runner.set_cap(Cap(rows=2, scope=f"run:{run.run_id}"))
    run.resume()
    assert run.wait().summary().completed_items == 4
    assert any_world.lines() == [1, 1]


def test_a_run_at_its_cap_waits_for_a_row_of_another_run(any_world: World, runner: BatchRunner) -> None:
    first = runner.start(job("a"), run_id="first")
    second = runner.start(job("b", "a", "c", caps=[Cap(rows=1)]), run_id="second")
    for _ in range(3):
        second.refresh()
    summary = second.summary()
    assert (summary.following_items, summary.control_state) == (1, RunControlState.RUNNING)
    first.wait()
    with pytest.raises(RunPausedError, match="the cap of 1 row"):
        second.wait()
    assert second.summary().reused_items == 1
    assert any_world.lines() == [1, 1]


def test_a_store_cap_is_used_by_the_run_that_pays_alone(any_world: World, runner: BatchRunner) -> None:
    runner.set_cap(Cap(rows=2, scope="store"))
    for name in ("first", "second", "third"):
        runner.start(job("a", "b"), run_id=name).wait()
    assert any_world.lines() == [2]
    with pytest.raises(RunPausedError, match="2 rows for store"):
        runner.start(job("c"), run_id="fourth").wait()


def test_a_leader_that_may_not_be_sent_again_holds_its_followers_back_and_no_longer(
    any_world: World, runner: BatchRunner
) -> None:
    any_world.provider.answer = by_item({0: [http_error_row(500), "fine"]})
    retry = RetryPolicy(max_attempts=2, base_backoff_sec=0, max_backoff_sec=0)
    run = runner.start(job("a", "a", retry=retry, caps=[Cap(rows=1)]))
    with pytest.raises(RunPausedError, match="the cap of 1 row"):
        run.wait()
    assert (run.summary().following_items, run.summary().items_to_send) == (0, 2)
    runner.set_cap(Cap(rows=2, scope=f"run:{run.run_id}"))
    run.resume()
    run.wait()
    assert texts(run) == {"item-0": "fine", "item-1": "fine"}
    assert any_world.lines() == [1, 1]
