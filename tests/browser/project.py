"""The code location that the browser tests operate: reviews that wait at the provider, and small jobs that wait in a step."""

from typing import Any, Literal

import dagster as dg
from pydantic import BaseModel, Field

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_dagster import BatchAsset, BatchorResource, OnTermination, batch_asset, build_batch_operations

SHOPS = dg.StaticPartitionsDefinition(["berlin", "lisbon", "oslo", "paris", "tokyo"])
GRUMBLING = "tokyo"
"""The partition with reviews that no model wants to judge."""


class Review(BaseModel):
    """What is asked of each review."""

    mood: Literal["happy", "neutral", "angry"] = Field(description="How the guest left the shop")
    summary: str = Field(description="One plain sentence")
    topics: list[str]


def ask(shop: str, *, rows: int = 12) -> BatchJob[Any, Any]:
    """A review of a shop per row; those of the grumbling one are refused, all but a third."""
    return BatchJob(
        items=[
            BatchItem(
                f"{shop}-{number:03}", f"Guest {number} of {shop}: a word about the bread and the queue."
            )
            for number in range(rows)
        ],
        build_prompt=lambda item: f"Judge this review. {item.payload}",
        provider_config=OpenAIProviderConfig(model="gpt-5-nano"),
    )


@batch_asset(partitions_def=SHOPS, output=Review, group_name="reviews")
def reviews(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
    """Every guest's review, judged."""
    return ask(context.partition_key)


def quick(policy: OnTermination) -> BatchAsset:
    """A small job that waits in its step, with what Terminate does to it."""

    @batch_asset(
        name=f"quick_{policy}", output=Review, wait=True, on_termination=policy, group_name="quick_jobs"
    )
    def made(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return ask(f"quick_{policy}", rows=3)

    return made


batches = [reviews, *map(quick, OnTermination)]
defs = dg.Definitions.merge(
    dg.Definitions(assets=batches, executor=dg.in_process_executor),  # half as many processes to start
    build_batch_operations(
        assets=batches,
        minimum_interval_seconds=1,
        resources={
            "batchor": BatchorResource(
                root=dg.EnvVar("BATCHOR_ROOT"), api_key=dg.EnvVar("OPENAI_API_KEY"), poll_interval_sec=0.5
            )
        },
    ),
)
