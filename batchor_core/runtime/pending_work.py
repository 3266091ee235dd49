"""Whether a run has anything to do but wait: a look that writes nothing and takes no lease."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from batchor_core.core.enums import RunControlState, RunLifecycleStatus, SubmissionState
from batchor_core.core.lateness import is_looked_at
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.models import RunSummary
from batchor_core.providers.api import BatchApi
from batchor_core.runtime.forgotten_batches import sweep_is_due
from batchor_core.storage.identity import is_certainly_gone
from batchor_core.storage.records import ActiveBatchRecord
from batchor_core.storage.session import SubmissionRecord
from batchor_core.storage.state import StateStore


def has_work(store: StateStore, run_id: str, provider: Callable[[], BatchApi]) -> bool:
    """Whether a cycle would find something to do. Items that wait for the token budget count: only a driver can tell.

    The provider is made, and asked, only if the store alone can't answer.
    """
    summary = store.get_run_summary(run_id=run_id)
    if summary.status is not RunLifecycleStatus.RUNNING or is_driven(store, run_id):
        return False
    if summary.control_state is RunControlState.PAUSED:
        return False
    batches, now = store.get_active_batches(run_id=run_id), store.now()
    submissions = store.list_submissions(run_id=run_id)
    if has_local_work(summary, batches, submissions, now) or sweep_is_due(submissions, now=now):
        return True
    if summary.following_items and store.can_follow(run_id=run_id):
        return True
    cancelling = summary.control_state is RunControlState.CANCEL_REQUESTED
    due = [
        batch
        for batch in batches
        if batch.next_poll_at <= now
        and is_looked_at(quarantine_cause=batch.quarantine_cause, is_cancelling=cancelling)
    ]
    return any(_has_ended(provider(), batch) for batch in due)


def is_driven(store: StateStore, run_id: str) -> bool:
    """Whether a driver holds the run that is not certainly gone."""
    lease = store.get_lease(run_id=run_id)
    return lease is not None and not is_certainly_gone(lease.owner)


def has_local_work(
    summary: RunSummary, batches: list[ActiveBatchRecord], submissions: list[SubmissionRecord], now: float
) -> bool:
    """What the store alone can tell: a submission to settle, items to send, a cancellation to pass on."""
    for submission in submissions:
        match submission.state:
            case SubmissionState.CLAIMED | SubmissionState.SENDING:
                return True  # left by a driver that is gone: nobody holds the lease
            case SubmissionState.UPLOADED:
                if not submission.is_postponed or (submission.next_check_at or 0.0) <= now:
                    return True
            case SubmissionState.UNKNOWN:
                if (submission.next_check_at or 0.0) <= now:
                    return True
            case SubmissionState.QUARANTINED | SubmissionState.REGISTERED | SubmissionState.DROPPED:
                pass
            case _:
                assert_never(submission.state)
    claimable = summary.items_to_send > 0
    match summary.control_state:
        case RunControlState.CANCEL_REQUESTED:
            in_flight = [batch for batch in batches if not is_terminal_batch(batch.status)]
            return (
                claimable
                or not summary.ingestion_complete
                or not batches
                or any(batch.status != "cancelling" for batch in in_flight)
            )
        case RunControlState.RUNNING | RunControlState.PAUSED:
            return claimable and summary.backoff_remaining_sec <= 0
        case _:
            assert_never(summary.control_state)


def _has_ended(provider: BatchApi, batch: ActiveBatchRecord) -> bool:
    """Whether there is something to collect. A failing poll is work too: a cycle records it, with its backoff."""
    if is_terminal_batch(batch.status):
        return True
    try:
        return provider.poll(batch.provider_batch_id).has_ended
    except Exception:  # whatever it is, the cycle meets it again, and knows what to do about it
        return True
