"""Rows whose answers the model rejects are asked again with the answer and the reason."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchRunner,
    Cost,
    InvalidInputError,
    OpenAIProviderConfig,
    SQLiteStorage,
)
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.models import RetryPolicy
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.fake_rows import http_error_row
from batchor_core.testing.openai_server import OpenAIServer, RowFault
from tests.support.world import RUN, Verdict, World, attempts, by_item, index_of, structured_job, text_job

GOOD = '{"label": "a", "score": 1.0}'
NOT_IT = '{"label": "a", "score": "many"}'
PRICES = {"openai/gpt-4.1-mini": {"input_tokens": 0.2, "cached_tokens": 0.1, "output_tokens": 0.8}}


def _policy(repair: int = 1, attempts: int = 3) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, base_backoff_sec=0, max_backoff_sec=0, repair=repair)


def _asked(world: World, index: int) -> list[Any]:
    """What each attempt of an item asked."""
    lines = [line for batch in world.provider.batches.values() for line in batch.lines]
    return [line["body"]["input"] for line in lines if index_of(line) == index]


def test_a_rejected_answer_is_sent_back_with_the_reason(any_world: World) -> None:
    any_world.provider.answer = by_item({0: ["Sure!", GOOD], 1: [NOT_IT, GOOD]}, GOOD)
    run = any_world.start(structured_job(3, retry=_policy()))
    run.wait()
    assert attempts(run) == {"item-0": 2, "item-1": 2, "item-2": 1}
    first, again = _asked(any_world, 1)
    assert first == "question 1"
    assert again[:2] == [
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": NOT_IT},
    ]
    assert again[2]["role"] == "user"
    assert "score: Input should be a valid number" in again[2]["content"]
    summary = run.summary()
    assert (summary.completed_items, summary.repairs, summary.repaired_items) == (3, 2, 2)
    assert sum(data["count"] for data in any_world.data("items_asked_again")) == 2
    # what is stored of the row is its own request
    stored = list(any_world.store.iter_stored_items(run_id=RUN, first_index=1, count=1))
    assert b"assistant" not in (stored[0].request_line or b"")


def test_a_reason_is_for_one_answered_attempt(world: World) -> None:
    said = ["Sure!", http_error_row(429), "Well", "no", GOOD]
    world.provider.answer = by_item({0: said}, GOOD)
    run = world.start(structured_job(1, retry=_policy(repair=2, attempts=9)))
    run.wait()
    asked = [turns if isinstance(turns, str) else turns[1]["content"] for turns in _asked(world, 0)]
    # the second attempt was not answered, so it is sent again; and after two of them the row asks as it did at first
    assert asked == ["question 0", "Sure!", "Sure!", "Well", "question 0"]
    assert (run.summary().repairs, run.summary().repaired_items) == (2, 0)


def test_a_row_whose_second_request_is_refused_asks_as_it_did_at_first(world: World) -> None:
    said = ["Sure!", http_error_row(400, "context_length_exceeded"), GOOD]
    world.provider.answer = by_item({0: said}, GOOD)
    run = world.start(structured_job(1, retry=_policy(repair=1)))
    run.wait()
    asked = [turns if isinstance(turns, str) else turns[1]["content"] for turns in _asked(world, 0)]
    assert asked == ["question 0", "Sure!", "question 0"]
    assert (run.summary().completed_items, run.summary().repaired_items) == (1, 0)


def test_a_row_that_failed_begins_with_its_own_request_again(world: World) -> None:
    world.provider.answer = by_item({0: ["one", "two", "three", GOOD]}, GOOD)
    run = world.start(structured_job(1, retry=_policy(repair=1, attempts=2)))
    run.wait()
    assert run.summary().failed_items == 1
    run.retry_failed()
    run.wait()
    asked = [turns if isinstance(turns, str) else turns[1]["content"] for turns in _asked(world, 0)]
    assert asked == ["question 0", "one", "question 0", "three"]
    assert (run.summary().repairs, run.summary().repaired_items) == (2, 1)


def test_the_reason_outlives_the_process_and_the_files(tmp_path: Path) -> None:
    world = World(tmp_path, kind="sqlite")
    world.provider.answer = by_item({0: ["Sure!", GOOD]}, GOOD)
    run = world.start(structured_job(2, retry=_policy()))
    while not world.data("items_asked_again"):
        world.clock.sleep(2)
        run.refresh()
    run.pause()
    for file in [path for path in (tmp_path / "artifacts").rglob("*.jsonl") if path.is_file()]:
        file.unlink()
    later = world.runner(storage=world.open_store()).get_run(RUN)
    later.resume()
    later.wait()
    assert later.summary().repaired_items == 1
    assert _asked(world, 0)[-1][1]["content"] == "Sure!"
    world.close()


def test_without_repair_the_same_request_is_sent(world: World) -> None:
    world.provider.answer = by_item({0: ["Sure!", GOOD]}, GOOD)
    run = world.start(structured_job(1))
    run.wait()
    assert _asked(world, 0) == ["question 0"] * 2
    assert run.summary().repairs == 0


def test_a_request_that_no_batch_has_room_for_is_asked_as_it_was(tmp_path: Path) -> None:
    budget = EnqueueBudget("account", 1_000, 200)
    world = World(tmp_path, provider=FakeProvider(budget=budget))
    world.provider.answer = by_item({0: ["x" * 5_000, GOOD]}, GOOD)
    run = world.start(structured_job(1, retry=_policy()))
    run.wait()
    assert _asked(world, 0) == ["question 0"] * 2
    assert (run.summary().completed_items, run.summary().repairs) == (1, 0)
    world.close()


class Eight(FakeProvider):
    """A provider that can't go on with a request."""

    continued_line = None  # type: ignore[assignment]


def test_what_cannot_be_asked_again_is_refused_at_the_start(tmp_path: Path) -> None:
    world = World(tmp_path, provider=Eight())
    with pytest.raises(
        InvalidInputError, match=r"has no method continued_line\(\); give RetryPolicy\(repair=0\)"
    ):
        world.start(structured_job(1, retry=_policy()))
    with pytest.raises(InvalidInputError, match="the job has no model"):
        world.start(text_job(1, retry=_policy()))
    assert not world.store.has_run(run_id=RUN)
    assert not world.provider.batches
    world.close()


class Faulty(FakeProvider):
    """A provider whose own method fails."""

    def continued_line(self, *given: Any, **named: Any) -> Any:
        raise KeyError("input")


def test_a_method_that_fails_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path, provider=Faulty())
    world.provider.answer = by_item({0: ["Sure!", GOOD]}, GOOD)
    run = world.start(structured_job(2, retry=_policy()))
    run.wait()
    assert (run.summary().completed_items, run.summary().repairs) == (2, 0)
    assert "can't be asked again with the reason" in caplog.text
    world.close()


def test_equal_rows_get_the_repaired_answer(world: World) -> None:
    world.provider.answer = lambda line: GOOD if isinstance(line["body"]["input"], list) else "Sure!"
    given = [BatchItem(f"item-{n}", {"text": "the same"}) for n in range(3)]
    run = world.start(structured_job(given, retry=_policy(), reuse="store"))
    run.wait()
    other = world.start(structured_job(given[:1], retry=_policy(), reuse="store"), run_id="other")
    other.wait()
    summary = run.summary()
    assert (summary.completed_items, summary.deduplicated_items, summary.repairs) == (3, 2, 1)
    assert other.summary().reused_items == 1
    assert sum(world.lines()) == 2


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/chat/completions"])
def test_the_local_server_is_asked_again_and_paid_twice(
    openai_server: OpenAIServer, tmp_path: Path, endpoint: Any
) -> None:
    openai_server.faults.add(
        RowFault("schema_mismatch", rule=lambda name, body: "rejected" not in json.dumps(body))
    )
    config = OpenAIProviderConfig(
        model="gpt-4.1-mini",
        api_key="sk-x",
        base_url=openai_server.base_url,
        endpoint=endpoint,
        poll_interval_sec=0.01,
    )
    job: BatchJob[Any, Any] = BatchJob(
        items=[BatchItem(f"row-{n}", f"question {n}") for n in range(3)],
        build_prompt=lambda item: str(item.payload),
        structured_output=Verdict,
        provider_config=config,
        retry_policy=_policy(),
    )
    storage = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    with closing(storage), BatchRunner(storage=storage, prices=PRICES) as runner:
        run = runner.start(job, run_id="asked")
        run.wait()
        summary = run.summary()
        assert (summary.completed_items, summary.repairs, summary.repaired_items) == (3, 3, 3)
        costs = [result.cost_usd or 0 for result in run.results()]
        assert min(costs) > 0
        assert isinstance(summary.cost, Cost)
        assert sum(costs) == pytest.approx(float(summary.cost.usd))
