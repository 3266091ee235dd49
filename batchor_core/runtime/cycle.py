"""One cycle of driving a run: recover, poll, follow, ingest, submit."""

from __future__ import annotations

from contextlib import suppress
from typing import assert_never

from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.core.exceptions import ProviderError
from batchor_core.core.lifecycle import CLAIMABLE
from batchor_core.runtime.cancel import cancel
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.forgotten_batches import Swept, sweep, sweep_is_due
from batchor_core.runtime.ingest import Ingestion, Reader
from batchor_core.runtime.poll import poll
from batchor_core.runtime.provider_errors import ProviderCodeError, advice
from batchor_core.runtime.recover import give_back_unsent, recover
from batchor_core.runtime.reuse import follow
from batchor_core.runtime.submit import submit


def run_cycle(drive: Drive, reader: Reader | None) -> None:
    """Bring the run as far forward as it goes without waiting.

    ``reader`` is given while there is something to read; ingestion and submission take turns, so that the first batch
    leaves while the rest is still read. Pausing and cancelling are noticed between any two steps.
    """
    control_state = drive.store.get_run_control_state(run_id=drive.run_id)
    match control_state:
        case RunControlState.PAUSED:
            return
        case RunControlState.CANCEL_REQUESTED:
            due = _sweep_is_due(drive, reader)
            recover(drive, keep_unsent=due)
            poll(drive)
            follow(drive)
            if due:
                # a forgotten batch has to be cancelled too; a list that can't be read holds up nothing here
                with suppress(ProviderError):
                    sweep(drive)
                give_back_unsent(drive)
            cancel(drive)
        case RunControlState.RUNNING:
            due = _sweep_is_due(drive, reader)
            recover(drive, keep_unsent=due)
            poll(drive)
            follow(drive)
            if due:
                if not _swept(drive, reader):
                    return
                give_back_unsent(drive)
            if reader is not None and not _is_read(drive) and not _ingest(drive, reader):
                return
            submit(drive, more_to_come=False)
        case _:
            assert_never(control_state)


def _sweep_is_due(drive: Drive, reader: Reader | None) -> bool:
    """Whether the provider's batches of this run must be checked before more of it is sent."""
    if not drive.store.supports_leases:
        return False  # it keeps no submissions either: to it, each of its own batches would be a stranger
    if drive.sweeping.is_due(to_submit=lambda: reader is not None or _has_unsent_rows(drive)):
        return True
    return sweep_is_due(drive.store.list_submissions(run_id=drive.run_id), now=drive.store.now())


def _has_unsent_rows(drive: Drive) -> bool:
    counts = drive.store.get_run_summary(run_id=drive.run_id).status_counts
    return any(counts[status] for status in (*CLAIMABLE, ItemStatus.QUEUED_LOCAL))


def _swept(drive: Drive, reader: Reader | None) -> bool:
    """Whether every batch of the run is accounted for, so that more of it may be sent."""
    try:
        found = sweep(drive)
        if found is Swept.ROWS_FIRST:
            if reader is None:
                drive.pause(
                    "the provider has batches of rows that this store has yet to read: call start() with the run's source"
                )
            elif _ingest(drive, reader, send=False):
                found = sweep(drive)
    except ProviderCodeError as error:
        drive.pause(advice(error))
        return False
    except ProviderError as error:
        # a server that answers with errors only, for as long as it takes, needs a person; a network that is down does not
        drive.hold_back(
            error.error_class,
            str(error),
            retry_after=error.retry_after,
            has_ceiling=error.status_code is not None,
        )
        return False
    return found is Swept.CLEAN


def _is_read(drive: Drive) -> bool:
    checkpoint = drive.store.get_ingest_checkpoint(run_id=drive.run_id)
    return checkpoint is not None and checkpoint.ingestion_complete


def _ingest(drive: Drive, reader: Reader, *, send: bool = True) -> bool:
    """Continue reading and submit whenever a batch is full; True once everything has been read."""
    ingestion = Ingestion(drive, reader)
    more = True
    while more and drive.may_go_on():
        more = ingestion.step()
        if send and more and ingestion.fills_a_batch():
            submit(drive, more_to_come=True)
            ingestion.intake.clear()
    return not more
