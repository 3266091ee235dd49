"""Asking after every batch in flight, and harvesting those that have ended.

Batches are asked and downloaded several at once and harvested one after the other. Trouble with one batch is kept with that
batch, with a backoff of its own: the others go on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.retry import (
    LATE_FILE_POLLS,
    LONGEST_POLL_WAIT_SEC,
    POLL_FAILURE_CEILING,
    is_due,
)
from batchor_core.core.types import BatchRemoteRecord
from batchor_core.runtime.engine import Drive, as_provider_error
from batchor_core.runtime.harvest import Download, download, harvest
from batchor_core.storage.state import ActiveBatchRecord

LOST_AFTER_SEC = 600.0
"""How long after its creation a batch may be unknown to the provider's own look-up."""


def poll(drive: Drive) -> None:
    """Ask after each batch that is due, and take in what has ended."""
    now, longest = drive.store.now(), _longest_wait(drive)
    # a batch that waits for a person's word is asked for once more where the run is cancelled and nobody will give it
    cancelling = drive.is_cancelling()
    due = [
        batch
        for batch in drive.store.get_active_batches(run_id=drive.run_id)
        if is_due(batch.next_poll_at, now, longest=longest) and (cancelling or not batch.quarantined)
    ]
    if not due:
        return
    with (
        tempfile.TemporaryDirectory(prefix="batchor-") as folder,
        ThreadPoolExecutor(drive.settings.parallel_transfers, thread_name_prefix="batchor-poll") as pool,
    ):
        ended = _ask(drive, due, pool)
        _take_in(drive, ended, pool, Path(folder))


def _ask(
    drive: Drive, due: Sequence[ActiveBatchRecord], pool: ThreadPoolExecutor
) -> list[tuple[ActiveBatchRecord, BatchRemoteRecord]]:
    """Keep each batch's status; returns those that have ended."""
    get_batch = drive.provider.get_batch
    asked = [(batch, pool.submit(get_batch, batch.provider_batch_id)) for batch in due]
    ended = []
    for batch, answer in asked:
        try:
            record = answer.result()
            status = str(record["status"]).lower()
        except Exception as error:
            _poll_failed(drive, batch, as_provider_error(error))
            continue
        known = _with_record(batch, record, status)
        drive.emit("batch_polled", provider_batch_id=batch.provider_batch_id, status=known.status)
        if is_terminal_batch(known.status):
            # stored with the last of the batch's results, not before; until then its failures go on counting
            ended.append((known, record))
        elif known != batch or batch.poll_failures:
            drive.session.update_batch(
                provider_batch_id=batch.provider_batch_id,
                status=known.status,
                output_file_id=known.output_file_id,
                error_file_id=known.error_file_id,
            )
    return ended


def _with_record(batch: ActiveBatchRecord, record: BatchRemoteRecord, status: str) -> ActiveBatchRecord:
    """The batch as it is now known. File ids may be absent, null or empty; a terminal status is never taken back."""
    return replace(
        batch,
        status=batch.status if is_terminal_batch(batch.status) else status,
        output_file_id=record.get("output_file_id") or batch.output_file_id,
        error_file_id=record.get("error_file_id") or batch.error_file_id,
    )


def _take_in(
    drive: Drive,
    ended: list[tuple[ActiveBatchRecord, BatchRemoteRecord]],
    pool: ThreadPoolExecutor,
    folder: Path,
) -> None:
    waiting: list[tuple[ActiveBatchRecord, BatchRemoteRecord, Future[Download]]] = []
    queue = list(ended)
    while queue or waiting:
        # a few ahead of the harvest, so that neither the network nor the disk fills up with files that wait
        while queue and len(waiting) < drive.settings.parallel_transfers:
            batch, record = queue.pop(0)
            waiting.append((batch, record, pool.submit(download, drive, batch, folder)))
        batch, record, fetched = waiting.pop(0)
        try:
            files = fetched.result()
        except Exception as error:
            _poll_failed(drive, batch, as_provider_error(error))
            continue
        if batch.status == "completed" and not files.files and batch.poll_failures < LATE_FILE_POLLS:
            _poll_failed(
                drive,
                batch,
                ProviderError("completed, but its files are not there yet", error_class="late_files"),
            )
            continue
        try:
            harvest(drive, batch, record, files)
        except ProviderError as error:
            _poll_failed(drive, batch, error)
        if not drive.in_time():
            queue.clear()


def _longest_wait(drive: Drive) -> float:
    return max(drive.config.retry_policy.max_backoff_sec, LONGEST_POLL_WAIT_SEC)


def _poll_failed(drive: Drive, batch: ActiveBatchRecord, error: ProviderError) -> None:
    asked = min(error.retry_after or 0.0, LONGEST_POLL_WAIT_SEC)
    wait = max(drive.delay_after(batch.poll_failures + 1), asked)
    failures = drive.session.record_poll_failure(
        provider_batch_id=batch.provider_batch_id, next_poll_at=drive.store.now() + wait
    )
    drive.emit(
        "batch_poll_retry",
        provider_batch_id=batch.provider_batch_id,
        error_class=error.error_class,
        message=str(error),
        consecutive_failures=failures,
        retry_in_sec=wait,
    )
    if error.kind is ProviderErrorKind.NOT_FOUND and drive.is_running() and _is_lost(drive, batch):
        return
    needs_a_person = error.kind.blocks_the_account
    # a network that is down says nothing about the batch, however long it takes; answers do
    hopeless = error.status_code is not None and failures >= POLL_FAILURE_CEILING
    if drive.is_running():
        if needs_a_person or hopeless:
            drive.pause(f"batch {batch.provider_batch_id} can't be polled: {error.error_class}: {error}")
    elif hopeless and drive.is_cancelling():
        # there is nobody to wait for: what it might have brought is given up
        given_up: BatchRemoteRecord = {"id": batch.provider_batch_id, "status": "cancelled"}
        harvest(drive, replace(batch, status="cancelled"), given_up, Download([]))


def _is_lost(drive: Drive, batch: ActiveBatchRecord) -> bool:
    """Let a person decide about a batch that the provider does not know; False if it may yet be found, or nobody can.

    Its rows are never simply sent again: the batch may be running, and a list or a gateway that has lost it shows nothing.
    """
    if drive.store.now() - batch.created_at < LOST_AFTER_SEC:
        return False
    intents = {intent.local_batch_id: intent for intent in drive.store.list_intents(run_id=drive.run_id)}
    intent = intents.get(batch.local_batch_id)
    if intent is None:
        return False  # a store without intents has nobody to ask: the ceiling pauses the run
    if intent.key_fingerprint != drive.hooks.key_fingerprint():
        drive.pause(
            f"batch {batch.provider_batch_id} is not found, and was made with another API key: resume with that key"
        )
        return True
    drive.session.quarantine(local_batch_id=batch.local_batch_id, error_class="batch_not_found")
    drive.emit(
        "submission_quarantined",
        local_batch_id=batch.local_batch_id,
        provider_batch_id=batch.provider_batch_id,
        error_class="batch_not_found",
    )
    return True
