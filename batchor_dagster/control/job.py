"""The job behind the links: it applies one action to one or more batch runs, named by run config or by tags."""

from collections.abc import Iterable

import dagster as dg

from batchor_core import BatchRunner
from batchor_core.core.exceptions import BatchorError
from batchor_dagster.control.actions import ControlAction, ControlOutcome, apply_control
from batchor_dagster.control.tags import (
    ACTION_TAG,
    CONTROL_TAG,
    NO_RETRIES,
    RUN_ID_TAG,
    contradicting,
    mark_applied,
    tagged_run_ids,
)
from batchor_dagster.misspelt_names import CheckedConfig
from batchor_dagster.resource import BatchorResource

CONTROL_JOB = "batchor_control"
CONTROL_OP = "apply_batchor_control"

DEFAULT_RESOURCE = "batchor"


class ControlConfig(CheckedConfig):
    """Run config of the control job; what is left out is taken from the run's tags."""

    run_id: str | None = None
    action: ControlAction | None = None


def name_for(usual: str, resource_key: str) -> str:
    """The name of a resource's job or sensor: the default for ``batchor``, otherwise with the key appended."""
    return usual if resource_key == DEFAULT_RESOURCE else f"{usual}_{resource_key}"


def control_job_name(resource_key: str) -> str:
    """The control job of a resource."""
    return name_for(CONTROL_JOB, resource_key)


def op_name(op: str, job_name: str, *, usual: str) -> str:
    """An op's name, unique in the code location: with the job's name appended if that is not the default."""
    return op if job_name == usual else f"{op}__{job_name}"


def is_control_run(run: dg.DagsterRun) -> bool:
    """Whether a Dagster run is one of a control job."""
    return CONTROL_TAG in run.tags or run.job_name == CONTROL_JOB


def build_control_job(*, resource_key: str = DEFAULT_RESOURCE, name: str | None = None) -> dg.JobDefinition:
    """The job behind the links: applies one action to one or more batch runs.

    Launch it with ``batchor/run_id`` and ``batchor/action`` as tags, or with the same two in its run config.

    Args:
        resource_key: Name of the :class:`BatchorResource`.
        name: The job's name; ``batchor_control``, or ``batchor_control_<resource key>`` for another resource. The links
            in the assets' metadata use that name; if you choose another, pass it to ``@batch_asset(control_job=...)``
            too.
    """
    job_name = name or control_job_name(resource_key)

    @dg.op(
        name=op_name(CONTROL_OP, job_name, usual=CONTROL_JOB),
        required_resource_keys={resource_key},
        description="Pause, resume, cancel or retry batch runs.",
    )
    def control(context: dg.OpExecutionContext, config: ControlConfig) -> None:
        action = config.action or context.run.tags.get(ACTION_TAG)
        run_ids = [config.run_id] if config.run_id else tagged_run_ids(context.run.tags)
        if not action or not run_ids:
            raise dg.Failure(
                f"Say which run and what to do: run config `run_id` and `action`, or the tags {RUN_ID_TAG} and {ACTION_TAG}.",
                allow_retries=False,
            )
        resource: BatchorResource = getattr(context.resources, resource_key)
        with resource.runner() as runner:
            apply_all(context, runner, run_ids, action)
        context.instance.add_run_tags(context.run.run_id, {RUN_ID_TAG: ",".join(run_ids)})
        mark_applied(context.instance, context.run.run_id, str(action))

    @dg.job(
        name=job_name,
        description="Pause, resume, cancel or retry a batch run.",
        executor_def=dg.in_process_executor,  # a moment's work: no further process, or pod, for its only step
        tags={**NO_RETRIES, CONTROL_TAG: "yes"},
    )
    def control_job() -> None:
        control.alias(CONTROL_OP)()  # its name in run config, whatever the job's is

    return control_job


def apply_all(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    runner: BatchRunner,
    run_ids: Iterable[str],
    action: ControlAction | str,
) -> list[ControlOutcome]:
    """Apply an action to several runs, log each outcome, and fail the step if the action does not fit one of them.

    Nothing is applied if the Dagster run's tags contradict the requested run or action.
    """
    run_ids = list(run_ids)
    contradiction = contradicting(context.run.tags, run_ids, action)
    if contradiction:
        raise dg.Failure(contradiction, allow_retries=False)
    outcomes, refused = [], []
    for run_id in run_ids:
        try:
            outcome = apply_control(runner, run_id, action)
        except BatchorError as error:
            refused.append(str(error))
            continue
        context.log.info(f"batch run {run_id}: {outcome.message}")
        outcomes.append(outcome)
    if refused:
        raise dg.Failure("; ".join(refused), allow_retries=False)
    return outcomes
