"""Looking for batches of a run that its store does not know.

A database that was restored from a backup has forgotten what was sent since, and would send, and pay, it again. And a
batch may show up that was looked for in vain. So before a process submits its first batch of a run that it did not create
itself, and once an hour after that, the provider's list is read for batches that carry the run's id:

- A batch of a submission that the store has forgotten is adopted: its rows are in its files, and their custom_ids tell
  whether they are the attempts that the store would send next.
- Any other is an orphan, its rows have gone into another batch: it is cancelled if it can be, counted and reported.

Batches of a run with the same id in another store are not touched: names of submissions begin with a mark of the run
that differs from store to store.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from batchor_core.core.enums import IntentState
from batchor_core.core.exceptions import ProviderErrorKind
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.outcome import parse_line
from batchor_core.core.types import BatchRemoteRecord
from batchor_core.runtime.engine import LIST_MARGIN_SEC, Drive, as_provider_error
from batchor_core.runtime.submit import local_batch_prefix, write_requests


def sweep(drive: Drive) -> bool:
    """Settle every batch of the run that the store does not hold; False if nothing may be submitted in this cycle."""
    try:
        strangers = _strangers(drive)
    except Exception as raised:
        error = as_provider_error(raised)
        if error.kind in (ProviderErrorKind.RETRY, ProviderErrorKind.CAPACITY):
            drive.hold_back(error.error_class, str(error), retry_after=error.retry_after, has_ceiling=False)
            return False
        drive.sweeping.done()
        return True  # a gateway without a list, or a key that may not read it: nothing can be learned here
    given_up = {
        intent.local_batch_id
        for intent in drive.store.list_intents(run_id=drive.run_id)
        if intent.state is IntentState.DROPPED
    }
    for batch in strangers:
        if _local_batch_id(batch) in given_up or not _adopt(drive, batch):
            _report_orphan(drive, batch)
            _cancel(drive, batch)
    drive.sweeping.done()
    return True


def _strangers(drive: Drive) -> list[BatchRemoteRecord]:
    """Batches that carry the run's id and that no submission of the store accounts for, oldest first."""
    list_batches = drive.hooks.list_batches
    if list_batches is None:
        return []
    intents = drive.store.list_intents(run_id=drive.run_id)
    registered = {intent.provider_batch_id for intent in intents}
    # what is still being looked up is recover.py's business
    open_ids = {
        intent.local_batch_id
        for intent in intents
        if intent.state not in (IntentState.DROPPED, IntentState.REGISTERED)
    }
    created_at = drive.store.get_run_summary(run_id=drive.run_id).created_at
    mark, oldest = local_batch_prefix(drive.run_id, created_at), created_at - LIST_MARGIN_SEC
    found: list[BatchRemoteRecord] = []
    for number, page in enumerate(list_batches(), 1):
        found += [
            batch
            for batch in page
            if _local_batch_id(batch).startswith(mark)
            and batch["id"] not in registered | drive.sweeping.orphans
            and _local_batch_id(batch) not in open_ids
        ]
        if number >= drive.settings.list_page_cap or all(
            (b.get("created_at") or oldest) < oldest for b in page
        ):
            break
    return found[::-1]


def _local_batch_id(batch: BatchRemoteRecord) -> str:
    return (batch.get("metadata") or {}).get("batchor_local_batch_id", "")


def _adopt(drive: Drive, batch: BatchRemoteRecord) -> bool:
    """Take the batch for the submission that the store would make next, if that is what it is."""
    custom_ids = _custom_ids(drive, batch)
    indexes = {_item_index(custom_id) for custom_id in custom_ids}
    if not custom_ids or None in indexes:
        return False
    local_batch_id = _local_batch_id(batch)
    intent = drive.session.claim(
        local_batch_id=local_batch_id,
        artifact_key=f"{drive.run_id}/requests/{local_batch_id}.jsonl",
        item_indexes=sorted(index for index in indexes if index is not None),
        max_attempts=drive.max_attempts,
        key_fingerprint=drive.hooks.key_fingerprint(),
    )
    if intent is None:
        return False  # the rows are in another batch, or have ended
    expected = {draft.custom_id for draft in drive.session.drafts(local_batch_id=local_batch_id)}
    if expected != custom_ids:
        drive.session.drop(local_batch_id=local_batch_id, error_class="other_attempts")
        return False
    write_requests(drive, intent)
    drive.session.mark_uploaded(local_batch_id=local_batch_id, input_file_id=batch.get("input_file_id") or "")
    drive.session.mark_sending(local_batch_id=local_batch_id, ttl_sec=drive.settings.lease_ttl_sec)
    drive.session.register(
        local_batch_id=local_batch_id, provider_batch_id=batch["id"], status=_open_status(batch["status"])
    )
    drive.emit(
        "submission_recovered",
        local_batch_id=local_batch_id,
        provider_batch_id=batch["id"],
        count=intent.item_count,
    )
    return True


def _open_status(status: str) -> str:
    """The status to register: an end is stored with the results, not before."""
    return "in_progress" if is_terminal_batch(status) else status.lower()


def _custom_ids(drive: Drive, batch: BatchRemoteRecord) -> set[str]:
    """The rows of a batch, from its input file or, when that is gone, from what came of it."""
    answered = [batch.get("output_file_id"), batch.get("error_file_id")]
    for file_ids in ([batch.get("input_file_id")], answered):
        try:
            found = {custom_id for file_id in file_ids if file_id for custom_id in _ids_in(drive, file_id)}
        except Exception:  # deleted, or not ours to read: the other file may do
            found = set()
        if found:
            return found
    return set()


def _ids_in(drive: Drive, file_id: str) -> set[str]:
    with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
        path = Path(folder) / "batch.jsonl"
        if drive.hooks.download_to_path is not None:
            drive.hooks.download_to_path(file_id, path)
        else:
            path.write_text(drive.provider.download_file_content(file_id), encoding="utf-8")
        with path.open("rb") as lines:
            records = (parse_line(line) for line in lines)
            return {str(record["custom_id"]) for record in records if record and "custom_id" in record}


def _item_index(custom_id: str) -> int | None:
    """The item's index, with which the engine's custom_ids begin; None for anybody else's."""
    index = custom_id.partition("-")[0]
    return int(index) if index.isascii() and index.isdigit() else None


def _report_orphan(drive: Drive, batch: BatchRemoteRecord) -> None:
    drive.sweeping.orphans.add(batch["id"])
    drive.session.count_orphan_batches(1)
    drive.emit(
        "orphan_batch",
        provider_batch_id=batch["id"],
        status=batch["status"],
        local_batch_id=_local_batch_id(batch),
    )


def _cancel(drive: Drive, batch: BatchRemoteRecord) -> None:
    cancel = drive.hooks.cancel_batch
    if cancel is None or is_terminal_batch(batch["status"]):
        return
    try:
        cancel(batch["id"])
    except Exception as raised:  # it has been reported; more can't be done from here
        drive.emit("batch_poll_retry", provider_batch_id=batch["id"], message=str(as_provider_error(raised)))
