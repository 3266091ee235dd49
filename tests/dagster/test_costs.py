"""What a finished run has cost, from the provider's answers to the asset's metadata."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIProviderConfig, SQLiteStorage
from batchor_core.core.models import RetryPolicy
from batchor_core.core.pricing import Cost, CostTally
from batchor_core.testing.openai_server import OpenAIServer, Reply
from batchor_dagster import BatchAsset, BatchorResource, write_results_parquet
from tests.dagster.conftest import SECRET, Fact
from tests.dagster.test_assets import materialize, metadata_of

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
GOOD = '{"statement": "Birds fly.", "kind": "true", "sources": []}'


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


@pytest.mark.parametrize(
    ("model", "a_request"),
    [
        ("gpt-4.1-mini", Decimal("0.000200")),  # a million: $0.20, cached $0.10, answered $0.80
        ("gpt-5.4", Decimal("0.001104")),  # a million: $1.25, cached $0.13, answered $7.50
    ],
)
def test_every_billed_attempt_is_in_the_cost(
    openai_server: OpenAIServer, tmp_path: Path, model: str, a_request: Decimal
) -> None:
    asked: Counter[str] = Counter()

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
        row = next(name for name in ("late", "never", "soon", "refused") if name in json.dumps(body["input"]))
        asked[row] += 1
        if row == "refused":
            return Reply.http_error(400, "invalid_prompt", "no")
        return answer(GOOD if row == "soon" or (row == "late" and asked[row] == 2) else "no JSON")

    openai_server.responder = respond
    config = OpenAIProviderConfig(
        model=model, api_key=SECRET, base_url=openai_server.base_url, poll_interval_sec=0.01
    )
    job: BatchJob[Any, Any] = BatchJob(
        items=[BatchItem(name, name) for name in ("late", "never", "soon", "refused")],
        build_prompt=lambda item: str(item.payload),
        structured_output=Fact,
        provider_config=config,
        retry_policy=RetryPolicy(max_attempts=3, base_backoff_sec=0, max_backoff_sec=0),
    )
    own = OpenAIProviderConfig(model=model, base_url="https://api.openai.com/v1")
    storage = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    with BatchRunner(storage=storage, temp_root=tmp_path / "files") as runner, closing(storage):
        run = runner.start(job, run_id="costs").wait(timeout=60)
        tally = CostTally(own.batch_rates(at=NOVEMBER))
        write_results_parquet(run, tmp_path / "results.parquet", Fact, costs=tally)
        cost = tally.cost(asdict(run.summary().usage))
    assert asked == {"late": 2, "never": 3, "soon": 1, "refused": 1}
    assert cost == Cost(6 * a_request)


def test_the_results_say_why_there_is_no_figure(
    make_asset: Callable[..., BatchAsset], resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = make_asset(wait=True)
    metadata = metadata_of(materialize(asset.assets, resource, instance))
    assert "batchor/cost_usd" not in metadata
    assert metadata["batchor/cost_note"] == "no batch price known for the server 127.0.0.1"
