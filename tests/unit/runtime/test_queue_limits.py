"""A provider that refuses batches for want of room is learned, and the run gets through."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchRunner,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    SQLiteStorage,
)
from batchor_core.core.models import ChunkPolicy, RetryPolicy
from batchor_core.runtime.queue_limit import queue_limit
from batchor_core.testing.openai_server import Limits, OpenAIServer


def _job(server: OpenAIServer, count: int, **config: Any) -> BatchJob[Any, Any]:
    provider = OpenAIProviderConfig(
        model="gpt-4.1-mini", api_key="sk-x", base_url=server.base_url, poll_interval_sec=0.01, **config
    )
    return BatchJob(
        items=[BatchItem(f"row-{n}", "word " * 40) for n in range(count)],
        build_prompt=lambda item: str(item.payload),
        provider_config=provider,
        retry_policy=RetryPolicy(base_backoff_sec=0, max_backoff_sec=0),
        chunk_policy=ChunkPolicy(max_requests=16),
    )


def _refused(storage: SQLiteStorage, run_id: str) -> int:
    return [batch.status for batch in storage.get_batches(run_id=run_id)].count("failed")


def test_a_refused_run_finds_the_limit_and_the_next_one_knows_it(tmp_path: Path) -> None:
    storage = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    with (
        OpenAIServer(batch_seconds=0, limits=Limits(enqueued_tokens=200)) as server,
        closing(storage),
        BatchRunner(storage=storage) as runner,
    ):
        job = _job(server, 16)
        run = runner.start(job, run_id="first")
        run.wait()
        summary = run.summary()
        assert summary.completed_items == 16
        found = queue_limit(storage, job.provider_config)
        assert found is not None
        assert found.is_observed
        assert summary.queue_limit == found.tokens
        again = runner.start(_job(server, 16), run_id="second")
        again.wait()
        assert again.summary().completed_items == 16
        assert _refused(storage, "first") > 0
        assert _refused(storage, "second") < _refused(storage, "first")
        # a row over what was learned is sent when nothing else is in flight, so it is planned and priced as well
        plan = runner.plan(replace(job, items=[BatchItem("long", "word " * 2_000)]))
        assert (plan.rows_new, plan.rows_refused, plan.batches, plan.waves) == (1, 0, 1, 1)
        limits = OpenAIEnqueueLimitConfig(enqueued_token_limit=1_000, target_ratio=1.0)
        configured = queue_limit(storage, _job(server, 1, enqueue_limits=limits).provider_config)
        assert configured is not None
        assert (configured.tokens, configured.is_observed) == (1_000, False)
