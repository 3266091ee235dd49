"""The documented methods of the model that move items a step at a time, without a session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import RLock

from batchor_core.core import lifecycle
from batchor_core.core.caps import Cap
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import RunNotFoundError
from batchor_core.core.models import ItemFailure
from batchor_core.core.queue_limits import QueueLimit
from batchor_core.storage.identity import is_certainly_gone
from batchor_core.storage.records import (
    ClaimedItem,
    CompletedItemRecord,
    ItemFailureRecord,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RetryBackoffState,
)
from batchor_core.storage.state import StateStore
from tests.support.model_store.facts import Batch, Item, Submission, copied
from tests.support.model_store.run import Run


class ModelByHand(StateStore):
    """The part of the model that callers without a session use."""

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        self._now = now
        self._runs: dict[str, Run] = {}
        self._lock = RLock()
        self._queue_limits: dict[str, QueueLimit] = {}
        self._refused: dict[str, str] = {}
        self._caps: dict[tuple[str, str, str], dict[bool, Cap]] = {}

    def now(self) -> float:
        return time.time() if self._now is None else self._now().timestamp()

    @contextmanager
    def _run(self, run_id: str) -> Iterator[Run]:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                raise RunNotFoundError(run_id, where="this model")
            yield run

    # --- submission --------------------------------------------------------------------------------------------------

    def claim_items_for_submission(
        self, *, run_id: str, max_attempts: int, limit: int | None = None
    ) -> list[ClaimedItem]:
        with self._run(run_id) as run:
            items = run.claimable(max_attempts=max_attempts, limit=limit)
            for item in items:
                run.claim(item, None)
            return [_claimed_item(item) for item in items]

    def release_items_to_pending(self, *, run_id: str, item_ids: list[str]) -> None:
        with self._run(run_id) as run:
            for item in _claimed(run, item_ids).values():
                run.release(item, used_custom_id=False)

    def requeue_local_items(self, *, run_id: str) -> int:
        with self._run(run_id) as run:
            owner = run.lease.owner
            if owner is not None and run.lease.is_live(self.now()) and not is_certainly_gone(owner):
                return 0
            # whoever held the lease before must not go on with what is taken from it here
            run.lease.owner, run.lease.fencing_token = None, run.lease.fencing_token + 1
            return run.requeue_local()

    def register_batch(
        self, *, run_id: str, local_batch_id: str, provider_batch_id: str, status: str, custom_ids: list[str]
    ) -> None:
        with self._run(run_id) as run:
            run.register_by_hand(local_batch_id, provider_batch_id, status, custom_ids, now=self.now())

    def mark_items_submitted(
        self, *, run_id: str, provider_batch_id: str, submissions: list[PreparedSubmission]
    ) -> None:
        with self._run(run_id) as run:
            batch = run.batch(provider_batch_id)
            owner = run.submissions[batch.record.local_batch_id]
            claimed = _claimed(run, [entry.item_id for entry in submissions], also_of=owner)
            for entry in submissions:
                if item := claimed.pop(entry.item_id, None):
                    item.custom_id, item.tokens = entry.custom_id, entry.submission_tokens
                    item.submission = owner
                    run.move(item, lifecycle.submitted(item.state))

    def mark_queued_items_failed(
        self, *, run_id: str, failures: list[QueuedItemFailureRecord], max_attempts: int
    ) -> None:
        with self._run(run_id) as run:
            claimed = _claimed(run, [failure.item_id for failure in failures])
            for failure in failures:
                if item := claimed.pop(failure.item_id, None):
                    counts = failure.count_attempt
                    run.fail_item(item, failure.error, count_attempt=counts, max_attempts=max_attempts)

    # --- consumption ---------------------------------------------------------------------------------------------------

    def update_batch_status(
        self,
        *,
        run_id: str,
        provider_batch_id: str,
        status: str,
        output_file_id: str | None = None,
        error_file_id: str | None = None,
    ) -> None:
        with self._run(run_id) as run:
            batch = run.batch(provider_batch_id)
            run.poll(batch, status=status, output_file_id=output_file_id, error_file_id=error_file_id)

    def get_submitted_custom_ids_for_batch(self, *, run_id: str, provider_batch_id: str) -> list[str]:
        with self._run(run_id) as run:
            return [str(item.custom_id) for item in _owned(run, provider_batch_id)]

    def mark_items_completed(self, *, run_id: str, completions: list[CompletedItemRecord]) -> None:
        with self._run(run_id) as run:
            for record in completions:
                run.complete(record, None)

    def mark_items_failed(self, *, run_id: str, failures: list[ItemFailureRecord], max_attempts: int) -> None:
        with self._run(run_id) as run:
            for record in failures:
                run.fail(record, None, max_attempts=max_attempts)

    def reset_batch_items_to_pending(
        self, *, run_id: str, provider_batch_id: str, error: ItemFailure
    ) -> None:
        with self._run(run_id) as run:
            for item in _owned(run, provider_batch_id):
                item.error = error
                run.release(item, used_custom_id=True)

    def get_active_submitted_token_estimate(self, *, run_id: str) -> int:
        with self._run(run_id) as run:
            return run.tokens(ItemStatus.SUBMITTED)

    def mark_nonterminal_items_cancelled(self, *, run_id: str, error: ItemFailure) -> int:
        with self._run(run_id) as run:
            return run.cancel(run.with_status(*(set(ItemStatus) - set(lifecycle.TERMINAL))), error)

    # --- backoff -----------------------------------------------------------------------------------------------------

    def record_batch_retry_failure(
        self, *, run_id: str, error_class: str, base_delay_sec: float, max_delay_sec: float
    ) -> RetryBackoffState:
        with self._run(run_id) as run:
            return run.count_failure(
                error_class=error_class, base_sec=base_delay_sec, max_sec=max_delay_sec, now=self.now()
            )

    def clear_batch_retry_backoff(self, *, run_id: str) -> None:
        with self._run(run_id) as run:
            run.clear_backoff()

    def get_batch_retry_backoff_remaining_sec(self, *, run_id: str) -> float:
        with self._run(run_id) as run:
            return run.backoff_remaining(self.now())


def _claimed(run: Run, item_ids: Sequence[str], *, also_of: Submission | None = None) -> dict[str, Item]:
    """QUEUED_LOCAL items of these ids that no driver's submission holds; ``also_of`` is register_batch's own."""
    return {
        item_id: item
        for item_id, item in run.named(item_ids).items()
        if item.is_queued_by(None) or item.is_queued_by(also_of)
    }


def _owned(run: Run, provider_batch_id: str) -> list[Item]:
    batch: Batch | None = next((one for one in run.batches if one.id == provider_batch_id), None)
    return [] if batch is None else run.owned_by(batch)


def _claimed_item(item: Item) -> ClaimedItem:
    given, pointer = item.given, item.pointer
    return ClaimedItem(
        given.item_id,
        copied(given.metadata),
        given.prompt,
        given.system_prompt,
        item.state.attempt_count,
        request_artifact_path=pointer.artifact_path if pointer else None,
        request_artifact_line=pointer.line_number if pointer else None,
        request_sha256=pointer.request_sha256 if pointer else None,
    )
