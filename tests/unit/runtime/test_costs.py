"""What a run costs is the sum of its answers, each priced when it was settled."""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchRunner,
    Cost,
    InvalidInputError,
    MemoryStateStore,
    OpenAIProviderConfig,
    PromptParts,
    SQLiteStorage,
    TokenUsage,
    Unpriced,
)
from batchor_core.core.models import RetryPolicy
from batchor_core.core.pricing import dollars_of
from batchor_core.storage.session import BatchEnd
from batchor_core.testing.openai_server import OpenAIServer, Reply
from tests.contract.stores import kit
from tests.support.world import RUN, Verdict, World, items, text_job

GOOD = '{"label": "a", "score": 1.0}'
PRICES = {"openai/gpt-4.1-mini": {"input_tokens": 0.2, "cached_tokens": 0.1, "output_tokens": 0.8}}
REQUEST = Decimal("0.0002")
"""What an answer of :func:`answer` costs at these prices."""


def answer(text: str) -> Reply:
    """An answer to 1,000 tokens, 800 of them cached, with 100 tokens."""
    message = {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    usage = {
        "input_tokens": 1_000,
        "input_tokens_details": {"cached_tokens": 800},
        "output_tokens": 100,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1_100,
    }
    return Reply.whole_body({"id": "resp_1", "status": "completed", "output": [message], "usage": usage})


def job(server: OpenAIServer, *names: str, **changes: Any) -> BatchJob[Any, Any]:
    config = OpenAIProviderConfig(
        model="gpt-4.1-mini", api_key="sk-x", base_url=server.base_url, poll_interval_sec=0.01
    )
    options: dict[str, Any] = {
        "items": [BatchItem(name, name) for name in names],
        "build_prompt": lambda item: str(item.payload),
        "structured_output": Verdict,
        "provider_config": config,
        "retry_policy": RetryPolicy(max_attempts=3, base_backoff_sec=0, max_backoff_sec=0),
    }
    return BatchJob(**(options | changes))


def test_every_billed_attempt_is_in_the_cost(openai_server: OpenAIServer, tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
        row = next(name for name in ("late", "never", "soon", "refused") if name in json.dumps(body["input"]))
        asked[row] += 1
        if row == "refused":
            return Reply.http_error(400, "invalid_prompt", "no")
        return answer(GOOD if row == "soon" or (row == "late" and asked[row] == 2) else "no JSON")

    openai_server.responder = respond
    storage = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    with closing(storage), BatchRunner(storage=storage, prices=PRICES) as runner:
        run = runner.start(
            job(openai_server, "late", "never", "soon", "refused", batch_metadata={"team": "blue"}),
            run_id=RUN,
        ).wait(timeout=60)
        assert asked == {"late": 2, "never": 3, "soon": 1, "refused": 1}
        assert run.summary().cost == Cost(6 * REQUEST)
        costs = {row.item_id: row.cost_usd for row in run.iter_results()}
        assert costs == {"late": 0.0004, "never": 0.0006, "soon": 0.0002, "refused": None}
        run.to_parquet(tmp_path / "results.parquet")
        table = pq.read_table(tmp_path / "results.parquet")
        assert dict(zip(*table.select(["item_id", "cost_usd"]).to_pydict().values(), strict=True)) == costs
        run.export_terminal_results(destination=tmp_path / "results.jsonl")
        lines = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
        assert {line["item_id"]: line["cost_usd"] for line in lines} == costs
        batches = storage.get_batches(run_id=RUN)
        assert sum(dollars_of(batch.cost) for batch in batches) == 6 * REQUEST
        # failed rows are sent again, and what they cost before stays
        openai_server.responder = lambda body, endpoint, custom_id: answer(GOOD)
        run.retry_failed()
        run.wait(timeout=60)
        assert run.summary().cost == Cost(8 * REQUEST)
        assert {row.item_id: row.cost_usd for row in run.iter_results()} == costs | {
            "never": 0.0008,
            "refused": 0.0002,
        }
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        for by, key in [("run", RUN), ("day", today), ("tag:team", "blue"), ("model", "openai/gpt-4.1-mini")]:
            [line] = runner.spending(by)
            assert (line.key, line.cost, line.usage, line.runs) == (
                key,
                Cost(8 * REQUEST),
                run.summary().usage,
                1,
            )
        assert [line.key for line in runner.spending("asset")] == [None]
        assert runner.spending("day", since=date(2999, 1, 1)) == []
        with pytest.raises(InvalidInputError, match="by must be run, day, month"):
            runner.spending("dya")
        with pytest.raises(InvalidInputError, match="since has no time zone"):
            runner.spending(since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_without_a_price_the_run_says_why(openai_server: OpenAIServer) -> None:
    with BatchRunner(storage="memory") as runner:
        run = runner.start(job(openai_server, "a", "b"), run_id=RUN).wait(timeout=60)
        assert run.summary().cost == Unpriced("no batch price known for the server 127.0.0.1")
        assert [row.cost_usd for row in run.iter_results()] == [None, None]
        [line] = runner.spending("run")
        assert line.cost == Unpriced("no price known for 2 answers")


def broken(provider: str, model: str, day: date) -> Any:
    raise ConnectionError("the price service is down")


def test_prices_that_can_not_be_looked_up_keep_no_answer_back(openai_server: OpenAIServer) -> None:
    with BatchRunner(storage="memory", prices=broken) as runner:
        run = runner.start(job(openai_server, "a"), run_id=RUN).wait(timeout=60)
        assert run.summary().completed_items == 1
        reason = "the prices can't be looked up: ConnectionError: the price service is down"
        assert run.summary().cost == Unpriced(reason)


def test_options_of_rows_and_tools_may_add_to_the_cost(openai_server: OpenAIServer) -> None:
    openai_server.responder = lambda body, endpoint, custom_id: answer(GOOD)
    base = job(openai_server, "a")
    config = OpenAIProviderConfig(
        model="gpt-4.1-mini",
        api_key="sk-x",
        base_url=openai_server.base_url,
        request_options={"tools": [{"type": "web_search"}]},
    )
    with BatchRunner(storage="memory", prices=PRICES) as runner:
        changed = job(
            openai_server,
            "a",
            provider_config=config,
            build_prompt=lambda item: PromptParts(str(item.payload), options={"temperature": 0.5}),
        )
        run = runner.start(changed, run_id=RUN).wait(timeout=60)
        left_out = ("calls of the tool web_search", "what options of single rows add to the price")
        assert run.summary().cost == Cost(REQUEST, left_out)
        assert base.provider_config.billed_besides() == []


def test_a_batch_is_priced_by_the_day_on_which_it_was_created(any_world: World) -> None:
    days: list[date] = []

    def prices(provider: str, model: str, day: date) -> dict[str, Any]:
        days.append(day)
        return {"input_tokens": 1, "output_tokens": 1}

    any_world.clock.sleep(12 * 3_600)
    runner = any_world.runner(prices=prices)
    run = runner.start(text_job(items(2)), run_id=RUN)
    created = any_world.clock().date()
    any_world.clock.sleep(23.5 * 3_600)
    assert any_world.clock().date() > created
    run.wait()
    assert days == [created]
    assert isinstance(run.summary().cost, Cost)


def test_a_batch_whose_usage_is_not_that_of_its_answers_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    get = world.provider.get_batch

    def stating(batch_id: str) -> Any:
        return get(batch_id) | {"usage": {"input_tokens": 1_000, "output_tokens": 0}}

    world.provider.get_batch = stating  # type: ignore[method-assign]
    run = world.start(text_job(2)).wait()
    counted = run.summary().usage
    [told] = world.data("batch_usage_differs")
    assert told["differing"] == {
        "input_tokens": {"stated": 1_000, "answers": counted.input_tokens},
        "output_tokens": {"stated": 0, "answers": counted.output_tokens},
    }
    said = "the provider states 1,000 input tokens for the batch, and its answers "
    assert said in caplog.text


def test_a_batch_whose_usage_is_that_of_its_answers_is_not_told(openai_server: OpenAIServer) -> None:
    told: list[str] = []
    with BatchRunner(storage="memory", observer=lambda event: told.append(event.event_type)) as runner:
        runner.start(job(openai_server, "a", "b"), run_id=RUN).wait(timeout=60)
    assert "batch_completed" in told
    assert "batch_usage_differs" not in told


AMOUNTS = st.lists(
    st.tuples(st.sampled_from("gfpu"), st.none() | st.integers(0, 10**15), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amounts=AMOUNTS, order=st.randoms(use_true_random=False), chunks=st.integers(1, 4))
def test_a_run_costs_what_its_rows_and_batches_cost_in_whatever_order_they_are_settled(
    amounts: list[tuple[str, int | None, int]], order: Any, chunks: int
) -> None:
    store = MemoryStateStore()
    with closing(store):
        kit.create(store, len(amounts))
        session = kit.drive(store)
        names = kit.submit(session, *range(len(amounts)))
        given = list(zip(names, amounts, strict=True))
        order.shuffle(given)
        expected = unpriced = 0
        size = -(-len(given) // chunks)
        for start in range(0, len(given), size):
            part = given[start : start + size]
            good = [
                kit.good(name, usage=kit.usage(2), cost=cost) for name, (kind, cost, _) in part if kind == "g"
            ]
            bad = [
                kit.bad(name, retryable=kind == "f", usage=kit.usage(2), cost=cost)
                for name, (kind, cost, _) in part
                if kind in "fp"
            ]
            paid = [record.cost for record in good] + [record.cost for record in bad]
            expected += sum(cost or 0 for cost in paid)
            unpriced += paid.count(None)
            is_last = start + size >= len(given)
            outcome = session.apply_outcome(
                provider_batch_id="p1",
                completions=good,
                failures=bad,
                released_custom_ids=[name for name, (kind, _, _) in part if kind == "u"],
                max_attempts=kit.MAX,
                end=BatchEnd("completed") if is_last else None,
            )
        answered = sum(kind != "u" for _, (kind, _, _) in given)
        assert outcome.billed == sum([kit.usage(2)] * answered, TokenUsage())
        assert sum(item.cost or 0 for item in store.get_item_records(run_id=kit.RUN)) == expected
        [batch] = store.get_batches(run_id=kit.RUN)
        assert (batch.cost, batch.unpriced_answers) == (expected, unpriced)
        cost = store.get_run_summary(run_id=kit.RUN).cost
        assert (cost.usd if isinstance(cost, Cost) else 0) == dollars_of(expected)
        session.close()
