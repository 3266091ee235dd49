"""The model: the state store's contract as plainly as it can be put, which the tests hold the real stores against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from batchor_core.core import lifecycle
from batchor_core.core.admission import Measure
from batchor_core.core.caps import Cap, CapStanding
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.models import RunSummary
from batchor_core.core.queue_limits import QueueLimit, after_refusal, growth
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.types import JSONValue
from batchor_core.storage.records import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    IngestCheckpoint,
    MaterializedItem,
    PersistedItemRecord,
    PersistedRunConfig,
    RequestArtifactPointer,
    ResultRow,
    RetryBackoffState,
    RunArtifactInventory,
    RunListing,
    StoredItem,
)
from batchor_core.storage.rows import record_of
from batchor_core.storage.session import (
    DriverIdentity,
    DriverSession,
    LeaseRecord,
    OwnerCheck,
    SubmissionDecision,
    SubmissionRecord,
)
from tests.support.model_store.by_hand import ModelByHand
from tests.support.model_store.caps import standings
from tests.support.model_store.facts import copied
from tests.support.model_store.run import Run
from tests.support.model_store.session import ModelSession


class ModelStore(ModelByHand):
    """A state store of plain objects, for tests. Every call holds one lock, and looks through everything.

    Args:
        now: Clock for tests; by default the system's.
    """

    supports_leases = True

    # --- caps --------------------------------------------------------------------------------------------------------

    def keep_caps(self, caps: Sequence[Cap], *, by_operator: bool = False) -> None:
        with self._lock:
            for cap in caps:
                self._caps.setdefault((cap.scope, cap.measure.value, cap.per or ""), {})[by_operator] = cap

    def remove_cap(self, cap: Cap) -> bool:
        with self._lock:
            return self._caps.pop((cap.scope, cap.measure.value, cap.per or ""), None) is not None

    def get_cap_standings(self, *, run_id: str) -> list[CapStanding]:
        with self._run(run_id) as run:
            return standings(self.list_caps(), run, self._runs.values(), now=self.now())

    def list_caps(self) -> list[Cap]:
        with self._lock:
            return [known.get(True) or known[False] for _, known in sorted(self._caps.items())]

    # --- queue limits ------------------------------------------------------------------------------------------------

    def get_queue_limit(self, *, key: str) -> QueueLimit | None:
        with self._lock:
            return self._queue_limits.get(key)

    def queue_refused(self, *, run_id: str, key: str, local_batch_id: str) -> None:
        with self._run(run_id) as run:
            if self._refused.get(key) == local_batch_id:
                return
            sharing = [one for one in self._runs.values() if one.config.budget_key == key]
            tried = run.submissions[local_batch_id].record.submission_tokens
            known = self._queue_limits.get(key)
            tokens = after_refusal(
                None if known is None else known.tokens,
                in_flight=sum(one.in_flight(Measure.ENQUEUED_TOKENS) for one in sharing) - tried,
                tried=tried,
            )
            self._refused[key] = local_batch_id
            self._queue_limits[key] = QueueLimit(key, tokens, True, self.now())

    def queue_accepted(self, *, run_id: str, key: str, local_batch_id: str) -> None:
        with self._run(run_id) as run:
            if (known := self._queue_limits.get(key)) is not None:
                more = growth(run.submissions[local_batch_id].record.submission_tokens)
                self._queue_limits[key] = replace(known, tokens=known.tokens + more)

    # --- runs and their items ----------------------------------------------------------------------------------------

    def has_run(self, *, run_id: str) -> bool:
        return run_id in self._runs

    def create_run(self, *, run_id: str, config: PersistedRunConfig, items: list[MaterializedItem]) -> None:
        with self._lock:
            if run_id in self._runs:
                raise RunStateError(run_id, "a run of this id exists")
            run = Run(run_id, config=_copied(config), created_at=self.now())
            run.add(items)
            self._runs[run_id] = run

    def append_items(self, *, run_id: str, items: list[MaterializedItem]) -> None:
        with self._run(run_id) as run:
            run.add(items, compare=True)

    def set_ingest_checkpoint(self, *, run_id: str, checkpoint: IngestCheckpoint) -> None:
        with self._run(run_id) as run:
            run.checkpoint = replace(checkpoint, checkpoint_payload=copied(checkpoint.checkpoint_payload))

    def get_ingest_checkpoint(self, *, run_id: str) -> IngestCheckpoint | None:
        with self._run(run_id) as run:
            known = run.checkpoint
            return known and replace(known, checkpoint_payload=copied(known.checkpoint_payload))

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
            given = [item.given for item in run.items if first_index <= item.index < first_index + count]
        for item in given:
            yield StoredItem(
                item.item_index,
                item.item_id,
                copied(item.metadata),
                item.prompt,
                item.system_prompt,
                item.request_line,
                item.content_address,
            )

    # --- consumption -------------------------------------------------------------------------------------------------

    def get_active_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        with self._run(run_id) as run:
            return [batch.record for batch in run.active]

    def get_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        with self._run(run_id) as run:
            return [batch.record for batch in run.batches]

    # --- artifacts ---------------------------------------------------------------------------------------------------

    def record_request_artifacts(self, *, run_id: str, pointers: list[RequestArtifactPointer]) -> None:
        with self._run(run_id) as run:
            items = run.named(pointer.item_id for pointer in pointers)
            for pointer in pointers:
                if item := items.get(pointer.item_id):
                    item.pointer = pointer

    def get_request_artifact_paths(self, *, run_id: str) -> list[str]:
        with self._run(run_id) as run:
            paths = {item.pointer.artifact_path for item in run.items if item.pointer is not None}
            keys = [one.record.artifact_key for one in run.submissions.values() if one.has_file]
            return sorted(paths | {key for key in keys if key is not None})

    def clear_request_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        with self._run(run_id) as run:
            pointing: set[int] = set()
            for item in run.items:
                if item.pointer is not None and item.pointer.artifact_path in artifact_paths:
                    item.pointer = None
                    pointing.add(item.index)
            for one in run.submissions.values():
                if one.has_file and one.record.artifact_key in artifact_paths:
                    one.record = replace(one.record, artifact_key=None)
                    pointing.update(one.indexes)
            return len(pointing)

    def record_batch_artifacts(self, *, run_id: str, pointers: list[BatchArtifactPointer]) -> None:
        with self._run(run_id) as run:
            for pointer in pointers:
                run.keep_files(pointer)

    def get_artifact_inventory(self, *, run_id: str) -> RunArtifactInventory:
        with self._run(run_id) as run:
            return RunArtifactInventory(
                request_artifact_paths=self.get_request_artifact_paths(run_id=run_id),
                output_artifact_paths=_paths(batch.output_path for batch in run.batches),
                error_artifact_paths=_paths(batch.error_path for batch in run.batches),
                exported_at=run.exported_at,
                export_root=run.export_root,
            )

    def clear_batch_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        with self._run(run_id) as run:
            cleared = [
                batch for batch in run.batches if {batch.output_path, batch.error_path} & set(artifact_paths)
            ]
            for batch in cleared:
                batch.output_path = None if batch.output_path in artifact_paths else batch.output_path
                batch.error_path = None if batch.error_path in artifact_paths else batch.error_path
            return len(cleared)

    def mark_artifacts_exported(self, *, run_id: str, export_root: str) -> None:
        with self._run(run_id) as run:
            run.exported_at, run.export_root = self.now(), export_root

    def get_retry_backoff(self, *, run_id: str) -> RetryBackoffState:
        with self._run(run_id) as run:
            return run.backoff

    # --- reading -----------------------------------------------------------------------------------------------------

    def get_run_summary(self, *, run_id: str) -> RunSummary:
        with self._run(run_id) as run:
            limit = self._queue_limits.get(run.config.budget_key or "")
            return replace(run.summary(self.now()), queue_limit=None if limit is None else limit.tokens)

    def get_item_records(self, *, run_id: str) -> list[PersistedItemRecord]:
        with self._run(run_id) as run:
            return [record_of(item.row()) for item in run.items]

    def get_terminal_item_records(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[PersistedItemRecord]:
        rows = self.get_result_rows(run_id=run_id, after_sequence=after_sequence, limit=limit)
        return [record_of(row) for row in rows]

    def get_result_rows(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[ResultRow]:
        with self._run(run_id) as run:
            rows = [(item.sequence, item.row()) for item in run.with_status(*lifecycle.TERMINAL)]
            after = [(at, row) for at, row in rows if at is not None and at > after_sequence]
            return [row for _, row in sorted(after)][:limit]

    def get_control_reason(self, *, run_id: str) -> str | None:
        with self._run(run_id) as run:
            return run.control_reason

    def list_runs(self) -> list[RunListing]:
        with self._lock:
            oldest_first = sorted(self._runs.values(), key=lambda run: run.created_at)
            now = self.now()
            return [
                RunListing(
                    run.run_id, run.created_at, run.summary(now), copied(run.config.extras), run.last_sequence
                )
                for run in reversed(oldest_first)
            ]

    def runs_with_doubtful_past(self, *, sent_after: float) -> list[str]:
        with self._lock:
            return sorted(
                run.run_id
                for run in self._runs.values()
                for one in run.submissions.values()
                if one.is_given_up_in_doubt and (one.record.sending_at or 0.0) > sent_after
            )

    def registered_batches(self, provider_batch_ids: Sequence[str]) -> set[str]:
        with self._lock:
            registered = {batch.id for run in self._runs.values() for batch in run.batches}
            return registered.intersection(provider_batch_ids)

    def list_submissions(self, *, run_id: str) -> list[SubmissionRecord]:
        with self._run(run_id) as run:
            return [one.record for one in run.submissions.values()]

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
            lease.fencing_token += not mine
            lease.owner, lease.expires_at = owner, self.now() + ttl_sec
            return ModelSession(self._runs, run, lock=self._lock, now=self.now, caps=self.list_caps)

    def get_lease(self, *, run_id: str) -> LeaseRecord | None:
        with self._run(run_id) as run:
            lease = run.lease
            if lease.owner is None or not lease.is_live(self.now()):
                return None
            return LeaseRecord(lease.owner, lease.fencing_token, lease.expires_at)

    def reopen_failed_items(self, *, run_id: str) -> int:
        with self._run(run_id) as run:
            return run.reopen_failed()

    def discard_unsent_run(self, *, run_id: str) -> bool:
        with self._run(run_id) as run:
            if run.was_sent or self.get_lease(run_id=run_id) is not None:
                return False
            del self._runs[run_id]
            return True

    def delete_run(self, *, run_id: str) -> None:
        with self._run(run_id) as run:
            reason = lifecycle.why_kept(
                is_finished=run.summary(self.now()).status is not RunLifecycleStatus.RUNNING,
                was_sent=run.was_sent,
                in_flight=bool(run.active)
                or any(one.record.state in lifecycle.MAYBE_SENT for one in run.submissions.values()),
                is_driven=self.get_lease(run_id=run_id) is not None,
            )
            if reason is not None:
                raise RunStateError(run_id, f"can't delete it: {reason}")
            del self._runs[run_id]

    def settle_submission(
        self,
        *,
        run_id: str,
        local_batch_id: str,
        decision: SubmissionDecision,
        provider_batch_id: str | None = None,
    ) -> None:
        with self._run(run_id) as run:
            submission = run.submission(local_batch_id, lifecycle.IN_DOUBT)
            run.settle(submission, decision, provider_batch_id, now=self.now())


def _paths(paths: Iterator[str | None]) -> list[str]:
    return sorted({path for path in paths if path is not None})


def _copied(config: PersistedRunConfig) -> PersistedRunConfig:
    """The config with its own copies of what could be changed from outside."""
    return replace(
        config,
        batch_metadata=dict(config.batch_metadata),
        output_schema=copied(config.output_schema),
        extras=copied(config.extras),
    )
