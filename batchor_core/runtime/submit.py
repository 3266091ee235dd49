"""Sending planned batches: pay at most once, without an idempotency key.

The life of one submission, its *intent*::

    CLAIMED ──file written, uploaded──> UPLOADED ──> SENDING ──POST /batches, once──> REGISTERED
                                                        │
                                     certainly not ─────┼──> DROPPED   items go back, the file is deleted
                                     no usable answer ──┴──> UNKNOWN   recover.py looks it up; nothing of it is sent again

Each arrow is one transaction. The order is the promise: no POST without a durable SENDING row, and never a second POST
for one intent. What a crash leaves behind is settled by recover.py at the start of the next cycle.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import orjson

from batchor_core.core.batching import BatchPlan, PlannedBatch, plan_batches
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.models import ItemFailure, PromptParts
from batchor_core.runtime.engine import Drive, as_provider_error
from batchor_core.runtime.lease import spare_seconds, uptime
from batchor_core.storage.state import Candidate, IntentRecord, RequestDraft, TokenBudget

_WRITE_BUFFER = 1 << 20


def submit(drive: Drive, *, more_to_come: bool) -> None:
    """Send what can be sent now. With ``more_to_come``, a batch that is not full yet waits for more rows."""
    window = 2 * drive.config.chunk_policy.max_requests
    with ThreadPoolExecutor(drive.settings.parallel_transfers, thread_name_prefix="batchor-upload") as pool:
        while (
            drive.may_go_on() and drive.store.get_batch_retry_backoff_remaining_sec(run_id=drive.run_id) <= 0
        ):
            candidates = drive.session.candidates(max_attempts=drive.max_attempts, limit=window)
            if not candidates:
                return
            plan = _plan(drive, candidates, more_to_come=more_to_come or len(candidates) == window)
            _fail_oversized(drive, plan)
            if not _send(drive, plan.batches, pool) or len(candidates) < window:
                return


def _plan(drive: Drive, candidates: Sequence[Candidate], *, more_to_come: bool) -> BatchPlan:
    policy, budget = drive.config.chunk_policy, drive.budget()
    return plan_batches(
        candidates,
        max_requests=policy.max_requests,
        max_file_bytes=policy.max_file_bytes,
        max_batch_tokens=budget.per_batch if budget else 0,
        more_to_come=more_to_come,
    )


def _fail_oversized(drive: Drive, plan: BatchPlan) -> None:
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
    intent: IntentRecord
    file_id: Future[str]


def _send(drive: Drive, batches: list[PlannedBatch], pool: ThreadPoolExecutor) -> bool:
    """Claim, write and upload several batches at once, and create them in order; True when all of them were sent."""
    uploading: deque[_Uploading] = deque()
    claimed, going = 0, True
    for batch in batches:
        if len(uploading) >= drive.settings.parallel_transfers:
            going = _create(drive, uploading.popleft())
        intent = _claim(drive, batch) if going and drive.may_go_on() else None
        if intent is None:
            break
        claimed += 1
        uploading.append(_Uploading(intent, pool.submit(_upload, drive, write_requests(drive, intent))))
    for upload in uploading:
        going = going and drive.is_running()
        if going:
            going = _create(drive, upload)
        else:
            # another batch met trouble, or the operator stopped the run; this one has cost nothing yet
            _give_back(drive, upload.intent, _file_id_or_none(upload), error_class="not_sent")
    return going and 0 < claimed == len(batches)


def local_batch_prefix(run_id: str, created_at: float) -> str:
    """How the names of a run's submissions begin: alike after a restored backup, different in another store."""
    mark = hashlib.blake2b(f"{run_id}\0{created_at!r}".encode(), digest_size=4).hexdigest()
    return f"batch-{mark}-"


def _claim(drive: Drive, batch: PlannedBatch) -> IntentRecord | None:
    created_at = drive.store.get_run_summary(run_id=drive.run_id).created_at
    local_batch_id = local_batch_prefix(drive.run_id, created_at) + uuid.uuid4().hex
    budget = drive.budget()
    intent = drive.session.claim(
        local_batch_id=local_batch_id,
        artifact_key=f"{drive.run_id}/requests/{local_batch_id}.jsonl",
        item_indexes=batch.item_indexes,
        max_attempts=drive.max_attempts,
        budget=TokenBudget(budget.key, budget.limit) if budget and budget.limit else None,
        key_fingerprint=drive.hooks.key_fingerprint(),
    )
    if intent is not None:
        drive.emit(
            "items_claimed_for_submission",
            local_batch_id=local_batch_id,
            count=intent.item_count,
            tokens=intent.submission_tokens,
        )
    return intent


def write_requests(drive: Drive, intent: IntentRecord) -> str:
    """Write the request file, whole and synced or not at all."""
    assert intent.artifact_key is not None
    digest, size = hashlib.sha256(), 0
    with drive.artifacts.open_writer(intent.artifact_key) as file:
        for block in _blocks(drive, drive.session.drafts(local_batch_id=intent.local_batch_id)):
            digest.update(block)
            size += len(block)
            file.write(block)
    drive.session.mark_written(
        local_batch_id=intent.local_batch_id, sha256=digest.hexdigest(), size_bytes=size
    )
    return intent.artifact_key


def _blocks(drive: Drive, drafts: Iterator[RequestDraft]) -> Iterator[bytes]:
    buffer = bytearray()
    for draft in drafts:
        buffer += request_line(drive, draft)
        buffer += b"\n"
        if len(buffer) >= _WRITE_BUFFER:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def request_line(drive: Drive, draft: RequestDraft) -> bytes:
    """The line as it is sent: the stored one, or built from the stored prompts."""
    if draft.request_line is not None:
        return draft.request_line
    prompt = PromptParts(draft.prompt, draft.system_prompt)
    built = drive.provider.build_request_line(
        custom_id=draft.custom_id, prompt_parts=prompt, structured_output=drive.schema
    )
    return orjson.dumps(built)


def _upload(drive: Drive, key: str) -> str:
    with drive.artifacts.stage_local_copy(key) as path:
        return drive.provider.upload_input_file(path)


def _create(drive: Drive, upload: _Uploading) -> bool:
    """Create the batch, once. False when no further one should be tried in this cycle."""
    intent = upload.intent
    try:
        file_id = upload.file_id.result()
    except Exception as raised:  # whatever it is, an upload costs nothing
        return _not_created(drive, intent, None, as_provider_error(raised))
    drive.session.mark_uploaded(
        local_batch_id=intent.local_batch_id, input_file_id=file_id, server_date_skew=_server_date_skew(drive)
    )
    leased_at = uptime()
    drive.session.mark_sending(local_batch_id=intent.local_batch_id, ttl_sec=drive.settings.lease_ttl_sec)
    if not _lease_outlasts_a_request(drive, leased_at):
        return _not_created(drive, intent, file_id, _TOO_SLOW)
    try:
        record = drive.provider.create_batch(input_file_id=file_id, metadata=_metadata(drive, intent))
        provider_batch_id, status = record["id"], str(record.get("status", "validating"))
        if not isinstance(provider_batch_id, str) or not provider_batch_id:
            raise ProviderError("the answer names no batch", error_class="unreadable_answer")
    except Exception as raised:  # whatever it is, the question is only whether the batch may exist
        error = as_provider_error(raised)
        if error.not_performed:
            return _not_created(drive, intent, file_id, error)
        return _unknown(drive, intent, error)
    drive.session.register(
        local_batch_id=intent.local_batch_id, provider_batch_id=provider_batch_id, status=status.lower()
    )
    drive.emit(
        "batch_submitted",
        local_batch_id=intent.local_batch_id,
        provider_batch_id=provider_batch_id,
        count=intent.item_count,
        tokens=intent.submission_tokens,
    )
    return True


_TOO_SLOW = ProviderError(
    "not sent: the store took so long that the lease might have ended before the answer came",
    error_class="lease_too_short",
    not_performed=True,
)


def _lease_outlasts_a_request(drive: Drive, leased_at: float) -> bool:
    """Whether what is sent now is over before another driver may take the run.

    Between the lease and here the machine may have slept, or the database may have been slow: then the lease is renewed,
    which also shows whether it is still ours.
    """
    ttl_sec = drive.settings.lease_ttl_sec
    spare = spare_seconds(ttl_sec, drive.config.provider_config)
    if uptime() - leased_at <= spare:
        return True
    leased_at = uptime()
    drive.session.renew(ttl_sec=ttl_sec)
    return uptime() - leased_at <= spare


def _server_date_skew(drive: Drive) -> float:
    """The provider's clock less the store's, as its last answer told; 0 where it does not tell."""
    offset = drive.hooks.clock_offset()
    return 0.0 if offset is None else offset + time.time() - drive.store.now()


def _metadata(drive: Drive, intent: IntentRecord) -> dict[str, str]:
    """The user's pairs and ours, by which a batch is found again, by this engine or by a person in the console."""
    return drive.config.batch_metadata | {
        "batchor_run_id": drive.run_id,
        "batchor_local_batch_id": intent.local_batch_id,
        "batchor_attempt": str(intent.epoch),
    }


def _not_created(drive: Drive, intent: IntentRecord, file_id: str | None, error: ProviderError) -> bool:
    _give_back(drive, intent, file_id, error_class=error.error_class)
    drive.control_plane_failed(error)
    return False


def _unknown(drive: Drive, intent: IntentRecord, error: ProviderError) -> bool:
    now = drive.store.now()
    drive.session.mark_unknown(
        local_batch_id=intent.local_batch_id, error_class=error.error_class, next_check_at=now
    )
    drive.emit(
        "submission_unknown",
        local_batch_id=intent.local_batch_id,
        error_class=error.error_class,
        message=str(error),
        since=now,
        next_check_at=now,
    )
    # the provider is in trouble: nothing else is sent before the backoff is over
    drive.hold_back(error.error_class, str(error), retry_after=error.retry_after, has_ceiling=False)
    if error.kind in (ProviderErrorKind.CREDENTIALS, ProviderErrorKind.QUOTA):
        drive.pause(f"{error.error_class}: {error}")
    return False


def _give_back(drive: Drive, intent: IntentRecord, file_id: str | None, *, error_class: str) -> None:
    discard_files(drive, intent, file_id)
    drive.session.drop(local_batch_id=intent.local_batch_id, error_class=error_class)


def discard_files(drive: Drive, intent: IntentRecord, file_id: str | None) -> None:
    """Remove the files of a submission that is about to be dropped.

    First the files, then the row: a crash between the two leaves a row that names its files, so the next driver removes
    them again, and not files that no row knows of. They cost nothing, so a failure here is left to their expiry.
    """
    with suppress(Exception):
        if intent.artifact_key is not None:
            drive.artifacts.delete(intent.artifact_key)
    with suppress(Exception):
        find = drive.hooks.find_input_files
        stray = [file_id] if file_id else find(f"{intent.local_batch_id}.jsonl") if find else []
        for stray_id in stray:
            drive.provider.delete_input_file(stray_id)


def _file_id_or_none(upload: _Uploading) -> str | None:
    with suppress(Exception):
        return upload.file_id.result()
    return None
