"""The checks: a partition's newest run and its result file are judged."""

from collections.abc import Iterator

import dagster as dg

from batchor_core import BatchRunner, RunSummary
from batchor_core.core.enums import RunLifecycleStatus
from batchor_dagster.asset import BatchAsset, partition_of
from batchor_dagster.checks import completion_result, schema_result
from batchor_dagster.parquet import read_footer
from batchor_dagster.resource import BatchorResource
from batchor_dagster.revisions import newest_revisions
from batchor_dagster.steps.failures import clear_failures

PARTITION_TAG = "dagster/partition"


def judge_results(
    asset: BatchAsset, context: dg.AssetCheckExecutionContext, resource: BatchorResource, *, threshold: float
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
        files = asset.result_files(resource)
        paths = [path for key in finished if (path := files.existing(key)) is not None]
        footers = [footer for path in paths if (footer := read_footer(path)) is not None]
        yield schema_result(footers, asset.output, threshold=threshold)


def _newest_summaries(asset: BatchAsset, runner: BatchRunner) -> dict[str | None, RunSummary]:
    found = {}
    for listing in newest_revisions(runner.list_runs()):
        partition = partition_of(asset, listing)
        if partition is not None:
            found[partition[0]] = listing.summary
    return found
