"""The last word on a partition in Dagster's event log: what it says of its batch run, and whether that still holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from batchor_core import Run, RunSummary
from batchor_core.core.exceptions import BatchorError
from batchor_dagster.facts import BatchFacts
from batchor_dagster.metadata import Links, Metadata, describe, progress_metadata, results_end
from batchor_dagster.run_states import is_finished

_COUNTDOWN = re.compile(r", next submission in [^,]*")


def observed_key(asset: BatchFacts) -> dg.AssetKey:
    """The asset that shows where a run stands: the submission, or the only one of an asset that waits."""
    return asset.submission_key or asset.key


def observation(
    asset: BatchFacts, partition_key: str | None, summary: RunSummary, links: Links | None = None
) -> dg.AssetObservation:
    """Where a run stands, as an event; with links, also what can be done about it."""
    return dg.AssetObservation(
        observed_key(asset),
        partition=partition_key,
        metadata={
            "batchor/run_id": dg.MetadataValue.text(summary.run_id),
            **progress_metadata(summary),
            **(links.metadata if links is not None else {}),
        },
    )


def in_flight(
    asset: BatchFacts, partition_key: str | None, summary: RunSummary, links: Links
) -> dg.AssetObservation | None:
    """Of results that are still to come: where their run stands, since when it runs, and how to control it.

    None for a run that has ended, whose results speak for themselves, and for an asset that waits.
    """
    if asset.submission_key is None or is_finished(summary):
        return None
    return dg.AssetObservation(
        asset.key,
        partition=partition_key,
        description="No results yet: the sensor materializes this asset when the batch run has ended.",
        metadata={
            "batchor/run_id": dg.MetadataValue.text(summary.run_id),
            **progress_metadata(summary),
            **_since(summary),
            **links.metadata,
        },
    )


def _since(summary: RunSummary) -> Metadata:
    """When the run began, where the store keeps it."""
    return {"batchor/since": dg.MetadataValue.timestamp(summary.created_at)} if summary.created_at else {}


def show_state(
    asset: BatchFacts, context: dg.AssetExecutionContext, run: Run, partition_key: str | None
) -> None:
    """Let the last event of the partition be where its run stands, unless it is that already."""
    try:
        summary = run.summary()
        if not is_shown(context.instance, asset, partition_key, summary):
            context.log_event(observation(asset, partition_key, summary))
    except BatchorError as error:
        context.log.warning(f"batch run {run.run_id}: where it stands can't be shown: {error}")


def is_shown(
    instance: dg.DagsterInstance, asset: BatchFacts, partition_key: str | None, summary: RunSummary
) -> bool:
    """Whether the newest event of the partition says what is so now; asks the instance twice."""
    wanted = dg.AssetRecordsFilter(
        asset_key=observed_key(asset),
        asset_partitions=None if partition_key is None else [partition_key],
    )
    observed = instance.fetch_observations(wanted, limit=1).records
    materialized = instance.fetch_materializations(wanted, limit=1).records
    newest = max([*observed, *materialized], key=lambda record: record.timestamp, default=None)
    if newest is None:
        return False
    event: Any = newest.asset_observation or newest.asset_materialization
    return tells({name: entry.value for name, entry in event.metadata.items()}, summary)


def tells(shown: Mapping[str, Any], summary: RunSummary) -> bool:
    """Whether an event's metadata says where the run stands.

    The event that brought a run's results says how many rows have ended, and how far its results go: of an asset that waits,
    that is the final word.
    """
    if shown.get("batchor/run_id", summary.run_id) != summary.run_id:
        return False
    status = shown.get("batchor/status")
    if status is not None:
        # the time until the next submission passes without a change of state
        return _COUNTDOWN.sub("", str(status)) == describe(replace(summary, backoff_remaining_sec=0.0))
    ended = (shown.get("batchor/completed"), shown.get("batchor/failed"))
    return (
        results_end(shown) is not None
        and is_finished(summary)
        and ended == (summary.completed_items, summary.failed_items)
    )
