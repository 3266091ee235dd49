"""The checks: the newest run and the results of each partition are judged by themselves."""

import inspect
import typing
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import dagster as dg

from batchor_core import BatchRunner
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

    A job of checks alone has no partition; it judges every partition whose run is finished.
    """
    selected = {spec.name: spec for spec in specs if spec.key in context.selected_asset_check_keys}
    with resource.runner() as runner, clear_failures():
        keys = _partitions(asset, context, runner)
        judged = {
            key: [
                result
                for result in _results(
                    asset, runner, resource, key, threshold=threshold, budget_usd=budget_usd
                )
                if result.check_name in selected
            ]
            for key in keys
        }
    if asset.partitions_def is None or context.has_partition_key:
        yield from judged[keys[0]]  # Dagster adds the partition
        return
    # AssetCheckResult knows one partition for each step, the event that Dagster makes of it can name any
    for key, results in judged.items():
        for result in results:
            yield _evaluation(context, str(key), result, selected[result.check_name or ""])
    if not keys:
        context.log.info(f"no run of {asset.key.to_user_string()} is finished; there is nothing to check")
    for spec in selected.values():
        yield dg.Output(None, output_name=spec.get_python_identifier())


def _partitions(
    asset: BatchFacts, context: dg.OpExecutionContext, runner: BatchRunner
) -> Sequence[str | None]:
    if asset.partitions_def is None:
        return [None]
    if context.has_partition_key:
        return [context.partition_key]
    if RANGE_TAG in context.run.tags:
        return list(context.partition_keys)
    found = [
        partition[0]
        for listing in newest_revisions(runner.list_runs())
        if listing.summary.status is not RunLifecycleStatus.RUNNING
        and (partition := partition_of(asset, listing)) is not None
    ]
    return sorted(key for key in found if key is not None)


def _results(
    asset: BatchFacts,
    runner: BatchRunner,
    resource: BatchorResource,
    key: str | None,
    *,
    threshold: float,
    budget_usd: Decimal | None,
) -> Iterator[dg.AssetCheckResult]:
    summary = runner.get_run(asset.newest_run_id(runner, key)).summary()
    yield completion_result(summary, threshold=threshold)
    if budget_usd is not None:
        yield budget_result(summary, budget_usd=budget_usd)
    if asset.output is not None:
        table = asset.result_table(resource)
        is_finished = summary.status is not RunLifecycleStatus.RUNNING
        yield schema_result(
            table.facts([key] if is_finished else []),
            table.stored_schema(result_schema(asset.output)),
            threshold=threshold,
        )


def _evaluation(
    context: dg.OpExecutionContext, partition_key: str, result: dg.AssetCheckResult, spec: dg.AssetCheckSpec
) -> dg.AssetCheckEvaluation:
    materialized = latest_materialization(context.instance, spec.asset_key, partition_key)
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
