"""What an operator can do to a run: pause, resume, cancel, or retry failed rows. All actions are idempotent."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self, assert_never

from batchor_core import BatchRunner, RunSummary
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.control.tags import ACTION_TAG


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
            InvalidInputError: It is not an action.
        """
        try:
            return cls(text.strip().lower())
        except ValueError:
            known = ", ".join(cls)
            raise InvalidInputError(f"{ACTION_TAG}={text!r} is not an action; use one of {known}") from None


EFFECTS = {
    ControlAction.pause: "– nothing is sent or fetched; batches at the provider go on there",
    ControlAction.resume: "– continues the run and fetches what has arrived meanwhile",
    ControlAction.cancel: "– for good: batches are cancelled, results that still arrive are kept",
    ControlAction.retry_failed: "– failed rows get a new set of attempts, which cost money",
}


@dataclass(frozen=True, slots=True)
class ControlOutcome:
    """The outcome of an action.

    Attributes:
        run_id: The batch run.
        action: What was asked for.
        changed: Whether anything had to be done.
        message: One sentence for the operator.
        summary: The state of the run now.
    """

    run_id: str
    action: ControlAction
    changed: bool
    message: str
    summary: RunSummary


def apply_control(runner: BatchRunner, run_id: str, action: ControlAction | str) -> ControlOutcome:
    """Apply an operator's action. All actions are idempotent.

    ``pause`` stops polling, submission and reading; ``resume`` undoes it. ``cancel`` is final: it cancels the
    provider's batches and keeps every result that still arrives. ``retry_failed`` gives each failed row a new set of
    attempts.

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
            return "the run is active" if summary.control_state is RunControlState.RUNNING else None
        case ControlAction.cancel:
            cancelling = summary.control_state is RunControlState.CANCEL_REQUESTED
            return "the run is being cancelled" if cancelling else None
        case _:
            assert_never(action)


def offered(summary: RunSummary) -> list[ControlAction]:
    """The actions that would change something now, and that the run's state allows."""
    cancelled = summary.control_state is RunControlState.CANCEL_REQUESTED
    return [
        action
        for action in ControlAction
        if already_so(summary, action) is None
        and not (cancelled and action is not ControlAction.cancel)
        and not (action is ControlAction.retry_failed and summary.status is RunLifecycleStatus.RUNNING)
    ]
