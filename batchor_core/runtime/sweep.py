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

import tempfile
from collections.abc import Mapping
from enum import Enum, auto
from pathlib import Path

from batchor_core.core.enums import IntentState, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import ProviderError
from batchor_core.core.lifecycle import MAYBE_SENT, UNSENT, is_terminal_batch
from batchor_core.core.models import RunSummary
from batchor_core.core.outcome import parse_line
from batchor_core.core.types import BatchRemoteRecord
from batchor_core.runtime.engine import SWEEP_INTERVAL_SEC, Drive, as_provider_error
from batchor_core.runtime.listing import LIST_MARGIN_SEC, is_passing, read_list
from batchor_core.runtime.recover import register_found
from batchor_core.runtime.submit import discard_files, local_batch_prefix, write_requests
from batchor_core.storage.state import IntentRecord

MAX_INDEX_DIGITS = 18  # what a database takes for an integer


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
        ProviderError: The list can't be read just now, and nothing may be sent before it can.
    """
    try:
        strangers = _strangers(drive)
    except Exception as raised:
        error = as_provider_error(raised)
        if is_passing(error):
            raise error from raised
        drive.sweeping.done()
        return (
            Swept.CLEAN
        )  # a gateway without a list, or a key that may not read it: nothing can be learned here
    known = {intent.local_batch_id: intent for intent in drive.store.list_intents(run_id=drive.run_id)}
    _free_rows(drive, known, {_local_batch_id(batch) for batch in strangers})
    fates = [(batch, _fate(drive, batch, known)) for batch in strangers]
    orphans = [batch for batch, fate in fates if fate in (_Fate.ORPHAN, _Fate.UNREADABLE)]
    unreadable = [batch["id"] for batch, fate in fates if fate is _Fate.UNREADABLE]
    before = drive.store.get_run_summary(run_id=drive.run_id)
    _report(drive, orphans)
    # said once: whoever resumes has decided
    if unreadable and len(orphans) > before.orphan_batches and _may_send(before):
        drive.pause(
            f"the provider has {', '.join(unreadable)} of this run, which this store does not know, and none of its files can "
            "be read, so that it can't be told which rows it has. resume() goes on and may pay for them again; cancel() ends "
            "the run"
        )
        return Swept.NOT_NOW
    if any(fate is _Fate.ROWS_FIRST for _, fate in fates):
        return Swept.ROWS_FIRST
    if any(fate is _Fate.DOUBTS_FIRST for _, fate in fates):
        return Swept.NOT_NOW
    drive.sweeping.done()
    drive.session.record_sweep(next_check_at=drive.store.now() + SWEEP_INTERVAL_SEC)
    return Swept.CLEAN


def _may_send(summary: RunSummary) -> bool:
    is_open = summary.status is RunLifecycleStatus.RUNNING
    return is_open and summary.control_state is RunControlState.RUNNING


def _free_rows(drive: Drive, known: Mapping[str, IntentRecord], listed: set[str]) -> None:
    """Give back what was never sent, if there are batches that its rows may have gone into under another name since."""
    for intent in known.values():
        if listed and intent.state in UNSENT and intent.local_batch_id not in listed:
            discard_files(drive, intent, intent.input_file_id)
            drive.session.drop(local_batch_id=intent.local_batch_id, error_class="driver_lost")
            drive.emit(
                "submission_dropped",
                local_batch_id=intent.local_batch_id,
                reason="never sent",
                count=intent.item_count,
            )


def _strangers(drive: Drive) -> list[BatchRemoteRecord]:
    """Batches that carry the run's id and that no submission of the store accounts for, oldest first."""
    list_batches = drive.hooks.list_batches
    if list_batches is None:
        return []
    intents = drive.store.list_intents(run_id=drive.run_id)
    held = {intent.provider_batch_id for intent in intents if intent.state is not IntentState.DROPPED}
    # a store that shows no submissions, or not all, must not make its own live batches seem nobody's
    held |= {batch.provider_batch_id for batch in drive.store.get_active_batches(run_id=drive.run_id)}
    # what is still being looked up is recover.py's business
    open_ids = {intent.local_batch_id for intent in intents if intent.state in MAYBE_SENT}
    created_at = drive.store.get_run_summary(run_id=drive.run_id).created_at
    mark = local_batch_prefix(drive.run_id, created_at)

    def is_stranger(batch: BatchRemoteRecord) -> bool:
        name = _local_batch_id(batch)
        return name.startswith(mark) and name not in open_ids and batch["id"] not in held

    return read_list(
        list_batches(),
        wanted=is_stranger,
        oldest=created_at - LIST_MARGIN_SEC,
        page_cap=drive.settings.list_page_cap,
    ).found


def _local_batch_id(batch: BatchRemoteRecord) -> str:
    return (batch.get("metadata") or {}).get("batchor_local_batch_id", "")


def _fate(drive: Drive, batch: BatchRemoteRecord, known: Mapping[str, IntentRecord]) -> _Fate:
    intent = known.get(_local_batch_id(batch))
    if intent is not None and intent.state in UNSENT:
        # it was sent after the moment to which the store went back
        drive.session.mark_uploaded(
            local_batch_id=intent.local_batch_id, input_file_id=batch.get("input_file_id") or ""
        )
        _register(drive, batch, intent)
        return _Fate.ADOPTED
    if intent is not None:  # given up, or the twin of one that is registered
        return _Fate.ORPHAN
    custom_ids = _custom_ids(drive, batch)
    if not custom_ids:
        return _Fate.UNREADABLE
    indexes = {_item_index(custom_id) for custom_id in custom_ids}
    if None in indexes:
        return _Fate.ORPHAN
    rows = sorted(index for index in indexes if index is not None)
    checkpoint = drive.store.get_ingest_checkpoint(run_id=drive.run_id)
    if checkpoint and not checkpoint.ingestion_complete and rows[-1] >= checkpoint.next_item_index:
        return _Fate.ROWS_FIRST
    if _adopt(drive, batch, rows, custom_ids):
        return _Fate.ADOPTED
    # the batch may be the second try of a submission whose first the restored store is still looking for
    in_doubt = any(other.state in (IntentState.SENDING, IntentState.UNKNOWN) for other in known.values())
    return _Fate.DOUBTS_FIRST if in_doubt else _Fate.ORPHAN


def _adopt(drive: Drive, batch: BatchRemoteRecord, rows: list[int], custom_ids: set[str]) -> bool:
    """Take the batch for the submission that the store would make next, if that is what it is."""
    local_batch_id = _local_batch_id(batch)
    intent = drive.session.claim(
        local_batch_id=local_batch_id,
        artifact_key=f"{drive.run_id}/requests/{local_batch_id}.jsonl",
        item_indexes=rows,
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
    _register(drive, batch, intent)
    return True


def _register(drive: Drive, batch: BatchRemoteRecord, intent: IntentRecord) -> None:
    drive.session.mark_sending(local_batch_id=intent.local_batch_id, ttl_sec=drive.settings.lease_ttl_sec)
    register_found(drive, intent, batch)


def _custom_ids(drive: Drive, batch: BatchRemoteRecord) -> set[str]:
    """The rows of a batch, from its input file or, when that is gone, from what came of it.

    Raises:
        ProviderError: A file can't be read just now, which says nothing about the rows in it.
    """
    answered = [batch.get("output_file_id"), batch.get("error_file_id")]
    for file_ids in ([batch.get("input_file_id")], answered):
        try:
            found = {custom_id for file_id in file_ids if file_id for custom_id in _ids_in(drive, file_id)}
        except Exception as raised:
            error = as_provider_error(raised)
            if is_passing(error):
                raise error from raised
            found = set()  # deleted, or not ours to read: the other files may do
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
    is_one = index.isascii() and index.isdigit() and len(index) <= MAX_INDEX_DIGITS
    return int(index) if is_one else None


def _report(drive: Drive, orphans: list[BatchRemoteRecord]) -> None:
    """Count the batches that nobody waits for, and tell of each and cancel it once in the life of this process."""
    if not orphans:
        return
    # the list holds the run's whole life, so this is their number, however often they are found
    known = drive.store.get_run_summary(run_id=drive.run_id).orphan_batches
    drive.session.count_orphan_batches(max(known, len(orphans)))
    for batch in orphans:
        if batch["id"] in drive.sweeping.orphans:
            continue
        drive.sweeping.orphans.add(batch["id"])
        drive.emit(
            "orphan_batch",
            provider_batch_id=batch["id"],
            status=batch["status"],
            local_batch_id=_local_batch_id(batch),
        )
        _cancel(drive, batch)


def _cancel(drive: Drive, batch: BatchRemoteRecord) -> None:
    cancel = drive.hooks.cancel_batch
    if cancel is None or is_terminal_batch(batch["status"]):
        return
    try:
        cancel(batch["id"])
    except Exception as raised:  # it has been reported; more can't be done from here
        drive.emit("batch_poll_retry", provider_batch_id=batch["id"], message=str(as_provider_error(raised)))


# --- when to look ----------------------------------------------------------------------------------------------------

SWEEP_RETRY_SEC = 300.0

LATE_SEC = 26 * 3_600.0
"""How long a batch may turn up late: the completion window and some time to spare."""


def may_turn_up_late(intent: IntentRecord, *, now: float) -> bool:
    """Whether a submission was given up without certainty so recently that its batch may yet appear."""
    # mark_unknown sets next_check_at, so it tells who was in doubt from who was refused
    in_doubt = intent.state is IntentState.DROPPED and intent.next_check_at is not None
    return in_doubt and intent.sending_at is not None and now - intent.sending_at < LATE_SEC


def sweep_is_due(intents: list[IntentRecord], *, now: float) -> bool:
    """Whether an hour has passed since the list was last read for a batch that may turn up late."""
    return any(
        may_turn_up_late(intent, now=now) and (intent.next_check_at or 0.0) <= now for intent in intents
    )


def sweep_ended(drive: Drive) -> None:
    """Sweep a run that has ended; if that can't be done now, in a while."""
    try:
        sweep(drive)
    except ProviderError as error:
        drive.emit("batch_poll_retry", error_class=error.error_class, message=str(error))
        drive.session.record_sweep(next_check_at=drive.store.now() + SWEEP_RETRY_SEC)
