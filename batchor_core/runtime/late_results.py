"""Waiting for the results of a batch that is over, and for a batch that should be.

``core.lateness`` decides; this writes it down and says so. What is waited for lies in the database, so that a restart
neither shortens nor lengthens the waiting.
"""

from __future__ import annotations

from dataclasses import replace

from batchor_core.core import lateness
from batchor_core.core.lateness import AtHand, Cause, Decision, Move, StatedCounts
from batchor_core.providers.api import BatchState
from batchor_core.runtime.drive import Drive
from batchor_core.storage.records import ActiveBatchRecord
from batchor_core.storage.session import ResultsWait


def judge(drive: Drive, batch: ActiveBatchRecord, state: BatchState, hand: AtHand) -> Decision:
    """What to do about a batch that is over."""
    return lateness.judge_end(
        status=batch.status,
        counts=state.counts,
        hand=hand,
        waited_sec=lateness.seconds_since(batch.ended_at, drive.store.now()),
        looks=batch.looks,
        is_cancelling=drive.is_cancelling(),
        patience=drive.settings.patience,
    )


def most_stated(batch: ActiveBatchRecord, counts: StatedCounts) -> StatedCounts:
    """The counts with the most answered rows that were ever stated: a later look may meet a copy that lags behind."""
    if batch.stated_completed is None:
        return counts
    return replace(counts, completed=max(batch.stated_completed, counts.completed or 0))


def wait_for_results(
    drive: Drive,
    batch: ActiveBatchRecord,
    *,
    decision: Decision,
    counts: StatedCounts,
    hand: AtHand,
    gone: list[str],
) -> None:
    """Keep the batch, with the rows that it has brought no line for; with ASK, let a person decide about them."""
    assert decision.cause is not None
    now = drive.store.now()
    goes_on = batch.ended_at is not None and batch.ended_at <= now
    ended_at = batch.ended_at if goes_on and batch.ended_at is not None else now
    wait = ResultsWait(
        status=batch.status,
        ended_at=ended_at,
        late_rows=hand.missing + (hand.would_go_again if decision.holds_failures else 0),
        looks=batch.looks + 1 if goes_on else 1,
        reason=_reason(batch, decision.cause, counts, hand, gone),
        next_poll_at=now + decision.look_in_sec,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        stated_completed=batch.stated_completed,
    )
    drive.session.record_wait(provider_batch_id=batch.provider_batch_id, wait=wait)
    drive.emit(
        "batch_results_late",
        provider_batch_id=batch.provider_batch_id,
        status=batch.status,
        cause=decision.cause.value,
        reason=wait.reason,
        missing=hand.missing,
        stated_completed=counts.completed,
        lines=hand.lines,
        waited_sec=now - ended_at,
        next_look_at=wait.next_poll_at,
    )
    if decision.move is Move.ASK:
        _ask(drive, batch, decision.cause, wait.reason, wait=wait)


def _reason(
    batch: ActiveBatchRecord, cause: Cause, counts: StatedCounts, hand: AtHand, gone: list[str]
) -> str:
    """What is waited for, in words."""
    end = f"batch {batch.provider_batch_id} is {batch.status}"
    rows = f"{hand.missing} of its {hand.submitted} rows have no line in its result files"
    if not hand.missing:
        rows = f"{hand.would_go_again} of its {hand.submitted} rows have nothing but an error in its result files"
    match cause:
        case Cause.RESULTS_LATE:
            named = [file_id for file_id in (batch.output_file_id, batch.error_file_id) if file_id]
            return (
                f"{end} and the provider states {counts.completed} answered rows, but {rows} "
                f"({', '.join(named) if named else 'it names no file'})"
            )
        case Cause.RESULT_FILE_GONE:
            if not gone:
                return f"{end}, but its result files hold less than they did; {rows}"
            return (
                f"{end}, but result file {', '.join(gone)} that the provider names is not there (HTTP 404), or shorter than it "
                f"was; {rows}"
            )
        case Cause.RESULT_FILE_UNREADABLE:
            return (
                f"{end}, but {hand.unreadable + hand.strangers} lines of its result files can't be read or are of no row of the "
                f"batch, as if something else had been downloaded, such as a web page or an error; {rows}"
            )
        case Cause.RESULT_FILE_CUT:
            return f"{end}, but a result file breaks off in the middle of a line; {rows}"
        case Cause.NO_RESULTS:
            return f"{end}, but it names no result file; {rows}"
        case Cause.UNCONFIRMED:
            return f"{end}; {rows}, and it may still bring them"
        case Cause.OVERDUE:
            return overdue_reason(batch)


# --- batches that don't end ------------------------------------------------------------------------------------------


def due_at(drive: Drive, batch: ActiveBatchRecord, state: BatchState) -> float:
    """When the batch should be over: as stored, else as the provider says."""
    if batch.due_at is not None:
        return batch.due_at
    # a store with the documented methods alone need not keep when, nor by which clock
    is_known = drive.store.supports_leases and batch.created_at > 0
    return lateness.due_at(
        registered_at=batch.created_at if is_known else drive.store.now(),
        created_at=state.created_at,
        expires_at=state.expires_at,
        completion_window=getattr(drive.config.provider_config, "completion_window", None),
        lifetime_sec=drive.api.limits.lifetime_sec,
    )


def judge_overdue(drive: Drive, batch: ActiveBatchRecord) -> Decision | None:
    """What to do about a batch that has not ended; None while it has time."""
    return lateness.judge_overdue(
        due_at=batch.due_at,
        now=drive.store.now(),
        is_cancelling=drive.is_cancelling(),
        patience=drive.settings.patience,
    )


def say_overdue(drive: Drive, batch: ActiveBatchRecord, decision: Decision) -> None:
    """Say that a batch should have ended; with ASK, let a person decide about it."""
    now = drive.store.now()
    drive.emit(
        "batch_overdue",
        provider_batch_id=batch.provider_batch_id,
        status=batch.status,
        due_at=batch.due_at,
        overdue_sec=now - (batch.due_at or now),
        next_look_at=now + decision.look_in_sec,
    )
    if decision.move is Move.ASK:
        _ask(drive, batch, Cause.OVERDUE, overdue_reason(batch))


def overdue_reason(batch: ActiveBatchRecord) -> str:
    """What is waited for of a batch that has not ended, in words."""
    return f"batch {batch.provider_batch_id} is still {batch.status}, and should have ended long ago"


# --- asking ----------------------------------------------------------------------------------------------------------


def _ask(
    drive: Drive, batch: ActiveBatchRecord, cause: Cause, reason: str, *, wait: ResultsWait | None = None
) -> None:
    """Ask a person to decide: keep waiting, keep what has arrived and send the rest again, or fail the rest."""
    if batch.quarantined:
        return  # asked already
    submissions = {
        submission.local_batch_id for submission in drive.store.list_submissions(run_id=drive.run_id)
    }
    if batch.local_batch_id not in submissions:
        _pause_instead(drive, batch, reason, wait)
        return
    drive.session.quarantine(local_batch_id=batch.local_batch_id, error_class=cause.value)
    drive.emit(
        "submission_quarantined",
        local_batch_id=batch.local_batch_id,
        provider_batch_id=batch.provider_batch_id,
        error_class=cause.value,
        reason=reason,
    )


def _pause_instead(drive: Drive, batch: ActiveBatchRecord, reason: str, wait: ResultsWait | None) -> None:
    """Pause: without submissions in the store, the only answer is to resume the run, which means to keep waiting."""
    if not drive.is_running():
        return
    now = drive.store.now()
    if wait is None:
        drive.session.update_batch(
            provider_batch_id=batch.provider_batch_id,
            status=batch.status,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            due_at=now,
        )
    else:
        begun_again = replace(wait, ended_at=now, looks=0, next_poll_at=now)
        drive.session.record_wait(provider_batch_id=batch.provider_batch_id, wait=begun_again)
    drive.pause(
        f"{reason}. resume() waits on; the store's reset_batch_items_to_pending() gives the rows up to be sent again; "
        "cancel() ends them"
    )
