"""Workers that drive runs outside the tick: a job for one batch run, launched wherever the deployment has room."""

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from batchor_core import RunSummary
from batchor_core.core.lifecycle import CLAIMABLE
from batchor_core.storage.state import RunListing
from batchor_dagster.control import NO_RETRIES, RUN_ID_TAG, op_name
from batchor_dagster.dagster_runs import UNFINISHED, all_records
from batchor_dagster.metadata import describe
from batchor_dagster.misspelt_names import CheckedConfig
from batchor_dagster.resource import BatchorResource
from batchor_dagster.run_states import standing
from batchor_dagster.sensor.active_runs import Driven, tell, turns
from batchor_dagster.sensor.tick import Cursor, Tick

DRIVE_JOB = "batchor_drive"
DRIVEN_TAG = "batchor/drives"
_DRIVE_OP = "drive_batch_run"
_DRIVE_SECONDS = 600.0

_BLOCKED_SEC = 300.0
"""A run with items to send that has not changed since its last worker waits for token budget: no worker before."""

_PAUSE_SEC = 15.0
"""The same for any other run: its last worker may just be starting."""


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
    """A Dagster run for each active batch run that has work and no worker; at most ``limit``.

    The tick only asks the provider whether batches have ended. A run that waits at the provider needs no worker.
    """
    summaries = {listing.run_id: listing.summary for listing in listings}
    run_ids = turns(cursor, listings)
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
        tell(tick, run, summary)
        if needed:
            driven.asked[run_id] = (standing(summary), now)
            driven.requests.append(_drive_request(run_id, job_name=job_name, now=now))
    return driven


def is_worth_a_worker(summary: RunSummary, last: tuple[str, float] | None, *, now: float) -> bool:
    """Whether a run may get another worker: it has changed since the last request, or some time has passed."""
    if last is None or last[0] != standing(summary):
        return True
    blocked = any(summary.status_counts[status] for status in CLAIMABLE) and not summary.unknown_batches
    return now - last[1] >= (_BLOCKED_SEC if blocked else _PAUSE_SEC)


def _workers(tick: Tick, job_name: str, patience_sec: float, now: float) -> tuple[dict[str, str], set[str]]:
    """Batch runs that have a worker, with the worker's Dagster run; and those whose worker seems to be lost."""
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
        seconds: Begin no further cycle after this many seconds.
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
    """A job that drives one batch run for as long as there is work, wherever the run launcher puts it.

    It ends when it could only wait for the provider, so that no worker idles.

    Args:
        resource_key: Name of the :class:`BatchorResource`.
        name: The job's name.
        tags: Of the job, such as ``dagster-k8s/config``.
        executor: By default that of the code location.
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
