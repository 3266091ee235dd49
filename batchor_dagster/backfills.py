"""Keeping a backfill of submissions and results open until the results have landed.

Dagster takes a backfill for stalled, and marks what is missing as failed, when all of its runs have ended and a partition is
not materialized. A batch takes up to a day, and no worker should wait for it. So the step that leaves results to the sensor
puts a run record into the backfill that is never launched, the *hold*. The sensor puts the runs that write the results into
the same backfill, and deletes the hold when none is missing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import dagster as dg

from batchor_dagster.control import tagged_run_ids
from batchor_dagster.dagster_runs import all_records

BACKFILL_TAG = "dagster/backfill"
"""Dagster's own: the backfill that a run belongs to."""

HOLD_TAG = "batchor/holds_backfill"
"""On holds: the resource whose sensor deletes them."""

_JOB = "waiting_for_batch_results"


def hold(instance: dg.DagsterInstance, backfill_id: str, *, resource_key: str) -> None:
    """Keep a backfill open; repeating it changes nothing."""
    tags = {BACKFILL_TAG: backfill_id, HOLD_TAG: resource_key}
    if not instance.get_runs(dg.RunsFilter(tags=tags), limit=1):
        instance.add_run(dg.DagsterRun(job_name=_JOB, status=dg.DagsterRunStatus.NOT_STARTED, tags=tags))


def held_backfills(instance: dg.DagsterInstance, *, resource_key: str) -> Mapping[str, str]:
    """The batch runs whose results an open backfill waits for, each with that backfill; the newest where there are several."""
    held: dict[str, str] = {}
    for record in reversed(all_records(instance, dg.RunsFilter(tags={HOLD_TAG: resource_key}))):
        backfill_id = record.dagster_run.tags[BACKFILL_TAG]
        for run in instance.get_runs(dg.RunsFilter(tags={BACKFILL_TAG: backfill_id})):
            held |= dict.fromkeys(tagged_run_ids(run.tags), backfill_id)
    return held


def release(
    instance: dg.DagsterInstance, held: Mapping[str, str], *, resource_key: str, awaited: Collection[str]
) -> None:
    """Delete the holds of backfills that are over, or wait for nothing any more.

    Args:
        instance: Dagster's.
        held: As :func:`held_backfills` found it.
        resource_key: Whose holds.
        awaited: Batch runs whose results are still to come.
    """
    waiting = {backfill_id for run_id, backfill_id in held.items() if run_id in awaited}
    for run in instance.get_runs(dg.RunsFilter(tags={HOLD_TAG: resource_key})):
        backfill = instance.get_backfill(run.tags[BACKFILL_TAG])
        is_open = backfill is not None and backfill.status.value == "REQUESTED"
        if not is_open or run.tags[BACKFILL_TAG] not in waiting:
            instance.delete_run(run.run_id)
