"""What ``batchor doctor`` finds about a run, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchor_core.core.enums import SubmissionState
from batchor_core.core.lateness import LOOKED_AT
from batchor_core.runtime.late_results import overdue_reason
from batchor_core.storage.records import ActiveBatchRecord
from batchor_core.storage.session import SubmissionRecord
from batchor_core.storage.state import StateStore

REASONS = {
    "api_key_changed": "it was sent with another API key or account, whose batches this one can't see",
    "batch_not_found": "the provider no longer knows the batch",
    "input_file_can_not_be_deleted": "its input file can't be deleted, so a delayed request could still start it",
    "batches_still_running": "batches without tags are still running, and one of them may be this one",
    "look_up_unsupported": "the provider has no list of batches to search",
    "nameless_batches_listed": "the provider lists batches that name neither their tags nor their input file",
    "too_many_batches_to_list": "the provider's list of batches is too long to read completely",
}
"""Why a submission is in quarantine, by error class. Any other class is what the provider answered."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A submission that needs a decision.

    Attributes:
        local_batch_id: Its name, which the provider's batch has in its metadata as ``batchor_local_batch_id``.
        reason: Why its outcome can't be determined.
        item_count: Rows in it.
        input_file_id: Its input file at the provider.
        provider_batch_id: Its batch, if it was ever known.
        is_late: Whether the provider knows the batch, and what is missing is its end or its results.
    """

    local_batch_id: str
    reason: str
    item_count: int
    input_file_id: str | None
    provider_batch_id: str | None
    is_late: bool = False


def quarantined(store: StateStore, run_id: str) -> list[Quarantined]:
    """The submissions of a run that need a decision, oldest first."""
    found = [i for i in store.list_submissions(run_id=run_id) if i.state is SubmissionState.QUARANTINED]
    batches = (
        {batch.local_batch_id: batch for batch in store.get_active_batches(run_id=run_id)} if found else {}
    )
    return [_finding(submission, batches.get(submission.local_batch_id)) for submission in found]


def waiting(store: StateStore, run_id: str) -> list[str]:
    """What the engine waits for on its own: late results, and batches that should have ended."""
    now = store.now()
    batches = [batch for batch in store.get_active_batches(run_id=run_id) if not batch.quarantined]
    late = [batch.wait_reason or "" for batch in batches if batch.ended_at is not None]
    overdue = [
        overdue_reason(batch)
        for batch in batches
        if batch.ended_at is None and batch.due_at is not None and batch.due_at < now
    ]
    return late + overdue


def _finding(submission: SubmissionRecord, batch: ActiveBatchRecord | None) -> Quarantined:
    error_class = submission.last_error_class or "unknown"
    if batch is not None and error_class in LOOKED_AT:
        is_over = batch.ended_at is not None
        return Quarantined(
            submission.local_batch_id,
            (batch.wait_reason or error_class) if is_over else overdue_reason(batch),
            batch.late_rows if is_over else submission.item_count,
            submission.input_file_id,
            submission.provider_batch_id,
            is_late=True,
        )
    return Quarantined(
        submission.local_batch_id,
        REASONS.get(error_class, f"the provider can't answer ({error_class})"),
        submission.item_count,
        submission.input_file_id,
        submission.provider_batch_id,
    )


def chosen(found: Sequence[Quarantined], local_batch_id: str | None) -> Quarantined | None:
    """The named submission, or the only one."""
    if local_batch_id is None:
        return found[0] if len(found) == 1 else None
    return next((one for one in found if one.local_batch_id == local_batch_id), None)
