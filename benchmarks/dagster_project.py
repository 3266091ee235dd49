"""The code location of the backfill: one asset with as many partitions and rows as the environment says."""

import os
from typing import Any

import dagster as dg
from pydantic import BaseModel

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_dagster import BatchorResource, batch_asset, build_batch_definitions


class Answer(BaseModel):
    """What is asked for."""

    text: str
    sure: bool


def partitions_of(count: int) -> list[str]:
    """The partition keys."""
    return [f"p{number:04}" for number in range(count)]


ROWS = int(os.environ.get("BACKFILL_ROWS", "50"))
PARTITIONS = dg.StaticPartitionsDefinition(partitions_of(int(os.environ.get("BACKFILL_PARTITIONS", "100"))))


@batch_asset(partitions_def=PARTITIONS, output=Answer)
def answers(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
    """The answers of one partition."""
    key = context.partition_key
    return BatchJob(
        items=[BatchItem(f"{key}-{number}", f"question {number} of {key}") for number in range(ROWS)],
        build_prompt=lambda item: str(item.payload),
        provider_config=OpenAIProviderConfig(model="gpt-5-nano"),
    )


defs = build_batch_definitions(
    assets=[answers],
    drive=os.environ.get("BACKFILL_DRIVE", "tick"),
    minimum_interval_seconds=5,
    executor=dg.in_process_executor,
    resources={"batchor": BatchorResource(root=dg.EnvVar("BATCHOR_ROOT"))},
)
