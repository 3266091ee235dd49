"""The sensor's part in control: it applies what operators ask for by tags, and shows where each run stands.

A run that is paused, cancelled or moving says so in an observation on its asset, and in the tag ``batchor/state`` of the
Dagster run that submitted it, whoever did it and by which way.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from batchor_core.core.exceptions import BatchorError
from batchor_core.storage.state import RunListing
from batchor_dagster.control import (
    ACTION_TAG,
    RUN_ID_TAG,
    STATE_TAG,
    apply_control,
    is_applied,
    is_control_run,
    mark_applied,
    tagged_run_ids,
)
from batchor_dagster.metadata import progress_metadata
from batchor_dagster.ticks import (
    Cursor,
    Found,
    Tick,
    all_records,
    is_finished,
    latest_materialization,
    standing,
    state_of,
)

_FIRST_LOOK_BACK_SEC = 24 * 3600.0
_OVERLAP_SEC = 120.0  # clocks differ, and a run may be updated while a tick reads
_RECONCILED = [
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
_LATEST_RUNS = 10


def reconcile_tags(tick: Tick, cursor: Cursor, *, now: float) -> None:
    """Apply actions that were put on Dagster runs after their launch, each once. One that is wrong is reported once."""
    since = cursor.tags_read_until - _OVERLAP_SEC if cursor.tags_read_until else now - _FIRST_LOOK_BACK_SEC
    updated = dg.RunsFilter(
        statuses=_RECONCILED,
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
                    f"{run_id}: {action} asked for by a tag on Dagster run {run.run_id[:8]}: {error}"
                )
            else:
                tick.note(
                    f"{run_id}: {action} asked for by a tag on Dagster run {run.run_id[:8]}: {outcome.message}"
                )
        mark_applied(tick.context.instance, run.run_id, action)


def show(
    tick: Tick, cursor: Cursor, listings: Sequence[RunListing]
) -> tuple[list[dg.AssetObservation], Mapping[str, str]]:
    """Observations of what is new since the last tick, and what the next one has to know of it.

    Runs whose state is new have it written on the Dagster runs that submitted them.
    """
    observations: list[dg.AssetObservation] = []
    shown: dict[str, str] = {}
    changed: list[Found] = []
    for found in tick.found(listings):
        summary, run_id = found.listing.summary, found.listing.run_id
        now, before = standing(summary), cursor.shown.get(run_id)
        if not is_finished(summary):
            shown[run_id] = now
        elif before is None:
            continue  # finished, and known to be
        if state_of(summary) == "paused":
            (tick.problem if summary.control_reason else tick.note)(
                f"{run_id} is paused: {summary.control_reason or 'an operator asked for it'}"
            )
        if now == (before or "running:0:0"):
            continue
        if not is_finished(summary):
            observations.append(_observation(found))
        if before is None or before.split(":")[0] != state_of(summary):
            changed.append(found)
    _tag_states(tick, changed, {one.run_id: state_of(one.summary) for one in listings})
    return observations, shown


def _observation(found: Found) -> dg.AssetObservation:
    return dg.AssetObservation(
        found.asset.submission_key or found.asset.key,
        partition=found.partition_key,
        metadata=progress_metadata(found.listing.summary),
    )


def _tag_states(tick: Tick, changed: Iterable[Found], states: Mapping[str, str]) -> None:
    """Write the states of these runs on the Dagster runs that submitted them; of a range of partitions all at once."""
    instance = tick.context.instance
    submitting = {run.run_id: run for found in changed if (run := _submitting_run(instance, found))}
    for dagster_run_id, run in submitting.items():
        named = [states[run_id] for run_id in tagged_run_ids(run.tags) if run_id in states]
        instance.add_run_tags(dagster_run_id, {STATE_TAG: _together(named)})


def _together(states: Iterable[str]) -> str:
    """Where several runs stand: ``completed`` if all do, or else ``2 running, 1 paused``."""
    counts = Counter(states)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _submitting_run(instance: dg.DagsterInstance, found: Found) -> dg.DagsterRun | None:
    """The newest Dagster run that submitted a batch run."""
    run_id = found.listing.run_id
    named = instance.get_run_records(dg.RunsFilter(tags={RUN_ID_TAG: run_id}), limit=_LATEST_RUNS)
    # the sensor's own runs, and those of the control job, name the batch run too
    submitting = [
        record
        for record in [*named, *_last_submission(instance, found)]
        if not is_control_run(record.dagster_run)
        and "dagster/sensor_name" not in record.dagster_run.tags
        and run_id in tagged_run_ids(record.dagster_run.tags)
    ]
    newest = max(submitting, key=lambda record: record.create_timestamp, default=None)
    return None if newest is None else newest.dagster_run


def _last_submission(instance: dg.DagsterInstance, found: Found) -> Sequence[dg.RunRecord]:
    """One that submitted a range of partitions names several runs, and a tag is found by its whole value only."""
    key = found.asset.submission_key
    if key is None or found.partition_key is None:
        return []
    submitted = latest_materialization(instance, key, found.partition_key)
    return instance.get_run_records(dg.RunsFilter(run_ids=[submitted.run_id])) if submitted else []
