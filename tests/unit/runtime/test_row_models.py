"""Rows that name models of their own: batches of one model each, priced by it."""

from __future__ import annotations

from collections import Counter
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
    OpenAIProviderConfig,
    PromptFeature,
    PromptParts,
)
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.batching import of_one_model
from batchor_core.storage.session import Candidate
from batchor_core.testing.fake_rows import http_error_row
from batchor_core.testing.openai_server import OpenAIServer, Reply
from tests.support.world import RUN, World, ask, attempt_of, items, text_job
from tests.unit.runtime.test_costs import answer

COUNT = 6
LARGE, SMALL = "large-model", "fake-model"
"""The second one is that of the job's config."""


def by_turns(item: BatchItem[Any]) -> PromptParts:
    """Every other row names a model; the first one the job's own."""
    number = item.payload["n"]
    return PromptParts(ask(item), options={"model": LARGE if number % 2 else SMALL} if number < 4 else None)


def job(**changes: Any) -> BatchJob[Any, Any]:
    return text_job(items(COUNT), build_prompt=by_turns, **changes)


def models(world: World) -> list[list[str]]:
    """Of the lines of each batch."""
    return [[line["body"]["model"] for line in batch.lines] for batch in world.provider.batches.values()]


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def any_database(request: pytest.FixtureRequest, make_world: Any) -> Any:
    return make_world(kind=request.param)


def test_a_batch_has_one_model(any_database: World) -> None:
    world = any_database
    run = world.start(job()).wait()
    assert run.summary().completed_items == COUNT
    assert models(world) == [[SMALL] * 4, [LARGE] * 2]
    assert [batch.model for batch in world.store.get_batches(run_id=RUN)] == [None, LARGE]


def test_batches_of_each_model_are_filled(any_world: World) -> None:
    any_world.start(text_job(items(10), per_batch=2, build_prompt=lambda item: PromptParts(
        ask(item), options={"model": f"model-{item.payload['n'] % 2}"}
    ))).wait()  # fmt: skip
    assert Counter(map(tuple, models(any_world))) == {
        ("model-0",) * 2: 2, ("model-0",): 1, ("model-1",) * 2: 2, ("model-1",): 1,
    }  # fmt: skip


def test_a_retry_has_the_model_of_its_row_in_another_process_too(any_world: World) -> None:
    good = any_world.provider.answer
    any_world.provider.answer = lambda line: (
        http_error_row(500, "again") if attempt_of(line) == 0 else good(line)
    )
    any_world.start(job())
    any_world.store = any_world.open_store()
    assert any_world.start(job()).wait().summary().completed_items == COUNT
    assert models(any_world) == [[SMALL] * 4, [LARGE] * 2] * 2


def test_no_row_is_sent_twice_when_a_create_is_lost(any_world: World) -> None:
    any_world.provider.fail("create_batch", ConnectionError("lost"), after=True, times=1)
    run = any_world.start(job())
    any_world.clock.advance(3_600)
    assert run.wait().summary().completed_items == COUNT
    assert models(any_world) == [[SMALL] * 4, [LARGE] * 2]


def test_nothing_is_left_of_a_run_that_is_deleted(any_world: World) -> None:
    run = any_world.start(job()).wait()
    any_world.runner().delete_run(run.run_id)
    assert any_world.start(text_job(2)).wait().summary().completed_items == 2
    assert models(any_world)[-1] == [SMALL] * 2


def test_another_model_is_another_row(any_world: World) -> None:
    any_world.start(job())
    changed = text_job(
        items(COUNT), build_prompt=lambda item: PromptParts(ask(item), options={"model": LARGE})
    )
    with pytest.raises(InvalidInputError, match="other options"):
        any_world.start(changed)


def test_a_provider_without_models_of_rows_refuses_them(world: World) -> None:
    world.provider.prompts = frozenset({PromptFeature.OPTIONS})
    with pytest.raises(
        InvalidInputError, match="item 'item-0': its prompt has model, which the provider fake does not"
    ):
        world.start(job())


def test_groups_are_in_the_order_of_their_first_items() -> None:
    plain = [Candidate(n, 1, 1) for n in range(3)]
    assert of_one_model(plain) == [plain]
    a, b, c = Candidate(0, 1, 1, "x"), Candidate(1, 1, 1), Candidate(2, 1, 1, "x")
    assert of_one_model([a, b, c]) == [[a, c], [b]]


PRICES = {
    "openai/gpt-4.1-mini": {"input_tokens": 0.2, "cached_tokens": 0.1, "output_tokens": 0.8},
    "openai/gpt-4.1": {"input_tokens": 2, "cached_tokens": 1, "output_tokens": 8},
}


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/chat/completions"])
def test_each_row_has_the_price_of_its_model(endpoint: Any, tmp_path: Path) -> None:
    def respond(body: dict[str, Any], _endpoint: str, _custom_id: str) -> Reply:
        return answer(body["model"])

    with OpenAIServer(responder=respond, batch_seconds=0) as server:
        config = OpenAIProviderConfig(
            model="gpt-4.1-mini",
            api_key="any",
            base_url=server.base_url,
            endpoint=endpoint,
            poll_interval_sec=0,
        )
        made: BatchJob[Any, Any] = BatchJob(
            items=items(2),
            build_prompt=lambda item: PromptParts(
                ask(item), options={"model": "gpt-4.1"} if item.payload["n"] else None
            ),
            provider_config=config,
            caps=[Cap(usd=1)],
        )
        store, artifacts = MemoryStateStore(), LocalArtifactStore(tmp_path)
        with BatchRunner(storage=store, artifact_store=artifacts, prices=PRICES) as runner:
            run = runner.run_and_wait(made, run_id=RUN)
            assert [(row.output, row.cost_usd) for row in run.results()] == [
                ("gpt-4.1-mini", 0.0002),
                ("gpt-4.1", 0.002),
            ]
            cost = run.summary().cost
            assert isinstance(cost, Cost)
            assert cost.usd == Decimal("0.0022")
        assert len(server.books.batches) == 2


def test_a_row_without_a_price_is_not_sent_under_a_cap_in_dollars(tmp_path: Path) -> None:
    with OpenAIServer(batch_seconds=0) as server:
        config = OpenAIProviderConfig(model="gpt-4.1-mini", api_key="any", base_url=server.base_url)
        made: BatchJob[Any, Any] = BatchJob(
            items=items(1),
            build_prompt=lambda item: PromptParts(ask(item), options={"model": "unheard-of"}),
            provider_config=config,
            caps=[Cap(usd=1)],
        )
        store, artifacts = MemoryStateStore(), LocalArtifactStore(tmp_path)
        with BatchRunner(storage=store, artifact_store=artifacts, prices=PRICES) as runner:
            summary = runner.start(made, run_id=RUN).refresh()
        assert "a cap in dollars holds for this run" in str(summary.control_reason)
        assert server.books.batches == []
