"""Pausing, resuming, cancelling and retrying a run, from wherever Dagster lets an operator say so.

Everything ends in :func:`apply_control`, which may be repeated without harm. The ways in: the ``batchor_control`` job (by
run config or by the tags ``batchor/run_id`` and ``batchor/action``), links that open its launchpad filled in, a
``batchor/action`` tag given when a submission asset is executed again, and tags added to a run later, which the sensor
finds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, assert_never
from urllib.parse import quote, urlencode

import dagster as dg
import yaml

from batchor_core import BatchRunner, RunSummary
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import BatchorError, InvalidInputError
from batchor_dagster.misspelt_names import CheckedConfig
from batchor_dagster.resource import BatchorResource

RUN_ID_TAG = "batchor/run_id"
"""Names the batch run of a Dagster run; several are separated by commas."""

ACTION_TAG = "batchor/action"
"""What the operator wants done with it."""

APPLIED_TAG = "batchor/applied"
"""``<action>@<start of the dagster run id>``, written when the action of that very Dagster run has been applied.

The run id is in it because executing a run again copies its tags.
"""

STATE_TAG = "batchor/state"
"""Where the batch run stands that a Dagster run submitted, as the sensor last saw it: ``paused``, ``completed`` ..."""

NO_RETRIES = {"dagster/max_retries": "0"}
"""Keeps a deployment's ``run_retries`` off Dagster runs that the sensor, or a person, launches again if need be."""

CONTROL_JOB = "batchor_control"

CONTROL_TAG = "batchor/control"
"""Marks the Dagster runs of control jobs, whatever their names are."""

DEFAULT_RESOURCE = "batchor"
_CONTROL_OP = "apply_batchor_control"


class ControlAction(StrEnum):
    """What an operator can ask for. Dagster spells enums in run config by member name, so the names are lower case."""

    pause = "pause"
    resume = "resume"
    cancel = "cancel"
    retry_failed = "retry_failed"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a tag.

        Raises:
            InvalidInputError: It is none of the actions.
        """
        try:
            return cls(text.strip().lower())
        except ValueError:
            known = ", ".join(cls)
            raise InvalidInputError(f"{ACTION_TAG}={text!r} is not an action; use one of {known}") from None


EFFECTS = {
    ControlAction.pause: "– nothing is sent or fetched; batches at the provider go on there",
    ControlAction.resume: "– goes on, and fetches what has arrived meanwhile",
    ControlAction.cancel: "– for good: batches are cancelled, results that still arrive are kept",
    ControlAction.retry_failed: "– failed rows get a fresh set of attempts, which cost money",
}


@dataclass(frozen=True, slots=True)
class ControlOutcome:
    """What came of an action.

    Attributes:
        run_id: The batch run.
        action: What was asked for.
        changed: Whether anything had to be done.
        message: One sentence for the operator.
        summary: Where the run stands now.
    """

    run_id: str
    action: ControlAction
    changed: bool
    message: str
    summary: RunSummary


def apply_control(runner: BatchRunner, run_id: str, action: ControlAction | str) -> ControlOutcome:
    """Do what the operator asks. Asking again for what is already so changes nothing.

    ``pause`` stops polling, submission and reading; ``resume`` undoes it. ``cancel`` is final: it cancels the provider's
    batches and keeps every result that still arrives. ``retry_failed`` gives each failed row a fresh set of attempts.

    Raises:
        RunNotFoundError: There is no such run.
        RunStateError: The action does not fit, such as resuming a cancelled run.
        InvalidInputError: There is no such action.
    """
    action = ControlAction.parse(action)
    run = runner.get_run(run_id)
    settled = already_so(run.summary(), action)
    if settled is not None:
        return ControlOutcome(run_id, action, False, f"{settled}; nothing to do", run.summary())
    match action:
        case ControlAction.pause:
            run.pause()
            message = "paused; batches already at the provider go on there, and are fetched after a resume"
        case ControlAction.resume:
            run.resume()
            message = "running again"
        case ControlAction.cancel:
            run.cancel()
            message = "cancelling; results that still arrive are kept"
        case ControlAction.retry_failed:
            count = run.summary().failed_items
            runner.retry_failed(run_id)
            message = f"{count} failed items will be tried again"
        case _:
            assert_never(action)
    return ControlOutcome(run_id, action, True, message, runner.get_run(run_id).summary())


def already_so(summary: RunSummary, action: ControlAction) -> str | None:
    """Why an action would change nothing, or None if it would."""
    finished = summary.status is not RunLifecycleStatus.RUNNING
    match action:
        case ControlAction.retry_failed:
            return None if summary.failed_items else "no item has failed"
        case ControlAction.pause | ControlAction.resume | ControlAction.cancel if finished:
            return "the run is finished"
        case ControlAction.pause:
            return "the run is paused" if summary.control_state is RunControlState.PAUSED else None
        case ControlAction.resume:
            return "the run is going on" if summary.control_state is RunControlState.RUNNING else None
        case ControlAction.cancel:
            cancelling = summary.control_state is RunControlState.CANCEL_REQUESTED
            return "the run is being cancelled" if cancelling else None
        case _:
            assert_never(action)


def tagged_run_ids(tags: Mapping[str, str]) -> list[str]:
    """The batch runs that a Dagster run's tags name."""
    return [run_id for part in tags.get(RUN_ID_TAG, "").split(",") if (run_id := part.strip())]


def contradicting(tags: Mapping[str, str], run_ids: Iterable[str], action: ControlAction | str) -> str | None:
    """What is wrong where a Dagster run's tags say one thing and its config, or its partition, another."""
    named, asked = tagged_run_ids(tags), tags.get(ACTION_TAG)
    others = [run_id for run_id in run_ids if named and run_id not in named]
    if others:
        return (
            f"This is about batch run {', '.join(others)}, and the tag {RUN_ID_TAG} names {', '.join(named)}. "
            "Nothing was done: leave the tag out, or make both the same."
        )
    if asked is not None and asked.strip().lower() != str(action).strip().lower():
        return (
            f"The run config says {action}, and the tag {ACTION_TAG} says {asked}. "
            "Nothing was done: leave one of them out."
        )
    return None


def add_run_id_tag(instance: dg.DagsterInstance, dagster_run_id: str, run_id: str) -> None:
    """Name a batch run on a Dagster run, beside those that are named there already."""
    record = instance.get_run_by_id(dagster_run_id)
    known = tagged_run_ids(record.tags) if record is not None else []
    added = {} if run_id in known else {RUN_ID_TAG: ",".join([*known, run_id])}
    if record is not None and STATE_TAG in record.tags:
        added[STATE_TAG] = "submitted"  # copied from the run that is executed again
    if added:
        instance.add_run_tags(dagster_run_id, added)


def is_applied(tags: Mapping[str, str], dagster_run_id: str) -> bool:
    """Whether the action in these tags has been applied for this very Dagster run."""
    return tags.get(APPLIED_TAG) == _applied_value(tags.get(ACTION_TAG, ""), dagster_run_id)


def mark_applied(instance: dg.DagsterInstance, dagster_run_id: str, action: str) -> None:
    """Remember on the Dagster run that its action has been applied."""
    instance.add_run_tags(dagster_run_id, {APPLIED_TAG: _applied_value(action, dagster_run_id)})


def _applied_value(action: str, dagster_run_id: str) -> str:
    return f"{action}@{dagster_run_id[:8]}"


# --- the job ---------------------------------------------------------------------------------------------------------


class ControlConfig(CheckedConfig):
    """Run config of the control job; what is left out is taken from the run's tags."""

    run_id: str | None = None
    action: ControlAction | None = None


def name_for(usual: str, resource_key: str) -> str:
    """The name of a resource's job or sensor: the usual one for ``batchor``, else with the key behind it."""
    return usual if resource_key == DEFAULT_RESOURCE else f"{usual}_{resource_key}"


def control_job_name(resource_key: str) -> str:
    """The control job of a resource."""
    return name_for(CONTROL_JOB, resource_key)


def op_name(op: str, job_name: str, *, usual: str) -> str:
    """An op's name, unique in the code location, as Dagster wants it: with the job's behind it where that has a name of its own."""
    return op if job_name == usual else f"{op}__{job_name}"


def is_control_run(run: dg.DagsterRun) -> bool:
    """Whether a Dagster run is one of a control job."""
    return CONTROL_TAG in run.tags or run.job_name == CONTROL_JOB


def build_control_job(*, resource_key: str = DEFAULT_RESOURCE, name: str | None = None) -> dg.JobDefinition:
    """The job behind the links: applies one action to one or more batch runs.

    Launch it with ``batchor/run_id`` and ``batchor/action`` as tags, or with the same two in its run config.

    Args:
        resource_key: Name of the :class:`BatchorResource`.
        name: The job's name; ``batchor_control``, or ``batchor_control_<resource key>`` for another resource. The links in the
            assets' metadata go to that name; for another, give it to ``@batch_asset(control_job=...)`` too.
    """
    job_name = name or control_job_name(resource_key)

    @dg.op(
        name=op_name(_CONTROL_OP, job_name, usual=CONTROL_JOB),
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
        control.alias(_CONTROL_OP)()  # its name in run config, whatever the job's is

    return control_job


def apply_all(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    runner: BatchRunner,
    run_ids: Iterable[str],
    action: ControlAction | str,
) -> list[ControlOutcome]:
    """Apply an action to several runs, say in the log what came of it, and fail the step if it fits one of them not.

    Nothing is applied where the Dagster run's tags name another run or action than is asked for.
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


# --- links -----------------------------------------------------------------------------------------------------------


def launchpad_url(
    run_id: str,
    action: ControlAction | str,
    *,
    location: str | None = None,
    webserver_url: str = "",
    job_name: str = CONTROL_JOB,
) -> str:
    """A link that opens the control job's launchpad with this run and action filled in.

    The form is that of dagster-webserver 1.13.27 (``LaunchpadSetupRoot``): ``playground/setup`` reads ``config`` and
    ``tags[n][key|value]`` from the query, makes a launchpad tab of them, and launches nothing by itself.

    Args:
        run_id: The batch run.
        action: What the launchpad shall propose.
        location: Code location of the job. Without it the page looks for the job in all of them.
        webserver_url: Put before the path, where a relative link would not do.
        job_name: The control job, if it was given another name.
    """
    config = {
        "ops": {_CONTROL_OP: {"config": {"run_id": run_id, "action": str(ControlAction.parse(action))}}}
    }
    query = {
        "config": yaml.safe_dump(config, sort_keys=False),
        "tags[0][key]": RUN_ID_TAG,
        "tags[0][value]": run_id,
    }
    jobs = f"/locations/{quote(location, safe='')}/jobs" if location else "/guess"
    return (
        f"{webserver_url.rstrip('/')}{jobs}/{job_name}/playground/setup?{urlencode(query, quote_via=quote)}"
    )


def control_links(
    run_id: str, *, location: str | None = None, webserver_url: str = "", job_name: str = CONTROL_JOB
) -> str:
    """Markdown with one launchpad link per action, and what it does."""

    def link(action: ControlAction) -> str:
        return launchpad_url(
            run_id, action, location=location, webserver_url=webserver_url, job_name=job_name
        )

    return "\n".join(
        f"- [{action.replace('_', ' ')}]({link(action)}) {EFFECTS[action]}" for action in ControlAction
    )
