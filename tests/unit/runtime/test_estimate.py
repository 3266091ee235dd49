"""The estimate of what requests in flight will be billed: a range from their texts alone to everything in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchor_core import BatchRunner, MemoryStateStore, OpenAIEnqueueLimitConfig, OpenAIProviderConfig
from batchor_core.core.exceptions import MissingCredentialsError
from batchor_core.core.models import BatchJob
from batchor_core.runtime.estimate import TokenEstimate
from batchor_core.testing.openai_server import OpenAIServer
from tests.support.world import RUN, Verdict, World, items, text_job

BUDGET = OpenAIEnqueueLimitConfig(enqueued_token_limit=1_000_000)


@pytest.mark.parametrize("limits", [OpenAIEnqueueLimitConfig(), BUDGET], ids=["by length", "counted"])
@pytest.mark.parametrize("structured", [False, True])
def test_the_bill_is_within_the_range(
    openai_server: OpenAIServer, tmp_path: Path, limits: OpenAIEnqueueLimitConfig, structured: bool
) -> None:
    config = OpenAIProviderConfig(
        model="gpt-5-mini", api_key="sk-local", base_url=openai_server.base_url, enqueue_limits=limits
    )
    job = BatchJob(
        items=items(20),
        build_prompt=lambda item: (
            f"Judge the comment number {item.item_id}, which says that nothing is wrong. " * 5
        ),
        provider_config=replace(config, poll_interval_sec=0.0),
        structured_output=Verdict if structured else None,
    )
    with BatchRunner(storage=MemoryStateStore(), temp_root=tmp_path) as runner:
        run = runner.start(job, run_id=RUN)
        estimate = runner.estimate(RUN)
        billed = run.wait().summary().usage.input_tokens
        assert runner.estimate(RUN) == TokenEstimate(0, 0), "nothing is in flight"
    assert estimate.texts <= 1.1 * billed
    assert billed <= 1.1 * estimate.requests
    assert estimate.texts < estimate.requests
    if structured:
        assert estimate.texts < billed, "the schema is billed"


def test_without_a_key_the_range_is_its_upper_end(world: World) -> None:
    world.start(text_job(3))

    def no_key(config: object) -> Any:
        raise MissingCredentialsError("no key")

    estimate = world.runner(provider_factory=no_key).estimate(RUN)
    assert estimate.texts == estimate.requests > 0
