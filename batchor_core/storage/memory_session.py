"""A driver's session on the memory store: the same fence as on a database, with the store's lock as the transaction."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock

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
from batchor_core.core.enums import IntentState, ItemStatus, RunControlState
from batchor_core.core.exceptions import LeaseLostError, RunStateError
from batchor_core.core.models import ItemFailure
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.request_lines import named_line
from batchor_core.core.retry import backoff_delay
from batchor_core.core.types import JSONValue
from batchor_core.storage.memory_rows import IntentRow, RunRow
from batchor_core.storage.state import (
    AppliedOutcome,
    BatchEnd,
    Candidate,
    CompletedItemRecord,
    DriverSession,
    IntentRecord,
    ItemFailureRecord,
    MaterializedItem,
    RequestDraft,
    ResultsWait,
    RetryBackoffState,
)

_DRAFT_PAGE = 1_000
_LOOKED_UP = (IntentState.SENDING, IntentState.UNKNOWN)


class MemorySession(DriverSession):
    """One driver's hold on one run of a memory store, in one epoch of the run's lease."""

    def __init__(
        self, runs: dict[str, RunRow], run: RunRow, *, lock: RLock, now: Callable[[], float]
    ) -> None:
        self.run_id = run.run_id
        self._runs = runs
        self._run = run
        self._lock = lock
        self._now = now
        self._epoch = run.lease.epoch

    @contextmanager
    def _read(self) -> Iterator[RunRow]:
        with self._lock:
            yield self._run

    @contextmanager
    def _write(self) -> Iterator[RunRow]:
        with self._read() as run:
            is_mine = run.lease.owner is not None and run.lease.epoch == self._epoch
            if not is_mine or self._runs.get(self.run_id) is not run:  # the run may have been discarded
                raise LeaseLostError(self.run_id)
            yield run

    # --- lease -------------------------------------------------------------------------------------------------------

    def renew(self, *, ttl_sec: float) -> None:
        with self._write() as run:
            run.lease.expires_at = self._now() + ttl_sec

    def close(self) -> None:
        with self._read() as run:
            if run.lease.epoch == self._epoch:
                run.lease.owner = None

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
        with self._read() as run:
            return [
                Candidate(
                    item_index=item.item_index,
                    submission_tokens=item.submission_tokens,
                    request_bytes=item.request_bytes,
                )
                for item in run.claimable(max_attempts=max_attempts, limit=limit)
            ]

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
        with self._write() as run:
            if local_batch_id in run.intents:
                raise RunStateError(self.run_id, f"submission {local_batch_id!r} exists")
            indexes = tuple(sorted(set(item_indexes)))
            items = [run.items[index] for index in indexes if index in run.items]
            claimable = all(lifecycle.can_claim(item.state, max_attempts=max_attempts) for item in items)
            tokens = sum(item.submission_tokens for item in items)
            if not claimable or len(items) < len(indexes) or not self._fits(run, tokens, allowances):
                return None
            for allowance in allowances:
                run.share(allowance.key)
                run.place = None if leaves_queue else run.place
            for item in items:
                run.claim(item, intent_id=local_batch_id)
            record = IntentRecord(
                local_batch_id=local_batch_id,
                state=IntentState.CLAIMED,
                epoch=self._epoch,
                item_count=len(items),
                submission_tokens=tokens,
                created_at=self._now(),
                artifact_key=artifact_key,
                key_fingerprint=key_fingerprint,
            )
            run.intents[local_batch_id] = IntentRow(record, indexes)
            return record

    def _fits(self, run: RunRow, tokens: int, allowances: Sequence[Allowance]) -> bool:
        return all(tokens <= free(Granted(one, self._standing(run, one))) for one in allowances)

    def standing(self, allowance: Allowance) -> Standing:
        with self._read() as run:
            return self._standing(run, allowance)

    def _standing(self, run: RunRow, allowance: Allowance) -> Standing:
        order = {other.run_id: number for number, other in enumerate(self._runs.values())}
        sharing = [
            other
            for other in self._runs.values()
            if other is not run and other.config.budget_key == allowance.key
        ]
        return standing_of(
            own=run.in_flight(allowance.measure),
            others=sum(other.in_flight(allowance.measure) for other in sharing),
            place=run.place,
            order=order.get(run.run_id, 0),
            waiters=[
                Waiter(other.place, order[other.run_id], other.in_flight(allowance.measure))
                for other in sharing
                if other.place is not None and other.can_send_more
            ],
            now=self._now(),
        )

    def keep_place(self, allowance: Allowance, wait: Wait) -> None:
        with self._write() as run:
            run.place = kept_place(run.place, wait, now=self._now())
            run.share(allowance.key)

    def drafts(self, *, local_batch_id: str) -> Iterator[RequestDraft]:
        with self._read() as run:
            indexes = run.intent(local_batch_id).indexes
        for start in range(0, len(indexes), _DRAFT_PAGE):
            yield from self._draft_page(
                local_batch_id, indexes[start : start + _DRAFT_PAGE], first_line=start + 1
            )

    def _draft_page(
        self, local_batch_id: str, indexes: Sequence[int], *, first_line: int
    ) -> list[RequestDraft]:
        with self._read() as run:
            return [
                RequestDraft(
                    item_id=item.item_id,
                    item_index=item.item_index,
                    custom_id=(custom_id := item.custom_id or ""),
                    generation=item.state.generation,
                    line_number=line_number,
                    prompt=item.prompt,
                    system_prompt=item.system_prompt,
                    request_line=None
                    if item.request_line is None
                    else named_line(item.request_line, custom_id, is_first=item.state.generation == 0),
                )
                for line_number, item in enumerate((run.items[index] for index in indexes), first_line)
                if run.owns(local_batch_id, item)
            ]

    def mark_written(self, *, local_batch_id: str, sha256: str, size_bytes: int) -> None:
        with self._write() as run:
            intent = run.intent_in(local_batch_id, (IntentState.CLAIMED,))
            intent.record = replace(intent.record, sha256=sha256, size_bytes=size_bytes)

    def mark_uploaded(
        self, *, local_batch_id: str, input_file_id: str, server_date_skew: float = 0.0
    ) -> None:
        with self._write() as run:
            intent = run.intent_in(local_batch_id, (IntentState.CLAIMED, IntentState.UPLOADED))
            intent.record = replace(
                intent.record,
                state=IntentState.UPLOADED,
                input_file_id=input_file_id,
                server_date_skew=server_date_skew,
                uploaded_at=self._now(),
            )

    def mark_sending(self, *, local_batch_id: str, ttl_sec: float) -> None:
        with self._write() as run:
            intent = run.intent_in(local_batch_id, (IntentState.UPLOADED,))
            now = self._now()
            intent.record = replace(
                intent.record, state=IntentState.SENDING, sending_at=now, next_check_at=None
            )
            run.lease.expires_at = now + ttl_sec

    def postpone(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        with self._write() as run:
            intent = run.intent_in(local_batch_id, (IntentState.SENDING, IntentState.UPLOADED))
            intent.record = replace(
                intent.record,
                state=IntentState.UPLOADED,
                last_error_class=error_class,
                next_check_at=next_check_at,
            )

    def register(self, *, local_batch_id: str, provider_batch_id: str, status: str) -> None:
        with self._write() as run:
            intent = run.intent(local_batch_id)
            if intent.record.provider_batch_id == provider_batch_id:
                return
            run.intent_in(local_batch_id, lifecycle.OPEN_INTENTS)
            run.register(intent, provider_batch_id=provider_batch_id, status=status, now=self._now())

    def drop(self, *, local_batch_id: str, error_class: str) -> None:
        with self._write() as run:
            intent = run.intent_in(local_batch_id, (*lifecycle.OPEN_INTENTS, IntentState.DROPPED))
            if intent.record.state is not IntentState.DROPPED:
                run.drop(intent, error_class)

    def mark_unknown(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        with self._write() as run:
            intent = run.intent_in(local_batch_id, _LOOKED_UP)
            intent.record = replace(
                intent.record,
                state=IntentState.UNKNOWN,
                last_error_class=error_class,
                next_check_at=next_check_at,
            )

    def record_look_up(
        self, *, local_batch_id: str, clean_listings: int, fenced_at: float | None, next_check_at: float
    ) -> None:
        with self._write() as run:
            intent = run.intent_in(local_batch_id, (IntentState.UNKNOWN,))
            intent.record = replace(
                intent.record, clean_listings=clean_listings, fenced_at=fenced_at, next_check_at=next_check_at
            )

    def quarantine(self, *, local_batch_id: str, error_class: str) -> None:
        with self._write() as run:
            run.quarantine(run.intent_in(local_batch_id, lifecycle.CAN_BE_QUARANTINED), error_class)

    def record_sweep(self, *, next_check_at: float) -> None:
        with self._write() as run:
            for intent in run.given_up_in_doubt():
                intent.record = replace(intent.record, next_check_at=next_check_at)

    def open_intents(self) -> list[IntentRecord]:
        with self._read() as run:
            return [row.record for row in run.intents.values() if row.record.state in lifecycle.OPEN_INTENTS]

    def requeue_local(self) -> int:
        with self._write() as run:
            return run.requeue_local()

    def fail_unsubmitted(self, failures: Sequence[tuple[int, ItemFailure]]) -> AppliedOutcome:
        with self._write() as run:
            count = 0
            for index, error in failures:
                item = run.items.get(index)
                if item is not None and item.state.status in lifecycle.CLAIMABLE:
                    count += run.cancel([item], error)
            return AppliedOutcome(failed=count)

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
    ) -> None:
        with self._write() as run:
            run.poll(
                run.batch(provider_batch_id),
                status=status,
                output_file_id=output_file_id,
                error_file_id=error_file_id,
                due_at=due_at,
                next_poll_at=next_poll_at,
            )

    def record_wait(self, *, provider_batch_id: str, wait: ResultsWait) -> None:
        with self._write() as run:
            run.wait_for(run.batch(provider_batch_id), wait)

    def record_poll_failure(
        self, *, provider_batch_id: str, next_poll_at: float, error: str | None = None
    ) -> int:
        with self._write() as run:
            batch = run.batch(provider_batch_id)
            failures = batch.record.poll_failures + 1
            batch.record = replace(batch.record, poll_failures=failures, next_poll_at=next_poll_at)
            batch.poll_error = error
            return failures

    def submitted_items(self, *, provider_batch_id: str) -> dict[str, int]:
        with self._read() as run:
            return {
                str(run.items[index].custom_id): index for index in sorted(run.batch(provider_batch_id).owned)
            }

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
            completed = sum(run.complete(record, provider_batch_id) for record in completions)
            moved = [run.fail(record, provider_batch_id, max_attempts=max_attempts) for record in failures]
            released = 0
            for custom_id in released_custom_ids:
                item = run.submitted_item(custom_id, provider_batch_id)
                if item is not None:
                    run.release(item, used_custom_id=True)
                    released += 1
            if end is not None:
                run.end(batch, end)
            return AppliedOutcome(
                completed=completed,
                failed=moved.count(ItemStatus.FAILED_PERMANENT),
                retrying=moved.count(ItemStatus.FAILED_RETRYABLE),
                released=released,
            )

    # --- the run as a whole ------------------------------------------------------------------------------------------

    def pause(self, *, reason: str) -> None:
        with self._write() as run:
            if run.control_state is not RunControlState.CANCEL_REQUESTED:
                run.control_state, run.control_reason = RunControlState.PAUSED, reason

    def cancel_remaining(self, *, error: ItemFailure) -> int:
        with self._write() as run:
            return run.cancel([*run.in_status(*lifecycle.CLAIMABLE), *run.free_queued()], error)

    def record_failure(
        self, *, error_class: str, base_delay_sec: float, max_delay_sec: float, message: str | None = None
    ) -> RetryBackoffState:
        with self._write() as run:
            return run.count_failure(
                error_class=error_class,
                delay=jittered(base_delay_sec, max_delay_sec),
                now=self._now(),
                message=message,
            )

    def clear_backoff(self) -> None:
        with self._read() as run:
            if not run.backoff.consecutive_failures:
                return
        with self._write() as run:
            run.clear_backoff()

    def count_orphan_batches(self, count: int) -> None:
        with self._write() as run:
            run.orphan_batches = count


def jittered(base_sec: float, max_sec: float) -> Callable[[int], float]:
    """The delay after the n-th failure in a row, spread so that runs don't come back together."""

    def delay(failures: int) -> float:
        return backoff_delay(failures=failures, base_sec=base_sec, max_sec=max_sec, jitter=random.random())  # noqa: S311 - spreads load, guards nothing

    return delay
