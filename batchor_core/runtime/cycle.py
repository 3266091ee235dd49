"""One cycle of driving a run: recover, poll, ingest, submit."""

from __future__ import annotations

from batchor_core.core.enums import RunControlState
from batchor_core.core.lifecycle import CLAIMABLE
from batchor_core.runtime.cancel import cancel
from batchor_core.runtime.engine import Drive
from batchor_core.runtime.ingest import Ingestion, Reader
from batchor_core.runtime.poll import poll
from batchor_core.runtime.recover import recover
from batchor_core.runtime.submit import submit
from batchor_core.runtime.sweep import sweep


def run_cycle(drive: Drive, reader: Reader | None) -> None:
    """Bring the run as far forward as it goes without waiting.

    ``reader`` is given while there is something to read; ingestion and submission take turns, so that the first batch
    leaves while the rest is still read. Pausing and cancelling are noticed between any two steps.
    """
    match drive.store.get_run_control_state(run_id=drive.run_id):
        case RunControlState.PAUSED:
            return
        case RunControlState.CANCEL_REQUESTED:
            recover(drive)
            poll(drive)
            cancel(drive)
        case RunControlState.RUNNING:
            recover(drive)
            poll(drive)
            if not _swept(drive, reader):
                return
            if reader is not None and not _ingest(drive, reader):
                return
            if drive.may_go_on():
                submit(drive, more_to_come=False)


def _swept(drive: Drive, reader: Reader | None) -> bool:
    """Whether what the provider has of this run is known well enough to submit more of it."""
    counts = drive.store.get_run_summary(run_id=drive.run_id).status_counts
    to_submit = reader is not None or any(counts[status] for status in CLAIMABLE)
    return not drive.sweeping.is_due(to_submit=to_submit) or sweep(drive)


def _ingest(drive: Drive, reader: Reader) -> bool:
    """Read on, submitting whenever a batch is full; True once everything has been read."""
    ingestion = Ingestion(drive, reader)
    more = True
    while more and drive.may_go_on():
        more = ingestion.step()
        if more and ingestion.fills_a_batch():
            submit(drive, more_to_come=True)
            ingestion.intake.clear()
    return not more
