"""What an operator does with a run, from any process: pause, resume, cancel, retry, and decide about submissions in doubt."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import assert_never

from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.lifecycle import IN_DOUBT
from batchor_core.core.models import RunSummary
from batchor_core.runtime.driving import take_last_look
from batchor_core.runtime.engine import Engine
from batchor_core.runtime.live import LiveRuns
from batchor_core.storage.state import SubmissionDecision, SubmissionRecord

log = logging.getLogger("batchor_core")


def pause(engine: Engine, run_id: str) -> None:
    """Pause a run; what ``Run.pause`` documents."""
    summary = engine.store.get_run_summary(run_id=run_id)
    _check_open(summary, "pause")
    match summary.control_state:
        case RunControlState.CANCEL_REQUESTED:
            raise RunStateError(run_id, "can't pause it: it is being cancelled")
        case RunControlState.RUNNING:
            engine.store.set_run_control_state(run_id=run_id, control_state=RunControlState.PAUSED)
            engine.emit(run_id, "run_paused", by="operator")
        case RunControlState.PAUSED:
            pass
        case _:
            assert_never(summary.control_state)


def resume(engine: Engine, run_id: str) -> None:
    """Resume a paused run; what ``Run.resume`` documents."""
    summary = engine.store.get_run_summary(run_id=run_id)
    match summary.control_state:
        case RunControlState.CANCEL_REQUESTED:
            raise RunStateError(run_id, "can't resume it: it has been cancelled")
        case RunControlState.PAUSED:
            # whoever resumes has fixed the reason for the backoff
            engine.store.clear_batch_retry_backoff(run_id=run_id)
            engine.store.set_run_control_state(run_id=run_id, control_state=RunControlState.RUNNING)
            engine.emit(run_id, "run_resumed_by_operator")
        case RunControlState.RUNNING:
            pass
        case _:
            assert_never(summary.control_state)


def cancel(engine: Engine, run_id: str) -> None:
    """Cancel a run for good; what ``Run.cancel`` documents."""
    summary = engine.store.get_run_summary(run_id=run_id)
    if summary.control_state is not RunControlState.CANCEL_REQUESTED:
        _check_open(summary, "cancel")
        engine.store.set_run_control_state(run_id=run_id, control_state=RunControlState.CANCEL_REQUESTED)
        engine.emit(run_id, "run_cancel_requested")


def retry_failed(engine: Engine, run_id: str) -> None:
    """Give failed items new attempts; what ``Run.retry_failed`` documents."""
    if engine.store.get_run_control_state(run_id=run_id) is RunControlState.CANCEL_REQUESTED:
        raise RunStateError(run_id, "can't retry its failed items: it has been cancelled")
    count = engine.store.reopen_failed_items(run_id=run_id)
    engine.emit(run_id, "items_reopened", count=count)


def settle(
    runs: LiveRuns,
    run_id: str,
    submission_id: str,
    decision: SubmissionDecision,
    *,
    provider_batch_id: str | None = None,
) -> None:
    """Carry out a person's decision about a submission; what the verbs of ``Run`` document."""
    if decision in ("resubmit", "fail"):
        if _has_come(runs, run_id, submission_id):
            return
        for submission in _in_doubt(runs, run_id, submission_id):
            _fence(runs, run_id, submission)
    runs.engine.store.settle_submission(
        run_id=run_id,
        local_batch_id=submission_id,
        decision=decision,
        provider_batch_id=provider_batch_id,
    )
    event = "submission_recovered" if decision in ("adopt", "wait") else "submission_dropped"
    runs.engine.emit(run_id, event, local_batch_id=submission_id, decision=decision, by="operator")


LAST_LOOKS = 10
LAST_LOOK_PAUSE_SEC = 1.0


def _in_doubt(runs: LiveRuns, run_id: str, submission_id: str) -> list[SubmissionRecord]:
    """The submission, if a person may decide about it."""
    submissions = runs.engine.store.list_submissions(run_id=run_id)
    return [one for one in submissions if one.local_batch_id == submission_id and one.state in IN_DOUBT]


def _has_come(runs: LiveRuns, run_id: str, submission_id: str) -> bool:
    """Check one last time for results that have arrived since the decision was requested; True if nothing is missing now.

    Raises:
        RunStateError: Another process keeps driving the run.
    """
    for submission in _in_doubt(runs, run_id, submission_id):
        batch_id = submission.provider_batch_id
        if batch_id is None:
            return False
        try:
            for _ in range(LAST_LOOKS):
                if take_last_look(runs, run_id, batch_id):
                    return not _in_doubt(runs, run_id, submission_id)
                runs.engine.sleep(LAST_LOOK_PAUSE_SEC)
        except Exception as error:  # the decision counts all the same: it is made where nobody can be asked
            log.warning("batch %s of run %s could not be checked a last time: %s", batch_id, run_id, error)
            return False
        raise RunStateError(
            run_id,
            f"batch {batch_id} has to be checked once more before its rows are given up, and another process drives the run "
            "at the moment: try again when its cycle is over",
        )
    return False


def _fence(runs: LiveRuns, run_id: str, submission: SubmissionRecord) -> None:
    """Delete the files of a submission that an operator is about to give up, most importantly the one at the provider."""
    if submission.artifact_key is not None and submission.provider_batch_id is None:
        with suppress(Exception):  # an operator's machine need not reach the run's folder
            runs.engine.artifacts.delete(submission.artifact_key)
    if not submission.input_file_id:
        return
    try:
        api = runs.of(run_id).provider.get()
        if api.limits.can_fence:
            api.fence(submission.input_file_id)
        else:
            api.discard(submission.input_file_id)
    except Exception as error:  # the decision counts all the same: it is made where nobody can be asked
        log.warning(
            "the input file of submission %s of run %s stays at the provider: %s",
            submission.local_batch_id,
            run_id,
            error,
        )


def _check_open(summary: RunSummary, verb: str) -> None:
    if summary.status is not RunLifecycleStatus.RUNNING:
        raise RunStateError(summary.run_id, f"can't {verb} it: it is finished ({summary.status.value})")
