"""What the steps of a batch asset do: start a partition's run, wait for it, write its results, judge them."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, assert_never

import dagster as dg

from batchor_core import BatchJob, BatchRunner, Run, RunSummary
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import (
    BatchorError,
    InvalidInputError,
    ModelResolutionError,
    RunConfigMismatchError,
    RunItemsMismatchError,
    RunNotFoundError,
    RunPausedError,
    SourceMismatchError,
)
from batchor_core.core.outputs import ModelOutput, OutputSpec
from batchor_core.core.pricing import CostTally
from batchor_core.core.structured import resolve_model
from batchor_core.runtime.outputs import declared_output
from batchor_core.runtime.rereading import resumable
from batchor_core.storage.state import PersistedRunConfig
from batchor_dagster.batch import BatchAsset, partition_of
from batchor_dagster.checks import completion_result, schema_result
from batchor_dagster.control import (
    ACTION_TAG,
    ControlAction,
    add_run_id_tag,
    apply_all,
    apply_control,
    control_job_name,
    control_links,
    mark_applied,
)
from batchor_dagster.generations import (
    ASKED_BY_EXTRA,
    Decision,
    JobDigest,
    Move,
    Newest,
    OnChange,
    Rerun,
    changes,
    decide,
    decide_changed,
    generation_of,
    newest_generations,
)
from batchor_dagster.metadata import (
    Links,
    Metadata,
    describe,
    progress_metadata,
    rates_of_run,
    result_metadata,
    runs_url,
    submission_metadata,
    unknown_outcome,
)
from batchor_dagster.observing import is_shown, observation
from batchor_dagster.parquet import read_footer, write_results_parquet
from batchor_dagster.resource import BatchorResource

PARTITION_TAG = "dagster/partition"

RERUN_TAG = "batchor/rerun"
"""``failed`` or ``all``: the same as ``rerun`` in the run config, for bulk re-execution and backfills."""

RERUN_APPLIED_TAG = "batchor/rerun_applied"
"""The Dagster run for which failed rows have been tried again; a retry of it does not try them once more."""

_PROGRESS_EVERY_SEC = 60.0
_LAST_CYCLE_SEC = 20.0

BuildJob: TypeAlias = Callable[[Any], BatchJob[Any, Any]]
"""The user's function: gives the job of the partition that the context is at."""


class OnTermination(StrEnum):
    """What becomes of a batch run when the Dagster run that waits for it is terminated from the UI.

    ``detach`` leaves it to the sensor. ``pause`` and ``cancel`` only follow an operator's Terminate; a machine that goes
    down, or a daemon that restarts, always detaches.
    """

    detach = "detach"
    pause = "pause"
    cancel = "cancel"


@dataclass(frozen=True)
class Task:
    """One execution of a step that knows its job.

    Attributes:
        asset: The batch asset.
        context: Of the step.
        resource: Where runs are kept.
        build_job: Makes the job of one partition.
        rerun: What the run config asks for.
        on_change: What a changed job does.
        tells_partitions_apart: Whether the user's function takes the context, and with it the partition.
    """

    asset: BatchAsset
    context: dg.AssetExecutionContext
    resource: BatchorResource
    build_job: BuildJob
    rerun: Rerun
    on_change: OnChange
    tells_partitions_apart: bool = True

    @property
    def action(self) -> str | None:
        """What an operator asked for by a tag on this Dagster run."""
        return self.context.run.tags.get(ACTION_TAG)


# --- the steps -------------------------------------------------------------------------------------------------------


def submit(task: Task) -> dg.MaterializeResult[Any]:
    """Start the run of each partition, or find it again."""
    with task.resource.runner() as runner, clear_failures():
        return _each_partition(
            task.asset, task.context, lambda key: _submission_metadata(task, *_begin(task, runner, key))
        )


def submit_wait_write(task: Task, on_termination: OnTermination) -> dg.MaterializeResult[Any]:
    """All of it in one step."""
    with task.resource.runner() as runner, clear_failures():
        runs: dict[str | None, Run] = {}
        refused: dict[str | None, Exception] = {}
        for key in partition_keys(task.asset, task.context):
            try:
                runs[key] = _begin(task, runner, key)[0]
            except (BatchorError, dg.Failure) as error:  # told below, when the others are done
                refused[key] = error
        try:
            if runs and task.action and ControlAction.parse(task.action) is ControlAction.pause:
                raise dg.Failure(
                    f"Batch run {', '.join(run.run_id for run in runs.values())} is paused, as asked. "
                    f"Materialize again with {ACTION_TAG}=resume to go on.",
                    allow_retries=False,
                )
            with _termination(task, runner, list(runs.values()), on_termination):
                _wait(task, runs)
        finally:  # finished, paused or left to others: that is what the asset shows from here
            for key, run in runs.items():
                _show_state(task.asset, task.context, run, key)

        def finish(key: str | None) -> Metadata:
            if key in refused:
                raise refused[key]
            return write(task.asset, task.context, task.resource, runs[key], key)

        return _each_partition(task.asset, task.context, finish)


def write_results(
    asset: BatchAsset, context: dg.AssetExecutionContext, resource: BatchorResource
) -> dg.MaterializeResult[Any]:
    """Write the results of each partition's newest run, which must be finished."""
    with resource.runner() as runner, clear_failures():

        def finish(key: str | None) -> Metadata:
            run = _finished_run(asset, context, runner, key)
            metadata = write(asset, context, resource, run, key)
            _show_state(asset, context, run, key)  # nobody else does where no sensor runs
            return metadata

        return _each_partition(asset, context, finish)


def write(
    asset: BatchAsset,
    context: dg.AssetExecutionContext,
    resource: BatchorResource,
    run: Run,
    partition_key: str | None,
) -> Metadata:
    """Write one run's results over the partition's file."""
    files = asset.result_files(resource)
    files.adopt(partition_key)
    path = files.path(partition_key)
    config = run.config
    output = asset.output or _stored_output(config)
    provider_config = resource.with_server(config.provider_config)
    costs = CostTally(rates_of_run(provider_config, run.summary()))
    report = write_results_parquet(run, path, output, costs=costs)
    context.log.info(f"wrote {report.row_count} rows, {report.failed_count} of them failed, to {path}")
    summary = run.summary()
    return result_metadata(
        report,
        summary=summary,
        cost=costs.cost(asdict(summary.usage)),
        config=provider_config,
        generation=generation_of(config.extras),
        links=_links(context, resource, asset, run),
    )


def judge_results(
    asset: BatchAsset, context: dg.AssetCheckExecutionContext, resource: BatchorResource, *, threshold: float
) -> Iterator[dg.AssetCheckResult]:
    """The results of the asset's checks, for the Dagster run's partition.

    A check that is executed by itself has no partition; it judges all of them.
    """
    # partitioned checks are a preview in Dagster 1.13: the partition is that of the Dagster run
    key = context.run.tags.get(PARTITION_TAG) if asset.partitions_def is not None else None
    with resource.runner() as runner, clear_failures():
        if asset.partitions_def is None or key is not None:
            summaries = {key: runner.get_run(asset.newest_run_id(runner, key)).summary()}
        else:
            summaries = _newest_summaries(asset, runner)
    yield completion_result(list(summaries.values()), threshold=threshold)
    if asset.output is not None:
        finished = [
            key for key, summary in summaries.items() if summary.status is not RunLifecycleStatus.RUNNING
        ]
        files = asset.result_files(resource)
        paths = [path for key in finished if (path := files.existing(key)) is not None]
        footers = [footer for path in paths if (footer := read_footer(path)) is not None]
        yield schema_result(footers, asset.output, threshold=threshold)


def _newest_summaries(asset: BatchAsset, runner: BatchRunner) -> dict[str | None, RunSummary]:
    found = {}
    for listing in newest_generations(runner.list_runs()):
        partition = partition_of(asset, listing)
        if partition is not None:
            found[partition[0]] = listing.summary
    return found


# --- partitions ------------------------------------------------------------------------------------------------------


def partition_keys(asset: BatchAsset, context: dg.AssetExecutionContext) -> Sequence[str | None]:
    """The partitions of this Dagster run: several, if a backfill policy puts a range into one."""
    return list(context.partition_keys) if asset.partitions_def is not None else [None]


def _each_partition(
    asset: BatchAsset, context: dg.AssetExecutionContext, act: Callable[[str | None], Metadata]
) -> dg.MaterializeResult[Any]:
    """Act on each partition. In a range, one that fails is reported at the end, and keeps no other from its turn."""
    keys = partition_keys(asset, context)
    if len(keys) == 1:
        return dg.MaterializeResult(metadata=act(keys[0]))
    failed = []
    for key in keys:
        try:
            context.add_asset_metadata(dict(act(key)), partition_key=key)
        except dg.Failure as failure:
            failed.append(f"{key}: {failure.description}")
        except BatchorError as error:
            failed.append(f"{key}: {error}")
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(keys)} partitions failed; the others are done. " + " | ".join(failed)
        )
    return dg.MaterializeResult()


class OnePartition:
    """The context of a step that has a range of partitions, as it would be in a run of one of them."""

    def __init__(self, context: dg.AssetExecutionContext, partition_key: str) -> None:
        self._context = context
        self.partition_key = partition_key
        self.partition_keys = [partition_key]
        self.has_partition_key = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    @property
    def partition_time_window(self) -> dg.TimeWindow:
        """The time window of this partition."""
        definition = self._context.assets_def.partitions_def
        if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
            raise InvalidInputError("only time partitions have a time window")
        return definition.time_window_for_partition_key(self.partition_key)


def _build_job(task: Task, partition_key: str | None, folder: Path) -> BatchJob[Any, Any]:
    context: Any = task.context
    if partition_key is not None and len(task.context.partition_keys) > 1:
        context = OnePartition(task.context, partition_key)
    job = task.build_job(context)
    return replace(job, items=resumable(job.items, folder))


# --- starting --------------------------------------------------------------------------------------------------------


def _begin(task: Task, runner: BatchRunner, partition_key: str | None) -> tuple[Run, Decision | None]:
    """The partition's run, after whatever has to be done to it now."""
    if (
        not task.tells_partitions_apart
        and not task.action
        and len(partition_keys(task.asset, task.context)) > 1
    ):
        raise InvalidInputError(
            f"The function of {name_of(task.asset.key)} takes no context, so each partition of this range would send, and pay "
            "for, the same rows. Nothing was sent: give it a first parameter named context, or run the partitions one by one."
        )
    if task.action:
        run_id = task.asset.newest_run_id(runner, partition_key)
        _name_run(task, run_id)
        apply_all(task.context, runner, [run_id], task.action)
        mark_applied(task.context.instance, task.context.run.run_id, task.action)
        return runner.get_run(run_id), None
    run, decision = _start(task, runner, partition_key)
    task.context.log.info(f"batch run {run.run_id}: {decision.reason} ({describe(run.summary())})")
    return run, decision


def _start(task: Task, runner: BatchRunner, partition_key: str | None) -> tuple[Run, Decision]:
    decision = decide(_newest(task, runner, partition_key), _rerun(task))
    if decision.move.needs_the_job:
        with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
            job = _build_job(task, partition_key, Path(folder))
            digest = JobDigest.of(job) if decision.move is not Move.read_on else None
            if decision.move is Move.compare and digest is not None:
                decision = _compare(task, runner, partition_key, decision, job, digest)
            if decision.move in (Move.create, Move.read_on):
                return _read(task, runner, partition_key, decision, job, digest), decision
    run_id = task.asset.run_id(partition_key, decision.generation)
    _name_run(task, run_id)
    run = runner.get_run(run_id)
    match decision.move:
        case Move.attach:
            run.refresh()
        case Move.retry_failed:
            runner.retry_failed(run_id)
            task.context.instance.add_run_tags(
                task.context.run.run_id, {RERUN_APPLIED_TAG: task.context.run.run_id}
            )
            run.refresh()
        case Move.refuse:
            raise InvalidInputError(f"Batch run {run_id}: {decision.reason}.")
        case Move.keep | Move.create | Move.read_on | Move.compare:
            pass
        case _:
            assert_never(decision.move)
    return run, decision


def _read(
    task: Task,
    runner: BatchRunner,
    partition_key: str | None,
    decision: Decision,
    job: BatchJob[Any, Any],
    digest: JobDigest | None,
) -> Run:
    """Start a generation, or go on reading the rows of one; returns when all of them are in the store."""
    run_id = task.asset.run_id(partition_key, decision.generation)
    _name_run(
        task, run_id
    )  # before the start, so that an operator finds the run while its items are being read
    extras = task.asset.extras(partition_key, decision.generation)
    extras |= {ASKED_BY_EXTRA: task.context.run.run_id, **(digest.to_extras() if digest else {})}
    run = runner.start(job, run_id=run_id, extras=extras)
    # another driver, such as a tick of the sensor, may have held the run just now, and it has not got the rows
    while not run.is_finished and run.control_state is RunControlState.RUNNING:
        if run.summary().ingestion_complete:
            break
        time.sleep(task.resource.poll_interval_sec)
        run.refresh()
    return run


def _compare(
    task: Task,
    runner: BatchRunner,
    partition_key: str | None,
    decision: Decision,
    job: BatchJob[Any, Any],
    digest: JobDigest,
) -> Decision:
    run_id = task.asset.run_id(partition_key, decision.generation)
    found = changes(run_id, runner.get_run(run_id).config, job, digest)
    return decide_changed(decision.generation, found, task.on_change)


def _newest(task: Task, runner: BatchRunner, partition_key: str | None) -> Newest | None:
    generation = task.asset.newest_generation(runner, partition_key)
    if generation == 0:
        return None
    run = runner.get_run(task.asset.run_id(partition_key, generation))
    asked_by = [run.config.extras.get(ASKED_BY_EXTRA), task.context.run.tags.get(RERUN_APPLIED_TAG)]
    current = task.context.instance.get_run_by_id(task.context.run.run_id)
    if current is not None:  # a step that is retried has tags that the run did not start with
        asked_by.append(current.tags.get(RERUN_APPLIED_TAG))
    return Newest.of(
        run.summary(), generation, is_asked_for=any(_is_retry_of(task.context, asker) for asker in asked_by)
    )


def _is_retry_of(context: dg.AssetExecutionContext, asker: object) -> bool:
    """Whether this Dagster run is that one, or retries it: one of the same family, while that one has not succeeded."""
    if not isinstance(asker, str):
        return False
    if asker == context.run.run_id:
        return True
    record = context.instance.get_run_by_id(asker)
    if record is None or record.status is dg.DagsterRunStatus.SUCCESS:
        return False
    family = record.root_run_id or record.run_id
    return bool(family == (context.run.root_run_id or context.run.run_id))


def _rerun(task: Task) -> Rerun:
    tag = task.context.run.tags.get(RERUN_TAG)
    if tag is None:
        return task.rerun
    try:
        return Rerun(tag.strip().lower())
    except ValueError:
        raise InvalidInputError(f"{RERUN_TAG}={tag!r} is none of {', '.join(Rerun)}") from None


def _name_run(task: Task, run_id: str) -> None:
    add_run_id_tag(task.context.instance, task.context.run.run_id, run_id)


def _submission_metadata(task: Task, run: Run, decision: Decision | None) -> Metadata:
    summary, config = run.summary(), run.config
    if warning := unknown_outcome(summary):
        task.context.log.warning(f"batch run {run.run_id}: {warning}")
    return submission_metadata(
        summary,
        task.resource.with_server(config.provider_config),
        generation=generation_of(config.extras),
        links=_links(task.context, task.resource, task.asset, run),
        reason=decision.reason if decision is not None else "",
    )


# --- waiting ---------------------------------------------------------------------------------------------------------


def _wait(task: Task, runs: dict[str | None, Run]) -> None:
    """Drive the runs until all are finished; shows progress when there is some, at most once a minute."""
    shown: dict[str | None, int] = {}
    show_at = time.monotonic() + _PROGRESS_EVERY_SEC
    while True:
        waiting = {key: run for key, run in runs.items() if not run.is_finished}
        for run in waiting.values():
            try:
                run.wait(timeout=0)
            except TimeoutError:
                continue
        if all(run.is_finished for run in runs.values()):
            return
        if time.monotonic() >= show_at:
            show_at = time.monotonic() + _PROGRESS_EVERY_SEC
            for key, run in waiting.items():
                summary = run.summary()
                if shown.get(key) != (done := summary.completed_items + summary.failed_items):
                    shown[key] = done
                    task.context.log.info(f"batch run {run.run_id}: {describe(summary)}")
                    task.context.log_event(observation(task.asset, key, summary))
        time.sleep(task.resource.poll_interval_sec)


def _show_state(
    asset: BatchAsset, context: dg.AssetExecutionContext, run: Run, partition_key: str | None
) -> None:
    """Let the last event of the partition be where its run stands, unless it is that already."""
    try:
        summary = run.summary()
        if not is_shown(context.instance, asset, partition_key, summary):
            context.log_event(observation(asset, partition_key, summary))
    except BatchorError as error:
        context.log.warning(f"batch run {run.run_id}: where it stands can't be shown: {error}")


@contextmanager
def _termination(
    task: Task, runner: BatchRunner, runs: Sequence[Run], policy: OnTermination
) -> Iterator[None]:
    """Apply the policy when an operator terminates the Dagster run; anything else that ends the step detaches."""
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        record = task.context.instance.get_run_by_id(task.context.run.run_id)
        asked = record is not None and record.status is dg.DagsterRunStatus.CANCELING
        for run in runs if asked else ():
            _follow(policy, task, runner, run)
        raise


def _follow(policy: OnTermination, task: Task, runner: BatchRunner, run: Run) -> None:
    """Do to one run what the policy says; what goes wrong is told, and keeps no other run from its turn."""
    told = f"batch run {run.run_id}: an operator terminated this run, and on_termination is {policy}"
    try:
        match policy:
            case OnTermination.detach:
                task.context.log.info(f"{told}; the sensor drives it from here")
            case OnTermination.pause:
                outcome = apply_control(runner, run.run_id, ControlAction.pause)
                task.context.log.info(f"{told}; {outcome.message}")
            case OnTermination.cancel:
                outcome = apply_control(runner, run.run_id, ControlAction.cancel)
                task.context.log.info(f"{told}; {outcome.message}")
                # tells the provider now; the sensor sees to the rest
                run.refresh(time_limit_sec=_LAST_CYCLE_SEC)
            case _:
                assert_never(policy)
    except BatchorError as error:
        task.context.log.warning(f"{told}, which could not be done: {error}")


# --- writing ---------------------------------------------------------------------------------------------------------


def _finished_run(
    asset: BatchAsset, context: dg.AssetExecutionContext, runner: BatchRunner, partition_key: str | None
) -> Run:
    run_id = asset.newest_run_id(runner, partition_key)
    try:
        run = runner.get_run(run_id)
    except RunNotFoundError:
        raise dg.Failure(
            f"There is no batch run {run_id} yet. Materialize {name_of(asset.submission_key)} first.",
            allow_retries=False,
        ) from None
    if not run.is_finished:
        raise dg.Failure(
            f"Batch run {run_id} is not finished ({describe(run.summary())}). Nothing was changed. "
            "The sensor materializes this asset when it is.",
            metadata=dict(progress_metadata(run.summary())),
            allow_retries=False,
        )
    add_run_id_tag(context.instance, context.run.run_id, run_id)
    return run


def _stored_output(config: PersistedRunConfig) -> OutputSpec:
    """The run's output; of a model that has changed since, the model as it is now."""
    declared = declared_output(config)
    if config.structured_output_module is None or config.structured_output_qualname is None:
        return declared
    try:
        return ModelOutput(resolve_model(config.structured_output_module, config.structured_output_qualname))
    except ModelResolutionError:
        return declared  # the answers are in output_text all the same


# --- words -----------------------------------------------------------------------------------------------------------


def name_of(key: dg.AssetKey | None) -> str:
    """An asset key as people write it."""
    return key.to_user_string() if key is not None else ""


def _links(
    context: dg.AssetExecutionContext, resource: BatchorResource, asset: BatchAsset, run: Run
) -> Links:
    url = resource.webserver_url
    return Links(
        controls=control_links(
            run.run_id,
            location=_code_location(context),
            webserver_url=url,
            job_name=asset.control_job or control_job_name(asset.resource_key),
        ),
        runs=runs_url(run.run_id, webserver_url=url),
    )


def _code_location(context: dg.AssetExecutionContext) -> str | None:
    """Where the control job lies: Dagster tags every run with ``<repository>@<location>``."""
    repository = context.run.tags.get(".dagster/repository", "")
    name, _, location = repository.partition("@")
    return location if name == "__repository__" and location else None


@contextmanager
def clear_failures() -> Iterator[None]:
    """Errors that a person has to mend end the step with their message, and are not retried."""
    try:
        yield
    except RunPausedError as error:
        raise dg.Failure(f"{error}, or with {ACTION_TAG}=resume", allow_retries=False) from error
    except (RunConfigMismatchError, SourceMismatchError) as error:
        # what start() advises is not to be had here: a partition has no other run id
        told = str(error)
        if isinstance(error, RunItemsMismatchError):
            told = f"Batch run {error.run_id}: {error.difference}."
        raise dg.Failure(
            f"{told} Its rows are not all read yet, so it can neither go on with another job nor be superseded: "
            f"cancel it with {ACTION_TAG}=cancel, then materialize again.",
            allow_retries=False,
        ) from error
    except (InvalidInputError, RunNotFoundError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except BatchorError as error:
        raise dg.Failure(str(error)) from error
