"""How items become batches: filled to the policy, under the account's budget, leaving while the rest is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from batchor_core.core.enums import RunControlState
from batchor_core.core.models import BatchItem, ChunkPolicy
from batchor_core.providers.base import EnqueueBudget
from batchor_core.runtime.starting import create
from tests.support.world import RUN, World, ask, errors, items, text_job, texts


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.runtime.ingest.CHUNK", 10)


@pytest.mark.parametrize(
    ("count", "per_batch", "expected"),
    [
        (25, 100, [25]),  # three chunks, one batch
        (25, 25, [25]),
        (25, 24, [24, 1]),
        (25, 10, [10, 10, 5]),
        (25, 7, [7, 7, 7, 4]),
        (25, 1, [1] * 25),
        (20, 10, [10, 10]),
    ],
)
def test_batches_are_filled_whatever_the_chunk_of_reading(
    any_world: World, count: int, per_batch: int, expected: list[int]
) -> None:
    run = any_world.start(text_job(count, per_batch=per_batch))
    assert any_world.lines() == expected
    sent = [line["body"]["input"] for batch in any_world.provider.batches.values() for line in batch.lines]
    assert sent == [f"question {n}" for n in range(count)]
    assert run.wait().is_finished


def test_batches_are_filled_to_the_bytes_of_a_file(any_world: World) -> None:
    line = any_world.provider.build_request_line
    job = text_job(30, build_prompt=lambda item: "x" * 1_000, chunk_policy=ChunkPolicy(max_file_bytes=8_000))
    any_world.start(job)
    sizes = [
        sum(len(orjson.dumps(row)) + 1 for row in batch.lines)
        for batch in any_world.provider.batches.values()
    ]
    assert max(sizes) <= 8_000
    assert set(any_world.lines()[:-1]) == {8_000 // (max(sizes) // any_world.lines()[0])}
    assert line is not None


def test_batches_are_filled_to_the_tokens_of_a_batch(any_world: World) -> None:
    # "question n" has 10 or 11 characters, so 3 tokens at 4 characters each
    any_world.provider.budget = EnqueueBudget("account", limit=0, per_batch=12)
    any_world.start(text_job(10))
    assert any_world.lines() == [4, 4, 2]


def test_every_line_has_a_name_that_the_provider_takes(any_world: World) -> None:
    odd = [
        BatchItem(item_id, {"text": "hi"}) for item_id in ("a/b c", "ü\u2028", "x" * 500, "🙂", "\x00", " ")
    ]
    run = any_world.start(text_job(odd)).wait()
    names = list(any_world.provider.submitted())
    assert len(set(names)) == 6
    assert all(len(name) <= 64 and name.replace("-", "").replace("_", "").isalnum() for name in names)
    assert [result.item_id for result in run.results()] == [item.item_id for item in odd]


def test_the_first_batch_leaves_while_later_rows_are_still_read(any_world: World) -> None:
    sent_at: dict[int, int] = {}

    def reads() -> Iterator[BatchItem[Any]]:
        for n, item in enumerate(items(100)):
            sent_at[n] = len(any_world.provider.batches)
            yield item

    any_world.start(text_job(reads(), per_batch=20))
    assert sent_at[0] == 0
    assert sent_at[99] >= 3
    assert any_world.lines() == [20] * 5


def test_a_pause_stops_the_reading(any_world: World) -> None:
    def build(item: BatchItem[Any]) -> str:
        if item.item_id == "item-35":
            any_world.runner().pause_run(RUN)
        return ask(item)

    runner = any_world.runner()
    run = runner.start(text_job(100, build_prompt=build, per_batch=10), run_id=RUN)
    assert run.control_state is RunControlState.PAUSED
    assert any_world.summary().total_items == 40
    assert any_world.lines() == [10] * 3
    run.resume()
    run.wait()
    assert len(run.results()) == 100


def test_a_time_limit_ends_a_cycle_between_two_steps(
    any_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = any_world.runner()
    run = runner.start(text_job(0), run_id="other")
    source = text_job(100, per_batch=10)
    times = iter([0.0, *[0.5] * 6, *[2.0] * 1_000])
    create(runner._runs, source, RUN)
    run = runner.get_run(RUN)
    monkeypatch.setattr("batchor_core.runtime.drive.time.monotonic", lambda: next(times))
    summary = run.refresh(time_limit_sec=1.0)
    monkeypatch.undo()
    assert 0 < summary.total_items < 100
    assert run.wait().is_finished
    assert len(run.results()) == 100


# --- too large -------------------------------------------------------------------------------------------------------


def test_a_row_over_the_batch_limit_fails_alone(any_world: World) -> None:
    any_world.provider.budget = EnqueueBudget("account", limit=0, per_batch=12)
    prompts = {1: "x" * 100}
    run = any_world.start(
        text_job(3, build_prompt=lambda item: prompts.get(item.payload["n"], ask(item)))
    ).wait()
    assert errors(run) == {"item-1": "openai_request_exceeds_batch_token_limit"}
    result = run.results()[1]
    assert result.attempt_count == 0
    assert result.error is not None
    assert "25" in result.error.message
    assert "12" in result.error.message
    assert any_world.lines() == [2]


def test_a_row_over_the_file_limit_fails_alone(any_world: World) -> None:
    prompts = {1: "x" * 2_000}
    run = any_world.start(
        text_job(
            3,
            build_prompt=lambda item: prompts.get(item.payload["n"], ask(item)),
            chunk_policy=ChunkPolicy(max_file_bytes=1_000),
        )
    ).wait()
    assert errors(run) == {"item-1": "request_too_large"}


def test_rows_that_are_all_too_large_end_the_run(any_world: World) -> None:
    any_world.provider.budget = EnqueueBudget("account", limit=0, per_batch=1)
    run = any_world.start(text_job(50, per_batch=5)).wait()
    assert set(errors(run).values()) == {"openai_request_exceeds_batch_token_limit"}
    assert len(errors(run)) == 50
    assert any_world.provider.batches == {}


# --- the shared budget -----------------------------------------------------------------------------------------------


def test_two_runs_of_a_store_share_the_budget(any_world: World) -> None:
    any_world.provider.budget = EnqueueBudget(
        "account", limit=30, per_batch=15
    )  # 5 rows a batch, 10 in flight
    runner = any_world.runner()
    one = runner.start(text_job(20), run_id="one")
    two = runner.start(text_job(20), run_id="two")
    assert any_world.lines() == [5, 5]
    assert two.summary().active_batches == 0
    in_flight = []
    for _ in range(100):
        one.refresh()
        two.refresh()
        in_flight.append(one.summary().estimated_tokens + two.summary().estimated_tokens)
        if one.is_finished and two.is_finished:
            break
    assert one.is_finished
    assert two.is_finished
    assert 0 < max(in_flight) <= 30
    assert set(any_world.provider.submitted().values()) == {1}


def test_another_account_has_a_budget_of_its_own(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.provider.budget = EnqueueBudget("account", limit=15, per_batch=15)
    world.start(text_job(5), run_id="one")
    world.provider.budget = EnqueueBudget("another", limit=15, per_batch=15)
    world.start(text_job(5), run_id="two")
    assert world.lines() == [5, 5]


def test_waiting_for_budget_writes_and_sends_nothing(any_world: World) -> None:
    any_world.provider.budget = EnqueueBudget("account", limit=15, per_batch=15)
    run = any_world.start(text_job(10))
    files = sorted(any_world.folder.joinpath("artifacts").rglob("*.jsonl"))
    any_world.provider.set_statuses(any_world.batch_ids()[0], *["in_progress"] * 5, "completed")
    calls = any_world.provider.count("upload_input_file")
    for _ in range(4):
        run.refresh()
    assert sorted(any_world.folder.joinpath("artifacts").rglob("*.jsonl")) == files
    assert any_world.provider.count("upload_input_file") == calls == 1
    assert texts(run.wait())["item-9"] == "answer to question 9"
