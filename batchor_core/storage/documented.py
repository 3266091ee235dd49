"""Driving a run on a store that has only the documented methods.

:class:`DocumentedSession` puts a driver's steps together from them. What the documented methods cannot hold (submission
intents, poll failures, how many items a claim took too many) is kept in this process, in one :class:`_Book` per store
and run, so that it outlives a session but not the process.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar, assert_never

from batchor_core.core import lifecycle
from batchor_core.core.admission import (
    Allowance,
    Granted,
    Measure,
    Place,
    Standing,
    Wait,
    free,
    kept_place,
    standing_of,
)
from batchor_core.core.custom_ids import CustomIdFormat, CustomIds, parse
from batchor_core.core.enums import IntentState, ItemStatus, RunControlState
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.types import JSONValue
from batchor_core.storage.late_batches import late_fields
from batchor_core.storage.state import (
    ActiveBatchRecord,
    AppliedOutcome,
    BatchEnd,
    Candidate,
    ClaimedItem,
    CompletedItemRecord,
    DriverSession,
    IntentRecord,
    ItemFailureRecord,
    MaterializedItem,
    PersistedItemRecord,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
    RequestDraft,
    ResultsWait,
    RetryBackoffState,
    StateStore,
)

_PAGE = 1_000
_UNLIMITED = 2**31 - 1
_NOT_SENT = (IntentState.CLAIMED, IntentState.UPLOADED)

_RecordT = TypeVar("_RecordT", CompletedItemRecord, ItemFailureRecord)

_MISSING = ItemFailure(
    "batch_output_missing_row", "the batch ended without an answer for this item", retryable=True
)


@dataclass(frozen=True, slots=True)
class _Held:
    """An item that this driver has claimed."""

    item_index: int
    tokens: int
    item: ClaimedItem


class _Submitted(NamedTuple):
    """An item that a batch owns."""

    item_index: int
    attempt_count: int


@dataclass(slots=True)
class _Intent:
    record: IntentRecord
    lines: list[tuple[str, _Held]]
    """custom_id and item of each line, in line order."""


@dataclass(slots=True)
class _Book:
    """What this process remembers of a run that its store can't hold."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    held: dict[int, _Held] = field(default_factory=dict)
    intents: dict[str, _Intent] = field(default_factory=dict)
    poll_failures: dict[str, int] = field(default_factory=dict)
    next_poll_at: dict[str, float] = field(default_factory=dict)
    due_at: dict[str, float] = field(default_factory=dict)
    waits: dict[str, ResultsWait] = field(default_factory=dict)
    index_of: dict[str, int] = field(default_factory=dict)
    tokens_of: dict[str, int] = field(default_factory=dict)
    submitted: dict[str, _Submitted] = field(default_factory=dict)
    place: Place | None = None
    rendered: dict[int, RenderedChunk] = field(default_factory=dict)
    may_back_off: bool = True
    """Whether the store's backoff may need clearing; not known at first."""


class DocumentedSession(DriverSession):
    """A driver's session made of nothing but the thirty-six documented methods.

    Every call does its work, but these promises are weaker than with a built-in store:

    - There is no lease: one process at a time must drive the run, and ``LeaseLostError`` is never raised.
    - A step is several transactions. A crash between them is mended by ``requeue_local_items`` and by reading the source
      again from the stored checkpoint, as far as the store does what the document says.
    - Intents live in this process. After a crash while a batch was being created, its items are given back without the
      provider having been asked, so that this one batch can be paid twice.
    - The enqueue budget counts this run only, and estimates tokens from the length of the prompt after a restart.
    - The prompts must be in the store: it knows no finished request lines, so ``append`` refuses items without a prompt.
    - custom_ids differ in each attempt, but can't be derived again from a restored backup.
    - What is waited for of a batch that is over is kept in this process: after a restart the waiting begins again. Where a
      person has to decide, the run pauses.
    - What items were rendered to is remembered in this process: another one that starts the run again compares ids and
      metadata, and no prompts.
    - Poll failures, reasons of a self-pause and orphan batches are not shown by the store. Item indexes of earlier
      processes' items are found by reading all item records once, which takes memory for the whole run.

    Args:
        store: The store.
        run_id: The run.
    """

    def __init__(self, store: StateStore, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._book = _book(store, run_id)
        self._chars_per_token = store.get_run_config(run_id=run_id).chunk_policy.chars_per_token

    # --- lease -------------------------------------------------------------------------------------------------------

    def renew(self, *, ttl_sec: float) -> None:
        """Nothing to do: there is no lease."""

    def close(self) -> None:
        """Give back what was claimed and not planned."""
        with self._book.lock:
            self._release_held()

    # --- ingestion ---------------------------------------------------------------------------------------------------

    def append(
        self,
        items: Sequence[MaterializedItem],
        *,
        next_item_index: int,
        checkpoint_payload: JSONValue | None,
        ingestion_complete: bool,
        rendered: RenderedChunk | None = None,
    ) -> None:
        """Add items and then move the checkpoint; a crash between the two has the same items read and passed over.

        ``rendered`` is kept in this process.
        """
        lost = [item.item_id for item in items if item.request_line is not None and not item.prompt]
        if lost:
            raise RunStateError(
                self.run_id, f"this store keeps prompts, no request lines; {lost[0]!r} has no prompt"
            )
        with self._book.lock:
            self._store.append_items(run_id=self.run_id, items=list(items))
            for item in items:
                self._book.index_of[item.item_id] = item.item_index
                self._book.tokens_of[item.item_id] = item.submission_tokens
            self._store.update_ingest_checkpoint(
                run_id=self.run_id,
                next_item_index=next_item_index,
                checkpoint_payload=checkpoint_payload,
                ingestion_complete=ingestion_complete,
            )
            if rendered is not None and items:
                self._book.rendered[rendered.first_index] = rendered

    # --- submission --------------------------------------------------------------------------------------------------

    def candidates(self, *, max_attempts: int, limit: int) -> list[Candidate]:
        """Claims the items it shows, since the documented claim takes no wishes; what is not planned is given back."""
        with self._book.lock:
            self._release_held()
            self._hold(max_attempts=max_attempts, limit=limit)
            held = sorted(self._book.held.values(), key=lambda one: one.item_index)
            return [Candidate(one.item_index, one.tokens, request_bytes=0) for one in held]

    def _hold(self, *, max_attempts: int, limit: int | None) -> None:
        claimed = self._store.claim_items_for_submission(
            run_id=self.run_id, max_attempts=max_attempts, limit=limit
        )
        self._learn_indexes(item.item_id for item in claimed)
        for item in claimed:
            index = self._book.index_of[item.item_id]
            self._book.held[index] = _Held(index, self._estimate(item), item)

    def _release_held(self) -> None:
        item_ids = [held.item.item_id for held in self._book.held.values()]
        self._book.held.clear()
        if item_ids:
            self._store.release_items_to_pending(run_id=self.run_id, item_ids=item_ids)

    def _learn_indexes(self, item_ids: Iterable[str]) -> None:
        if any(item_id not in self._book.index_of for item_id in item_ids):
            self._book.index_of.update((record.item_id, record.item_index) for record in self._records())

    def _records(self) -> list[PersistedItemRecord]:
        return self._store.get_item_records(run_id=self.run_id)

    def _estimate(self, item: ClaimedItem) -> int:
        known = self._book.tokens_of.get(item.item_id, 0)
        return known or -(-(len(item.prompt) + len(item.system_prompt or "")) // self._chars_per_token)

    def claim(
        self,
        *,
        local_batch_id: str,
        artifact_key: str,
        item_indexes: Sequence[int],
        max_attempts: int,
        allowances: Sequence[Allowance] = (),
        leaves_queue: bool = False,
        key_fingerprint: str | None = None,
    ) -> IntentRecord | None:
        """Make an intent of items that :meth:`candidates` has shown."""
        book = self._book
        with book.lock:
            if local_batch_id in book.intents:
                raise RunStateError(self.run_id, f"submission {local_batch_id!r} exists")
            indexes = sorted(set(item_indexes))
            if any(index not in book.held for index in indexes):
                return None
            tokens = sum(book.held[index].tokens for index in indexes)
            if any(tokens > free(Granted(one, self.standing(one))) for one in allowances):
                return None
            if leaves_queue:
                book.place = None
            generation = _generation(local_batch_id)
            lines = [
                (self._custom_id(book.held[index], generation), book.held.pop(index)) for index in indexes
            ]
            record = IntentRecord(
                local_batch_id=local_batch_id,
                state=IntentState.CLAIMED,
                epoch=0,
                item_count=len(lines),
                submission_tokens=tokens,
                created_at=self._store.now(),
                artifact_key=artifact_key,
                key_fingerprint=key_fingerprint,
            )
            book.intents[local_batch_id] = _Intent(record, lines)
            return record

    def _custom_id(self, held: _Held, generation: int) -> str:
        return self.custom_ids.of(held.item.item_id, held.item_index, generation)

    def standing(self, allowance: Allowance) -> Standing:
        """Knows of this run alone."""
        match allowance.measure:
            case Measure.ENQUEUED_TOKENS:
                own = self._tokens_in_flight()
            case _:
                assert_never(allowance.measure)
        place, now = self._book.place, self._store.now()
        return standing_of(own=own, others=0, place=place, order=0, waiters=(), now=now)

    def keep_place(self, allowance: Allowance, wait: Wait) -> None:
        """Kept in this process, for the run's own patience: there are no others to queue with."""
        with self._book.lock:
            self._book.place = kept_place(self._book.place, wait, now=self._store.now())

    def _tokens_in_flight(self) -> int:
        submitted = self._store.get_active_submitted_token_estimate(run_id=self.run_id)
        return submitted + sum(record.submission_tokens for record in self.open_intents())

    def drafts(self, *, local_batch_id: str) -> Iterator[RequestDraft]:
        with self._book.lock:
            intent = self._intent(local_batch_id, lifecycle.OPEN_INTENTS)
        generation = _generation(local_batch_id)
        for line_number, (custom_id, held) in enumerate(intent.lines, 1):
            yield RequestDraft(
                item_id=held.item.item_id,
                item_index=held.item_index,
                custom_id=custom_id,
                generation=generation,
                line_number=line_number,
                prompt=held.item.prompt,
                system_prompt=held.item.system_prompt,
                request_line=None,
            )

    def mark_written(self, *, local_batch_id: str, sha256: str, size_bytes: int) -> None:
        """Keeps a pointer per item; its digest is that of the whole file."""
        with self._book.lock:
            intent = self._intent(local_batch_id, (IntentState.CLAIMED,))
            pointers = [
                RequestArtifactPointer(
                    held.item.item_id, intent.record.artifact_key or "", line_number, sha256
                )
                for line_number, (_, held) in enumerate(intent.lines, 1)
            ]
            self._store.record_request_artifacts(run_id=self.run_id, pointers=pointers)
            intent.record = replace(intent.record, sha256=sha256, size_bytes=size_bytes)

    def mark_uploaded(
        self, *, local_batch_id: str, input_file_id: str, server_date_skew: float = 0.0
    ) -> None:
        with self._book.lock:
            intent = self._intent(local_batch_id, _NOT_SENT)
            intent.record = replace(
                intent.record,
                state=IntentState.UPLOADED,
                input_file_id=input_file_id,
                server_date_skew=server_date_skew,
                uploaded_at=self._store.now(),
            )

    def mark_sending(self, *, local_batch_id: str, ttl_sec: float) -> None:
        """Kept in this process only: it guards against a second request of this driver, not against a crash."""
        with self._book.lock:
            intent = self._intent(local_batch_id, (IntentState.UPLOADED,))
            intent.record = replace(
                intent.record, state=IntentState.SENDING, sending_at=self._store.now(), next_check_at=None
            )

    def postpone(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        """Kept in this process only: after a crash the items are given back, and go into a new file."""
        with self._book.lock:
            intent = self._intent(local_batch_id, (IntentState.SENDING, IntentState.UPLOADED))
            intent.record = replace(
                intent.record,
                state=IntentState.UPLOADED,
                last_error_class=error_class,
                next_check_at=next_check_at,
            )

    def register(self, *, local_batch_id: str, provider_batch_id: str, status: str) -> None:
        """Record the batch with its custom_ids, then its items; both may be repeated."""
        with self._book.lock:
            intent = self._intent(local_batch_id, (*lifecycle.OPEN_INTENTS, IntentState.REGISTERED))
            if intent.record.provider_batch_id == provider_batch_id:
                return
            if intent.record.provider_batch_id is not None:
                raise RunStateError(
                    self.run_id, f"submission {local_batch_id!r} is registered as another batch"
                )
            self._store.register_batch(
                run_id=self.run_id,
                local_batch_id=local_batch_id,
                provider_batch_id=provider_batch_id,
                status=status,
                custom_ids=[custom_id for custom_id, _ in intent.lines],
            )
            self._store.mark_items_submitted(
                run_id=self.run_id,
                provider_batch_id=provider_batch_id,
                submissions=[
                    PreparedSubmission(held.item.item_id, name, held.tokens) for name, held in intent.lines
                ],
            )
            for custom_id, held in intent.lines:
                self._book.submitted[custom_id] = _Submitted(held.item_index, held.item.attempt_count)
            intent.lines = []  # the store has them now, and they hold the prompts
            intent.record = replace(
                intent.record, state=IntentState.REGISTERED, provider_batch_id=provider_batch_id
            )

    def drop(self, *, local_batch_id: str, error_class: str) -> None:
        with self._book.lock:
            intent = self._intent(local_batch_id, (*lifecycle.OPEN_INTENTS, IntentState.DROPPED))
            if intent.record.state is not IntentState.DROPPED:
                self._drop(intent, error_class)

    def _drop(self, intent: _Intent, error_class: str) -> int:
        item_ids = [held.item.item_id for _, held in intent.lines]
        self._store.release_items_to_pending(run_id=self.run_id, item_ids=item_ids)
        intent.lines = []
        intent.record = replace(intent.record, state=IntentState.DROPPED, last_error_class=error_class)
        return len(item_ids)

    def mark_unknown(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        with self._book.lock:
            intent = self._intent(local_batch_id, (IntentState.SENDING, IntentState.UNKNOWN))
            intent.record = replace(
                intent.record,
                state=IntentState.UNKNOWN,
                last_error_class=error_class,
                next_check_at=next_check_at,
            )

    def record_look_up(
        self, *, local_batch_id: str, clean_listings: int, fenced_at: float | None, next_check_at: float
    ) -> None:
        with self._book.lock:
            intent = self._intent(local_batch_id, (IntentState.UNKNOWN,))
            intent.record = replace(
                intent.record, clean_listings=clean_listings, fenced_at=fenced_at, next_check_at=next_check_at
            )

    def quarantine(self, *, local_batch_id: str, error_class: str) -> None:
        with self._book.lock:
            intent = self._intent(local_batch_id, lifecycle.OPEN_INTENTS)
            intent.record = replace(
                intent.record, state=IntentState.QUARANTINED, last_error_class=error_class
            )

    def open_intents(self) -> list[IntentRecord]:
        with self._book.lock:
            return [
                one.record
                for one in self._book.intents.values()
                if one.record.state in lifecycle.OPEN_INTENTS
            ]

    def requeue_local(self) -> int:
        """Give back what this process holds unsent, and what an earlier one has left.

        While this process has a submission that may have been sent, the store is not asked to requeue: it can't tell
        those items from the others.
        """
        with self._book.lock:
            freed = sum(
                self._drop(intent, "driver_lost")
                for intent in self._book.intents.values()
                if intent.record.state in _NOT_SENT and not intent.record.is_postponed
            )
            self._release_held()
            if not self.open_intents():
                freed += self._store.requeue_local_items(run_id=self.run_id)
            return freed

    def fail_unsubmitted(self, failures: Sequence[tuple[int, ItemFailure]]) -> AppliedOutcome:
        """End items that :meth:`candidates` has shown and nobody has claimed since."""
        with self._book.lock:
            known = {index: error for index, error in failures if index in self._book.held}
            self._end_held(known)
            return AppliedOutcome(failed=len(known))

    def _end_held(self, errors: dict[int, ItemFailure]) -> None:
        records = [
            QueuedItemFailureRecord(
                self._book.held.pop(index).item.item_id, replace(error, retryable=False), count_attempt=False
            )
            for index, error in errors.items()
        ]
        if records:
            self._store.mark_queued_items_failed(
                run_id=self.run_id, failures=records, max_attempts=_UNLIMITED
            )

    # --- consumption -------------------------------------------------------------------------------------------------

    def remembered(self, batches: Sequence[ActiveBatchRecord]) -> list[ActiveBatchRecord]:
        book = self._book
        with book.lock:
            return [_as_remembered(batch, book) for batch in batches]

    def update_batch(
        self,
        *,
        provider_batch_id: str,
        status: str,
        output_file_id: str | None,
        error_file_id: str | None,
        due_at: float | None = None,
        next_poll_at: float = 0.0,
    ) -> None:
        with self._book.lock:
            self._book.poll_failures.pop(provider_batch_id, None)
            self._book.next_poll_at[provider_batch_id] = next_poll_at
            if due_at is not None:
                self._book.due_at[provider_batch_id] = due_at
        self._store.update_batch_status(
            run_id=self.run_id,
            provider_batch_id=provider_batch_id,
            status=status,
            output_file_id=output_file_id,
            error_file_id=error_file_id,
        )

    def record_wait(self, *, provider_batch_id: str, wait: ResultsWait) -> None:
        """Kept in this process. The store learns of the batch's end with its last result: it may show none that is over."""
        with self._book.lock:
            self._book.poll_failures.pop(provider_batch_id, None)
            self._book.waits[provider_batch_id] = wait
            self._book.next_poll_at[provider_batch_id] = wait.next_poll_at

    def record_poll_failure(
        self, *, provider_batch_id: str, next_poll_at: float, error: str | None = None
    ) -> int:
        """Counted in this process; the next cycle asks again, whatever ``next_poll_at`` says."""
        with self._book.lock:
            failures = self._book.poll_failures.get(provider_batch_id, 0) + 1
            self._book.poll_failures[provider_batch_id] = failures
            return failures

    def submitted_items(self, *, provider_batch_id: str) -> dict[str, int]:
        with self._book.lock:
            return {name: item.item_index for name, item in self._submitted(provider_batch_id).items()}

    def _submitted(self, provider_batch_id: str) -> dict[str, _Submitted]:
        with self._book.lock:
            custom_ids = self._owned(provider_batch_id)
            if any(custom_id not in self._book.submitted for custom_id in custom_ids):
                self._learn_submitted(custom_ids)
            return {name: self._book.submitted[name] for name in custom_ids if name in self._book.submitted}

    def _owned(self, provider_batch_id: str) -> list[str]:
        return self._store.get_submitted_custom_ids_for_batch(
            run_id=self.run_id, provider_batch_id=provider_batch_id
        )

    def _learn_submitted(self, custom_ids: Iterable[str]) -> None:
        """Find the items of custom_ids that an earlier process made, perhaps of an earlier build."""
        records = {record.item_index: record for record in self._records()}
        for custom_id in custom_ids:
            attempt = parse(custom_id)
            record = None if attempt is None else records.get(attempt.item_index)
            if attempt is None or record is None:
                continue
            # the documented methods can't keep the run's format
            names = (CustomIds(self.run_id, known) for known in CustomIdFormat)
            if custom_id in [name.of(record.item_id, *attempt) for name in names]:
                self._book.submitted[custom_id] = _Submitted(record.item_index, record.attempt_count)

    def apply_outcome(
        self,
        *,
        provider_batch_id: str,
        completions: Sequence[CompletedItemRecord] = (),
        failures: Sequence[ItemFailureRecord] = (),
        released_custom_ids: Sequence[str] = (),
        max_attempts: int,
        end: BatchEnd | None = None,
    ) -> AppliedOutcome:
        """Store results, and after them the batch's end, so that a crash in between has the file read again."""
        with self._book.lock:
            owned = self._submitted(provider_batch_id)
            good = _first_of_each(list(map(_with_text, completions)), owned)
            for record in good:
                owned.pop(record.custom_id)
            missing = [ItemFailureRecord(name, _MISSING, count_attempt=False) for name in released_custom_ids]
            bad = _first_of_each([*failures, *missing], owned)
            if good:
                self._store.mark_items_completed(run_id=self.run_id, completions=good)
            if bad:
                self._store.mark_items_failed(run_id=self.run_id, failures=bad, max_attempts=max_attempts)
            outcome = _outcome(good, bad, owned, max_attempts=max_attempts)
            for name in [record.custom_id for record in good] + [record.custom_id for record in bad]:
                self._book.submitted.pop(name, None)
            if end is not None:
                self._store.update_batch_status(
                    run_id=self.run_id, provider_batch_id=provider_batch_id, status=end.status
                )
                for kept in (self._book.waits, self._book.due_at, self._book.next_poll_at):
                    kept.pop(provider_batch_id, None)
            return outcome

    # --- the run as a whole ------------------------------------------------------------------------------------------

    def pause(self, *, reason: str) -> None:
        """The reason is lost: the documented methods have no place for it."""
        if self._store.get_run_control_state(run_id=self.run_id) is not RunControlState.CANCEL_REQUESTED:
            self._store.set_run_control_state(run_id=self.run_id, control_state=RunControlState.PAUSED)

    def cancel_remaining(self, *, error: ItemFailure) -> int:
        """Claims all that is left, in pages, and ends it: the documented cancel would end what is in batches too."""
        count = 0
        with self._book.lock:
            self._release_held()
            while True:
                self._hold(max_attempts=_UNLIMITED, limit=_PAGE)
                if not self._book.held:
                    return count
                count += len(self._book.held)
                self._end_held(dict.fromkeys(self._book.held, error))

    def record_failure(
        self, *, error_class: str, base_delay_sec: float, max_delay_sec: float, message: str | None = None
    ) -> RetryBackoffState:
        """The message is lost: the documented methods have no place for it."""
        self._book.may_back_off = True
        return self._store.record_batch_retry_failure(
            run_id=self.run_id,
            error_class=error_class,
            base_delay_sec=base_delay_sec,
            max_delay_sec=max_delay_sec,
        )

    def clear_backoff(self) -> None:
        if self._book.may_back_off:
            self._store.clear_batch_retry_backoff(run_id=self.run_id)
            self._book.may_back_off = False

    def count_orphan_batches(self, count: int) -> None:
        """Nowhere to keep it; the engine's event still tells of them."""

    def _intent(self, local_batch_id: str, allowed: Sequence[IntentState]) -> _Intent:
        intent = self._book.intents.get(local_batch_id)
        if intent is None:
            raise RunStateError(self.run_id, f"this process knows no submission {local_batch_id!r}")
        if intent.record.state not in allowed:
            raise RunStateError(self.run_id, f"submission {local_batch_id!r} is {intent.record.state}")
        return intent


def _as_remembered(batch: ActiveBatchRecord, book: _Book) -> ActiveBatchRecord:
    """A batch with what its store does not keep."""
    name = batch.provider_batch_id
    sizes = [one.record.item_count for one in book.intents.values() if one.record.provider_batch_id == name]
    known = replace(
        batch,
        item_count=batch.item_count or sum(sizes),
        poll_failures=book.poll_failures.get(name, batch.poll_failures),
        next_poll_at=book.next_poll_at.get(name, batch.next_poll_at),
        due_at=book.due_at.get(name, batch.due_at),
    )
    wait = book.waits.get(name)
    if wait is None:
        return known
    return replace(
        known,
        status=wait.status,
        output_file_id=wait.output_file_id or known.output_file_id,
        error_file_id=wait.error_file_id or known.error_file_id,
        **late_fields(wait),
    )


def _with_text(record: CompletedItemRecord) -> CompletedItemRecord:
    """The documented record has no place for bytes: they are kept as base64; ``storage.rows`` reads them."""
    if record.output_data is None:
        return record
    text = b2a_base64(record.output_data, newline=False).decode()
    return record._replace(output_text=text, output_data=None)


def _generation(local_batch_id: str) -> int:
    """A number that differs in each submission, since the store does not count how often an item was sent."""
    return int.from_bytes(hashlib.blake2b(local_batch_id.encode(), digest_size=6).digest(), "big")


def _first_of_each(records: Sequence[_RecordT], owned: dict[str, _Submitted]) -> list[_RecordT]:
    first: dict[str, _RecordT] = {}
    for record in records:
        if record.custom_id in owned:
            first.setdefault(record.custom_id, record)
    return list(first.values())


def _outcome(
    good: Sequence[CompletedItemRecord],
    bad: Sequence[ItemFailureRecord],
    owned: dict[str, _Submitted],
    *,
    max_attempts: int,
) -> AppliedOutcome:
    """What the store must have done with these records, by the rules that every store applies."""
    ends = [
        lifecycle.failed(
            ItemState(ItemStatus.SUBMITTED, owned[record.custom_id].attempt_count, generation=0),
            retryable=record.error.retryable,
            count_attempt=record.count_attempt,
            max_attempts=max_attempts,
        ).status
        for record in bad
        if record.error is not _MISSING
    ]
    return AppliedOutcome(
        completed=len(good),
        failed=ends.count(ItemStatus.FAILED_PERMANENT),
        retrying=ends.count(ItemStatus.FAILED_RETRYABLE),
        released=len(bad) - len(ends),
    )


def rendered_in_this_process(store: StateStore, run_id: str) -> list[RenderedChunk]:
    """What this process has had a store's items rendered to, in item order."""
    rendered = _book(store, run_id).rendered
    return [rendered[first_index] for first_index in sorted(rendered)]


_books: dict[int, dict[str, _Book]] = {}
_books_lock = threading.Lock()


def _book(store: StateStore, run_id: str) -> _Book:
    """The book of a store's run; forgotten with the store. By identity, since a store need not be hashable."""
    with _books_lock:
        if id(store) not in _books:
            _books[id(store)] = {}
            weakref.finalize(store, _books.pop, id(store), None)
        return _books[id(store)].setdefault(run_id, _Book())
