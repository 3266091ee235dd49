"""``@batch_asset``: a function that describes a batch job becomes Dagster assets.

``<name>_submission`` starts the run of a partition, or finds it again; ``<name>`` writes the finished run's results. Between
the two a sensor drives the run. With ``wait=True`` there is ``<name>`` alone, which does all of it in one step.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import dagster as dg
from pydantic import BaseModel

from batchor_core import BatchJob, BatchRunner, Run
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import (
    BatchorError,
    InvalidInputError,
    ModelResolutionError,
    RunConfigMismatchError,
    RunNotFoundError,
    RunPausedError,
)
from batchor_core.core.structured import resolve_model
from batchor_core.core.types import JSONObject
from batchor_core.storage.state import RunListing
from batchor_dagster.checks import CHECK_NAME, check_result
from batchor_dagster.control import (
    ACTION_TAG,
    ControlAction,
    add_run_id_tag,
    apply_all,
    control_links,
    mark_applied,
)
from batchor_dagster.metadata import describe, progress_metadata, result_metadata, submission_metadata
from batchor_dagster.parquet import partition_path, write_results_parquet
from batchor_dagster.resource import BatchorResource
from batchor_dagster.run_ids import batch_run_id

JobFunction: TypeAlias = Callable[..., BatchJob[Any, Any]]

ASSET_EXTRA = "dagster_asset_key"
PARTITION_EXTRA = "dagster_partition_key"
PARTITION_TAG = "dagster/partition"
KINDS = {"openai", "parquet"}

_PROGRESS_EVERY_SEC = 60.0
_LAST_CYCLE_SEC = 20.0


class OnTermination(StrEnum):
    """What becomes of a batch run when the Dagster run that waits for it is terminated from the UI.

    ``detach`` leaves it to the sensor. ``pause`` and ``cancel`` only follow an operator's Terminate; a machine that goes
    down, or a daemon that restarts, always detaches.
    """

    detach = "detach"
    pause = "pause"
    cancel = "cancel"


@dataclass(frozen=True)
class BatchAsset:
    """What ``@batch_asset`` returns: definitions, and the names that go with them.

    Attributes:
        key: Asset key of the results.
        submission_key: Asset key of the submission; None with ``wait=True``.
        partitions_def: Their partitions, if they have any.
        output: Model of a structured job.
        version: Part of the run ids.
        resource_key: Name of the :class:`BatchorResource`.
        assets: The asset definitions.
        checks: The check's definition.
    """

    key: dg.AssetKey
    submission_key: dg.AssetKey | None
    partitions_def: dg.PartitionsDefinition[str] | None
    output: type[BaseModel] | None
    version: str | None
    resource_key: str
    assets: list[dg.AssetsDefinition] = field(default_factory=list)
    checks: list[dg.AssetChecksDefinition] = field(default_factory=list)

    @property
    def specs(self) -> list[dg.AssetSpec]:
        """The specs of all its assets."""
        return [spec for definition in self.assets for spec in definition.specs]

    def run_id(self, partition_key: str | None = None) -> str:
        """The batch run of a partition."""
        return batch_run_id(self.key.path, partition_key, version=self.version)

    def result_path(self, resource: BatchorResource, partition_key: str | None = None) -> str:
        """The result file of a partition: a path or URL."""
        return partition_path(resource.results_base(), self.key.path, partition_key)


def batch_asset(
    *,
    name: str | None = None,
    key_prefix: str | Sequence[str] | None = None,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    output: type[BaseModel] | None = None,
    version: str | None = None,
    wait: bool = False,
    on_termination: OnTermination | str = OnTermination.detach,
    failure_threshold: float = 0.05,
    blocking: bool = False,
    group_name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    owners: Sequence[str] | None = None,
    deps: Iterable[Any] | None = None,
    ins: Mapping[str, dg.AssetIn] | None = None,
    automation_condition: dg.AutomationCondition[Any] | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    pool: str | None = None,
    io_manager_key: str | None = None,
    resource_key: str = "batchor",
) -> Callable[[JobFunction], BatchAsset]:
    """Make a batch job of each partition an asset.

    The function takes the context, and upstream assets and resources as in ``@dg.asset``, and returns a
    :class:`~batchor_core.BatchJob`::

        @batch_asset(partitions_def=days, output=Review)
        def reviews(context: dg.AssetExecutionContext) -> BatchJob:
            return BatchJob(items=CsvItemSource(...), build_prompt=..., provider_config=...)

        defs = build_batch_definitions(assets=[reviews], resources={"batchor": BatchorResource(...)})

    Each partition is one durable run whose id follows from asset and partition. Materializing the submission again
    resumes that run, or finds it finished, and never pays twice; a *changed* job is refused until ``version`` changes.

    Args:
        name: Name of the result asset; the function's name by default. The submission is ``<name>_submission``.
        key_prefix: As in ``@dg.asset``.
        partitions_def: Partitions of both assets; one run each.
        output: Model that every answer must satisfy, and whose fields become columns. Put on the job where the function
            leaves ``structured_output`` out.
        version: Change it to run, and pay, afresh.
        wait: One asset that submits, waits and writes in one step: for small jobs and quick providers.
        on_termination: With ``wait``: what to do when an operator terminates the Dagster run.
        failure_threshold: Largest share of failed rows, 0 to 1, with which the check only warns.
        blocking: Whether a failed check (severity ERROR) keeps downstream assets from running.
        group_name: As in ``@dg.asset``.
        description: Of the result asset; the function's docstring by default.
        tags: Tags of both assets' definitions.
        owners: As in ``@dg.asset``.
        deps: Upstream assets that the function reads by itself.
        ins: As in ``@dg.asset``.
        automation_condition: Of the submission: when to start by itself.
        retry_policy: For steps that fail because of the store or the network.
        op_tags: As in ``@dg.asset``, such as resources for k8s.
        pool: Concurrency pool of the steps.
        io_manager_key: IO manager that downstream assets load the result file with.
        resource_key: Name of the :class:`BatchorResource` in the definitions.
    """
    if not 0 <= failure_threshold <= 1:
        raise InvalidInputError(f"failure_threshold is a share from 0 to 1, not {failure_threshold}")
    termination = OnTermination(on_termination)
    prefix = [key_prefix] if isinstance(key_prefix, str) else list(key_prefix or [])

    def decorate(function: JobFunction) -> BatchAsset:
        base = name or function.__name__
        text = description or inspect.getdoc(function)
        made = BatchAsset(
            key=dg.AssetKey([*prefix, base]),
            submission_key=None if wait else dg.AssetKey([*prefix, f"{base}_submission"]),
            partitions_def=partitions_def,
            output=output,
            version=version,
            resource_key=resource_key,
        )
        shared: dict[str, Any] = {
            "partitions_def": partitions_def,
            "group_name": group_name,
            "tags": tags,
            "owners": owners,
            "op_tags": op_tags,
            "retry_policy": retry_policy,
            "pool": pool,
        }
        inputs: dict[str, Any] = {"deps": deps, "ins": ins, "automation_condition": automation_condition}
        if made.submission_key is None:
            step = _job_step(made, function, lambda step: _submit_wait_write(step, termination))
            made.assets.append(
                dg.asset(
                    key=made.key,
                    description=text,
                    kinds=KINDS,
                    io_manager_key=io_manager_key,
                    **inputs,
                    **shared,
                )(step)
            )
        else:
            made.assets.append(
                dg.asset(
                    key=made.submission_key,
                    description=f"Starts the batch run of {base}, or finds it again. The sensor drives it from here.",
                    kinds={"openai"},
                    **inputs,
                    **shared,
                )(_job_step(made, function, _submit))
            )
            made.assets.append(
                dg.asset(
                    key=made.key,
                    description=text,
                    kinds=KINDS,
                    io_manager_key=io_manager_key,
                    deps=[made.submission_key],
                    required_resource_keys={resource_key},
                    **shared,
                )(_result_step(made))
            )
        made.checks.append(_check(made, threshold=failure_threshold, blocking=blocking))
        return made

    return decorate


# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """One execution of a step that knows its job."""

    asset: BatchAsset
    context: dg.AssetExecutionContext
    resource: BatchorResource
    build_job: Callable[[], BatchJob[Any, Any]]

    @property
    def partition_key(self) -> str | None:
        return self.context.partition_key if self.asset.partitions_def is not None else None

    @property
    def run_id(self) -> str:
        return self.asset.run_id(self.partition_key)

    @property
    def action(self) -> str | None:
        """What an operator asked for by a tag on this Dagster run."""
        return self.context.run.tags.get(ACTION_TAG)


def _submit(step: _Step) -> dg.MaterializeResult[Any]:
    with step.resource.runner() as runner, _clear_failures():
        if step.action:
            _obey(step, runner, step.action)
            return dg.MaterializeResult(metadata=_submission_metadata(step, runner.get_run(step.run_id)))
        run = _start(step, runner)
        return dg.MaterializeResult(metadata=_submission_metadata(step, run))


def _submit_wait_write(step: _Step, on_termination: OnTermination) -> dg.MaterializeResult[Any]:
    with step.resource.runner() as runner, _clear_failures():
        if step.action:
            _obey(step, runner, step.action)
            if ControlAction.parse(step.action) is ControlAction.pause:
                raise dg.Failure(
                    f"Batch run {step.run_id} is paused, as asked. Materialize again with {ACTION_TAG}=resume to go on.",
                    allow_retries=False,
                )
            run = runner.get_run(step.run_id)
        else:
            run = _start(step, runner)
        with _termination(step, run, on_termination):
            _wait(step, run)
        return _write(step.asset, step.context, step.resource, run)


def _start(step: _Step, runner: BatchRunner) -> Run:
    # named before the start, so that an operator finds the run while its items are still being read
    add_run_id_tag(step.context.instance, step.context.run.run_id, step.run_id)
    run = runner.start(step.build_job(), run_id=step.run_id, extras=_extras(step.asset, step.partition_key))
    step.context.log.info(f"batch run {step.run_id}: {describe(run.summary())}")
    return run


def _obey(step: _Step, runner: BatchRunner, action: str) -> None:
    add_run_id_tag(step.context.instance, step.context.run.run_id, step.run_id)
    apply_all(step.context, runner, [step.run_id], action)
    mark_applied(step.context.instance, step.context.run.run_id, action)


def _submission_metadata(step: _Step, run: Run) -> dict[str, Any]:
    links = control_links(
        run.run_id, location=_code_location(step.context), webserver_url=step.resource.webserver_url
    )
    return submission_metadata(run.summary(), run.config.provider_config, controls=links)


def _wait(step: _Step, run: Run) -> None:
    while not run.is_finished:
        try:
            run.wait(timeout=_PROGRESS_EVERY_SEC, poll_interval=step.resource.poll_interval_sec)
        except TimeoutError:
            step.context.log.info(f"batch run {run.run_id}: {describe(run.summary())}")


@contextmanager
def _termination(step: _Step, run: Run, policy: OnTermination) -> Iterator[None]:
    """Apply the policy when an operator terminates the Dagster run; anything else that ends the step detaches."""
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        record = step.context.instance.get_run_by_id(step.context.run.run_id)
        asked = record is not None and record.status is dg.DagsterRunStatus.CANCELING
        if asked and policy is OnTermination.pause:
            run.pause()
        if asked and policy is OnTermination.cancel:
            run.cancel()
            run.refresh(time_limit_sec=_LAST_CYCLE_SEC)  # tells the provider now; the sensor sees to the rest
        raise


def _result_step(asset: BatchAsset) -> Callable[..., dg.MaterializeResult[Any]]:
    def write_results(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        resource: BatchorResource = getattr(context.resources, asset.resource_key)
        run_id = asset.run_id(_partition_key(asset, context))
        with resource.runner() as runner, _clear_failures():
            try:
                run = runner.get_run(run_id)
            except RunNotFoundError:
                raise dg.Failure(
                    f"There is no batch run {run_id} yet. Materialize {_name(asset.submission_key)} first.",
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
            return _write(asset, context, resource, run)

    return write_results


def _write(
    asset: BatchAsset, context: dg.AssetExecutionContext, resource: BatchorResource, run: Run
) -> dg.MaterializeResult[Any]:
    config = run.config
    path = asset.result_path(resource, _partition_key(asset, context))
    report = write_results_parquet(run, path, output=asset.output or _stored_model(run))
    context.log.info(f"wrote {report.row_count} rows, {report.failed_count} of them failed, to {path}")
    return dg.MaterializeResult(
        metadata=result_metadata(
            report, run_id=run.run_id, config=config.provider_config, billed=run.summary().usage
        )
    )


def _stored_model(run: Run) -> type[BaseModel] | None:
    config = run.config
    if config.structured_output_module is None or config.structured_output_qualname is None:
        return None
    try:
        return resolve_model(config.structured_output_module, config.structured_output_qualname)
    except ModelResolutionError:
        return None  # the answers are in output_text all the same


def _check(asset: BatchAsset, *, threshold: float, blocking: bool) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset.key,
        name=CHECK_NAME,
        description=f"Every row was answered; a warning up to {threshold:.2%} failed rows.",
        blocking=blocking,
        required_resource_keys={asset.resource_key},
    )
    def all_items_completed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        resource: BatchorResource = getattr(context.resources, asset.resource_key)
        # partitioned checks are a preview in Dagster 1.13: the partition is that of the Dagster run
        partition_key = context.run.tags.get(PARTITION_TAG) if asset.partitions_def is not None else None
        with resource.runner() as runner, _clear_failures():
            if asset.partitions_def is not None and partition_key is None:
                total, failed = _finished_rows(asset, runner)
            else:
                summary = runner.get_run(asset.run_id(partition_key)).summary()
                total, failed = summary.total_items, summary.failed_items
        return check_result(total=total, failed=failed, threshold=threshold)

    return all_items_completed


def _finished_rows(asset: BatchAsset, runner: BatchRunner) -> tuple[int, int]:
    """Rows and failed rows of all finished partitions: for a check that is executed by itself, without a partition."""
    summaries = [
        listing.summary
        for listing in runner.list_runs()
        if partition_of(asset, listing) is not None
        and listing.summary.status is not RunLifecycleStatus.RUNNING
    ]
    return sum(s.total_items for s in summaries), sum(s.failed_items for s in summaries)


# --- translation -----------------------------------------------------------------------------------------------------


def _job_step(
    asset: BatchAsset, function: JobFunction, act: Callable[[_Step], dg.MaterializeResult[Any]]
) -> Callable[..., dg.MaterializeResult[Any]]:
    """A step function with the parameters of the user's, and the resource if that did not ask for it."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise InvalidInputError(f"{function.__name__} must take the context as its first parameter")
    wants_resource = any(parameter.name == asset.resource_key for parameter in parameters[1:])

    def step(context: dg.AssetExecutionContext, **given: Any) -> dg.MaterializeResult[Any]:
        resource = given[asset.resource_key] if wants_resource else given.pop(asset.resource_key)
        return act(_Step(asset, context, resource, lambda: _checked_job(asset, function(context, **given))))

    kind = (
        inspect.Parameter.POSITIONAL_OR_KEYWORD
    )  # Dagster finds no upstream assets in keyword-only parameters
    hints["context"] = dg.AssetExecutionContext
    if not wants_resource:
        hints[asset.resource_key] = BatchorResource
    added = [] if wants_resource else [inspect.Parameter(asset.resource_key, kind)]
    step_parameters = [
        parameter.replace(kind=kind, annotation=hints.get(parameter.name, inspect.Parameter.empty))
        for parameter in [inspect.Parameter("context", kind), *added, *parameters[1:]]
    ]
    step.__signature__ = inspect.Signature(step_parameters)  # type: ignore[attr-defined]
    names = [parameter.name for parameter in step_parameters]
    step.__annotations__ = {name: hints[name] for name in names if name in hints}
    step.__annotations__["return"] = dg.MaterializeResult
    step.__name__ = function.__name__
    return step


def _checked_job(asset: BatchAsset, job: object) -> BatchJob[Any, Any]:
    if not isinstance(job, BatchJob):
        raise InvalidInputError(
            f"the function of {_name(asset.key)} must return a BatchJob, not {type(job).__name__}"
        )
    if asset.output is None or job.structured_output is asset.output:
        return job
    if job.structured_output is None:
        return dataclasses.replace(job, structured_output=asset.output)
    raise InvalidInputError(
        f"{_name(asset.key)} has output={asset.output.__name__}, and its job structured_output="
        f"{job.structured_output.__name__}; give the model in one place"
    )


def _extras(asset: BatchAsset, partition_key: str | None) -> JSONObject:
    """What lets the sensor find the partition of a run that it meets in the store."""
    return {ASSET_EXTRA: list(asset.key.path), PARTITION_EXTRA: partition_key}


def partition_of(asset: BatchAsset, listing: RunListing) -> tuple[str | None] | None:
    """The partition key of a stored run, in a tuple; None if it is no run of the asset as it is now."""
    if listing.extras.get(ASSET_EXTRA) != list(asset.key.path):
        return None
    stored = listing.extras.get(PARTITION_EXTRA)
    partition_key = None if stored is None else str(stored)
    return (partition_key,) if asset.run_id(partition_key) == listing.run_id else None


def _partition_key(asset: BatchAsset, context: dg.AssetExecutionContext) -> str | None:
    return context.partition_key if asset.partitions_def is not None else None


def _name(key: dg.AssetKey | None) -> str:
    return key.to_user_string() if key is not None else ""


def _code_location(context: dg.AssetExecutionContext) -> str | None:
    """Where the control job lies: Dagster tags every run with ``<repository>@<location>``."""
    repository = context.run.tags.get(".dagster/repository", "")
    name, _, location = repository.partition("@")
    return location if name == "__repository__" and location else None


@contextmanager
def _clear_failures() -> Iterator[None]:
    """Errors that a person has to mend end the step with their message, and are not retried."""
    try:
        yield
    except RunPausedError as error:
        raise dg.Failure(f"{error}, or with {ACTION_TAG}=resume", allow_retries=False) from error
    except RunConfigMismatchError as error:
        raise dg.Failure(
            f"{error} For that, give @batch_asset another version.", allow_retries=False
        ) from error
    except (InvalidInputError, RunNotFoundError) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except BatchorError as error:
        raise dg.Failure(str(error)) from error
