"""The checks: a partition's newest run and its results are judged."""

from collections.abc import Iterator

import dagster as dg

from batchor_core import BatchRunner, RunSummary
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.tables.result_columns import result_schema
from batchor_dagster.checks import completion_result, schema_result
from batchor_dagster.facts import BatchFacts, partition_of
from batchor_dagster.resource import BatchorResource
from batchor_dagster.revisions import newest_revisions
from batchor_dagster.steps.failures import clear_failures

PARTITION_TAG = "dagster/partition"


def judge_results(
    asset: BatchFacts, context: dg.OpExecutionContext, resource: BatchorResource, *, threshold: float
) -> Iterator[dg.AssetCheckResult]:
    """The results of the asset's checks, for the Dagster run's partition.

    A check that is executed by itself has no partition; it judges all of them.
    """
    # partitioned checks are a preview in Dagster 1.13: the partition is that of the Dagster run
    key = context.run.tags.get(PARTITION_TAG) if asset.partitions_def is not None else None
    with resource.runner() as runner, clear_failures():
        if asset.partitions_def is None or key is not None:
            summaries = {key: runner.get_run(asset.newest_run_id(runner, key)).summary()}
        else:
            summaries = _newest_summaries(asset, runner)
    yield completion_result(list(summaries.values()), threshold=threshold)
    if asset.output is not None:
        finished = [
            key for key, summary in summaries.items() if summary.status is not RunLifecycleStatus.RUNNING
        ]
        table = asset.result_table(resource)
        expected = table.stored_schema(result_schema(asset.output))
        yield schema_result(table.facts(finished), expected, threshold=threshold)


def _newest_summaries(asset: BatchFacts, runner: BatchRunner) -> dict[str | None, RunSummary]:
    found = {}
    for listing in newest_revisions(runner.list_runs()):
        partition = partition_of(asset, listing)
        if partition is not None:
            found[partition[0]] = listing.summary
    return found
