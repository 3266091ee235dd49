"""Looking for batches of a run that its store does not know.

A database that was restored from a backup has forgotten what was sent since, and would send, and pay, it again. And a
batch may show up that was looked for in vain. So before a process submits its first batch of a run that it did not create
itself, and once an hour after that, the provider's list is read for batches that carry the run's id:

- A batch of a submission that the store has forgotten is adopted: its rows are in its files, and their custom_ids tell
  whether they are the attempts that the store would send next. If they have yet to be read from the source, that comes
  first, and nothing is sent meanwhile.
- Any other is an orphan, its rows have gone into another batch: it is cancelled if it can be, counted and reported.
- If none of its files can be read any more, it can't be told which rows it has: a person decides before any are sent.

A run that has ended is looked after for another day if one of its submissions was given up without certainty.

Batches of a run with the same id in another store are not touched: names of submissions begin with a mark of the run
that differs from store to store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import assert_never

from batchor_core.core.custom_ids import parse
from batchor_core.core.enums import RunControlState, RunLifecycleStatus, SubmissionState
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.lifecycle import MAYBE_SENT, UNSENT
from batchor_core.core.models import RunSummary
from batchor_core.providers.api import BatchState, FoundBy, ResultFile
from batchor_core.runtime.batch_list import is_passing
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.engine import SWEEP_INTERVAL_SEC
from batchor_core.runtime.lookup import Named, Strangers, bare_id, custom_ids_in, strangers
from batchor_core.runtime.provider_errors import as_provider_error
from batchor_core.runtime.recover import cancel_stray, register_found
from batchor_core.runtime.request_file import write_requests
from batchor_core.runtime.submit import discard_files, local_batch_prefix
from batchor_core.storage.session import SubmissionRecord


class Swept(Enum):
    """What a sweep came to."""

    CLEAN = auto()
    """Every batch of the run is accounted for, as far as can be known."""
    ROWS_FIRST = auto()
    """There are batches of rows that have yet to be read from the source: read them, send nothing, and sweep again."""
    NOT_NOW = auto()
    """A submission in doubt keeps the rows of a batch, or a person has to decide: nothing may be sent before that."""


class _Fate(Enum):
    ADOPTED = auto()
    ORPHAN = auto()
    UNREADABLE = auto()
    ROWS_FIRST = auto()
    DOUBTS_FIRST = auto()


def sweep(drive: Drive) -> Swept:
    """Settle every batch of the run that the store does not hold.

    Raises:
        ProviderError: The list can't be read at the moment, and nothing may be sent until it can.
    """
    try:
        found = _strangers(drive)
    except Exception as raised:
        error = as_provider_error(raised)
        if is_passing(error) or not _has_no_list(drive, error):
            raise error from raised
        # a gateway without a list, or a key that may not read it: nothing can be learned here
        drive.sweeping.done()
        return Swept.CLEAN
    known = {
        submission.local_batch_id: submission
        for submission in drive.store.list_submissions(run_id=drive.run_id)
    }
    _free_rows(drive, known, {named.local_batch_id for named in found.batches})
    orphans: list[Named] = []
    unreadable: list[str] = []
    lacks_rows = is_in_doubt = False
    for named in found.batches:
        fate = _fate(drive, named, known)
        match fate:
            case _Fate.ADOPTED:
                pass
            case _Fate.ORPHAN:
                orphans.append(named)
            case _Fate.UNREADABLE:
                orphans.append(named)
                unreadable.append(named.batch.batch_id)
            case _Fate.ROWS_FIRST:
                lacks_rows = True
            case _Fate.DOUBTS_FIRST:
                is_in_doubt = True
            case _:
                assert_never(fate)
    before = drive.store.get_run_summary(run_id=drive.run_id)
    _report(drive, orphans)
    # said once: whoever resumes has decided
    if unreadable and len(orphans) > before.orphan_batches and _may_send(before):
        drive.pause(
            f"the provider has {', '.join(unreadable)} of this run, which this store does not know, and none of its files can "
            "be read, so that it can't be told which rows it has. resume() continues and may pay for them again; cancel() ends "
            "the run"
        )
        return Swept.NOT_NOW
    if found.undecided:
        raise ProviderError(
            f"{len(found.undecided)} batches are still running that may belong to this run, which only their results can show: "
            "nothing is sent until they have ended",
            error_class="batches_still_running",
        )
    if lacks_rows:
        return Swept.ROWS_FIRST
    if is_in_doubt:
        return Swept.NOT_NOW
    drive.sweeping.done()
    drive.session.record_sweep(next_check_at=drive.store.now() + SWEEP_INTERVAL_SEC)
    return Swept.CLEAN


def _has_no_list(drive: Drive, error: ProviderError) -> bool:
    """Whether an error may mean that there is no list to read. A refused key says nothing of the list, and where batches carry no
    tags the provider is known to have one."""
    is_key_refused = error.kind is ProviderErrorKind.CREDENTIALS and error.status_code == 401
    return drive.api.limits.found_by is FoundBy.TAGS and not is_key_refused


def _may_send(summary: RunSummary) -> bool:
    is_open = summary.status is RunLifecycleStatus.RUNNING
    return is_open and summary.control_state is RunControlState.RUNNING


def _free_rows(drive: Drive, known: Mapping[str, SubmissionRecord], listed: set[str]) -> None:
    """Release submissions that were never sent if other batches may have taken their rows under another name since."""
    for submission in known.values():
        if listed and submission.state in UNSENT and submission.local_batch_id not in listed:
            discard_files(drive, submission, submission.input_file_id)
            drive.session.drop(local_batch_id=submission.local_batch_id, error_class="driver_lost")
            drive.emit(
                "submission_dropped",
                local_batch_id=submission.local_batch_id,
                reason="never sent",
                count=submission.item_count,
            )


def _strangers(drive: Drive) -> Strangers:
    """Batches of the run that no submission of the store accounts for."""
    submissions = drive.store.list_submissions(run_id=drive.run_id)
    held = {
        submission.provider_batch_id
        for submission in submissions
        if submission.state is not SubmissionState.DROPPED
    }
    # a store that shows no submissions, or not all, must not make its own live batches seem nobody's
    held |= {batch.provider_batch_id for batch in drive.store.get_active_batches(run_id=drive.run_id)}
    # what is still being looked up is recover.py's business
    open_names = {submission.local_batch_id for submission in submissions if submission.state in MAYBE_SENT}
    created_at = drive.store.get_run_summary(run_id=drive.run_id).created_at
    return strangers(
        drive,
        prefix=local_batch_prefix(drive.run_id, created_at),
        since=created_at,
        accounted=lambda batch_id, name: batch_id in held or name in open_names,
    )


def _fate(drive: Drive, named: Named, known: Mapping[str, SubmissionRecord]) -> _Fate:
    batch = named.batch
    submission = known.get(named.local_batch_id)
    if submission is not None and submission.state in UNSENT:
        # it was sent after the moment to which the store went back
        drive.session.mark_uploaded(
            local_batch_id=submission.local_batch_id, input_file_id=batch.handle or ""
        )
        _register(drive, batch, submission)
        return _Fate.ADOPTED
    if submission is not None:  # given up, or the twin of one that is registered
        return _Fate.ORPHAN
    custom_ids = _custom_ids(drive, named)
    if not custom_ids:
        return _Fate.UNREADABLE
    attempts = [parse(custom_id) for custom_id in custom_ids]
    rows = sorted({attempt.item_index for attempt in attempts if attempt is not None})
    if None in attempts:
        return _Fate.ORPHAN
    checkpoint = drive.store.get_ingest_checkpoint(run_id=drive.run_id)
    if checkpoint and not checkpoint.ingestion_complete and rows[-1] >= checkpoint.next_item_index:
        return _Fate.ROWS_FIRST
    if _adopt(drive, named, rows, custom_ids):
        return _Fate.ADOPTED
    # the batch may be the second try of a submission whose first the restored store is still looking for
    in_doubt = any(
        other.state in (SubmissionState.SENDING, SubmissionState.UNKNOWN) for other in known.values()
    )
    return _Fate.DOUBTS_FIRST if in_doubt else _Fate.ORPHAN


def _adopt(drive: Drive, named: Named, rows: list[int], custom_ids: set[str]) -> bool:
    """Adopt the batch as the store's next submission, if it is that."""
    batch, local_batch_id = named.batch, named.local_batch_id
    submission = drive.session.claim(
        local_batch_id=local_batch_id,
        artifact_key=f"{drive.run_id}/requests/{local_batch_id}.jsonl",
        item_indexes=rows,
        max_attempts=drive.max_attempts,
        key_fingerprint=drive.api.key_fingerprint(),
        adopts=True,
    )
    if submission is None:
        return False  # the rows are in another batch, or have ended
    expected = {draft.custom_id for draft in drive.session.drafts(local_batch_id=local_batch_id)}
    if expected != custom_ids:
        drive.session.drop(local_batch_id=local_batch_id, error_class="other_attempts")
        return False
    write_requests(drive, submission)
    drive.session.mark_uploaded(local_batch_id=local_batch_id, input_file_id=batch.handle or "")
    _register(drive, batch, submission)
    return True


def _register(drive: Drive, batch: BatchState, submission: SubmissionRecord) -> None:
    drive.session.mark_sending(local_batch_id=submission.local_batch_id, ttl_sec=drive.settings.lease_ttl_sec)
    register_found(drive, submission, batch)


def _custom_ids(drive: Drive, named: Named) -> set[str]:
    """The rows of a batch, from its request file or, if that is gone, from its results.

    Raises:
        ProviderError: A file can't be read at the moment, so its rows are unknown.
    """
    batch = named.batch
    sources = [batch, replace(batch, results=(ResultFile(batch.handle),))] if batch.handle else [batch]
    for source in reversed(sources):
        try:
            found = set(custom_ids_in(drive, source))
        except Exception as raised:
            error = as_provider_error(raised)
            if is_passing(error):
                raise error from raised
            found = set()  # deleted, or not ours to read: the other files may do
        if found:
            return {bare_id(drive, custom_id) for custom_id in found}
    return set()


def _report(drive: Drive, orphans: list[Named]) -> None:
    """Count the batches that nobody waits for; report and cancel each once per process."""
    if not orphans:
        return
    # the list holds the run's whole life, so this is their number, however often they are found
    known = drive.store.get_run_summary(run_id=drive.run_id).orphan_batches
    drive.session.count_orphan_batches(max(known, len(orphans)))
    for named in orphans:
        batch = named.batch
        if batch.batch_id in drive.sweeping.orphans:
            continue
        drive.sweeping.orphans.add(batch.batch_id)
        drive.emit(
            "orphan_batch",
            provider_batch_id=batch.batch_id,
            status=batch.status,
            local_batch_id=named.local_batch_id,
        )
        cancel_stray(drive, batch)


# --- when to look ----------------------------------------------------------------------------------------------------

SWEEP_RETRY_SEC = 300.0

LATE_SEC = 26 * 3_600.0
"""How long a batch may turn up late: the completion window and some time to spare."""


def may_turn_up_late(submission: SubmissionRecord, *, now: float) -> bool:
    """Whether a submission was given up without certainty so recently that its batch may yet appear."""
    # mark_unknown sets next_check_at, so it tells who was in doubt from who was refused
    in_doubt = submission.state is SubmissionState.DROPPED and submission.next_check_at is not None
    return in_doubt and submission.sending_at is not None and now - submission.sending_at < LATE_SEC


def sweep_is_due(submissions: list[SubmissionRecord], *, now: float) -> bool:
    """Whether an hour has passed since the list was last read for a batch that may turn up late."""
    return any(
        may_turn_up_late(submission, now=now) and (submission.next_check_at or 0.0) <= now
        for submission in submissions
    )


def sweep_ended(drive: Drive) -> None:
    """Sweep a run that has ended; if that can't be done now, in a while."""
    try:
        sweep(drive)
    except ProviderError as error:
        drive.emit("batch_poll_retry", error_class=error.error_class, message=str(error))
        drive.session.record_sweep(next_check_at=drive.store.now() + SWEEP_RETRY_SEC)
