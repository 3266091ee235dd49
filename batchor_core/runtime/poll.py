"""Asking after every batch in flight, and collecting those that have ended.

Batches are asked and downloaded several at once and collected one after the other. Trouble with one batch is kept with that
batch, with a backoff of its own: the others go on. What is late is looked at less and less often; see late_results.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.lateness import is_looked_at
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.retry import LONGEST_POLL_WAIT_SEC, POLL_FAILURE_CEILING, is_due
from batchor_core.core.trouble import dated
from batchor_core.providers.api import BatchState, is_own_account
from batchor_core.runtime.collect import collect, give_up
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.event_log import log
from batchor_core.runtime.files import Download, download
from batchor_core.runtime.late_results import due_at, judge_overdue, most_stated, say_overdue
from batchor_core.runtime.provider_errors import ProviderCodeError, advice, as_provider_error
from batchor_core.storage.records import ActiveBatchRecord

LOST_AFTER_SEC = 600.0
"""How long after its creation a batch may be unknown to the provider's own look-up."""


def poll(drive: Drive) -> None:
    """Ask after each batch that is due, and take in what has ended."""
    now, longest = drive.store.now(), _longest_wait(drive)
    known = drive.session.remembered(drive.store.get_active_batches(run_id=drive.run_id))
    due = [batch for batch in known if is_due(batch.next_poll_at, now, longest=longest)]
    if any(batch.quarantine_cause is not None for batch in due):
        cancelling = drive.is_cancelling()
        due = [
            batch
            for batch in due
            if is_looked_at(quarantine_cause=batch.quarantine_cause, is_cancelling=cancelling)
        ]
    if due:
        look_at(drive, due)


def look_at(drive: Drive, due: Sequence[ActiveBatchRecord], *, gives_up: bool = True) -> None:
    """Ask after these batches, whether they are due or not, and take in what has ended; ``gives_up``: see :func:`collect`."""
    with ThreadPoolExecutor(drive.settings.parallel_transfers, thread_name_prefix="batchor-poll") as pool:
        ended = _ask(drive, due, pool)
        if ended:
            with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
                _take_in(drive, ended, pool, Path(folder), gives_up=gives_up)


def _ask(
    drive: Drive, due: Sequence[ActiveBatchRecord], pool: ThreadPoolExecutor
) -> list[tuple[ActiveBatchRecord, BatchState]]:
    """Poll the batches and store their states; returns those that have ended."""
    asked = [(batch, pool.submit(drive.api.poll, batch.provider_batch_id)) for batch in due]
    ended = []
    for batch, answer in asked:
        try:
            state = answer.result()
        except Exception as error:
            _poll_failed(drive, batch, as_provider_error(error))
            continue
        known = _with_state(batch, state)
        drive.emit("batch_polled", provider_batch_id=batch.provider_batch_id, status=known.status)
        if is_terminal_batch(known.status):
            # stored with the last of the batch's results, not before; until then its failures go on counting
            ended.append((known, state))
        else:
            _goes_on(drive, batch, replace(known, due_at=due_at(drive, batch, state)))
    return ended


def _goes_on(drive: Drive, before: ActiveBatchRecord, batch: ActiveBatchRecord) -> None:
    """Store the state of a batch that has not ended, and report it if it is overdue."""
    overdue = judge_overdue(drive, batch)
    if overdue is None and batch == before and not before.poll_failures:
        return
    if before.poll_failures:
        log.info("run %s: batch %s can be polled again", drive.run_id, batch.provider_batch_id)
    drive.session.update_batch(
        provider_batch_id=batch.provider_batch_id,
        status=batch.status,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        due_at=batch.due_at,
        next_poll_at=0.0 if overdue is None else drive.store.now() + overdue.look_in_sec,
        stated_completed=batch.stated_completed,
    )
    if overdue is not None:
        say_overdue(drive, batch, overdue)


def _with_state(batch: ActiveBatchRecord, state: BatchState) -> ActiveBatchRecord:
    """The batch with its new state. A file may not be there yet; a terminal status never changes back."""
    refs = {file.is_error_file: file.ref for file in state.results}
    return replace(
        batch,
        status=batch.status if is_terminal_batch(batch.status) else state.status,
        output_file_id=refs.get(False) or batch.output_file_id,
        error_file_id=refs.get(True) or batch.error_file_id,
        stated_completed=most_stated(batch, state.counts).completed or None,
    )


def _take_in(
    drive: Drive,
    ended: list[tuple[ActiveBatchRecord, BatchState]],
    pool: ThreadPoolExecutor,
    folder: Path,
    *,
    gives_up: bool,
) -> None:
    waiting: list[tuple[ActiveBatchRecord, BatchState, Future[Download]]] = []
    queue = list(ended)
    while queue or waiting:
        # a few ahead of the collect, so that neither the network nor the disk fills up with files that wait
        while queue and len(waiting) < drive.settings.parallel_transfers:
            batch, state = queue.pop(0)
            waiting.append((batch, state, pool.submit(download, drive, batch, folder)))
        batch, state, fetched = waiting.pop(0)
        try:
            files = fetched.result()
        except Exception as error:
            _poll_failed(drive, batch, as_provider_error(error))
            continue
        try:
            collect(drive, batch, state, files, gives_up=gives_up)
        except ProviderError as error:
            _poll_failed(drive, batch, error)
        if not drive.in_time():
            queue.clear()


def _longest_wait(drive: Drive) -> float:
    return max(drive.config.retry_policy.max_backoff_sec, LONGEST_POLL_WAIT_SEC)


def _poll_failed(drive: Drive, batch: ActiveBatchRecord, error: ProviderError) -> None:
    asked = min(error.retry_after or 0.0, LONGEST_POLL_WAIT_SEC)
    wait, now = max(drive.delay_after(batch.poll_failures + 1), asked), drive.store.now()
    failures = drive.session.record_poll_failure(
        provider_batch_id=batch.provider_batch_id,
        next_poll_at=now + wait,
        error=dated(
            f"{error.error_class}: {error}",
            before=batch.poll_error if batch.poll_failures else None,
            now=now,
        ),
        stated_completed=batch.stated_completed,
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
        if isinstance(error, ProviderCodeError):
            drive.pause(f"batch {batch.provider_batch_id} can't be read: {advice(error)}")
        elif needs_a_person or hopeless:
            drive.pause(f"batch {batch.provider_batch_id} can't be polled: {error.error_class}: {error}")
    elif hopeless and drive.is_cancelling():
        # nothing is bought any more: what it might have brought is given up
        give_up(drive, replace(batch, status="cancelled"))


def _is_lost(drive: Drive, batch: ActiveBatchRecord) -> bool:
    """Ask a person about a batch that the provider does not know; False if it may still be found, or nobody can be asked.

    Its rows are never simply sent again: the batch may be running although a list or a gateway no longer shows it.
    """
    if drive.store.now() - batch.created_at < LOST_AFTER_SEC:
        return False
    submissions = {
        submission.local_batch_id: submission
        for submission in drive.store.list_submissions(run_id=drive.run_id)
    }
    submission = submissions.get(batch.local_batch_id)
    if submission is None:
        return False  # a store without submissions has nobody to ask: the ceiling pauses the run
    if not is_own_account(drive.api, submission.key_fingerprint):
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
