"""Settling what an earlier cycle, or a process that died, left open.

A submission that was never sent is simply given back. One that *may* have been sent is looked up at the provider:

1. List the batches, newest first, back to ten minutes before the POST. Found: adopt it.
2. Not found: delete the input file, so that a create still on its way can't start a batch any more.
3. Look again over a grace period, at least three complete listings, without blocking anything else.
4. Still not found: it does not exist; the items go into a new batch, under new custom_ids.

Where there is no input file to delete, nothing keeps a late create from arriving: then step 4 waits until the batch, had it
been created, would have ended. Where batches carry no tags, a batch that may be the submission's is waited for until its
first result says whose it is, or until it should have ended. Where it can't be looked up, a person decides. Measured on a
prototype: without step 2 a stalled driver paid twice in 11 of 12 rounds, with it in none.
"""

from __future__ import annotations

from contextlib import suppress
from typing import assert_never

from batchor_core.core.enums import SubmissionState
from batchor_core.core.exceptions import ProviderError
from batchor_core.core.lifecycle import UNSENT, status_to_register
from batchor_core.core.retry import is_due
from batchor_core.providers.api import BatchState, FoundBy, is_own_account
from batchor_core.runtime.batch_list import is_passing
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.lookup import Absent, Found, Unknowable, look_for, over_in_sec, sent_at
from batchor_core.runtime.provider_errors import ProviderCodeError, advice, as_provider_error
from batchor_core.runtime.submit import discard_files
from batchor_core.storage.session import SubmissionRecord

LONGEST_PAUSE_SEC = 3_600.0
"""The longest wait before an unfenced submission is looked up again."""

PATIENCE_SEC = 3_600.0
"""How long answers that tell nothing (5xx and the like) are put up with before a person is asked."""


def recover(drive: Drive, *, keep_unsent: bool = False) -> None:
    """Give back what was never sent, look up what may have been.

    ``keep_unsent`` leaves out the former: in a restored database, what is marked as unsent may have been sent since.
    """
    _tidy_up(drive)
    still_open = drive.session.open_submissions() if keep_unsent else give_back_unsent(drive)
    for submission in still_open:
        match submission.state:
            case SubmissionState.SENDING:
                _mark_unknown(drive, submission)
                _look_up(drive, submission)
            case SubmissionState.UNKNOWN:
                longest = max(_pause_between_look_ups(drive), LONGEST_PAUSE_SEC)
                if is_due(submission.next_check_at or 0.0, drive.store.now(), longest=longest):
                    _look_up(drive, submission)
            case SubmissionState.CLAIMED | SubmissionState.UPLOADED:
                pass  # never sent: given back above, or after a sweep
            case SubmissionState.QUARANTINED | SubmissionState.REGISTERED | SubmissionState.DROPPED:
                pass  # a person decides, or it is settled
            case _:
                assert_never(submission.state)


def _tidy_up(drive: Drive) -> None:
    """Remove what a killed process left half-written, once per process: under the lease nobody else writes."""
    if not drive.sweeping.has_tidied:
        drive.sweeping.has_tidied = True
        with suppress(Exception):  # they are only in the way of people who look into the folder
            drive.artifacts.sweep(drive.run_id)


def give_back_unsent(drive: Drive) -> list[SubmissionRecord]:
    """Free the rows of submissions that have not reached SENDING, except those that wait for their input file.

    Returns the submissions that are open after that.
    """
    before = drive.session.open_submissions()
    unsent = [
        submission
        for submission in before
        if submission.state in UNSENT and (not submission.is_postponed or drive.is_cancelling())
    ]
    for submission in unsent:
        discard_files(drive, submission, submission.input_file_id)
        if submission.is_postponed:
            drive.session.drop(local_batch_id=submission.local_batch_id, error_class="run_cancelled")
    # also frees claims that have no submission, which other users of the store may have left
    freed = drive.session.requeue_local()
    for submission in unsent:
        drive.emit(
            "submission_dropped", local_batch_id=submission.local_batch_id, reason="never sent", count=freed
        )
    return drive.session.open_submissions() if unsent else before


def _mark_unknown(drive: Drive, submission: SubmissionRecord) -> None:
    now = drive.store.now()
    drive.session.mark_unknown(
        local_batch_id=submission.local_batch_id, error_class="interrupted", next_check_at=now
    )
    drive.emit(
        "submission_unknown",
        local_batch_id=submission.local_batch_id,
        error_class="interrupted",
        since=submission.sending_at,
        next_check_at=now,
    )


def _look_up(drive: Drive, submission: SubmissionRecord) -> None:
    if drive.api.limits.found_by is FoundBy.NOTHING and drive.settings.on_unknown == "resubmit":
        return _drop(drive, submission, reason="the provider can't be asked, and on_unknown is 'resubmit'")
    if not is_own_account(drive.api, submission.key_fingerprint):
        return _quarantine(drive, submission, "api_key_changed")
    try:
        found = look_for(drive, submission)
    except Exception as raised:
        return _cannot_ask(
            drive,
            submission,
            "list",
            as_provider_error(raised),
            submission.clean_listings,
            submission.fenced_at,
        )
    _was_answered(drive, submission, "list")
    match found:
        case Found(batches):
            return _adopt(drive, submission, batches)
        case Absent():
            return _not_listed(drive, submission)
        case Unknowable(error_class, may_pass):
            if may_pass:
                return _check_again(drive, submission, submission.clean_listings, submission.fenced_at)
            return _quarantine(drive, submission, error_class)
    assert_never(found)


def _cannot_ask(
    drive: Drive,
    submission: SubmissionRecord,
    question: str,
    error: ProviderError,
    clean_listings: int,
    fenced_at: float | None,
) -> None:
    """Try again later, unless waiting won't help: the request was refused, or has been answered with errors for too long."""
    now = drive.store.now()
    since = drive.sweeping.failing_since.setdefault(f"{submission.local_batch_id} {question}", now)
    if isinstance(error, ProviderCodeError):
        drive.pause(advice(error))  # the doubt stays until the provider can be asked
        return _check_again(drive, submission, clean_listings, fenced_at)
    if is_passing(error) and (error.status_code is None or now - since < PATIENCE_SEC):
        return _check_again(drive, submission, clean_listings, fenced_at)
    return _quarantine(drive, submission, error.error_class)


def _was_answered(drive: Drive, submission: SubmissionRecord, question: str) -> None:
    drive.sweeping.failing_since.pop(f"{submission.local_batch_id} {question}", None)


def _adopt(drive: Drive, submission: SubmissionRecord, found: list[BatchState]) -> None:
    batch, *others = found
    register_found(drive, submission, batch)
    for other in others:
        drive.emit(
            "duplicate_provider_batch",
            local_batch_id=submission.local_batch_id,
            provider_batch_id=other.batch_id,
        )
        cancel_stray(drive, other)
    if others:
        known = drive.store.get_run_summary(run_id=drive.run_id).orphan_batches
        drive.session.count_orphan_batches(known + len(others))
        drive.sweeping.orphans.update(other.batch_id for other in others)


def cancel_stray(drive: Drive, batch: BatchState) -> None:
    """Cancel a batch that nobody waits for, if it can be. It has been reported; more can't be done from here."""
    if not drive.api.limits.can_cancel or batch.has_ended:
        return
    try:
        drive.api.cancel(batch.batch_id)
    except Exception as raised:
        drive.emit(
            "batch_poll_retry", provider_batch_id=batch.batch_id, message=str(as_provider_error(raised))
        )


def register_found(drive: Drive, submission: SubmissionRecord, batch: BatchState) -> None:
    """The submission, which is SENDING or in doubt, turned out to be this batch."""
    drive.session.register(
        local_batch_id=submission.local_batch_id,
        provider_batch_id=batch.batch_id,
        status=status_to_register(batch.status),
    )
    drive.emit(
        "submission_recovered",
        local_batch_id=submission.local_batch_id,
        provider_batch_id=batch.batch_id,
        count=submission.item_count,
    )


def _not_listed(drive: Drive, submission: SubmissionRecord) -> None:
    now = drive.store.now()
    if submission.fenced_at is None:
        return _fence(drive, submission, now)
    if submission.fenced_at > now:  # the clock was set back: the grace period begins again
        return _check_again(drive, submission, 0, now)
    clean = submission.clean_listings + 1
    if clean < drive.settings.look_ups or now - submission.fenced_at < drive.settings.grace_sec:
        return _check_again(drive, submission, clean, submission.fenced_at)
    if not _is_fenced(drive, submission) and over_in_sec(drive, submission) > 0:
        # a create that nothing keeps from arriving: only the end of the batch's lifetime says that there is none
        return _check_again(drive, submission, clean, submission.fenced_at)
    return _drop(drive, submission, reason=f"not among the provider's batches in {clean} listings")


def _is_fenced(drive: Drive, submission: SubmissionRecord) -> bool:
    """Whether, once fenced, a create of the submission that is still in transit is sure to fail."""
    return drive.api.limits.can_fence and bool(submission.input_file_id)


def _fence(drive: Drive, submission: SubmissionRecord, now: float) -> None:
    """Keep a delayed create from starting a batch. If that is not possible, the grace period begins anyway."""
    if _is_fenced(drive, submission):
        try:
            drive.api.fence(submission.input_file_id or "")
        except Exception as raised:
            return _cannot_ask(drive, submission, "fence", as_provider_error(raised), 0, None)
        _was_answered(drive, submission, "fence")
    return _check_again(drive, submission, 0, now)


def _check_again(
    drive: Drive, submission: SubmissionRecord, clean_listings: int, fenced_at: float | None
) -> None:
    now = drive.store.now()
    pause = _pause_between_look_ups(drive)
    over_in = over_in_sec(drive, submission)
    if not _is_fenced(drive, submission) and over_in > 0:
        # this may take as long as a batch lives: look often at first, and once an hour in the end
        pause = max(pause, min((now - sent_at(submission)) / 10, LONGEST_PAUSE_SEC, over_in))
    drive.session.record_look_up(
        local_batch_id=submission.local_batch_id,
        clean_listings=clean_listings,
        fenced_at=fenced_at,
        next_check_at=now + pause,
    )


def _pause_between_look_ups(drive: Drive) -> float:
    return drive.settings.grace_sec / drive.settings.look_ups


def _drop(drive: Drive, submission: SubmissionRecord, *, reason: str) -> None:
    discard_files(drive, submission, submission.input_file_id)
    drive.session.drop(
        local_batch_id=submission.local_batch_id, error_class=submission.last_error_class or "unknown_outcome"
    )
    drive.emit(
        "submission_dropped",
        local_batch_id=submission.local_batch_id,
        reason=reason,
        count=submission.item_count,
    )


def _quarantine(drive: Drive, submission: SubmissionRecord, error_class: str) -> None:
    drive.session.quarantine(local_batch_id=submission.local_batch_id, error_class=error_class)
    drive.emit("submission_quarantined", local_batch_id=submission.local_batch_id, error_class=error_class)
