"""One sensor drives every active run of a store, and asks for the results of those that are finished.

A tick reconciles what operators asked for by tags, gives each active run a cycle in turn until its time is up, and turns
finished runs into run requests. What goes wrong with one run is reported and stops no other. The cursor is only a hint:
a lost one costs nothing but the order.
"""

import datetime as dt
import inspect
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

import dagster as dg

from batchor_core import BatchRunner, Run, RunSummary
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import BatchorError
from batchor_core.storage.state import RunListing
from batchor_dagster.assets import BatchAsset, partition_of
from batchor_dagster.control import (
    ACTION_TAG,
    CONTROL_JOB,
    RUN_ID_TAG,
    ControlAction,
    apply_control,
    is_applied,
    mark_applied,
    tagged_run_ids,
)
from batchor_dagster.metadata import describe
from batchor_dagster.resource import BatchorResource

Drive: TypeAlias = Literal["tick", "job"]

RESULTS_JOB_PREFIX = "batchor_results__"
DRIVE_JOB = "batchor_drive"
DRIVEN_TAG = "batchor/drives"

MAX_TIME_BUDGET_SEC = 50  # Dagster cuts a tick at 60 s, and what it cuts runs on beside the next tick
_SHORTEST_TURN_SEC = 5.0
_TAGS_LOOK_BACK = dt.timedelta(days=1)
_PAGE = 100
_SHOWN = 10

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_RECONCILED = [
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


@dataclass(frozen=True)
class Cursor:
    """What one tick tells the next.

    Attributes:
        after: The run that had the last turn.
        rerun: Active runs whose partition has results already, so that their end is noticed.
    """

    after: str = ""
    rerun: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read a cursor; one that can't be read is an empty one."""
        try:
            stored = json.loads(text or "{}")
            return cls(after=str(stored.get("after", "")), rerun=tuple(map(str, stored.get("rerun", ()))))
        except (ValueError, AttributeError, TypeError):
            return cls()

    def dump(self) -> str:
        """The cursor as Dagster keeps it."""
        return json.dumps({"after": self.after, "rerun": list(self.rerun)})


@dataclass
class _Tick:
    """What a tick gathers on its way."""

    context: dg.SensorEvaluationContext
    runner: BatchRunner
    assets: Sequence[BatchAsset]
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.context.log.info(text)

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.context.log.warning(text)


def build_batch_sensor(
    *,
    assets: Sequence[BatchAsset],
    name: str = "batchor_sensor",
    minimum_interval_seconds: int = 30,
    time_budget_seconds: float = 40,
    drive: Drive = "tick",
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
    resource_key: str = "batchor",
    description: str | None = None,
) -> dg.SensorDefinition:
    """The sensor that drives all active runs of a store and materializes the results of finished ones.

    Runs that were started outside Dagster in the same store are driven too; only those of ``assets`` are materialized.

    Args:
        assets: What ``@batch_asset`` returned.
        name: The sensor's name.
        minimum_interval_seconds: Between two ticks.
        time_budget_seconds: No run's turn begins later in a tick; at most 50.
        drive: ``tick`` does the work in the tick, in the code location's process. ``job`` launches a Dagster run for each
            active batch run, wherever the deployment's run launcher puts it: for big files and for many runs.
        default_status: Whether it runs as soon as it is deployed. It costs nothing while there is no active run.
        resource_key: Name of the :class:`BatchorResource`.
        description: Shown in the UI.
    """
    if not 0 < time_budget_seconds <= MAX_TIME_BUDGET_SEC:
        raise ValueError(
            f"time_budget_seconds must be above 0 and at most {MAX_TIME_BUDGET_SEC}: Dagster cuts a tick at 60 s"
        )
    jobs: list[Any] = [_results_job(asset) for asset in assets]
    if drive == "job":
        jobs.append(build_drive_job(resource_key=resource_key, name=_drive_job_name(name)))

    def batch_sensor(context: dg.SensorEvaluationContext, **resources: BatchorResource) -> dg.SensorResult:
        resource = resources[resource_key]
        cursor = Cursor.parse(context.cursor)
        with resource.runner() as runner:
            tick = _Tick(context, runner, assets)
            _reconcile_tags(tick)
            active = in_turn(_active(runner), after=cursor.after)
            requests: list[dg.RunRequest] = []
            if drive == "tick":
                last = _drive_in_turn(tick, active, budget_sec=time_budget_seconds)
            else:
                last = ""
                requests += _drive_requests(tick, active, job_name=_drive_job_name(name))
            rerun: list[str] = []
            requests += _result_requests(tick, cursor, rerun)
        return dg.SensorResult(
            run_requests=requests,
            cursor=Cursor(after=last or cursor.after, rerun=tuple(rerun)).dump(),
            skip_reason=None if requests else _skip_reason(tick),
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


def in_turn(run_ids: Sequence[str], *, after: str) -> list[str]:
    """Run ids in the order of their turns: sorted, beginning behind the one that had the last turn."""
    ordered = sorted(run_ids)
    return [run_id for run_id in ordered if run_id > after] + [
        run_id for run_id in ordered if run_id <= after
    ]


def largest_sequence(exists_after: Callable[[int], bool], *, at_least: int) -> int:
    """The largest terminal sequence of a run, found with few questions.

    Args:
        exists_after: Whether there is a result with a sequence above this one.
        at_least: A number that it is not below, such as the count of results.
    """
    low, step = at_least, 1
    while exists_after(low + step - 1):
        low, step = low + step, step * 2
    high = low + step - 1  # nothing lies above it
    while low < high:
        middle = (low + high) // 2
        if exists_after(middle):
            low = middle + 1
        else:
            high = middle
    return low


# --- operators' tags -------------------------------------------------------------------------------------------------


def _reconcile_tags(tick: _Tick) -> None:
    """Apply actions that were put on Dagster runs after their launch, each once."""
    for run in _tagged_runs(tick.context.instance):
        run_ids = tagged_run_ids(run.tags)
        if run.job_name == CONTROL_JOB or not run_ids or is_applied(run.tags, run.run_id):
            continue
        action = run.tags[ACTION_TAG]
        for run_id in run_ids:
            try:
                outcome = apply_control(tick.runner, run_id, action)
                tick.note(
                    f"{run_id}: {action} asked for by a tag on Dagster run {run.run_id}: {outcome.message}"
                )
            except BatchorError as error:
                tick.problem(f"{action} asked for by a tag on Dagster run {run.run_id}: {error}")
        mark_applied(tick.context.instance, run.run_id, action)


def _tagged_runs(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    filters = dg.RunsFilter(
        tags={ACTION_TAG: [action.value for action in ControlAction]},
        statuses=_RECONCILED,
        updated_after=dt.datetime.now(dt.UTC) - _TAGS_LOOK_BACK,  # adding a tag updates the run
    )
    cursor: str | None = None
    while True:
        records = instance.get_run_records(filters, limit=_PAGE, cursor=cursor)
        yield from (record.dagster_run for record in records)
        if len(records) < _PAGE:
            return
        cursor = records[-1].dagster_run.run_id


# --- driving ---------------------------------------------------------------------------------------------------------


def _active(runner: BatchRunner) -> list[str]:
    return [
        listing.run_id
        for listing in runner.list_runs()
        if listing.summary.status is RunLifecycleStatus.RUNNING
        and listing.summary.control_state is not RunControlState.PAUSED
    ]


def _drive_in_turn(tick: _Tick, run_ids: Sequence[str], *, budget_sec: float) -> str:
    """Give each run a cycle until the time is up; returns the last that had one."""
    stop_at = time.monotonic() + budget_sec
    last = ""
    for position, run_id in enumerate(run_ids):
        left = stop_at - time.monotonic()
        if left <= 0:
            tick.note(f"{len(run_ids) - position} of {len(run_ids)} active runs wait for the next tick")
            break
        turn = min(left, max(_SHORTEST_TURN_SEC, left / (len(run_ids) - position)))
        last = run_id
        try:
            run = tick.runner.get_run(run_id)
            summary = run.refresh(time_limit_sec=turn)
        except Exception as error:  # one run's trouble, whatever it is, must not stop the others
            tick.problem(f"{run_id}: {type(error).__name__}: {error}")
            continue
        trouble = _trouble(tick.runner, run, summary)
        (tick.problem if trouble else tick.note)(f"{run_id}: {describe(summary)}{trouble}")
    return last


def _trouble(runner: BatchRunner, run: Run, summary: RunSummary) -> str:
    """What keeps a run from moving, as far as the store knows; empty when it moves."""
    if summary.status is not RunLifecycleStatus.RUNNING:
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
    if not summary.ingestion_complete and store.get_lease(run_id=run.run_id) is None:
        return "; its items are not all read: materialize the submission again"
    if summary.quarantined_batches:
        return "; a batch of unknown outcome needs adopt_batch, resubmit_batch or fail_batch"
    return ""


def _drive_requests(tick: _Tick, run_ids: Sequence[str], *, job_name: str) -> Iterator[dg.RunRequest]:
    """One Dagster run for each active batch run that has none."""
    busy = {
        record.dagster_run.tags.get(DRIVEN_TAG)
        for record in tick.context.instance.get_run_records(
            dg.RunsFilter(job_name=job_name, statuses=_UNFINISHED)
        )
    }
    for run_id in run_ids:
        if run_id in busy:
            tick.note(f"{run_id}: driven by a Dagster run")
            continue
        yield dg.RunRequest(
            run_key=f"{job_name}:{run_id}:{time.time_ns() // 1_000_000}",
            job_name=job_name,
            run_config={"ops": {_DRIVE_OP: {"config": {"run_id": run_id}}}},
            tags={DRIVEN_TAG: run_id, RUN_ID_TAG: run_id},
        )


_DRIVE_OP = "drive_batch_run"


class DriveConfig(dg.Config):
    """Run config of the drive job.

    Attributes:
        run_id: The batch run.
        seconds: Begin no further cycle after so many.
    """

    run_id: str
    seconds: float = 600.0


def build_drive_job(*, resource_key: str = "batchor", name: str = DRIVE_JOB) -> dg.JobDefinition:
    """A job that drives one batch run for a while, on whatever the run launcher gives it."""

    @dg.op(name=_DRIVE_OP, required_resource_keys={resource_key})
    def drive(context: dg.OpExecutionContext, config: DriveConfig) -> None:
        resource: BatchorResource = getattr(context.resources, resource_key)
        stop_at = time.monotonic() + config.seconds
        with resource.runner() as runner:
            run = runner.get_run(config.run_id)
            while (left := stop_at - time.monotonic()) > 0 and not run.is_finished:
                summary = run.refresh(time_limit_sec=left)
                context.log.info(f"batch run {config.run_id}: {describe(summary)}")
                if run.is_finished or summary.control_state is RunControlState.PAUSED:
                    break
                time.sleep(min(resource.poll_interval_sec, max(stop_at - time.monotonic(), 0.0)))

    @dg.job(name=name, description="Drives one batch run; the sensor launches it.")
    def drive_job() -> None:
        drive()

    return drive_job


def _drive_job_name(sensor_name: str) -> str:
    return DRIVE_JOB if sensor_name == "batchor_sensor" else f"{sensor_name}_drive"


# --- results ---------------------------------------------------------------------------------------------------------


def _result_requests(tick: _Tick, cursor: Cursor, rerun: list[str]) -> Iterator[dg.RunRequest]:
    """Run requests for finished runs without results; notes in ``rerun`` which active runs will replace results."""
    materialized = _Materialized(tick.context.instance)
    for listing in tick.runner.list_runs():
        found = _asset_of(tick, listing)
        if found is None:
            continue
        asset, partition_key = found
        finished = listing.summary.status is not RunLifecycleStatus.RUNNING
        has_results = materialized(asset, partition_key)
        if listing.summary.control_reason and not finished:
            tick.problem(f"{listing.run_id} is paused: {listing.summary.control_reason}")
        if not finished and has_results:
            rerun.append(listing.run_id)
        if finished and (not has_results or listing.run_id in cursor.rerun):
            if asset.submission_key is None and _is_waited_for(tick, listing.run_id):
                continue  # its own Dagster run is about to write them
            yield _result_request(tick, asset, listing, partition_key)


def _result_request(
    tick: _Tick, asset: BatchAsset, listing: RunListing, partition_key: str | None
) -> dg.RunRequest:
    def exists_after(sequence: int) -> bool:
        return bool(
            tick.runner.storage.get_terminal_item_records(
                run_id=listing.run_id, after_sequence=sequence, limit=1
            )
        )

    done = listing.summary.completed_items + listing.summary.failed_items
    revision = largest_sequence(exists_after, at_least=done)
    return dg.RunRequest(
        run_key=f"{listing.run_id}:{revision}",
        job_name=_results_job_name(asset),
        partition_key=partition_key,
        asset_selection=[asset.key],
        tags={RUN_ID_TAG: listing.run_id},
    )


def _asset_of(tick: _Tick, listing: RunListing) -> tuple[BatchAsset, str | None] | None:
    """The asset and partition that a stored run belongs to now: one of another ``version`` belongs to none."""
    for asset in tick.assets:
        partition = partition_of(asset, listing)
        if partition is not None:
            return asset, partition[0]
    return None


def _is_waited_for(tick: _Tick, run_id: str) -> bool:
    filters = dg.RunsFilter(tags={RUN_ID_TAG: run_id}, statuses=_UNFINISHED)
    return bool(tick.context.instance.get_run_records(filters, limit=1))


def _results_job(asset: BatchAsset) -> Any:
    """The job that writes an asset's results: one each, since a job's assets must share their partitions."""
    return dg.define_asset_job(
        _results_job_name(asset),
        selection=dg.AssetSelection.assets(asset.key),
        description=f"Writes the results of finished batch runs of {asset.key.to_user_string()}; the sensor launches it.",
    )


def _results_job_name(asset: BatchAsset) -> str:
    return RESULTS_JOB_PREFIX + asset.key.to_python_identifier()


class _Materialized:
    """Which partitions have results; asked once per asset and tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._partitions: dict[dg.AssetKey, set[str]] = {}

    def __call__(self, asset: BatchAsset, partition_key: str | None) -> bool:
        if partition_key is None:
            return self._instance.get_latest_materialization_event(asset.key) is not None
        if asset.key not in self._partitions:
            self._partitions[asset.key] = self._instance.get_materialized_partitions(asset.key)
        return partition_key in self._partitions[asset.key]


def _skip_reason(tick: _Tick) -> str:
    lines = tick.problems + tick.notes
    if not lines:
        return "no active batch runs"
    shown = lines[:_SHOWN]
    if len(lines) > _SHOWN:
        shown.append(f"and {len(lines) - _SHOWN} more")
    return "\n".join(shown)
