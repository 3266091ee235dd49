"""Actions that operators request by tagging Dagster runs after their launch; the sensor applies them."""

import datetime as dt

import dagster as dg

from batchor_core.core.exceptions import BatchorError
from batchor_dagster.control import (
    ACTION_TAG,
    apply_control,
    is_applied,
    is_control_run,
    mark_applied,
    tagged_run_ids,
)
from batchor_dagster.dagster_runs import all_records
from batchor_dagster.sensor.tick import Cursor, Tick

_FIRST_LOOK_BACK_SEC = 24 * 3600.0
_OVERLAP_SEC = 120.0  # clocks differ, and a run may be updated while a tick reads
_SEARCHED = [
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def apply_tags(tick: Tick, cursor: Cursor, *, now: float) -> None:
    """Apply each action that was tagged on a Dagster run after its launch, once. A wrong one is reported once."""
    since = cursor.tags_read_until - _OVERLAP_SEC if cursor.tags_read_until else now - _FIRST_LOOK_BACK_SEC
    updated = dg.RunsFilter(
        statuses=_SEARCHED,
        updated_after=dt.datetime.fromtimestamp(since, dt.UTC),  # adding a tag updates the run
    )
    for record in all_records(tick.context.instance, updated):
        run: dg.DagsterRun = record.dagster_run
        run_ids, action = tagged_run_ids(run.tags), run.tags.get(ACTION_TAG)
        if action is None or is_control_run(run) or not run_ids or is_applied(run.tags, run.run_id):
            continue
        for run_id in run_ids:
            try:
                outcome = apply_control(tick.runner, run_id, action)
            except BatchorError as error:
                tick.problem(
                    f"{run_id}: {action} requested by a tag on Dagster run {run.run_id[:8]}: {error}"
                )
            else:
                tick.note(
                    f"{run_id}: {action} requested by a tag on Dagster run {run.run_id[:8]}: {outcome.message}"
                )
        mark_applied(tick.context.instance, run.run_id, action)
