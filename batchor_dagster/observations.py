"""Observations that show a batch run's state on its assets, and whether the newest one is still current."""

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
    """The asset that shows a run's state: the submission, or with ``wait=True`` the only one."""
    return asset.submission_key or asset.key


def observation(
    asset: BatchFacts, partition_key: str | None, summary: RunSummary, links: Links | None = None
) -> dg.AssetObservation:
    """A run's state as an event; with links, also its controls."""
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
    """An event of the results asset while its run is active: the run's state, when it began, and its controls.

    None if the run has ended, and with ``wait=True``.
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
    """When the run began, if the store keeps it."""
    return {"batchor/since": dg.MetadataValue.timestamp(summary.created_at)} if summary.created_at else {}


def show_state(
    asset: BatchFacts, context: dg.AssetExecutionContext, run: Run, partition_key: str | None
) -> None:
    """Log an event with the run's state, unless the partition's newest event shows it already."""
    try:
        summary = run.summary()
        if not is_shown(context.instance, asset, partition_key, summary):
            context.log_event(observation(asset, partition_key, summary))
    except BatchorError as error:
        context.log.warning(f"batch run {run.run_id}: its state can't be shown: {error}")


def is_shown(
    instance: dg.DagsterInstance, asset: BatchFacts, partition_key: str | None, summary: RunSummary
) -> bool:
    """Whether the partition's newest event shows the run's current state. Takes two queries."""
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
    """Whether an event's metadata shows the run's current state.

    The materialization of a finished run's results does, if its row counts are the run's.
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
