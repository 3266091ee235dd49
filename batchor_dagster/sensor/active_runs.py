"""Bringing active runs forward: within a tick, or by a job that the run launcher puts wherever the deployment has room."""

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from batchor_core import BatchRunner, Run, RunSummary
from batchor_core.core.lateness import LOOKED_AT
from batchor_core.core.lifecycle import CLAIMABLE
from batchor_core.storage.state import RunListing, StateStore
from batchor_dagster.control import NO_RETRIES, RUN_ID_TAG, op_name
from batchor_dagster.metadata import describe
from batchor_dagster.misspelt_names import CheckedConfig
from batchor_dagster.resource import BatchorResource
from batchor_dagster.run_states import is_active, is_finished, standing
from batchor_dagster.sensor.result_requests import UNFINISHED
from batchor_dagster.sensor.tick import Cursor, Tick, all_records, in_turn

DRIVE_JOB = "batchor_drive"
DRIVEN_TAG = "batchor/drives"
_DRIVE_OP = "drive_batch_run"
_DRIVE_SECONDS = 600.0

_SHORTEST_TURN_SEC = 5.0
_BLOCKED_SEC = 300.0
"""A run that stands where the last worker left it, with items to send, waits for token budget: no worker until then."""

_PAUSE_SEC = 15.0
"""The same for any other run: its last worker may just be starting."""


@dataclass
class Driven:
    """What came of driving.

    Attributes:
        last: The run that had the last turn; empty if none had.
        requests: Workers to launch.
        asked: How each run stood when a worker was last asked for it, and when.
    """

    last: str = ""
    requests: list[dg.RunRequest] = field(default_factory=list)
    asked: dict[str, tuple[str, float]] = field(default_factory=dict)


# --- in the tick -----------------------------------------------------------------------------------------------------


def look_after_ended(tick: Tick) -> None:
    """Tell of batches that turn up after their run has ended; asks the provider only where one may, and hourly."""
    try:
        tick.runner.sweep_ended_runs()
    except Exception as error:  # whatever it is, it must not cost the tick its results
        tick.problem(f"looking for late batches: {type(error).__name__}: {error}")


def drive_in_turn(tick: Tick, cursor: Cursor, listings: Sequence[RunListing], *, budget_sec: float) -> Driven:
    """Give each active run a cycle until the time is up."""
    run_ids = _turns(cursor, listings)
    stop_at = time.monotonic() + budget_sec
    driven = Driven()
    for position, run_id in enumerate(run_ids):
        left = stop_at - time.monotonic()
        if left <= 0:
            tick.note(f"{len(run_ids) - position} of {len(run_ids)} active runs wait for the next tick")
            break
        driven.last = run_id
        try:
            run = tick.runner.get_run(run_id)
            summary = run.refresh(time_limit_sec=turn(left, runs=len(run_ids) - position))
        except Exception as error:  # one run's trouble, whatever it is, must not stop the others
            tick.problem(f"{run_id}: {type(error).__name__}: {error}")
        else:
            _tell(tick, run, summary)
    return driven


def turn(left_sec: float, *, runs: int) -> float:
    """How long a run may begin further steps: its share of what is left, but enough to do something with."""
    return min(left_sec, max(_SHORTEST_TURN_SEC, left_sec / runs))


def _turns(cursor: Cursor, listings: Sequence[RunListing]) -> list[str]:
    active = [listing.run_id for listing in listings if is_active(listing.summary)]
    return in_turn(active, after=cursor.after)


def _tell(tick: Tick, run: Run, summary: RunSummary) -> None:
    trouble = _trouble(tick.runner, run, summary)
    (tick.problem if trouble else tick.note)(f"{run.run_id}: {describe(summary)}{trouble}")


def _trouble(runner: BatchRunner, run: Run, summary: RunSummary) -> str:
    """What keeps a run from moving, as far as the store knows; empty when it moves."""
    if is_finished(summary):
        return ""
    store = runner.storage
    failed_polls = max(
        (batch.poll_failures for batch in store.get_active_batches(run_id=run.run_id)), default=0
    )
    backoff = store.get_retry_backoff(run_id=run.run_id)
    if failed_polls:
        return f"; the provider can't be asked ({failed_polls} polls failed in a row), trying again"
    if backoff.consecutive_failures:
        return f"; the provider refuses or can't be reached ({backoff.last_error_class}), trying again"
    if not summary.ingestion_complete and not run.is_driven():
        return "; its items are not all read: materialize the submission again"
    if summary.quarantined_batches:
        return f"; {_choices(store, run.run_id)}"
    if summary.overdue_batches:
        return "; a batch should have ended by now, and is asked for less and less often"
    if summary.late_batches:
        return f"; {summary.late_rows} rows of batches that are over are waited for"
    return ""


def _choices(store: StateStore, run_id: str) -> str:
    """What a person has to decide about."""
    causes = {batch.quarantine_cause for batch in store.get_active_batches(run_id=run_id)} - {None}
    if causes and causes <= LOOKED_AT:
        return "a batch that is late needs keep_waiting, resubmit_batch or fail_batch: see batchor doctor"
    return "a batch of unknown outcome needs adopt_batch, resubmit_batch or fail_batch"


# --- by a job --------------------------------------------------------------------------------------------------------


def request_drivers(
    tick: Tick,
    cursor: Cursor,
    listings: Sequence[RunListing],
    *,
    job_name: str,
    limit: int,
    budget_sec: float,
    worker_patience_sec: float,
    now: float,
) -> Driven:
    """A Dagster run for each active batch run that has something to do and nobody at it; at most ``limit``.

    The tick only asks the provider whether batches have ended. A run that waits at the provider needs no worker.
    """
    summaries = {listing.run_id: listing.summary for listing in listings}
    run_ids = _turns(cursor, listings)
    busy, lost = _workers(tick, job_name, worker_patience_sec, now)
    driven = Driven(asked={run_id: cursor.driven[run_id] for run_id in run_ids if run_id in cursor.driven})
    stop_at = time.monotonic() + budget_sec
    for position, run_id in enumerate(run_ids):
        if time.monotonic() >= stop_at or len(driven.requests) >= limit:
            tick.note(f"{len(run_ids) - position} of {len(run_ids)} active runs wait for the next tick")
            break
        driven.last = run_id
        if run_id in busy:
            tick.note(f"{run_id}: driven by Dagster run {busy[run_id][:8]}")
            continue
        summary = summaries[run_id]
        try:
            run = tick.runner.get_run(run_id)
            last = None if run_id in lost else cursor.driven.get(run_id)
            needed = is_worth_a_worker(summary, last, now=now) and run.has_work()
        except Exception as error:  # one run's trouble, whatever it is, must not stop the others
            tick.problem(f"{run_id}: {type(error).__name__}: {error}")
            continue
        _tell(tick, run, summary)
        if needed:
            driven.asked[run_id] = (standing(summary), now)
            driven.requests.append(_drive_request(run_id, job_name=job_name, now=now))
    return driven


def is_worth_a_worker(summary: RunSummary, last: tuple[str, float] | None, *, now: float) -> bool:
    """Whether a run may have another worker: it has moved since the last one was asked for, or some time has passed."""
    if last is None or last[0] != standing(summary):
        return True
    blocked = any(summary.status_counts[status] for status in CLAIMABLE) and not summary.unknown_batches
    return now - last[1] >= (_BLOCKED_SEC if blocked else _PAUSE_SEC)


def _workers(tick: Tick, job_name: str, patience_sec: float, now: float) -> tuple[dict[str, str], set[str]]:
    """Batch runs that have a worker, with the Dagster run that is it; and those whose worker seems to be lost."""
    busy: dict[str, str] = {}
    lost: set[str] = set()
    for record in all_records(tick.context.instance, dg.RunsFilter(job_name=job_name, statuses=UNFINISHED)):
        run: dg.DagsterRun = record.dagster_run
        run_id = run.tags.get(DRIVEN_TAG, "")
        queued = run.status is dg.DagsterRunStatus.QUEUED
        began = record.start_time or record.update_timestamp.replace(tzinfo=dt.UTC).timestamp()
        seems_lost = not queued and now - began >= patience_sec
        if seems_lost and tick.runner.has_run(run_id) and not tick.runner.get_run(run_id).is_driven():
            # another one does no harm if this one lives after all: the lease decides who drives
            tick.problem(f"{run_id}: its worker, Dagster run {run.run_id[:8]}, seems to be lost")
            lost.add(run_id)
        else:
            busy[run_id] = run.run_id
    return busy, lost - busy.keys()


def _drive_request(run_id: str, *, job_name: str, now: float) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{job_name}:{run_id}:{now:.3f}",
        job_name=job_name,
        run_config={"ops": {_DRIVE_OP: {"config": {"run_id": run_id}}}},
        tags={DRIVEN_TAG: run_id, RUN_ID_TAG: run_id, **NO_RETRIES},
    )


class DriveConfig(CheckedConfig):
    """Run config of the drive job.

    Attributes:
        run_id: The batch run.
        seconds: Begin no further cycle after so many.
    """

    run_id: str
    seconds: float = _DRIVE_SECONDS


def build_drive_job(
    *,
    resource_key: str = "batchor",
    name: str = DRIVE_JOB,
    tags: Mapping[str, Any] | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.JobDefinition:
    """A job that drives one batch run for as long as there is something to do, on whatever the run launcher gives it.

    It ends when all that is left is waiting for the provider: nobody pays for a worker that sleeps.

    Args:
        resource_key: Name of the :class:`BatchorResource`.
        name: The job's name.
        tags: Of the job, such as ``dagster-k8s/config``.
        executor: The code location's own one by default.
    """

    @dg.op(name=op_name(_DRIVE_OP, name, usual=DRIVE_JOB), required_resource_keys={resource_key})
    def drive(context: dg.OpExecutionContext, config: DriveConfig) -> None:
        resource: BatchorResource = getattr(context.resources, resource_key)
        stop_at = time.monotonic() + config.seconds
        before = None
        with resource.runner() as runner:
            run = runner.get_run(config.run_id)
            while (left := stop_at - time.monotonic()) > 0:
                summary = run.refresh(time_limit_sec=left)
                context.log.info(f"batch run {config.run_id}: {describe(summary)}")
                if standing(summary) == before or not run.has_work():
                    break
                before = standing(summary)

    @dg.job(
        name=name,
        description="Drives one batch run as far as it goes; the sensor launches it.",
        tags=tags,
        executor_def=executor,
    )
    def drive_job() -> None:
        drive.alias(_DRIVE_OP)()  # its name in run config, whatever the job's is

    return drive_job
