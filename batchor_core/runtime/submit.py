"""Sending planned batches: pay at most once, without an idempotency key.

The life of one submission::

    CLAIMED ──file written, uploaded──> UPLOADED ──> SENDING ──POST /batches, once──> REGISTERED
                                                        │
                                     certainly not ─────┼──> DROPPED   items go back, the file is deleted
                                     no usable answer ──┴──> UNKNOWN   recover.py looks it up; nothing of it is sent again

Each arrow is one transaction. The order is the promise: no POST without a durable SENDING row, and never a second POST for
one submission. The one exception is a POST that was certainly refused because the input file was not there or not processed yet:
the submission goes back to UPLOADED with a time, and the same file is tried again then. What a crash leaves behind is settled by
recover.py at the start of the next cycle.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import TypeAlias

from batchor_core.core.admission import Admission, Granted, Wait, admit, may_send, must_keep, still_waiting
from batchor_core.core.batching import PlannedBatch, of_one_model
from batchor_core.core.caps import Reservation
from batchor_core.core.exceptions import (
    FILE_NOT_READY,
    MissingCredentialsError,
    ProviderError,
    ProviderErrorKind,
)
from batchor_core.core.lifecycle import status_to_register
from batchor_core.core.models import ItemFailure
from batchor_core.core.queue_limits import with_room_for
from batchor_core.core.retry import FILE_PATIENCE_SEC, file_wait, is_due
from batchor_core.runtime.capping import Caps
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.lease import spare_seconds, uptime
from batchor_core.runtime.lookup import TAG, server_skew
from batchor_core.runtime.provider_errors import ProviderCodeError, advice, as_provider_error
from batchor_core.runtime.request_file import write_requests
from batchor_core.runtime.reuse import reuse_terms
from batchor_core.storage.session import Candidate, SubmissionRecord

_Claim: TypeAlias = Callable[..., SubmissionRecord | None]


def submit(drive: Drive, *, more_to_come: bool) -> None:
    """Send what can be sent now. With ``more_to_come``, a batch that is not full yet waits for more rows."""
    window, caps = 2 * drive.config.chunk_policy.max_requests, Caps(drive)
    with ThreadPoolExecutor(drive.settings.parallel_transfers, thread_name_prefix="batchor-upload") as pool:
        while (
            drive.may_go_on() and drive.store.get_batch_retry_backoff_remaining_sec(run_id=drive.run_id) <= 0
        ):
            if not _send_postponed(drive):
                return
            granted = drive.granted()
            if not may_send(granted):  # nothing has become free: no look at the rows, and no files
                _keep_place(drive, granted, still_waiting(granted))
                return
            candidates = drive.session.candidates(max_attempts=drive.max_attempts, limit=window)
            if not candidates:
                return
            is_full = len(candidates) == window
            sent_all = False
            for group in of_one_model(candidates):
                if group[0] is not candidates[0]:
                    granted = drive.granted()
                    if not drive.may_go_on() or not may_send(granted):
                        break
                sent = _send_group(drive, group, granted, caps, pool, more_to_come=more_to_come or is_full)
                if sent is Sent.NOT_ALL:
                    return
                sent_all = sent_all or sent is Sent.ALL
            if not sent_all or not is_full:
                return


class Sent(Enum):
    """What became of the waiting rows of one model."""

    ALL = auto()
    """All that fill batches were sent."""
    WAITING = auto()
    """The rest waits: for more rows, for room, or for a person."""
    NOT_ALL = auto()
    """There was trouble; nothing else should be sent in this cycle."""


def _send_group(
    drive: Drive,
    candidates: Sequence[Candidate],
    granted: list[Granted],
    caps: Caps,
    pool: ThreadPoolExecutor,
    *,
    more_to_come: bool,
) -> Sent:
    """Send what can be sent now of rows of one model."""
    capped = caps.admitted(candidates)
    if not capped:
        return Sent.WAITING
    granted = with_room_for(granted, max(item.submission_tokens for item in capped))
    is_cut = len(capped) < len(candidates)
    admission = admit(capped, drive.batch_size(), granted, more_to_come=not is_cut and more_to_come)
    _fail_oversized(drive, admission)
    sent_all = _send(drive, admission.batches, pool, partial(_claim, drive, caps.reservation, granted))
    if admission.wait is not None and (sent_all or not admission.batches):
        _keep_place(drive, drive.granted() if admission.batches else granted, admission.wait)
        return Sent.WAITING
    if sent_all:
        return Sent.ALL
    return Sent.NOT_ALL if admission.batches else Sent.WAITING


def _keep_place(drive: Drive, granted: Sequence[Granted], wait: Wait | None) -> None:
    """Stay in the queue. The store is written from time to time, not on each check."""
    for allowance, standing in granted:
        if wait is not None and must_keep(wait, standing):
            drive.session.keep_place(allowance, wait)


def _fail_oversized(drive: Drive, plan: Admission) -> None:
    if not plan.oversized:
        return
    drive.session.fail_unsubmitted(
        [
            (row.item_index, ItemFailure(row.error_class, row.message, retryable=False))
            for row in plan.oversized
        ]
    )
    drive.emit("items_failed", count=len(plan.oversized), error_class=plan.oversized[0].error_class)


@dataclass(frozen=True, slots=True)
class _Uploading:
    submission: SubmissionRecord
    handle: Future[str | None]


def _send(drive: Drive, batches: list[PlannedBatch], pool: ThreadPoolExecutor, claim: _Claim) -> bool:
    """Claim, write and upload several batches at once, and create them in order; True when all of them were sent."""
    uploading: deque[_Uploading] = deque()
    claimed, going = 0, True
    for batch in batches:
        if len(uploading) >= drive.settings.parallel_transfers:
            going = _create(drive, uploading.popleft())
        is_last = batch is batches[-1]
        may_claim = going and drive.may_go_on()
        submission = claim(batch, leaves_queue=is_last) if may_claim else None
        if submission is None:
            break
        claimed += 1
        uploading.append(
            _Uploading(submission, pool.submit(_upload, drive, write_requests(drive, submission)))
        )
    for upload in uploading:
        going = going and drive.is_running()
        if going:
            going = _create(drive, upload)
        else:
            # another batch met trouble, or the operator stopped the run; this one has cost nothing yet
            _give_back(drive, upload.submission, _handle_or_none(upload), error_class="not_sent")
    return going and 0 < claimed == len(batches)


def local_batch_prefix(run_id: str, created_at: float) -> str:
    """How the names of a run's submissions begin: alike after a restored backup, different in another store."""
    mark = hashlib.blake2b(f"{run_id}\0{created_at!r}".encode(), digest_size=4).hexdigest()
    return f"batch-{mark}-"


def _claim(
    drive: Drive,
    reservation: Reservation | None,
    granted: Sequence[Granted],
    batch: PlannedBatch,
    *,
    leaves_queue: bool,
) -> SubmissionRecord | None:
    created_at = drive.store.get_run_summary(run_id=drive.run_id).created_at
    local_batch_id = local_batch_prefix(drive.run_id, created_at) + uuid.uuid4().hex
    submission = drive.session.claim(
        local_batch_id=local_batch_id,
        artifact_key=f"{drive.run_id}/requests/{local_batch_id}.jsonl",
        item_indexes=batch.item_indexes,
        max_attempts=drive.max_attempts,
        allowances=[one.allowance for one in granted],
        leaves_queue=leaves_queue,
        key_fingerprint=drive.api.key_fingerprint(),
        reservation=reservation,
        reuse=reuse_terms(drive),
    )
    if submission is not None:
        drive.emit(
            "items_claimed_for_submission",
            local_batch_id=local_batch_id,
            count=submission.item_count,
            tokens=submission.submission_tokens,
        )
    return submission


def _upload(drive: Drive, key: str) -> str | None:
    with drive.artifacts.stage_local_copy(key) as path:
        return drive.api.prepare(path)


def _create(drive: Drive, upload: _Uploading) -> bool:
    """Create the batch, once. False if no more should be created in this cycle."""
    submission = upload.submission
    try:
        handle = upload.handle.result()
    except Exception as raised:  # whatever it is, an upload costs nothing
        return _not_created(drive, submission, None, as_provider_error(raised))
    drive.session.mark_uploaded(
        local_batch_id=submission.local_batch_id,
        input_file_id=handle or "",
        server_date_skew=server_skew(drive),
    )
    return _post(drive, submission, handle)


def _post(drive: Drive, submission: SubmissionRecord, handle: str | None) -> bool:
    """Send the one request that pays, for a submission whose requests are ready."""
    leased_at = uptime()
    drive.session.mark_sending(local_batch_id=submission.local_batch_id, ttl_sec=drive.settings.lease_ttl_sec)
    if not _lease_outlasts_a_request(drive, leased_at):
        return _not_created(drive, submission, handle, _TOO_SLOW)
    try:
        with _request_file(drive, submission, handle) as path:
            state = drive.api.create(path, handle=handle, tags=_tags(drive, submission))
    except (
        MissingCredentialsError
    ):  # without an upload the create is the first to need the key, and nothing was sent
        _give_back(drive, submission, handle, error_class="credentials")
        raise
    except Exception as raised:  # whatever it is, the question is only whether the batch may exist
        error = as_provider_error(raised)
        if not error.not_performed:
            return _unknown(drive, submission, error)
        if error.kind is ProviderErrorKind.NOT_READY:
            return _file_not_ready(drive, submission, handle, error)
        return _not_created(drive, submission, handle, error)
    drive.session.register(
        local_batch_id=submission.local_batch_id,
        provider_batch_id=state.batch_id,
        status=status_to_register(state.status),
    )
    drive.emit(
        "batch_submitted",
        local_batch_id=submission.local_batch_id,
        provider_batch_id=state.batch_id,
        count=submission.item_count,
        tokens=submission.submission_tokens,
    )
    return True


_TOO_SLOW = ProviderError(
    "not sent: the store took so long that the lease might have ended before the response",
    error_class="lease_too_short",
    not_performed=True,
)


def _lease_outlasts_a_request(drive: Drive, leased_at: float) -> bool:
    """Whether a request sent now ends before another driver may take the run.

    Since the lease was taken, the machine may have slept or the database may have been slow. The lease is then renewed, which
    also shows whether it is still ours.
    """
    ttl_sec = drive.settings.lease_ttl_sec
    spare = spare_seconds(ttl_sec, drive.config.provider_config)
    if uptime() - leased_at <= spare:
        return True
    leased_at = uptime()
    drive.session.renew(ttl_sec=ttl_sec)
    return uptime() - leased_at <= spare


@contextmanager
def _request_file(drive: Drive, submission: SubmissionRecord, handle: str | None) -> Iterator[Path | None]:
    """The request file, for a provider that takes requests inline; None if it has been uploaded."""
    if handle is not None:
        yield None
        return
    assert submission.artifact_key is not None
    with drive.artifacts.stage_local_copy(submission.artifact_key) as path:
        yield path


def _tags(drive: Drive, submission: SubmissionRecord) -> dict[str, str] | None:
    """The user's pairs and ours, by which the engine, or a person in the console, can find the batch."""
    if not drive.api.limits.max_tags:
        return None
    return drive.config.batch_metadata | {
        "batchor_run_id": drive.run_id,
        TAG: submission.local_batch_id,
        "batchor_attempt": str(submission.fencing_token),
    }


def _send_postponed(drive: Drive) -> bool:
    """Retry the submissions whose files were not ready; False while any is left, or if nothing more should be sent."""
    ready = True
    for submission in drive.session.open_submissions():
        if not submission.is_postponed:
            continue
        handle, now = submission.input_file_id or None, drive.store.now()
        if not is_due(submission.next_check_at or 0.0, now, longest=FILE_PATIENCE_SEC):
            ready = False
        elif not drive.may_go_on():
            return False
        else:
            error = _file_trouble(drive, handle)
            if error is not None:
                going = _file_not_ready(drive, submission, handle, error)
            else:
                going = _post(drive, submission, handle)
            if not going:
                return False
            still_open = {one.local_batch_id for one in drive.session.open_submissions()}
            ready = ready and submission.local_batch_id not in still_open
    return ready


def _file_trouble(drive: Drive, handle: str | None) -> ProviderError | None:
    """Why no batch can be made of a file yet, if the provider can say."""
    if handle is None:
        return None
    try:
        is_ready = drive.api.is_ready(handle)
    except Exception as raised:  # a look costs nothing
        return as_provider_error(raised)
    if is_ready is False:
        return ProviderError(
            f"file {handle} has not been processed yet",
            kind=ProviderErrorKind.NOT_READY,
            error_class=FILE_NOT_READY,
            not_performed=True,
        )
    return None


def _file_not_ready(
    drive: Drive, submission: SubmissionRecord, handle: str | None, error: ProviderError
) -> bool:
    """Postpone a submission until its file is ready, which usually takes moments; after a while, ask a person.

    No batch was created, for certain. The file stays, since a new one would not be ready any sooner.
    """
    now = drive.store.now()
    age = max(
        0.0, now - (submission.created_at if submission.uploaded_at is None else submission.uploaded_at)
    )
    passes = error.kind in (ProviderErrorKind.NOT_READY, ProviderErrorKind.RETRY, ProviderErrorKind.CAPACITY)
    if not passes:
        return _not_created(drive, submission, handle, error)
    if error.kind is ProviderErrorKind.NOT_READY and age >= FILE_PATIENCE_SEC:
        _give_back(drive, submission, handle, error_class=error.error_class)
        drive.pause(
            f"{error.error_class}: {age / 60:.0f} minutes after its upload the provider still makes no batch of input file "
            f"{handle}: {error}. Check that the key's project may read uploaded files and that the provider processes "
            "batch files; resume() uploads the rows again"
        )
        return False
    wait = file_wait(age, retry_after=error.retry_after or 0.0)
    drive.session.postpone(
        local_batch_id=submission.local_batch_id, error_class=error.error_class, next_check_at=now + wait
    )
    drive.emit(
        "submission_postponed",
        local_batch_id=submission.local_batch_id,
        error_class=error.error_class,
        message=str(error),
        retry_in_sec=wait,
    )
    return True


def _not_created(
    drive: Drive, submission: SubmissionRecord, handle: str | None, error: ProviderError
) -> bool:
    drive.queue_was(submission.local_batch_id, error_class=error.error_class)
    _give_back(drive, submission, handle, error_class=error.error_class)
    drive.control_plane_failed(error)
    return False


def _unknown(drive: Drive, submission: SubmissionRecord, error: ProviderError) -> bool:
    now = drive.store.now()
    drive.session.mark_unknown(
        local_batch_id=submission.local_batch_id, error_class=error.error_class, next_check_at=now
    )
    drive.emit(
        "submission_unknown",
        local_batch_id=submission.local_batch_id,
        error_class=error.error_class,
        message=str(error),
        since=now,
        next_check_at=now,
    )
    # the provider is in trouble: nothing else is sent before the backoff is over
    drive.hold_back(error.error_class, str(error), retry_after=error.retry_after, has_ceiling=False)
    if isinstance(error, ProviderCodeError):
        drive.pause(f"{advice(error)}; the engine then looks up whether a batch was created")
    elif error.kind.blocks_the_account:
        drive.pause(f"{error.error_class}: {error}")
    return False


def _give_back(drive: Drive, submission: SubmissionRecord, handle: str | None, *, error_class: str) -> None:
    discard_files(drive, submission, handle)
    drive.session.drop(local_batch_id=submission.local_batch_id, error_class=error_class)


def discard_files(drive: Drive, submission: SubmissionRecord, handle: str | None) -> None:
    """Remove the files of a submission that is about to be dropped.

    First the files, then the row: a crash between the two leaves a row that names its files, so the next driver removes
    them again, and not files that no row knows of. They cost nothing, so a failure here is left to their expiry.
    """
    with suppress(Exception):
        if submission.artifact_key is not None:
            drive.artifacts.delete(submission.artifact_key)
    with suppress(Exception):
        for stray in [handle] if handle else drive.api.find_prepared(f"{submission.local_batch_id}.jsonl"):
            drive.api.discard(stray)


def _handle_or_none(upload: _Uploading) -> str | None:
    with suppress(Exception):
        return upload.handle.result()
    return None
