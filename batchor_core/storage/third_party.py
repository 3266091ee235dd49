"""Driving a run on a store that has only the documented methods.

:class:`ThirdPartySession` builds a driver's steps from them. Data that the documented methods can't store (submissions,
poll failures, surplus items of a claim) is kept in this process, in one book for each store and run: it outlives a session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, assert_never

from batchor_core.core import lifecycle
from batchor_core.core.admission import (
    Allowance,
    Granted,
    Measure,
    Standing,
    Wait,
    free,
    kept_place,
    standing_of,
)
from batchor_core.core.caps import Reservation
from batchor_core.core.enums import RunControlState, SubmissionState
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.models import ItemFailure
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.types import JSONValue
from batchor_core.storage.documented_store import DocumentedStore
from batchor_core.storage.records import (
    ActiveBatchRecord,
    CompletedItemRecord,
    ItemFailureRecord,
    MaterializedItem,
    RetryBackoffState,
)
from batchor_core.storage.session import (
    AppliedOutcome,
    BatchEnd,
    Candidate,
    DriverSession,
    RequestDraft,
    ResultsWait,
    ReuseTerms,
    SubmissionRecord,
)
from batchor_core.storage.third_party_book import Submission, book_of, generation_of
from batchor_core.storage.third_party_items import ThirdPartyItems


class ThirdPartySession(DriverSession):
    """A driver's session that uses only the thirty-six documented methods.

    Every call works, but these promises are weaker than with a built-in store:

    - There is no lease: one process at a time must drive the run, and ``LeaseLostError`` is never raised.
    - A step is several transactions. ``requeue_local_items`` and reading the source again from the stored checkpoint
      repair a crash between them, if the store works as documented.
    - Submissions live in this process. After a crash while a batch was being created, its items are released without
      looking the batch up, so that this one batch can be paid for twice.
    - The enqueue budget counts this run only, and estimates tokens from the length of the prompt after a restart.
    - The prompts must be in the store: it knows no finished request lines, so ``append`` refuses items without a prompt.
    - custom_ids differ in each attempt, but can't be derived again from a restored backup.
    - The wait for late results is kept in this process: after a restart it begins again. If a person has to decide, the
      run pauses.
    - Digests of rendered items are kept in this process: another one that starts the run again compares ids and
      metadata, but not prompts.
    - Poll failures, reasons of a self-pause and orphan batches are not shown by the store. Item indexes of earlier
      processes' items are found by reading all item records once, which takes memory for the whole run.

    Args:
        store: The store.
        run_id: The run.
    """

    def __init__(self, store: DocumentedStore, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._book = book_of(store, run_id)
        self._items = ThirdPartyItems(store, self._book)

    def renew(self, *, ttl_sec: float) -> None:
        """Nothing to do: there is no lease."""

    def close(self) -> None:
        with self._book.lock:
            self._items.give_back()

    def append(
        self,
        items: Sequence[MaterializedItem],
        *,
        next_item_index: int,
        checkpoint_payload: JSONValue | None,
        ingestion_complete: bool,
        rendered: RenderedChunk | None = None,
        reuse: ReuseTerms | None = None,
    ) -> None:
        """Add items, then move the checkpoint; after a crash in between they are skipped. ``rendered`` is kept in this process."""
        lost = [item.item_id for item in items if item.request_line is not None and not item.prompt]
        if lost:
            raise RunStateError(
                self.run_id, f"this store keeps prompts, not request lines; {lost[0]!r} has no prompt"
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

    def candidates(self, *, max_attempts: int, limit: int) -> list[Candidate]:
        """Claims the items it shows, since the documented claim takes no wishes; what is not planned is given back."""
        with self._book.lock:
            self._items.give_back()
            self._items.take(max_attempts=max_attempts, limit=limit)
            held = sorted(self._book.held.values(), key=lambda one: one.item_index)
            return [Candidate(one.item_index, one.tokens, request_bytes=0) for one in held]

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
        reservation: Reservation | None = None,
        reuse: ReuseTerms | None = None,
        adopts: bool = False,
    ) -> SubmissionRecord | None:
        """Make a submission of items that :meth:`candidates` has shown."""
        book = self._book
        with book.lock:
            if local_batch_id in book.submissions:
                raise RunStateError(self.run_id, f"submission {local_batch_id!r} exists")
            indexes = sorted(set(item_indexes))
            if any(index not in book.held for index in indexes):
                return None
            tokens = sum(book.held[index].tokens for index in indexes)
            if any(tokens > free(Granted(one, self.standing(one))) for one in allowances):
                return None
            if leaves_queue:
                book.place = None
            generation = generation_of(local_batch_id)
            taken = [book.held.pop(index) for index in indexes]
            name = self.custom_ids.of
            lines = [(name(held.item.item_id, held.item_index, generation), held) for held in taken]
            record = SubmissionRecord(
                local_batch_id=local_batch_id,
                state=SubmissionState.CLAIMED,
                fencing_token=0,
                item_count=len(lines),
                submission_tokens=tokens,
                created_at=self._store.now(),
                artifact_key=artifact_key,
                key_fingerprint=key_fingerprint,
            )
            book.submissions[local_batch_id] = Submission(record, lines)
            return record

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
        unsent = [one for one in self.open_submissions() if one.provider_batch_id is None]
        submitted = self._store.get_active_submitted_token_estimate(run_id=self.run_id)
        return submitted + sum(one.submission_tokens for one in unsent)

    def drafts(self, *, local_batch_id: str) -> Iterator[RequestDraft]:
        with self._book.lock:
            submission = self._book.submission(local_batch_id, lifecycle.OPEN_SUBMISSIONS)
        return iter(submission.drafts())

    def mark_written(self, *, local_batch_id: str, sha256: str, size_bytes: int) -> None:
        """Keeps a pointer per item; its digest is that of the whole file."""
        with self._book.lock:
            submission = self._book.submission(local_batch_id, (SubmissionState.CLAIMED,))
            self._store.record_request_artifacts(run_id=self.run_id, pointers=submission.pointers(sha256))
            submission.record = replace(submission.record, sha256=sha256, size_bytes=size_bytes)

    def mark_uploaded(
        self, *, local_batch_id: str, input_file_id: str, server_date_skew: float = 0.0
    ) -> None:
        self._change(
            local_batch_id,
            lifecycle.UNSENT,
            state=SubmissionState.UPLOADED,
            input_file_id=input_file_id,
            server_date_skew=server_date_skew,
            uploaded_at=self._store.now(),
        )

    def mark_sending(self, *, local_batch_id: str, ttl_sec: float) -> None:
        """Kept in this process only: it guards against a second request of this driver, not against a crash."""
        self._change(
            local_batch_id,
            (SubmissionState.UPLOADED,),
            state=SubmissionState.SENDING,
            sending_at=self._store.now(),
            next_check_at=None,
        )

    def postpone(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        """Kept in this process only: after a crash the items are given back, and go into a new file."""
        self._change(
            local_batch_id,
            (SubmissionState.SENDING, SubmissionState.UPLOADED),
            state=SubmissionState.UPLOADED,
            last_error_class=error_class,
            next_check_at=next_check_at,
        )

    def register(self, *, local_batch_id: str, provider_batch_id: str, status: str) -> None:
        """Record the batch with its custom_ids, then its items; both may be repeated."""
        with self._book.lock:
            submission = self._book.submission(
                local_batch_id, (*lifecycle.OPEN_SUBMISSIONS, SubmissionState.REGISTERED)
            )
            if submission.record.provider_batch_id == provider_batch_id:
                return
            if submission.record.provider_batch_id is not None:
                raise RunStateError(
                    self.run_id, f"submission {local_batch_id!r} is registered as another batch"
                )
            self._store.register_batch(
                run_id=self.run_id,
                local_batch_id=local_batch_id,
                provider_batch_id=provider_batch_id,
                status=status,
                custom_ids=[custom_id for custom_id, _ in submission.lines],
            )
            self._items.submit(provider_batch_id, submission.lines)
            submission.lines = []  # the store has them now, and they hold the prompts
            submission.record = replace(
                submission.record, state=SubmissionState.REGISTERED, provider_batch_id=provider_batch_id
            )

    def drop(self, *, local_batch_id: str, error_class: str) -> None:
        with self._book.lock:
            submission = self._book.submission(
                local_batch_id, (*lifecycle.OPEN_SUBMISSIONS, SubmissionState.DROPPED)
            )
            if submission.record.state is not SubmissionState.DROPPED:
                self._drop(submission, error_class)

    def _drop(self, submission: Submission, error_class: str) -> int:
        item_ids = [held.item.item_id for _, held in submission.lines]
        self._store.release_items_to_pending(run_id=self.run_id, item_ids=item_ids)
        submission.lines = []
        submission.record = replace(
            submission.record, state=SubmissionState.DROPPED, last_error_class=error_class
        )
        return len(item_ids)

    def mark_unknown(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        self._change(
            local_batch_id,
            (SubmissionState.SENDING, SubmissionState.UNKNOWN),
            state=SubmissionState.UNKNOWN,
            last_error_class=error_class,
            next_check_at=next_check_at,
        )

    def record_look_up(
        self, *, local_batch_id: str, clean_listings: int, fenced_at: float | None, next_check_at: float
    ) -> None:
        self._change(
            local_batch_id,
            (SubmissionState.UNKNOWN,),
            clean_listings=clean_listings,
            fenced_at=fenced_at,
            next_check_at=next_check_at,
        )

    def quarantine(self, *, local_batch_id: str, error_class: str) -> None:
        self._change(
            local_batch_id,
            lifecycle.CAN_BE_QUARANTINED,
            state=SubmissionState.QUARANTINED,
            last_error_class=error_class,
        )

    def _change(self, local_batch_id: str, allowed: Sequence[SubmissionState], **changes: Any) -> None:
        with self._book.lock:
            submission = self._book.submission(local_batch_id, allowed)
            submission.record = replace(submission.record, **changes)

    def open_submissions(self) -> list[SubmissionRecord]:
        with self._book.lock:
            return [
                one.record
                for one in self._book.submissions.values()
                if one.record.state in lifecycle.OPEN_SUBMISSIONS
            ]

    def requeue_local(self) -> int:
        """Give back what this process holds unsent, and what an earlier one has left.

        While this process has a submission that may have been sent, the store is not asked to requeue: it can't tell
        those items from the others.
        """
        with self._book.lock:
            freed = sum(
                self._drop(submission, "driver_lost")
                for submission in self._book.submissions.values()
                if submission.record.state in lifecycle.UNSENT and not submission.record.is_postponed
            )
            self._items.give_back()
            if not self.open_submissions():
                freed += self._store.requeue_local_items(run_id=self.run_id)
            return freed

    def fail_unsubmitted(self, failures: Sequence[tuple[int, ItemFailure]]) -> AppliedOutcome:
        """End items that :meth:`candidates` has shown and that have not been claimed since."""
        with self._book.lock:
            known = {index: error for index, error in failures if index in self._book.held}
            self._items.end(known)
            return AppliedOutcome(failed=len(known))

    def remembered(self, batches: Sequence[ActiveBatchRecord]) -> list[ActiveBatchRecord]:
        with self._book.lock:
            return [self._book.remembered(batch) for batch in batches]

    def update_batch(
        self,
        *,
        provider_batch_id: str,
        status: str,
        output_file_id: str | None,
        error_file_id: str | None,
        due_at: float | None = None,
        next_poll_at: float = 0.0,
        stated_completed: int | None = None,
    ) -> None:
        with self._book.lock:
            self._book.poll_failures.pop(provider_batch_id, None)
            self._book.next_poll_at[provider_batch_id] = next_poll_at
            self._book.keep_stated(provider_batch_id, stated_completed)
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
            self._book.keep_stated(provider_batch_id, wait.stated_completed)
            self._book.next_poll_at[provider_batch_id] = wait.next_poll_at

    def record_poll_failure(
        self,
        *,
        provider_batch_id: str,
        next_poll_at: float,
        error: str | None = None,
        stated_completed: int | None = None,
    ) -> int:
        """Counted in this process; the next cycle asks again, whatever ``next_poll_at`` says."""
        with self._book.lock:
            failures = self._book.poll_failures.get(provider_batch_id, 0) + 1
            self._book.poll_failures[provider_batch_id] = failures
            self._book.keep_stated(provider_batch_id, stated_completed)
            return failures

    def submitted_items(self, *, provider_batch_id: str) -> dict[str, int]:
        with self._book.lock:
            return {name: item.item_index for name, item in self._items.submitted(provider_batch_id).items()}

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
            outcome = self._items.settle(
                provider_batch_id, completions, failures, released_custom_ids, max_attempts=max_attempts
            )
            if end is not None:
                self._store.update_batch_status(
                    run_id=self.run_id, provider_batch_id=provider_batch_id, status=end.status
                )
                for kept in (self._book.waits, self._book.due_at, self._book.next_poll_at):
                    kept.pop(provider_batch_id, None)
            return outcome

    def pause(self, *, reason: str) -> None:
        """The reason is lost: the documented methods have no place for it."""
        if self._store.get_run_control_state(run_id=self.run_id) is not RunControlState.CANCEL_REQUESTED:
            self._store.set_run_control_state(run_id=self.run_id, control_state=RunControlState.PAUSED)

    def cancel_remaining(self, *, error: ItemFailure) -> int:
        """Claims all that is left, in pages, and ends it: the documented cancel would end what is in batches too."""
        with self._book.lock:
            return self._items.end_all(error)

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
