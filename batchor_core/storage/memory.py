"""The memory store: the state store's contract over plain dicts, for tests and for runs that need not outlive a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from threading import RLock
from typing import Any

from batchor_core.core import lifecycle
from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.core.exceptions import InvalidInputError, RunNotFoundError, RunStateError
from batchor_core.core.models import ItemFailure, RunSummary
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.types import JSONValue
from batchor_core.storage.identity import is_certainly_gone
from batchor_core.storage.memory_rows import IntentRow, ItemRow, RunRow, frozen, thawed
from batchor_core.storage.memory_session import MemorySession, jittered
from batchor_core.storage.rows import record_of
from batchor_core.storage.state import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    ClaimedItem,
    CompletedItemRecord,
    DriverIdentity,
    DriverSession,
    IngestCheckpoint,
    IntentDecision,
    IntentRecord,
    ItemFailureRecord,
    LeaseRecord,
    MaterializedItem,
    OwnerCheck,
    PersistedItemRecord,
    PersistedRunConfig,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
    ResultRow,
    RetryBackoffState,
    RunArtifactInventory,
    RunListing,
    StateStore,
    StoredItem,
)


class MemoryStateStore(StateStore):
    """A state store of plain dicts. Everything is lost with the object.

    Safe to use from several threads: every call holds one lock. It keeps leases like the databases do, so that several
    drivers in one process behave as they would on a shared one.

    Args:
        now: Clock for tests; by default the system's.
    """

    supports_leases = True

    def __init__(self, *, now: Callable[[], datetime] | None = None) -> None:
        self._now = now
        self._runs: dict[str, RunRow] = {}
        self._lock = RLock()

    def now(self) -> float:
        """Seconds since the epoch, by the clock that was given."""
        return time.time() if self._now is None else self._now().timestamp()

    def artifact_root(self) -> None:
        """Runs that end with the process need no files after it."""
        return

    @contextmanager
    def _run(self, run_id: str) -> Iterator[RunRow]:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                raise RunNotFoundError(run_id, where="this memory store")
            yield run

    # --- runs and their items ----------------------------------------------------------------------------------------

    def has_run(self, *, run_id: str) -> bool:
        with self._lock:
            return run_id in self._runs

    def create_run(self, *, run_id: str, config: PersistedRunConfig, items: list[MaterializedItem]) -> None:
        with self._lock:
            if run_id in self._runs:
                raise RunStateError(run_id, "a run of this id exists")
            run = RunRow(run_id, _copied(config), created_at=self.now())
            run.add(items)
            self._runs[run_id] = run

    def append_items(self, *, run_id: str, items: list[MaterializedItem]) -> None:
        with self._run(run_id) as run:
            run.add(items, compare=True)

    def set_ingest_checkpoint(self, *, run_id: str, checkpoint: IngestCheckpoint) -> None:
        with self._run(run_id) as run:
            run.checkpoint = _copied_checkpoint(checkpoint)

    def get_ingest_checkpoint(self, *, run_id: str) -> IngestCheckpoint | None:
        with self._run(run_id) as run:
            return None if run.checkpoint is None else _copied_checkpoint(run.checkpoint)

    def update_ingest_checkpoint(
        self,
        *,
        run_id: str,
        next_item_index: int,
        checkpoint_payload: JSONValue | None = None,
        ingestion_complete: bool,
    ) -> None:
        with self._run(run_id) as run:
            run.move_checkpoint(
                next_item_index=next_item_index,
                payload=checkpoint_payload,
                ingestion_complete=ingestion_complete,
            )

    def get_run_config(self, *, run_id: str) -> PersistedRunConfig:
        with self._run(run_id) as run:
            return _copied(run.config)

    def get_run_control_state(self, *, run_id: str) -> RunControlState:
        with self._run(run_id) as run:
            return run.control_state

    def set_run_control_state(self, *, run_id: str, control_state: RunControlState) -> None:
        with self._run(run_id) as run:
            run.control_state, run.control_reason = RunControlState(control_state), None

    def get_rendered_chunks(self, *, run_id: str) -> list[RenderedChunk]:
        with self._run(run_id) as run:
            return [run.rendered[first_index] for first_index in sorted(run.rendered)]

    def iter_stored_items(self, *, run_id: str, first_index: int, count: int) -> Iterator[StoredItem]:
        with self._run(run_id) as run:
            found = [
                run.items[index] for index in range(first_index, first_index + count) if index in run.items
            ]
        for item in found:
            metadata: Any = thawed(item.metadata) or {}
            yield StoredItem(
                item.item_index,
                item.item_id,
                metadata,
                item.prompt,
                item.system_prompt,
                item.request_line,
                item.content_address,
            )

    # --- submission --------------------------------------------------------------------------------------------------

    def claim_items_for_submission(
        self, *, run_id: str, max_attempts: int, limit: int | None = None
    ) -> list[ClaimedItem]:
        with self._run(run_id) as run:
            items = run.claimable(max_attempts=max_attempts, limit=limit)
            for item in items:
                run.claim(item, intent_id=None)
            return [_claimed_item(run, item) for item in items]

    def release_items_to_pending(self, *, run_id: str, item_ids: list[str]) -> None:
        with self._run(run_id) as run:
            for item in _claimed_by_hand(run, item_ids).values():
                run.release(item, used_custom_id=False)

    def requeue_local_items(self, *, run_id: str) -> int:
        with self._run(run_id) as run:
            owner = run.lease.owner
            if owner is not None and run.lease.is_live(self.now()) and not is_certainly_gone(owner):
                return 0
            # whoever held the lease before must not go on with what is taken from it here
            run.lease.owner, run.lease.epoch = None, run.lease.epoch + 1
            return run.requeue_local()

    def register_batch(
        self, *, run_id: str, local_batch_id: str, provider_batch_id: str, status: str, custom_ids: list[str]
    ) -> None:
        with self._run(run_id) as run:
            run.register_by_hand(
                local_batch_id=local_batch_id,
                provider_batch_id=provider_batch_id,
                status=status,
                custom_ids=custom_ids,
                now=self.now(),
            )

    def mark_items_submitted(
        self, *, run_id: str, provider_batch_id: str, submissions: list[PreparedSubmission]
    ) -> None:
        with self._run(run_id) as run:
            batch = run.batch(provider_batch_id)
            item_ids = [submission.item_id for submission in submissions]
            claimed = _claimed_by_hand(run, item_ids, also_of=batch.record.local_batch_id)
            for submission in submissions:
                item = claimed.pop(submission.item_id, None)
                if item is not None:
                    run.name(item, submission.custom_id)
                    run.estimate(item, submission.submission_tokens)
                    run.submit(item, provider_batch_id)

    def mark_queued_items_failed(
        self, *, run_id: str, failures: list[QueuedItemFailureRecord], max_attempts: int
    ) -> None:
        with self._run(run_id) as run:
            claimed = _claimed_by_hand(run, [failure.item_id for failure in failures])
            for failure in failures:
                item = claimed.pop(failure.item_id, None)
                if item is not None:
                    run.fail_item(
                        item, failure.error, count_attempt=failure.count_attempt, max_attempts=max_attempts
                    )

    # --- consumption -------------------------------------------------------------------------------------------------

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

    def get_active_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        with self._run(run_id) as run:
            return [batch.record for batch in run.batches_in_order() if batch.active]

    def get_submitted_custom_ids_for_batch(self, *, run_id: str, provider_batch_id: str) -> list[str]:
        with self._run(run_id) as run:
            batch = run.batches.get(provider_batch_id)
            return [] if batch is None else [str(run.items[index].custom_id) for index in sorted(batch.owned)]

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
            batch = run.batches.get(provider_batch_id)
            for index in sorted(batch.owned) if batch else []:
                run.items[index].error = error
                run.release(run.items[index], used_custom_id=True)

    def get_active_submitted_token_estimate(self, *, run_id: str) -> int:
        with self._run(run_id) as run:
            return run.tokens[ItemStatus.SUBMITTED]

    def mark_nonterminal_items_cancelled(self, *, run_id: str, error: ItemFailure) -> int:
        with self._run(run_id) as run:
            return run.cancel(run.in_status(*(set(ItemStatus) - set(lifecycle.TERMINAL))), error)

    # --- artifacts ---------------------------------------------------------------------------------------------------

    def record_request_artifacts(self, *, run_id: str, pointers: list[RequestArtifactPointer]) -> None:
        with self._run(run_id) as run:
            for pointer in pointers:
                index = run.index_of.get(pointer.item_id)
                if index is not None:
                    item = run.items[index]
                    item.artifact_path, item.artifact_line = pointer.artifact_path, pointer.line_number
                    item.artifact_sha256 = pointer.request_sha256

    def get_request_artifact_paths(self, *, run_id: str) -> list[str]:
        with self._run(run_id) as run:
            paths = {item.artifact_path for item in run.items.values()}
            paths |= {intent.record.artifact_key for intent in run.intents.values() if intent.has_artifact}
            return sorted(path for path in paths if path is not None)

    def clear_request_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        paths = set(artifact_paths)
        with self._run(run_id) as run:
            pointing: set[int] = set()
            for item in run.items.values():
                if item.artifact_path in paths:
                    item.artifact_path = item.artifact_line = item.artifact_sha256 = None
                    pointing.add(item.item_index)
            for intent in run.intents.values():
                if intent.has_artifact and intent.record.artifact_key in paths:
                    intent.record = replace(intent.record, artifact_key=None)
                    pointing.update(intent.indexes)
            return len(pointing)

    def record_batch_artifacts(self, *, run_id: str, pointers: list[BatchArtifactPointer]) -> None:
        with self._run(run_id) as run:
            for pointer in pointers:
                batch = run.batch(pointer.provider_batch_id)
                batch.output_artifact_path = pointer.output_artifact_path or batch.output_artifact_path
                batch.error_artifact_path = pointer.error_artifact_path or batch.error_artifact_path

    def get_artifact_inventory(self, *, run_id: str) -> RunArtifactInventory:
        with self._run(run_id) as run:
            batches = run.batches.values()
            return RunArtifactInventory(
                request_artifact_paths=self.get_request_artifact_paths(run_id=run_id),
                output_artifact_paths=sorted(
                    {b.output_artifact_path for b in batches if b.output_artifact_path}
                ),
                error_artifact_paths=sorted(
                    {b.error_artifact_path for b in batches if b.error_artifact_path}
                ),
                exported_at=run.exported_at,
                export_root=run.export_root,
            )

    def clear_batch_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        paths = set(artifact_paths)
        cleared = 0
        with self._run(run_id) as run:
            for batch in run.batches.values():
                output, error = batch.output_artifact_path in paths, batch.error_artifact_path in paths
                if output:
                    batch.output_artifact_path = None
                if error:
                    batch.error_artifact_path = None
                cleared += output or error
        return cleared

    def mark_artifacts_exported(self, *, run_id: str, export_root: str) -> None:
        with self._run(run_id) as run:
            run.exported_at, run.export_root = self.now(), export_root

    # --- backoff -----------------------------------------------------------------------------------------------------

    def record_batch_retry_failure(
        self, *, run_id: str, error_class: str, base_delay_sec: float, max_delay_sec: float
    ) -> RetryBackoffState:
        delay = jittered(base_delay_sec, max_delay_sec)
        with self._run(run_id) as run:
            return run.count_failure(error_class=error_class, delay=delay, now=self.now())

    def clear_batch_retry_backoff(self, *, run_id: str) -> None:
        with self._run(run_id) as run:
            run.clear_backoff()

    def get_batch_retry_backoff_remaining_sec(self, *, run_id: str) -> float:
        with self._run(run_id) as run:
            return run.backoff_remaining(self.now())

    def get_retry_backoff(self, *, run_id: str) -> RetryBackoffState:
        with self._run(run_id) as run:
            return run.backoff

    # --- reading -----------------------------------------------------------------------------------------------------

    def get_run_summary(self, *, run_id: str) -> RunSummary:
        with self._run(run_id) as run:
            return run.summary(self.now())

    def get_item_records(self, *, run_id: str) -> list[PersistedItemRecord]:
        with self._run(run_id) as run:
            return [run.record(run.items[index]) for index in sorted(run.items)]

    def get_terminal_item_records(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[PersistedItemRecord]:
        rows = self.get_result_rows(run_id=run_id, after_sequence=after_sequence, limit=limit)
        return [record_of(row) for row in rows]

    def get_result_rows(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[ResultRow]:
        with self._run(run_id) as run:
            rows: list[ResultRow] = []
            for sequence in range(max(after_sequence, 0) + 1, run.last_sequence + 1):
                if limit is not None and len(rows) >= limit:
                    break
                if sequence in run.ended:  # a reopened item leaves a hole
                    rows.append(run.row(run.items[run.ended[sequence]]))
            return rows

    def get_control_reason(self, *, run_id: str) -> str | None:
        with self._run(run_id) as run:
            return run.control_reason

    def list_runs(self) -> list[RunListing]:
        with self._lock:
            runs = list(self._runs.values())[::-1]
            runs.sort(key=lambda run: run.created_at, reverse=True)
            return [
                RunListing(
                    run.run_id,
                    run.created_at,
                    run.summary(self.now()),
                    _copied(run.config).extras,
                    run.last_sequence,
                )
                for run in runs
            ]

    def runs_with_doubtful_past(self, *, sent_after: float) -> list[str]:
        with self._lock:
            return sorted(
                run.run_id
                for run in self._runs.values()
                if any((i.record.sending_at or 0.0) > sent_after for i in run.given_up_in_doubt())
            )

    def registered_batches(self, provider_batch_ids: Sequence[str]) -> set[str]:
        with self._lock:
            registered = {batch_id for run in self._runs.values() for batch_id in run.batches}
            return registered.intersection(provider_batch_ids)

    def list_intents(self, *, run_id: str) -> list[IntentRecord]:
        with self._run(run_id) as run:
            return [intent.record for intent in run.intents.values()]

    def get_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        with self._run(run_id) as run:
            return [batch.record for batch in run.batches_in_order()]

    # --- drivers and operators ---------------------------------------------------------------------------------------

    def open_session(
        self, *, run_id: str, owner: DriverIdentity, ttl_sec: float, owner_is_dead: OwnerCheck | None = None
    ) -> DriverSession | None:
        with self._run(run_id) as run:
            lease = run.lease
            holder = lease.owner if lease.is_live(self.now()) else None
            mine = lease.owner is not None and lease.owner.session == owner.session
            if holder is not None and not mine and not (owner_is_dead and owner_is_dead(holder)):
                return None
            lease.epoch += not mine
            lease.owner, lease.expires_at = owner, self.now() + ttl_sec
            return MemorySession(self._runs, run, lock=self._lock, now=self.now)

    def get_lease(self, *, run_id: str) -> LeaseRecord | None:
        with self._run(run_id) as run:
            lease = run.lease
            if lease.owner is None or not lease.is_live(self.now()):
                return None
            return LeaseRecord(lease.owner, lease.epoch, lease.expires_at)

    def reopen_failed_items(self, *, run_id: str) -> int:
        with self._run(run_id) as run:
            return run.reopen_failed()

    def discard_unsent_run(self, *, run_id: str) -> bool:
        with self._run(run_id) as run:
            if run.was_sent or self.get_lease(run_id=run_id) is not None:
                return False
            del self._runs[run_id]
            return True

    def settle_intent(
        self,
        *,
        run_id: str,
        local_batch_id: str,
        decision: IntentDecision,
        provider_batch_id: str | None = None,
    ) -> None:
        with self._run(run_id) as run:
            intent = run.intent_in(local_batch_id, lifecycle.IN_DOUBT)
            lost = intent.record.provider_batch_id is not None
            match decision:
                case "wait":
                    if not lost:
                        raise RunStateError(run_id, f"submission {local_batch_id!r} has no batch to wait for")
                    run.find_again(
                        intent, provider_batch_id=str(intent.record.provider_batch_id), now=self.now()
                    )
                case "adopt":
                    if not provider_batch_id:
                        raise InvalidInputError("adopting a batch needs its provider_batch_id")
                    if lost:
                        run.find_again(intent, provider_batch_id=provider_batch_id, now=self.now())
                    else:
                        run.register(
                            intent, provider_batch_id=provider_batch_id, status="validating", now=self.now()
                        )
                case "resubmit" | "fail":
                    if decision == "fail":
                        run.cancel(_held_by(run, intent), _GIVEN_UP)
                    if lost:
                        run.give_up_batch(intent, f"operator_{decision}", now=self.now())
                    else:
                        run.drop(intent, f"operator_{decision}")
                case _:
                    raise InvalidInputError(
                        f"decision {decision!r} must be one of adopt, wait, resubmit, fail"
                    )


_GIVEN_UP = ItemFailure(
    "submission_unknown", "an operator gave up the batch that this item was sent in", False
)


def _held_by(run: RunRow, intent: IntentRow) -> list[ItemRow]:
    """Items that have no answer for the sake of this submission, in order."""
    batch = run.batches.get(intent.record.provider_batch_id or "")
    return run.owned_by(intent) if batch is None else [run.items[index] for index in sorted(batch.owned)]


def _claimed_by_hand(run: RunRow, item_ids: list[str], *, also_of: str | None = None) -> dict[str, ItemRow]:
    """QUEUED_LOCAL items of these ids that no driver's intent owns; ``also_of`` is register_batch's own."""
    rows = (run.items[run.index_of[item_id]] for item_id in item_ids if item_id in run.index_of)
    return {row.item_id: row for row in rows if run.owns(None, row) or run.owns(also_of, row)}


def _claimed_item(run: RunRow, item: ItemRow) -> ClaimedItem:
    metadata = thawed(item.metadata)
    return ClaimedItem(
        item_id=item.item_id,
        metadata=metadata if isinstance(metadata, dict) else {},
        prompt=item.prompt,
        system_prompt=item.system_prompt,
        attempt_count=item.state.attempt_count,
        request_artifact_path=item.artifact_path,
        request_artifact_line=item.artifact_line,
        request_sha256=item.artifact_sha256,
    )


def _copied(config: PersistedRunConfig) -> PersistedRunConfig:
    """The config with its own copies of what could be changed from outside."""
    schema, extras = thawed(frozen(config.output_schema)), thawed(frozen(config.extras))
    return replace(
        config,
        batch_metadata=dict(config.batch_metadata),
        output_schema=schema if isinstance(schema, dict) else None,
        extras=extras if isinstance(extras, dict) else {},
    )


def _copied_checkpoint(checkpoint: IngestCheckpoint) -> IngestCheckpoint:
    return replace(checkpoint, checkpoint_payload=thawed(frozen(checkpoint.checkpoint_payload)))
