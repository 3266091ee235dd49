"""Ending a run that the operator has cancelled.

What is paid for is kept: remote batches are asked to stop, and what they still bring is collected. Items that are not
in a batch, or may not be, end as ``run_cancelled``; items of a submission of unknown outcome wait until it is settled,
or a paid batch would be orphaned.
"""

from __future__ import annotations

from dataclasses import replace

from batchor_core.core.lateness import CANCEL_SEC
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.models import ItemFailure
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.provider_errors import as_provider_error
from batchor_core.storage.records import ActiveBatchRecord

CANCELLED = ItemFailure(
    "run_cancelled", "the run was cancelled before this item was answered", retryable=False
)


def cancel(drive: Drive) -> None:
    """One step towards the end: stop reading, stop the batches, end the items that nothing holds any more."""
    _stop_reading(drive)
    _cancel_batches(drive)
    ended = drive.session.cancel_remaining(error=CANCELLED)
    if ended:
        drive.emit("items_failed", count=ended, error_class=CANCELLED.error_class)


def _stop_reading(drive: Drive) -> None:
    checkpoint = drive.store.get_ingest_checkpoint(run_id=drive.run_id)
    if checkpoint is not None and not checkpoint.ingestion_complete:
        drive.session.append(
            [],
            next_item_index=checkpoint.next_item_index,
            checkpoint_payload=checkpoint.checkpoint_payload,
            ingestion_complete=True,
        )


def _cancel_batches(drive: Drive) -> None:
    if not drive.api.limits.can_cancel:
        return  # they end by themselves
    for stored in drive.session.remembered(drive.store.get_active_batches(run_id=drive.run_id)):
        batch = _due_soon(drive, stored)
        if is_terminal_batch(batch.status) or batch.status == "cancelling":
            continue
        try:
            state = drive.api.cancel(batch.provider_batch_id)
        except Exception as raised:  # tried again in the next cycle, until the batch ends one way or another
            error = as_provider_error(raised)
            drive.emit(
                "batch_poll_retry",
                provider_batch_id=batch.provider_batch_id,
                error_class=error.error_class,
                message=str(error),
            )
            continue
        if not state.has_ended:
            # a batch that is over already is left to the next poll, which collects it
            drive.session.update_batch(
                provider_batch_id=batch.provider_batch_id,
                status=state.status,
                output_file_id=None,
                error_file_id=None,
                next_poll_at=batch.next_poll_at,
            )


def _due_soon(drive: Drive, batch: ActiveBatchRecord) -> ActiveBatchRecord:
    """The batch with an earlier due time: after a cancellation it should end soon, not only when it expires."""
    due_at = drive.store.now() + CANCEL_SEC
    if is_terminal_batch(batch.status) or (batch.due_at is not None and batch.due_at <= due_at):
        return batch
    drive.session.update_batch(
        provider_batch_id=batch.provider_batch_id,
        status=batch.status,
        output_file_id=None,
        error_file_id=None,
        due_at=due_at,
        next_poll_at=batch.next_poll_at,
    )
    return replace(batch, due_at=due_at)
