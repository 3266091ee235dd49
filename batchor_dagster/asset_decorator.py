"""``@batch_asset``: a function that describes a batch job becomes Dagster assets.

``<name>_submission`` starts the run of a partition, or attaches to the existing one; ``<name>`` writes the finished run's results. Between
the two a sensor drives the run. With ``wait=True`` there is ``<name>`` alone, which does all of it in one step.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, TypeVar, Unpack, cast

import dagster as dg
from pydantic import BaseModel, Field

from batchor_core import BatchJob
from batchor_core.core.arguments import check_bool
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import ModelOutput, OutputSpec, check_output
from batchor_core.core.reuse import ReuseScope, check_reuse
from batchor_core.tables.answer_columns import as_output
from batchor_core.tables.parquet_sink import ParquetSink
from batchor_core.tables.registry import SinkChoice, sink_of
from batchor_core.tables.sink import ResultSink
from batchor_dagster.asset import BatchAsset
from batchor_dagster.checks import budget_of, check_specs, shown_output
from batchor_dagster.facts import SINK_METADATA, BatchFacts
from batchor_dagster.job_function import CONFIG, JobFunction
from batchor_dagster.misspelt_names import CheckedConfig, advice
from batchor_dagster.resource import BatchorResource
from batchor_dagster.revisions import OnChange, Rerun
from batchor_dagster.steps import (
    CheckEvent,
    OnTermination,
    Task,
    judge_results,
    show_plans,
    submit,
    submit_wait_write,
    write_results,
)
from batchor_dagster.translator import (
    AssetArguments,
    BatchPart,
    BatchTranslator,
    BatchTranslatorData,
    translated,
)

ChoiceT = TypeVar("ChoiceT", OnChange, OnTermination)

__all__ = ["BatchConfig", "OnTermination", "batch_asset"]


class BatchConfig(CheckedConfig):
    """What an operator can set in the launchpad. A job's own config class derives from it."""

    rerun: Rerun = Field(
        default=Rerun.auto,
        description="What to do with a partition that is finished: auto keeps it unless the job has changed, failed retries "
        "its failed rows, all runs and pays for every row again.",
    )
    plan: bool = Field(
        default=False,
        description="Show what a new run of the partition would send and cost, and stop: nothing is sent and nothing is materialized.",
    )


def batch_asset(
    *,
    name: str | None = None,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    output: type[BaseModel] | OutputSpec | None = None,
    sink: SinkChoice = None,
    wait: bool = False,
    on_change: OnChange | str = OnChange.new_revision,
    on_termination: OnTermination | str = OnTermination.detach,
    reuse: ReuseScope | None = None,
    failure_threshold: float = 0.05,
    budget_usd: float | Decimal | None = None,
    blocking: bool = False,
    translator: BatchTranslator | None = None,
    resource_key: str = "batchor",
    control_job: str | None = None,
    **arguments: Unpack[AssetArguments],
) -> Callable[[Callable[..., BatchJob[Any, Any]]], BatchAsset]:
    """Make a batch job of each partition an asset.

    The function returns a :class:`~batchor_core.BatchJob`, and may take the parameters of one under ``@dg.asset``: a first
    parameter that is named ``context``, or annotated as one, is the context; ``config`` is the run config; those annotated as
    resources are resources; all others are upstream assets. All of them are optional::

        @batch_asset(partitions_def=days, output=Review)
        def reviews(context: dg.AssetExecutionContext) -> BatchJob:
            return BatchJob(items=CsvItemSource(...), build_prompt=..., provider_config=...)

        defs = build_batch_definitions(assets=[reviews], resources={"batchor": BatchorResource(...)})

    Each partition is one durable run whose id follows from asset and partition. Materializing the submission again
    attaches to an active run, and keeps a finished one. Only a changed job, or an operator's ``rerun``, starts a new
    revision of the partition. That one pays for the rows whose requests have no answer yet, see ``reuse``.

    Args:
        name: Name of the result asset; the function's name by default. The submission is ``<name>_submission``.
        partitions_def: Partitions of both assets; one run each.
        output: What every answer must be: a model, whose fields become columns, or an output such as
            :class:`~batchor_core.VectorOutput`. Set on the job if the function sets neither ``structured_output`` nor
            ``output``.
        sink: The format of the results, and where they go: a :class:`~batchor_core.tables.ResultSink`, its kind (``"delta"``),
            or its kind with settings (``{"kind": "delta", "url": ...}``). A Parquet file for each partition by default.
        wait: One asset that submits, waits and writes in one step: for small jobs and quick providers.
        on_change: What another model, schema, set of rows or prompt does to a finished partition when it is materialized
            again: ``new_revision`` runs it again, ``refuse`` fails the step and names the change. Prompts are compared as
            they are rendered, so those that hold the time of day change each time.
        on_termination: With ``wait``: what to do when an operator terminates the Dagster run.
        reuse: Whose answers to equal requests a run may have instead of asking again, see ``BatchJob.reuse``: ``"asset"``,
            ``"partition"``, ``"store"`` or ``"off"``. A job that says so itself wins. By default what the resource
            says, or else ``"asset"``, where the store can: a new revision pays for the rows that are new or have changed. ``rerun: all`` asks for every row again.
        failure_threshold: Largest share of failed rows, 0 to 1, with which the checks only warn.
        budget_usd: US dollars that the run of a partition may cost, every attempt included. The check ``cost_within_budget`` fails
            above it, and warns where the cost is not known. It stops nothing: see ``BatchJob.caps`` for that.
        blocking: Whether a failed check (severity ERROR) keeps downstream assets from running.
        translator: Makes the specs of both assets from the arguments below. Its own rules take precedence.
        resource_key: Name of the :class:`BatchorResource` in the definitions.
        control_job: The job that the links in metadata open, if ``build_control_job`` was given another name.
        **arguments: As in ``@dg.asset``. The translator decides what becomes of them; by default:

            - Both assets: ``key_prefix``, ``group_name``, ``tags``, ``owners``; and ``code_version``, which is only
              shown: a new one starts no run, since the jobs themselves are compared.
            - The results: ``description`` (the function's docstring by default), ``metadata``, ``kinds`` (at most three;
              ``openai`` and that of the sink by default; the submission has the same but for the sink's), and ``io_manager_key``:
              the IO manager that downstream assets load the result file with, such as
              :func:`~batchor_dagster.build_results_io_manager`.
            - The asset that starts the runs, which is the submission, or with ``wait`` the results: ``deps``, ``ins``,
              ``automation_condition``.
            - The steps of both: ``retry_policy`` (a retry continues the same batch run), ``backfill_policy`` (with several
              partitions in one Dagster run, the function is called for each), ``op_tags``, such as resources for k8s, and
              ``pool``.
    """
    _check_arguments(arguments)
    check_bool("wait", wait)
    if not isinstance(failure_threshold, int | float) or not 0 <= failure_threshold <= 1:
        raise InvalidInputError(f"failure_threshold is a share from 0 to 1, not {failure_threshold!r}")
    budget = budget_of(budget_usd)
    if output is not None and not _is_model(output):
        check_output("output", output)
    termination, change = _choice(OnTermination, on_termination), _choice(OnChange, on_change)
    if termination is not OnTermination.detach and not wait:
        raise InvalidInputError(
            f"on_termination={str(termination)!r} has no effect without wait=True: no step of this asset waits for its run. "
            "Leave it out, or pause and cancel the run with the control job."
        )
    if reuse is not None:
        check_reuse(reuse=reuse, max_age=None, salt="", reuse_varying=False)
    results_sink = sink_of(sink)
    kinds = arguments.get("kinds")
    given: AssetArguments = {**arguments, "kinds": None if kinds is None else set(kinds)}  # read twice

    def decorate(function: Callable[..., BatchJob[Any, Any]]) -> BatchAsset:
        described = JobFunction.of(function, resource_key=resource_key)
        results = BatchTranslatorData(
            name=name or described.name,
            part=BatchPart.results,
            starts_runs=wait,
            arguments={**given, "description": given.get("description") or inspect.getdoc(function)},
            output=output,
            sink=results_sink.kind,
            partitions_def=partitions_def,
        )
        spec, submission = _specs(translator or BatchTranslator(), results)
        spec = _with_sink(spec, results_sink)
        facts = BatchFacts(
            key=spec.key,
            submission_key=submission.key if submission is not None else None,
            partitions_def=partitions_def,
            output=output,
            resource_key=resource_key,
            control_job=control_job,
            sink=results_sink,
        )
        step = {name: arguments.get(name) for name in ("backfill_policy", "op_tags", "pool", "retry_policy")}
        # a plan materializes nothing
        starting: dict[str, Any] = {**step, "ins": arguments.get("ins"), "output_required": False}
        # a spec may name one by spec.with_io_manager_key(), which keeps it there
        loader = spec.metadata.get("dagster/io_manager_key", arguments.get("io_manager_key"))
        writing: dict[str, Any] = {"io_manager_key": loader}
        if submission is None:
            act = _job_step(
                facts, described, change, reuse, lambda task: submit_wait_write(task, termination)
            )
            assets: list[dg.AssetsDefinition] = [_definition(spec, act, **starting, **writing)]
        else:
            assets = [
                _definition(submission, _job_step(facts, described, change, reuse, submit), **starting),
                _definition(
                    spec,
                    _result_step(facts),
                    required_resource_keys={resource_key},
                    output_required=False,  # in one run with its submission, there are no results yet
                    **step,
                    **writing,
                ),
            ]
        checks = _checks(facts, threshold=failure_threshold, budget_usd=budget, blocking=blocking)

        def build_job(*args: Any, **kwargs: Any) -> BatchJob[Any, Any]:
            return _checked_job(facts, function(*args, **kwargs))

        return BatchAsset.of(facts, assets, checks, build_job)

    return decorate


def _check_arguments(given: Iterable[str]) -> None:
    for argument in given:
        if argument not in AssetArguments.__annotations__:
            known = [*inspect.signature(batch_asset).parameters, *AssetArguments.__annotations__]
            raise TypeError(
                f"batch_asset() got an unexpected keyword argument {argument!r}{advice(argument, known)}"
            )


def _is_model(output: Any) -> bool:
    return isinstance(output, type) and issubclass(output, BaseModel)


def _choice(kind: type[ChoiceT], given: str) -> ChoiceT:
    try:
        return kind(given)
    except ValueError:
        name = "on_change" if kind is OnChange else "on_termination"
        raise InvalidInputError(f"{name} is one of {', '.join(kind)}, not {given!r}") from None


def _specs(
    translator: BatchTranslator, results: BatchTranslatorData
) -> tuple[dg.AssetSpec, dg.AssetSpec | None]:
    """The spec of the results, and that of the submission if runs begin with one."""
    spec = translated(translator, results)
    if results.starts_runs:
        return spec, None
    submission = translated(
        translator, dataclasses.replace(results, part=BatchPart.submission, starts_runs=True)
    )
    if submission.key == spec.key:
        raise InvalidInputError(
            f"{type(translator).__name__} gives submission and results of {results.name} the same key, "
            f"{spec.key.to_user_string()}: tell them apart by data.part"
        )
    others = [dep for dep in spec.deps if dep.asset_key != submission.key]
    return spec.replace_attributes(deps=[*others, submission.key]), submission


def _with_sink(spec: dg.AssetSpec, sink: ResultSink) -> dg.AssetSpec:
    return (
        spec if sink == ParquetSink() else spec.merge_attributes(metadata={SINK_METADATA: sink.to_payload()})
    )


def _definition(spec: dg.AssetSpec, step: Callable[..., Any], **settings: Any) -> dg.AssetsDefinition:
    made: Any = dg.asset(
        key=spec.key,
        description=spec.description,
        metadata=spec.metadata,
        group_name=spec.group_name,
        owners=spec.owners,
        tags=spec.tags,  # kinds are among them
        code_version=spec.code_version,
        deps=spec.deps,
        automation_condition=spec.automation_condition,
        freshness_policy=spec.freshness_policy,
        partitions_def=spec.partitions_def,
        dagster_type=dg.Nothing,  # the steps write what they make themselves
        **settings,
    )(step)
    return cast(dg.AssetsDefinition, made)


def _result_step(asset: BatchFacts) -> Callable[..., Iterator[dg.Output[None]]]:
    def write_result_table(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
        written = write_results(asset, context, getattr(context.resources, asset.resource_key))
        if written is not None:
            yield written

    return write_result_table


def _checks(
    asset: BatchFacts, *, threshold: float, budget_usd: Decimal | None, blocking: bool
) -> dg.AssetChecksDefinition:
    """All checks in one step, since a step may be a process or a pod of its own."""
    specs = check_specs(asset, threshold=threshold, budget_usd=budget_usd, blocking=blocking)

    @dg.multi_asset_check(
        name=f"{asset.key.to_python_identifier()}_checks",
        specs=specs,
        can_subset=True,
        required_resource_keys={asset.resource_key},
    )
    def result_checks(context: dg.OpExecutionContext) -> Iterator[CheckEvent]:
        resource: BatchorResource = getattr(context.resources, asset.resource_key)
        yield from judge_results(asset, context, resource, specs, threshold=threshold, budget_usd=budget_usd)

    return result_checks


# --- the user's function as a step -----------------------------------------------------------------------------------


def _job_step(
    asset: BatchFacts,
    function: JobFunction,
    on_change: OnChange,
    reuse: ReuseScope | None,
    act: Callable[[Task], dg.Output[None]],
) -> Callable[..., Iterator[dg.Output[None]]]:
    """A step function with the parameters of the user's, and config and the resource if that did not ask for them."""
    own = {parameter.name for parameter in function.parameters}
    added = {
        name: kind
        for name, kind in {asset.resource_key: BatchorResource, CONFIG: BatchConfig}.items()
        if name not in own
    }

    def step(context: dg.AssetExecutionContext, **given: Any) -> Iterator[dg.Output[None]]:
        resource, config = given[asset.resource_key], given[CONFIG]
        passed = {name: value for name, value in given.items() if name not in added}
        is_known = isinstance(config, BatchConfig)
        task = Task(
            asset=asset,
            context=context,
            resource=resource,
            build_job=lambda here: _checked_job(asset, function(here, passed)),
            rerun=config.rerun if is_known else Rerun.auto,
            on_change=on_change,
            reuse=reuse,
            tells_partitions_apart=function.context is not None,
        )
        if is_known and config.plan:
            show_plans(task)
        else:
            yield act(task)

    parameters = function.step_parameters(added)
    step.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    step.__annotations__ = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    step.__annotations__["return"] = Iterator[dg.Output[None]]
    step.__name__ = function.name
    return step


def _checked_job(asset: BatchFacts, job: object) -> BatchJob[Any, Any]:
    if not isinstance(job, BatchJob):
        raise InvalidInputError(
            f"the function of {asset.key.to_user_string()} must return a BatchJob, not {type(job).__name__}"
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
        f"{asset.key.to_user_string()} has output={shown_output(asset.output)}, and its job has {shown_output(job.output_spec)}; give the "
        "output in one place"
    )
