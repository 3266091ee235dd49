"""The asset that the page on tests takes from its user's project."""

import dagster as dg
from my_project.models import Review

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_dagster import batch_asset


@batch_asset(partitions_def=dg.DailyPartitionsDefinition(start_date="2026-11-01"), output=Review)
def reviews(context: dg.AssetExecutionContext) -> BatchJob:
    return BatchJob(
        items=[BatchItem(item_id=str(n), payload=f"review {n} of {context.partition_key}") for n in range(4)],
        build_prompt=lambda item: f"Judge this review: {item.payload}",
        provider_config=OpenAIProviderConfig(model="gpt-5-mini"),
    )
