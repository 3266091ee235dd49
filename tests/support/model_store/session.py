"""A driver's session on the model: the same fence as on a database, with the store's lock as the transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Any

from batchor_core.core import lifecycle
from batchor_core.core.admission import (
    Allowance,
    Granted,
    Standing,
    Wait,
    Waiter,
    free,
    kept_place,
    standing_of,
)
from batchor_core.core.caps import Cap, CapStanding, Reservation
from batchor_core.core.enums import ItemStatus, RunControlState, SubmissionState
from batchor_core.core.exceptions import LeaseLostError, RunStateError
from batchor_core.core.models import ItemFailure
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.request_lines import named_line
from batchor_core.core.types import JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.records import (
    BatchArtifactPointer,
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
from tests.support.model_store.caps import standings
from tests.support.model_store.facts import Item, Submission
from tests.support.model_store.run import Run


class ModelSession(DriverSession):
    """One driver's hold on one run of the model, under one fencing token."""

    def __init__(
        self,
        runs: dict[str, Run],
        run: Run,
        *,
        lock: RLock,
        now: Callable[[], float],
        caps: Callable[[], list[Cap]],
    ) -> None:
        self.run_id = run.run_id
        self._runs = runs
        self._run = run
        self._lock = lock
        self._caps = caps
        self._now = now
        self._fencing_token = run.lease.fencing_token

    @contextmanager
    def _write(self) -> Iterator[Run]:
        with self._lock:
            is_mine = (
                self._run.lease.owner is not None and self._run.lease.fencing_token == self._fencing_token
            )
            if not is_mine or self._runs.get(self.run_id) is not self._run:  # the run may have been discarded
                raise LeaseLostError(self.run_id)
            yield self._run

    def _change(self, local_batch_id: str, allowed: Sequence[SubmissionState], **changes: Any) -> None:
        with self._write() as run:
            submission = run.submission(local_batch_id, allowed)
            submission.record = replace(submission.record, **changes)

    # --- lease -------------------------------------------------------------------------------------------------------

    def renew(self, *, ttl_sec: float) -> None:
        with self._write() as run:
            run.lease.expires_at = self._now() + ttl_sec

    def close(self) -> None:
        with self._lock:
            if self._run.lease.fencing_token == self._fencing_token:
                self._run.lease.owner = None

    # --- ingestion ---------------------------------------------------------------------------------------------------

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
        with self._write() as run:
            if run.add(items) and rendered is not None:
                run.rendered[rendered.first_index] = rendered
            run.move_checkpoint(
                next_item_index=next_item_index,
                payload=checkpoint_payload,
                ingestion_complete=ingestion_complete,
            )

    # --- submission --------------------------------------------------------------------------------------------------

    def candidates(self, *, max_attempts: int, limit: int) -> list[Candidate]:
        with self._lock:
            found = self._run.claimable(max_attempts=max_attempts, limit=limit)
            return [Candidate(item.index, item.tokens, item.size_bytes, item.given.model) for item in found]

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
        with self._write() as run:
            if local_batch_id in run.submissions:
                raise RunStateError(self.run_id, f"submission {local_batch_id!r} exists")
            indexes = tuple(sorted(set(item_indexes)))
            items = [
                item for item in run.claimable(max_attempts=max_attempts, limit=None) if item.index in indexes
            ]
            tokens = sum(item.tokens for item in items)
            fits = all(tokens <= free(Granted(one, self.standing(one))) for one in allowances)
            if len(items) < len(indexes) or not fits:
                return None
            for standing in [] if adopts else self.caps():
                if reservation is None:
                    return None
                if reservation.of(standing.cap.measure, rows=len(items), tokens=tokens) > standing.left:
                    return None
            for allowance in allowances:
                run.config = replace(run.config, budget_key=allowance.key)
                run.place = None if leaves_queue else run.place
            record = SubmissionRecord(
                local_batch_id=local_batch_id,
                state=SubmissionState.CLAIMED,
                fencing_token=self._fencing_token,
                item_count=len(items),
                submission_tokens=tokens,
                created_at=self._now(),
                artifact_key=artifact_key,
                key_fingerprint=key_fingerprint,
            )
            submission = run.submissions[local_batch_id] = Submission(
                record, indexes, reservation=reservation
            )
            for item in items:
                run.claim(item, submission)
            return record

    def caps(self) -> list[CapStanding]:
        with self._lock:
            return standings(self._caps(), self._run, self._runs.values(), now=self._now())

    def standing(self, allowance: Allowance) -> Standing:
        with self._lock:
            run, measure = self._run, allowance.measure
            order = {other.run_id: number for number, other in enumerate(self._runs.values())}
            sharing = [
                other
                for other in self._runs.values()
                if other is not run and other.config.budget_key == allowance.key
            ]
            return standing_of(
                own=run.in_flight(measure),
                others=sum(other.in_flight(measure) for other in sharing),
                place=run.place,
                order=order.get(run.run_id, 0),
                waiters=[
                    Waiter(other.place, order[other.run_id], other.in_flight(measure))
                    for other in sharing
                    if other.place is not None and other.can_send_more
                ],
                now=self._now(),
            )

    def keep_place(self, allowance: Allowance, wait: Wait) -> None:
        with self._write() as run:
            run.place = kept_place(run.place, wait, now=self._now())
            run.config = replace(run.config, budget_key=allowance.key)

    def drafts(self, *, local_batch_id: str) -> Iterator[RequestDraft]:
        with self._lock:
            submission = self._run.submission(local_batch_id, tuple(SubmissionState))
            held = [item for item in self._run.items if item.is_queued_by(submission)]
            return iter([_draft(item, number) for number, item in enumerate(held, 1)])

    def mark_written(self, *, local_batch_id: str, sha256: str, size_bytes: int) -> None:
        self._change(local_batch_id, (SubmissionState.CLAIMED,), sha256=sha256, size_bytes=size_bytes)

    def mark_uploaded(
        self, *, local_batch_id: str, input_file_id: str, server_date_skew: float = 0.0
    ) -> None:
        self._change(
            local_batch_id,
            lifecycle.UNSENT,
            state=SubmissionState.UPLOADED,
            input_file_id=input_file_id,
            server_date_skew=server_date_skew,
            uploaded_at=self._now(),
        )

    def mark_sending(self, *, local_batch_id: str, ttl_sec: float) -> None:
        now = self._now()
        self._change(
            local_batch_id,
            (SubmissionState.UPLOADED,),
            state=SubmissionState.SENDING,
            sending_at=now,
            next_check_at=None,
        )
        self._run.lease.expires_at = now + ttl_sec

    def postpone(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        self._change(
            local_batch_id,
            (SubmissionState.SENDING, SubmissionState.UPLOADED),
            state=SubmissionState.UPLOADED,
            last_error_class=error_class,
            next_check_at=next_check_at,
        )

    def register(self, *, local_batch_id: str, provider_batch_id: str, status: str) -> None:
        with self._write() as run:
            submission = run.submission(local_batch_id, tuple(SubmissionState))
            if submission.record.provider_batch_id != provider_batch_id:
                run.submission(local_batch_id, lifecycle.OPEN_SUBMISSIONS)
                run.register(submission, provider_batch_id, status, now=self._now())

    def drop(self, *, local_batch_id: str, error_class: str) -> None:
        with self._write() as run:
            submission = run.submission(
                local_batch_id, (*lifecycle.OPEN_SUBMISSIONS, SubmissionState.DROPPED)
            )
            if submission.record.state is not SubmissionState.DROPPED:
                run.drop(submission, error_class)

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
        with self._write() as run:
            submission = run.submission(local_batch_id, lifecycle.CAN_BE_QUARANTINED)
            submission.record = replace(
                submission.record, state=SubmissionState.QUARANTINED, last_error_class=error_class
            )
            if batch := submission.batch:
                batch.record = replace(batch.record, quarantined=True, quarantine_cause=error_class)

    def record_sweep(self, *, next_check_at: float) -> None:
        with self._write() as run:
            for one in run.submissions.values():
                if one.is_given_up_in_doubt:
                    one.record = replace(one.record, next_check_at=next_check_at)

    def open_submissions(self) -> list[SubmissionRecord]:
        with self._lock:
            records = [one.record for one in self._run.submissions.values()]
            return [record for record in records if record.state in lifecycle.OPEN_SUBMISSIONS]

    def requeue_local(self) -> int:
        with self._write() as run:
            return run.requeue_local()

    def fail_unsubmitted(self, failures: Sequence[tuple[int, ItemFailure]]) -> AppliedOutcome:
        errors = dict(failures)
        with self._write() as run:
            failed = [item for item in run.with_status(*lifecycle.CLAIMABLE) if item.index in errors]
            for item in failed:
                run.cancel([item], errors[item.index])
            return AppliedOutcome(failed=len(failed))

    # --- consumption -------------------------------------------------------------------------------------------------

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
        with self._write() as run:
            run.poll(
                run.batch(provider_batch_id),
                status=status,
                output_file_id=output_file_id,
                error_file_id=error_file_id,
                due_at=due_at,
                next_poll_at=next_poll_at,
                stated_completed=stated_completed,
            )

    def record_wait(self, *, provider_batch_id: str, wait: ResultsWait) -> None:
        with self._write() as run:
            run.wait_for(run.batch(provider_batch_id), wait)

    def record_poll_failure(
        self,
        *,
        provider_batch_id: str,
        next_poll_at: float,
        error: str | None = None,
        stated_completed: int | None = None,
    ) -> int:
        with self._write() as run:
            batch = run.batch(provider_batch_id)
            failures = batch.record.poll_failures + 1
            batch.keep_stated(stated_completed)
            batch.record = replace(
                batch.record, poll_failures=failures, next_poll_at=next_poll_at, poll_error=error
            )
            return failures

    def record_files(self, pointer: BatchArtifactPointer) -> bool:
        with self._write() as run:
            run.keep_files(pointer)
        return True

    def submitted_items(self, *, provider_batch_id: str) -> dict[str, int]:
        with self._lock:
            owned = self._run.owned_by(self._run.batch(provider_batch_id))
            return {str(item.custom_id): item.index for item in owned}

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
        with self._write() as run:
            batch = run.batch(provider_batch_id)
            asked_before = run.repairs
            completed = sum(run.complete(record, batch) for record in completions)
            moved = [run.fail(record, batch, max_attempts=max_attempts) for record in failures]
            released = 0
            for custom_id in released_custom_ids:
                if item := run.submitted(custom_id, batch):
                    run.release(item, used_custom_id=True)
                    released += 1
            if end is not None:
                run.end(batch, end, now=self._now())
            failed, retrying = ItemStatus.FAILED_PERMANENT, ItemStatus.FAILED_RETRYABLE
            billed = (
                None
                if end is None
                else sum((one.usage or TokenUsage() for one in batch.answers), TokenUsage())
            )
            asked = run.repairs - asked_before
            return AppliedOutcome(
                completed, moved.count(failed), moved.count(retrying), released, billed, asked
            )

    # --- the run as a whole ------------------------------------------------------------------------------------------

    def pause(self, *, reason: str) -> None:
        with self._write() as run:
            if run.control_state is not RunControlState.CANCEL_REQUESTED:
                run.control_state, run.control_reason = RunControlState.PAUSED, reason

    def cancel_remaining(self, *, error: ItemFailure) -> int:
        with self._write() as run:
            return run.cancel([*run.with_status(*lifecycle.CLAIMABLE), *run.queued_by_hand()], error)

    def record_failure(
        self, *, error_class: str, base_delay_sec: float, max_delay_sec: float, message: str | None = None
    ) -> RetryBackoffState:
        with self._write() as run:
            return run.count_failure(
                error_class=error_class,
                base_sec=base_delay_sec,
                max_sec=max_delay_sec,
                now=self._now(),
                message=message,
            )

    def clear_backoff(self) -> None:
        if (
            self._run.backoff.consecutive_failures
        ):  # a session that was fenced off may see that there is nothing to do
            with self._write() as run:
                run.clear_backoff()

    def count_orphan_batches(self, count: int) -> None:
        with self._write() as run:
            run.orphan_batches = count


def _draft(item: Item, line_number: int) -> RequestDraft:
    given, custom_id, generation = item.given, item.custom_id or "", item.state.generation
    line = given.request_line if item.next_request is None else item.next_request.line
    return RequestDraft(
        item_id=given.item_id,
        item_index=item.index,
        custom_id=custom_id,
        generation=generation,
        line_number=line_number,
        prompt=given.prompt,
        system_prompt=given.system_prompt,
        request_line=None if line is None else named_line(line, custom_id, is_first=generation == 0),
    )
