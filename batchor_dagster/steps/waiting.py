"""With ``wait=True``: one step that submits, waits until the runs are finished, and writes their results."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import assert_never

import dagster as dg

from batchor_core import BatchRunner, Run
from batchor_core.core.exceptions import BatchorError
from batchor_dagster.control import ACTION_TAG, ControlAction, apply_control
from batchor_dagster.metadata import Metadata, describe
from batchor_dagster.observations import observation, show_state
from batchor_dagster.steps.failures import clear_failures
from batchor_dagster.steps.partitions import each_partition, partition_keys
from batchor_dagster.steps.results import write
from batchor_dagster.steps.submission import begin
from batchor_dagster.steps.task import Task

_PROGRESS_EVERY_SEC = 60.0
_LAST_CYCLE_SEC = 20.0


class OnTermination(StrEnum):
    """What happens to a batch run when an operator terminates the Dagster run that waits for it.

    ``detach`` leaves it to the sensor. ``pause`` and ``cancel`` apply only if an operator terminates the run: if a machine goes
    down or a daemon restarts, the run is always detached.
    """

    detach = "detach"
    pause = "pause"
    cancel = "cancel"


def submit_wait_write(task: Task, on_termination: OnTermination) -> dg.Output[None]:
    """Submit, wait and write the results in one step."""
    with task.resource.runner() as runner, clear_failures():
        runs: dict[str | None, Run] = {}
        refused: dict[str | None, Exception] = {}
        for key in partition_keys(task.asset, task.context):
            try:
                runs[key] = begin(task, runner, key)[0]
            except (BatchorError, dg.Failure) as error:  # reported below, when the others are done
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
        finally:  # finished, paused or detached: the asset shows it from now on
            for key, run in runs.items():
                show_state(task.asset, task.context, run, key)

        def finish(key: str | None) -> Metadata:
            if key in refused:
                raise refused[key]
            return write(task.asset, task.context, task.resource, runs[key], key)

        return each_partition(task.asset, task.context, finish)


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
    """Apply the policy to one run. Errors are logged and don't stop the other runs."""
    told = f"batch run {run.run_id}: an operator terminated this run, and on_termination is {policy}"
    try:
        match policy:
            case OnTermination.detach:
                task.context.log.info(f"{told}; the sensor continues it")
            case OnTermination.pause:
                outcome = apply_control(runner, run.run_id, ControlAction.pause)
                task.context.log.info(f"{told}; {outcome.message}")
            case OnTermination.cancel:
                outcome = apply_control(runner, run.run_id, ControlAction.cancel)
                task.context.log.info(f"{told}; {outcome.message}")
                # cancels at the provider now; the sensor does the rest
                run.refresh(time_limit_sec=_LAST_CYCLE_SEC)
            case _:
                assert_never(policy)
    except BatchorError as error:
        task.context.log.warning(f"{told}, but that failed: {error}")
