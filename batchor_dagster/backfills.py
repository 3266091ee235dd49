"""Keeping a backfill of submissions and results open until the results have landed.

When all runs of a backfill have ended, Dagster marks the partitions that are not materialized as failed. A batch can take a
day, and no worker should wait that long. So the step that leaves the results to the sensor adds a run record to the backfill
that is never launched, the *hold*. The sensor adds the runs that write the results to the same backfill, and deletes the hold
when all results are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import dagster as dg

from batchor_dagster.control import tagged_run_ids
from batchor_dagster.dagster_runs import all_records

BACKFILL_TAG = "dagster/backfill"
"""Dagster's own: the backfill that a run belongs to."""

HOLD_TAG = "batchor/holds_backfill"
"""On holds: the key of the results that are waited for."""

_JOB = "waiting_for_batch_results"


def hold(instance: dg.DagsterInstance, backfill_id: str, results: dg.AssetKey) -> None:
    """Keep a backfill open for these results. Idempotent."""
    tags = {BACKFILL_TAG: backfill_id, HOLD_TAG: results.to_user_string()}
    if not instance.get_runs(dg.RunsFilter(tags=tags), limit=1):
        instance.add_run(dg.DagsterRun(job_name=_JOB, status=dg.DagsterRunStatus.NOT_STARTED, tags=tags))


def held_backfills(instance: dg.DagsterInstance, results: Iterable[dg.AssetKey]) -> Mapping[str, str]:
    """The batch runs of backfills that are held open for these results, each with its backfill; the newest of several."""
    held: dict[str, str] = {}
    for record in reversed(all_records(instance, _holds(results))):
        backfill_id = record.dagster_run.tags[BACKFILL_TAG]
        for run in instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: backfill_id})):
            held |= dict.fromkeys(tagged_run_ids(run.tags), backfill_id)
    return held


def release(
    instance: dg.DagsterInstance,
    results: Iterable[dg.AssetKey],
    held: Mapping[str, str],
    *,
    awaited: Collection[str],
) -> None:
    """Delete the holds of backfills that have ended, or whose results are all there.

    Args:
        instance: Dagster's.
        results: The keys of the assets.
        held: As :func:`held_backfills` found it.
        awaited: Batch runs of these assets whose results are still to come.
    """
    waiting = {backfill_id for run_id, backfill_id in held.items() if run_id in awaited}
    for run in instance.get_runs(_holds(results)):
        backfill = instance.get_backfill(run.tags[BACKFILL_TAG])
        is_open = backfill is not None and backfill.status.value == "REQUESTED"
        if not is_open or run.tags[BACKFILL_TAG] not in waiting:
            instance.delete_run(run.run_id)


def _holds(results: Iterable[dg.AssetKey]) -> dg.RunsFilter:
    return dg.RunsFilter(tags={HOLD_TAG: [key.to_user_string() for key in results]})
