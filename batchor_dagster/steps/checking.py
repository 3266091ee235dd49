"""The checks: the newest run and the results of each partition are judged by themselves."""

import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import dagster as dg

from batchor_core import BatchRunner, RunSummary
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.tables.result_columns import result_schema
from batchor_dagster.checks import budget_result, completion_result, schema_result
from batchor_dagster.dagster_runs import latest_materialization
from batchor_dagster.facts import BatchFacts, partition_of
from batchor_dagster.resource import BatchorResource
from batchor_dagster.revisions import newest_revisions
from batchor_dagster.steps.failures import clear_failures

CheckEvent: TypeAlias = dg.AssetCheckResult | dg.AssetCheckEvaluation | dg.Output[None]

RANGE_TAG = "dagster/asset_partition_range_start"


def judge_results(
    asset: BatchFacts,
    context: dg.OpExecutionContext,
    resource: BatchorResource,
    specs: Sequence[dg.AssetCheckSpec],
    *,
    threshold: float,
    budget_usd: Decimal | None = None,
) -> Iterator[CheckEvent]:
    """The selected checks of each partition of the Dagster run.

    A job of checks alone has no partition; it judges every partition whose run is finished. However many there are, the
    runs are read with one list and the results with one look; only Dagster's log is asked about each partition.
    """
    selected = {spec.name: spec for spec in specs if spec.key in context.selected_asset_check_keys}
    with resource.runner() as runner, clear_failures():
        summaries = _summaries(asset, context, runner)
        keys = list(summaries)
        judged = {
            key: [result for result in results if result.check_name in selected]
            for key, results in _results(
                asset, resource, summaries, threshold=threshold, budget_usd=budget_usd
            )
        }
    if asset.partitions_def is None or context.has_partition_key:
        yield from judged[keys[0]]  # Dagster adds the partition
        return
    # AssetCheckResult knows one partition for each step, the event that Dagster makes of it can name any
    [asset_key] = {spec.asset_key for spec in specs}
    for key, results in judged.items():
        materialized = latest_materialization(context.instance, asset_key, key)
        for result in results:
            yield _evaluation(str(key), result, selected[result.check_name or ""], materialized)
    if not keys:
        context.log.info(f"no run of {asset.key.to_user_string()} is finished; there is nothing to check")
    for spec in selected.values():
        yield dg.Output(None, output_name=spec.get_python_identifier())


def _summaries(
    asset: BatchFacts, context: dg.OpExecutionContext, runner: BatchRunner
) -> dict[str | None, RunSummary]:
    """The newest run of each partition that is to be judged."""
    if asset.partitions_def is None or context.has_partition_key:
        key = None if asset.partitions_def is None else context.partition_key
        return {key: runner.get_run(asset.newest_run_id(runner, key)).summary()}
    listed = {
        partition[0]: listing.summary
        for listing in newest_revisions(runner.list_runs())
        if (partition := partition_of(asset, listing)) is not None
    }
    if RANGE_TAG in context.run.tags:
        return {
            key: listed[key]
            if key in listed
            else runner.get_run(asset.run_id(key)).summary()  # which says that there is none
            for key in context.partition_keys
        }
    finished = [key for key, one in listed.items() if one.status is not RunLifecycleStatus.RUNNING]
    return {key: listed[key] for key in sorted(key for key in finished if key is not None)}


def _results(
    asset: BatchFacts,
    resource: BatchorResource,
    summaries: Mapping[str | None, RunSummary],
    *,
    threshold: float,
    budget_usd: Decimal | None,
) -> Iterator[tuple[str | None, list[dg.AssetCheckResult]]]:
    if asset.output is not None:
        table = asset.result_table(resource)
        expected = table.stored_schema(result_schema(asset.output))
        finished = [key for key, one in summaries.items() if one.status is not RunLifecycleStatus.RUNNING]
        facts = table.facts_by_partition(finished)
    for key, summary in summaries.items():
        results = [completion_result(summary, threshold=threshold)]
        if budget_usd is not None:
            results.append(budget_result(summary, budget_usd=budget_usd))
        if asset.output is not None:
            found = [facts[key]] if key in facts else []
            results.append(schema_result(found, expected, threshold=threshold))
        yield key, results


def _evaluation(
    partition_key: str,
    result: dg.AssetCheckResult,
    spec: dg.AssetCheckSpec,
    materialized: dg.EventLogRecord | None,
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
        blocking=spec.blocking,
        partition=partition_key,
        # without it, the UI takes the result for one of an earlier materialization
        target_materialization_data=materialized
        and _TARGET(
            storage_id=materialized.storage_id, run_id=materialized.run_id, timestamp=materialized.timestamp
        ),
    )


def _target_type() -> Any:
    """The type of an argument of a public class, by its annotation: Dagster does not export it."""
    argument = inspect.signature(dg.AssetCheckEvaluation).parameters["target_materialization_data"]
    return typing.get_args(argument.annotation)[0]


_TARGET = _target_type()
