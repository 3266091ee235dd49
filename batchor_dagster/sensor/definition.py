"""One sensor drives every active run of a store and requests the results of finished ones.

A tick applies actions that operators requested by tags, advances each active run in turn until its time is up, shows
what has changed, and turns finished runs into run requests. A problem with one run is reported and does not stop the
others. The cursor is only a hint, so a tick that died costs only its time.
"""

import inspect
import time
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import dagster as dg

from batchor_dagster.asset import BatchAsset, checked_assets
from batchor_dagster.backfills import held_backfills
from batchor_dagster.control import name_for
from batchor_dagster.resource import BatchorResource
from batchor_dagster.sensor.active_runs import Driven, drive_in_turn, look_after_ended
from batchor_dagster.sensor.drive_job import DRIVE_JOB, build_drive_job, request_drivers
from batchor_dagster.sensor.models import check_models
from batchor_dagster.sensor.operator_tags import apply_tags
from batchor_dagster.sensor.result_requests import (
    lacking_results,
    release_backfills,
    result_requests,
    results_job,
)
from batchor_dagster.sensor.shown_states import show
from batchor_dagster.sensor.tick import Cursor, Tick

Drive: TypeAlias = Literal["tick", "job"]

SENSOR = "batchor_sensor"
WORKER_PATIENCE_SEC = 120.0
MAX_TIME_BUDGET_SEC = 50  # Dagster cuts a tick at 60 s, and what it cuts runs on beside the next tick


def build_batch_sensor(
    *,
    assets: Sequence[BatchAsset],
    name: str | None = None,
    minimum_interval_seconds: int = 30,
    time_budget_seconds: float = 30,
    max_run_requests: int = 25,
    drive: Drive = "tick",
    drive_job: dg.JobDefinition | None = None,
    worker_patience_seconds: float | None = None,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    resource_key: str = "batchor",
    description: str | None = None,
) -> dg.SensorDefinition:
    """The sensor that drives all active runs of a store and materializes the results of finished ones.

    Runs that were started outside Dagster in the same store are driven too; only those of ``assets`` are materialized.

    Args:
        assets: What ``@batch_asset`` returned.
        name: The sensor's name; ``batchor_sensor``, or ``batchor_sensor_<resource key>`` for another resource.
        minimum_interval_seconds: Between two ticks.
        time_budget_seconds: After this time no further run gets its turn in a tick; at most 50. A step that has begun,
            such as a download, is finished, and Dagster aborts a tick at 60 s.
        max_run_requests: Dagster runs that one tick launches at most; the others follow with later ticks.
        drive: ``tick`` does the work in the tick, in the code location's process. ``job`` launches a Dagster run for each
            batch run that has something to do, wherever the deployment's run launcher puts it: for big files and many runs.
        drive_job: Only with ``drive="job"``: the job to launch, made with :func:`build_drive_job`, for your own tags or
            executor.
        worker_patience_seconds: With ``drive="job"``: a worker that began this long ago and does not hold its run's
            lease counts as dead, and another one is launched; 120 by default. Choose more than a step takes to start.
        default_status: Whether the sensor runs as soon as it is deployed. It costs nothing while there is no active
            run.
        resource_key: Name of the :class:`BatchorResource`.
        description: Shown in the UI.

    Raises:
        ValueError: An argument is out of its range, or would have no effect.
        InvalidInputError: The model of an asset can't be imported where its runs are driven.
    """
    if not 0 < time_budget_seconds <= MAX_TIME_BUDGET_SEC:
        raise ValueError(
            f"time_budget_seconds must be above 0 and at most {MAX_TIME_BUDGET_SEC}: Dagster cuts a tick at 60 s"
        )
    if max_run_requests < 1:
        raise ValueError("max_run_requests must be at least 1")
    if drive not in get_args(Drive):
        raise ValueError(f"drive must be 'tick' or 'job', not {drive!r}")
    if drive != "job" and (drive_job is not None or worker_patience_seconds is not None):
        ignored = "drive_job" if drive_job is not None else "worker_patience_seconds"
        raise ValueError(f"{ignored} has no effect with drive={drive!r}: set drive='job', or leave it out")
    patience = WORKER_PATIENCE_SEC if worker_patience_seconds is None else worker_patience_seconds
    name = name or name_for(SENSOR, resource_key)
    batches = [asset.facts for asset in checked_assets(assets)]
    check_models(batches)
    jobs: list[Any] = [results_job(batch) for batch in batches]
    worker = drive_job or build_drive_job(resource_key=resource_key, name=_drive_job_name(name))
    if drive == "job":
        jobs.append(worker)

    def batch_sensor(context: dg.SensorEvaluationContext, **resources: BatchorResource) -> dg.SensorResult:
        began = time.time()
        cursor = Cursor.parse(context.cursor)
        with resources[resource_key].runner() as runner:
            tick = Tick(context, runner, batches, webserver_url=resources[resource_key].webserver_url)
            apply_tags(tick, cursor, now=began)
            listings = runner.list_runs()
            driven = Driven()
            if drive == "tick":
                driven = drive_in_turn(tick, cursor, listings, budget_sec=time_budget_seconds)
                listings = runner.list_runs()
            lacking = list(lacking_results(tick, listings))
            tick.held = held_backfills(context.instance, tick.results)
            requests = result_requests(tick, lacking, limit=max_run_requests)
            release_backfills(tick, listings, lacking)
            if drive == "job":
                # after the results, which are what people wait for
                driven = request_drivers(
                    tick,
                    cursor,
                    listings,
                    job_name=worker.name,
                    limit=max_run_requests - len(requests),
                    budget_sec=time_budget_seconds,
                    worker_patience_sec=patience,
                    now=began,
                )
            look_after_ended(tick)
            shown = show(tick, cursor, listings, lacking={found.listing.run_id for found in lacking})
            report = tick.report(listings, next_look_sec=minimum_interval_seconds)
        if requests or driven.requests:  # a tick without requests has the report as its skip reason
            context.log.info(report.splitlines()[0])
        return dg.SensorResult(
            run_requests=[*requests, *driven.requests],
            asset_events=shown.observations,
            cursor=Cursor(
                after=driven.last or cursor.after,
                tags_read_until=began,
                shown=shown.states,
                ended_until=shown.ended_until,
                driven=driven.asked,
            ).dump(),
            skip_reason=None if requests or driven.requests else report,
        )

    # a parameter for the resource, whatever its name: only so can a test call the sensor with its context alone
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    annotations = {"context": dg.SensorEvaluationContext, resource_key: BatchorResource}
    batch_sensor.__annotations__ = annotations
    batch_sensor.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(parameter, kind, annotation=annotation)
            for parameter, annotation in annotations.items()
        ]
    )
    return dg.SensorDefinition(
        name=name,
        evaluation_fn=batch_sensor,
        jobs=jobs,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description=description
        or "Drives all active batch runs, and materializes the results of finished ones.",
    )


def _drive_job_name(sensor_name: str) -> str:
    return DRIVE_JOB if sensor_name == SENSOR else f"{sensor_name}_drive"
