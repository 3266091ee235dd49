"""A run stays under its caps, pauses where nothing fits any more, and goes on when the cap is raised."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from batchor_core import (
    BatchItem,
    BatchRunner,
    Cap,
    Cost,
    InvalidInputError,
    PromptParts,
    RunControlState,
    RunPausedError,
)
from batchor_core.core.models import RetryPolicy
from batchor_core.core.pricing import dollars_of
from batchor_core.testing.fake_rows import http_error_row
from tests.support.world import RUN, World, by_item, text_job


def prices(provider: str, model: str, day: date) -> dict[str, Any]:
    """A row reserves $409.60 for its answer, since nothing limits its length, and is answered in a few tokens."""
    return {"input_tokens": 1, "output_tokens": 100_000}


def spent(world: World) -> Any:
    cost = world.summary().cost
    assert isinstance(cost, Cost)
    return cost.usd


def test_a_run_pauses_at_its_cap_and_goes_on_when_it_is_raised(any_world: World) -> None:
    runner = any_world.runner()
    run = runner.start(text_job(5, per_batch=2, caps=[Cap(rows=3)]), run_id=RUN)
    with pytest.raises(RunPausedError):
        run.wait()
    summary = run.summary()
    assert (summary.completed_items, any_world.lines()) == (3, [2, 1])
    reason = (
        f"the cap of 3 rows for run:{RUN} is reached: 3 rows used, and the next row may need 1 row. "
        "Raise it (batchor cap), and resume the run"
    )
    assert summary.control_reason == reason
    assert any_world.data("run_paused") == [{"reason": reason, "by": "engine"}]
    run.resume()
    with pytest.raises(RunPausedError):
        run.wait()  # nothing has changed
    runner.set_cap(Cap(rows=5, scope=f"run:{RUN}"))
    run.resume()
    run.wait()
    assert run.summary().completed_items == 5
    assert runner.list_caps() == [Cap(rows=5, scope=f"run:{RUN}")]
    # the job's own word, heard again, does not undo what the operator has said
    runner.start(text_job(5, per_batch=2, caps=[Cap(rows=3)]), run_id=RUN)
    assert runner.list_caps() == [Cap(rows=5, scope=f"run:{RUN}")]


def test_dollars_are_reserved_and_then_what_was_billed_counts(any_world: World) -> None:
    """Two rows at a time fit what may be reserved, and since they cost less, the run goes on with the next ones."""
    runner = any_world.runner(prices=prices)
    run = runner.start(text_job(6, caps=[Cap(usd=1_000)]), run_id=RUN)
    first = any_world.lines()
    assert first == [2]
    run.wait()
    assert any_world.summary().completed_items == 6
    assert sum(any_world.lines()) == 6
    assert len(any_world.lines()) > 1
    assert 0 < spent(any_world) < 1_000
    [standing] = any_world.store.get_cap_standings(run_id=RUN)
    assert (dollars_of(standing.settled), standing.reserved) == (spent(any_world), 0)


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"max_tokens": 4_096}, 3),  # as long as nothing limits them: $409.60 each
        ({"max_tokens": 4_096, "n": 2}, 1),
        ({"max_tokens": 10}, 6),
    ],
)
def test_what_single_rows_allow_is_reserved(world: World, options: dict[str, Any], lines: int) -> None:
    def ask_with_options(item: BatchItem[Any]) -> PromptParts:
        return PromptParts(f"text {item.item_id}", options=options)

    job = text_job(6, caps=[Cap(usd=1_300)], build_prompt=ask_with_options)
    world.runner(prices=prices).start(job, run_id=RUN)
    assert world.lines() == [lines]


def test_retries_count(any_world: World) -> None:
    any_world.provider.answer = by_item({0: http_error_row(500, "server_error", "no")})
    retry = RetryPolicy(max_attempts=5, base_backoff_sec=0, max_backoff_sec=0)
    run = any_world.start(text_job(1, retry=retry, caps=[Cap(rows=2)]))
    with pytest.raises(RunPausedError, match="2 rows for run"):
        run.wait()
    assert sum(any_world.lines()) == 2


def test_a_cap_of_the_store_holds_for_all_its_runs(any_world: World) -> None:
    runner = any_world.runner(caps=[Cap(rows=3, scope="store")])
    runner.run_and_wait(text_job(2), run_id="first")
    other = any_world.runner()  # another driver, which was told nothing
    run = other.start(text_job(2), run_id="second")
    with pytest.raises(RunPausedError, match="3 rows for store"):
        run.wait()
    assert run.summary().completed_items == 1


def test_a_run_waits_while_others_may_yet_give_back_what_they_reserve(world: World) -> None:
    runner = world.runner(caps=[Cap(rows=2, scope="store")])
    store = world.store
    runner.start(text_job(1), run_id="first").wait()
    world.provider.fail("create_batch", ConnectionError("lost"))
    first = runner.start(text_job(1), run_id="second")
    [held] = store.get_cap_standings(run_id="second")
    assert (held.settled, held.reserved) == (1, 1)
    waiting = runner.start(text_job(1), run_id="third")
    waiting.refresh()
    assert waiting.summary().control_state is RunControlState.RUNNING
    assert waiting.summary().trouble == (
        "the cap of 2 rows for store: 1 row and 1 row reserved used; rows that do not fit wait until it is known what those "
        "in flight cost"
    )
    assert store.list_runs()[0].summary == waiting.summary()
    assert first.summary().completed_items == 0


def test_without_a_price_a_cap_in_dollars_is_refused_at_the_start(world: World) -> None:
    with pytest.raises(InvalidInputError, match=r"the cap of \$5.00 for run:run-1: no price list known"):
        world.start(text_job(1, caps=[Cap(usd=5)]))
    assert not world.runner().has_run(RUN)
    with pytest.raises(InvalidInputError, match=r"the cap of \$9.00 for store: no price list known"):
        world.runner(caps=[Cap(usd=9, scope="store")]).start(text_job(1), run_id="other")
    assert world.lines() == []


def test_a_cap_that_was_refused_is_not_kept(world: World) -> None:
    with pytest.raises(InvalidInputError, match="can't be kept under the cap"):
        world.start(text_job(1, caps=[Cap(rows=9), Cap(usd=5)]))
    assert world.runner().list_caps() == []
    assert world.start(text_job(1)).wait().is_finished


def test_a_finished_run_needs_no_prices(world: World) -> None:
    world.start(text_job(1)).wait()
    runner = world.runner()
    runner.set_cap(Cap(usd=5, scope="store"))
    assert runner.start(text_job(1), run_id=RUN).is_finished
    assert world.lines() == [1]


def test_a_price_that_is_lost_later_pauses_the_run(world: World) -> None:
    runner = world.runner(prices=prices)
    runner.start(text_job(1, caps=[Cap(usd=500)]), run_id=RUN).wait()
    run = world.runner().get_run(RUN)
    assert run.is_finished
    with BatchRunner(storage=world.store, provider_registry=world.registry(), prices=prices) as priced:
        priced.set_cap(Cap(usd=1, scope="store"))
        held = priced.start(text_job(2), run_id="held")
        assert held.summary().control_reason is not None
    held = world.runner().get_run("held")
    held.resume()
    held.refresh()
    reason = held.summary().control_reason
    assert reason is not None
    assert "a cap in dollars holds for this run, and no price list known for the provider" in reason


def test_prices_that_can_not_be_looked_up_are_no_prices(world: World) -> None:
    def broken(provider: str, model: str, day: date) -> Any:
        raise ConnectionError("the price service is down")

    with pytest.raises(InvalidInputError, match="the prices can't be looked up: ConnectionError"):
        world.start(text_job(1, caps=[Cap(usd=5)]), prices=broken)
    assert world.lines() == []
