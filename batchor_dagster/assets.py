"""``@batch_asset``: a function that describes a batch job becomes Dagster assets.

``<name>_submission`` starts the run of a partition, or finds it again; ``<name>`` writes the finished run's results. Between
the two a sensor drives the run. With ``wait=True`` there is ``<name>`` alone, which does all of it in one step.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field

from batchor_core import BatchJob
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import ModelOutput, OutputSpec
from batchor_core.tables.answer_columns import as_output
from batchor_core.tables.parquet_sink import ParquetSink
from batchor_core.tables.registry import SinkChoice, sink_of
from batchor_core.tables.sink import ResultSink
from batchor_dagster.batch import SINK_METADATA, BatchAsset, partition_of
from batchor_dagster.checks import COMPLETION_CHECK, SCHEMA_CHECK
from batchor_dagster.functions import CONFIG, JobFunction
from batchor_dagster.generations import OnChange, Rerun
from batchor_dagster.misspelt import CheckedConfig
from batchor_dagster.resource import BatchorResource
from batchor_dagster.steps import (
    OnTermination,
    Task,
    judge_results,
    name_of,
    submit,
    submit_wait_write,
    write_results,
)

__all__ = ["BatchAsset", "BatchConfig", "OnTermination", "batch_asset", "partition_of"]


class BatchConfig(CheckedConfig):
    """What an operator can set in the launchpad. A job's own config class derives from it."""

    rerun: Rerun = Field(
        default=Rerun.auto,
        description="What to do with a partition that is finished: auto keeps it unless the job has changed, failed tries "
        "its failed rows again, all pays for every row anew.",
    )


def batch_asset(
    *,
    name: str | None = None,
    key_prefix: str | Sequence[str] | None = None,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    output: type[BaseModel] | OutputSpec | None = None,
    sink: SinkChoice = None,
    wait: bool = False,
    on_change: OnChange | str = OnChange.new_generation,
    on_termination: OnTermination | str = OnTermination.detach,
    failure_threshold: float = 0.05,
    blocking: bool = False,
    group_name: str | None = None,
    description: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    kinds: Iterable[str] | None = None,
    owners: Sequence[str] | None = None,
    code_version: str | None = None,
    deps: Iterable[Any] | None = None,
    ins: Mapping[str, dg.AssetIn] | None = None,
    automation_condition: dg.AutomationCondition[Any] | None = None,
    backfill_policy: dg.BackfillPolicy | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    pool: str | None = None,
    io_manager_key: str | None = None,
    resource_key: str = "batchor",
    control_job: str | None = None,
) -> Callable[[Callable[..., BatchJob[Any, Any]]], BatchAsset]:
    """Make a batch job of each partition an asset.

    The function takes what one under ``@dg.asset`` may take, and returns a :class:`~batchor_core.BatchJob`: a first parameter
    that is named ``context``, or annotated as one, is the context; ``config`` is the run config; those annotated as resources
    are resources; all others are upstream assets. It may do without any of them::

        @batch_asset(partitions_def=days, output=Review)
        def reviews(context: dg.AssetExecutionContext) -> BatchJob:
            return BatchJob(items=CsvItemSource(...), build_prompt=..., provider_config=...)

        defs = build_batch_definitions(assets=[reviews], resources={"batchor": BatchorResource(...)})

    Each partition is one durable run whose id follows from asset and partition. Materializing the submission again
    attaches to an active run, and keeps a finished one. Only a changed job, or an operator who asks for it with ``rerun``,
    starts a new generation of the partition and pays again.

    Args:
        name: Name of the result asset; the function's name by default. The submission is ``<name>_submission``.
        key_prefix: As in ``@dg.asset``.
        partitions_def: Partitions of both assets; one run each.
        output: What every answer must be: a model, whose fields become columns, or an output such as
            :class:`~batchor_core.VectorOutput`. Put on the job where the function leaves both ``structured_output`` and
            ``output`` out.
        sink: The format of the results, and where they go: a :class:`~batchor_core.tables.ResultSink`, its kind (``"delta"``),
            or its kind with settings (``{"kind": "delta", "url": ...}``). A Parquet file for each partition by default.
        wait: One asset that submits, waits and writes in one step: for small jobs and quick providers.
        on_change: What another model, schema, set of rows or prompt does to a finished partition when it is materialized
            again: ``new_generation`` runs it anew, ``refuse`` fails the step and names the change. Prompts are compared as
            they are rendered, so those that hold the time of day change each time.
        on_termination: With ``wait``: what to do when an operator terminates the Dagster run.
        failure_threshold: Largest share of failed rows, 0 to 1, with which the checks only warn.
        blocking: Whether a failed check (severity ERROR) keeps downstream assets from running.
        group_name: As in ``@dg.asset``.
        description: Of the result asset; the function's docstring by default.
        metadata: Definition metadata of the result asset.
        tags: Tags of both assets' definitions.
        kinds: Kinds of the result asset, at most three; ``openai`` and that of the sink by default. The submission has the
            same but for the sink's.
        owners: As in ``@dg.asset``.
        code_version: As in ``@dg.asset``. It is shown, and pays for nothing: what was asked is compared by itself.
        deps: Upstream assets that the function reads by itself.
        ins: As in ``@dg.asset``.
        automation_condition: Of the submission: when to start by itself.
        backfill_policy: As in ``@dg.asset``; with several partitions in one Dagster run, the function is called for each.
        retry_policy: For steps that fail because of the store or the network. A retry continues the same batch run.
        op_tags: As in ``@dg.asset``, such as resources for k8s.
        pool: Concurrency pool of the steps.
        io_manager_key: IO manager that downstream assets load the result file with, such as
            :func:`~batchor_dagster.build_results_io_manager`.
        resource_key: Name of the :class:`BatchorResource` in the definitions.
        control_job: The job that the links in metadata open, where ``build_control_job`` was given a name.
    """
    if not 0 <= failure_threshold <= 1:
        raise InvalidInputError(f"failure_threshold is a share from 0 to 1, not {failure_threshold}")
    termination, change = OnTermination(on_termination), OnChange(on_change)
    results_sink = sink_of(sink)
    shown_kinds = {"openai", results_sink.kind} if kinds is None else set(kinds)
    if termination is not OnTermination.detach and not wait:
        raise InvalidInputError(
            f"on_termination={str(termination)!r} has no effect without wait=True: no step of this asset waits for its run. "
            "Leave it out, or pause and cancel the run with the control job."
        )
    prefix = [key_prefix] if isinstance(key_prefix, str) else list(key_prefix or [])

    def decorate(function: Callable[..., BatchJob[Any, Any]]) -> BatchAsset:
        described = JobFunction.of(function, resource_key=resource_key)
        base = name or described.name
        made = BatchAsset(
            key=dg.AssetKey([*prefix, base]),
            submission_key=None if wait else dg.AssetKey([*prefix, f"{base}_submission"]),
            partitions_def=partitions_def,
            output=output,
            resource_key=resource_key,
            control_job=control_job,
            sink=results_sink,
        )
        shared: dict[str, Any] = {
            "partitions_def": partitions_def,
            "group_name": group_name,
            "tags": tags,
            "owners": owners,
            "op_tags": op_tags,
            "retry_policy": retry_policy,
            "backfill_policy": backfill_policy,
            "code_version": code_version,
            "pool": pool,
        }
        inputs: dict[str, Any] = {"deps": deps, "ins": ins, "automation_condition": automation_condition}
        results: dict[str, Any] = {
            "key": made.key,
            "description": description or inspect.getdoc(function),
            "metadata": _with_sink(metadata, results_sink),
            "kinds": shown_kinds,
            "io_manager_key": io_manager_key,
        }
        if made.submission_key is None:
            step = _job_step(made, described, change, lambda task: submit_wait_write(task, termination))
            made.assets.append(dg.asset(**results, **inputs, **shared)(step))
        else:
            made.assets.append(
                dg.asset(
                    key=made.submission_key,
                    description=f"Starts the batch run of {base}, or finds it again. The sensor drives it from here.",
                    kinds=shown_kinds - {results_sink.kind},
                    **inputs,
                    **shared,
                )(_job_step(made, described, change, submit))
            )
            made.assets.append(
                dg.asset(
                    **results, deps=[made.submission_key], required_resource_keys={resource_key}, **shared
                )(_result_step(made))
            )
        made.checks.append(_checks(made, threshold=failure_threshold, blocking=blocking))
        return made

    return decorate


def _with_sink(metadata: Mapping[str, Any] | None, sink: ResultSink) -> Mapping[str, Any] | None:
    return metadata if sink == ParquetSink() else {**(metadata or {}), SINK_METADATA: sink.to_payload()}


def _result_step(asset: BatchAsset) -> Callable[..., dg.MaterializeResult[Any]]:
    def write_result_table(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        return write_results(asset, context, getattr(context.resources, asset.resource_key))

    return write_result_table


def _checks(asset: BatchAsset, *, threshold: float, blocking: bool) -> dg.AssetChecksDefinition:
    """Both checks in one step, since a step may be a process or a pod of its own."""
    specs = [
        dg.AssetCheckSpec(
            COMPLETION_CHECK,
            asset=asset.key,
            blocking=blocking,
            description=f"Every row was answered; a warning up to {threshold:.2%} failed rows.",
        )
    ]
    if asset.output is not None:
        specs.append(
            dg.AssetCheckSpec(
                SCHEMA_CHECK,
                asset=asset.key,
                blocking=blocking,
                description=f"The results have the columns of {_shown(asset.output)}, and every answer fits them; a warning "
                f"up to {threshold:.2%} answers that do not.",
            )
        )

    @dg.multi_asset_check(
        name=f"{asset.key.to_python_identifier()}_checks",
        specs=specs,
        can_subset=True,
        required_resource_keys={asset.resource_key},
    )
    def result_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        resource: BatchorResource = getattr(context.resources, asset.resource_key)
        for result in judge_results(asset, context, resource, threshold=threshold):
            if dg.AssetCheckKey(asset.key, result.check_name or "") in context.selected_asset_check_keys:
                yield result

    return result_checks


# --- the user's function as a step -----------------------------------------------------------------------------------


def _job_step(
    asset: BatchAsset,
    function: JobFunction,
    on_change: OnChange,
    act: Callable[[Task], dg.MaterializeResult[Any]],
) -> Callable[..., dg.MaterializeResult[Any]]:
    """A step function with the parameters of the user's, and config and the resource if that did not ask for them."""
    own = {parameter.name for parameter in function.parameters}
    added = {
        name: kind
        for name, kind in {asset.resource_key: BatchorResource, CONFIG: BatchConfig}.items()
        if name not in own
    }

    def step(context: dg.AssetExecutionContext, **given: Any) -> dg.MaterializeResult[Any]:
        resource, config = given[asset.resource_key], given[CONFIG]
        passed = {name: value for name, value in given.items() if name not in added}
        return act(
            Task(
                asset=asset,
                context=context,
                resource=resource,
                build_job=lambda here: _checked_job(asset, function(here, passed)),
                rerun=config.rerun if isinstance(config, BatchConfig) else Rerun.auto,
                on_change=on_change,
                tells_partitions_apart=function.context is not None,
            )
        )

    parameters = function.step_parameters(added)
    step.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    step.__annotations__ = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    step.__annotations__["return"] = dg.MaterializeResult
    step.__name__ = function.name
    return step


def _checked_job(asset: BatchAsset, job: object) -> BatchJob[Any, Any]:
    if not isinstance(job, BatchJob):
        raise InvalidInputError(
            f"the function of {name_of(asset.key)} must return a BatchJob, not {type(job).__name__}"
        )
    if asset.output is None:
        return job
    wanted = as_output(asset.output)
    if job.structured_output is None and job.output is None:
        if isinstance(wanted, ModelOutput):
            return dataclasses.replace(job, structured_output=wanted.model)
        return dataclasses.replace(job, output=wanted)
    if job.output_spec == wanted:
        return job
    raise InvalidInputError(
        f"{name_of(asset.key)} has output={_shown(asset.output)}, and its job has {_shown(job.output_spec)}; give the "
        "output in one place"
    )


def _shown(output: type[BaseModel] | OutputSpec) -> str:
    """An output by its name, a model by its own."""
    spec = as_output(output)
    return spec.model.__name__ if isinstance(spec, ModelOutput) and spec.model is not None else repr(spec)
