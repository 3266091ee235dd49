"""The documented part of a state store: thirty-six small methods that are easy to implement."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from batchor_core.core.enums import RunControlState
from batchor_core.core.models import ItemFailure, RunSummary
from batchor_core.core.types import JSONValue
from batchor_core.storage.records import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    ClaimedItem,
    CompletedItemRecord,
    IngestCheckpoint,
    ItemFailureRecord,
    MaterializedItem,
    PersistedItemRecord,
    PersistedRunConfig,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
    RetryBackoffState,
    RunArtifactInventory,
)


class DocumentedStore(ABC):
    """The methods that every store has.

    Each call is one transaction, and safe to repeat. Those that name a run raise
    :class:`~batchor_core.core.exceptions.RunNotFoundError` if there is none.
    """

    @abstractmethod
    def has_run(self, *, run_id: str) -> bool:
        """Whether the run exists."""

    @abstractmethod
    def create_run(self, *, run_id: str, config: PersistedRunConfig, items: list[MaterializedItem]) -> None:
        """Create a run with its first items, completely or not at all.

        Raises:
            RunStateError: A run of this id exists.
            DuplicateItemError: An id occurs twice in ``items``.
        """

    @abstractmethod
    def append_items(self, *, run_id: str, items: list[MaterializedItem]) -> None:
        """Add items, all or none. An item that is already stored with the same content is skipped.

        Raises:
            DuplicateItemError: An id is there under another index, or twice in ``items``.
            RunStateError: An index is there with another id, prompt, request line or metadata, or twice in ``items``.
        """

    @abstractmethod
    def set_ingest_checkpoint(self, *, run_id: str, checkpoint: IngestCheckpoint) -> None:
        """Store the source and the checkpoint where reading begins."""

    @abstractmethod
    def get_ingest_checkpoint(self, *, run_id: str) -> IngestCheckpoint | None:
        """How far the source has been read; None if nothing was stored."""

    @abstractmethod
    def update_ingest_checkpoint(
        self,
        *,
        run_id: str,
        next_item_index: int,
        checkpoint_payload: JSONValue | None = None,
        ingestion_complete: bool,
    ) -> None:
        """Move the checkpoint after a chunk of items."""

    @abstractmethod
    def get_run_config(self, *, run_id: str) -> PersistedRunConfig:
        """The stored job."""

    @abstractmethod
    def get_run_control_state(self, *, run_id: str) -> RunControlState:
        """What the operator has requested for the run."""

    @abstractmethod
    def set_run_control_state(self, *, run_id: str, control_state: RunControlState) -> None:
        """Store the operator's request; clears the reason of a self-pause."""

    @abstractmethod
    def claim_items_for_submission(
        self, *, run_id: str, max_attempts: int, limit: int | None = None
    ) -> list[ClaimedItem]:
        """Move claimable items (PENDING, FAILED_RETRYABLE, attempts left) to QUEUED_LOCAL, in item order.

        Two claimers never get the same item.
        """

    @abstractmethod
    def release_items_to_pending(self, *, run_id: str, item_ids: list[str]) -> None:
        """Release claimed items; others are not changed."""

    @abstractmethod
    def requeue_local_items(self, *, run_id: str) -> int:
        """Release what a dead driver had claimed; returns the number of items.

        Touches nothing that a live driver holds, nothing that may have been sent, and repairs items whose batch is
        registered.
        """

    @abstractmethod
    def record_request_artifacts(self, *, run_id: str, pointers: list[RequestArtifactPointer]) -> None:
        """Store where the request lines of items are."""

    @abstractmethod
    def get_request_artifact_paths(self, *, run_id: str) -> list[str]:
        """Keys of the request artifacts, each once, sorted."""

    @abstractmethod
    def clear_request_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        """Forget request artifacts; returns the number of items that pointed there."""

    @abstractmethod
    def record_batch_artifacts(self, *, run_id: str, pointers: list[BatchArtifactPointer]) -> None:
        """Store where the raw files of batches are; a None path keeps the stored one."""

    @abstractmethod
    def get_artifact_inventory(self, *, run_id: str) -> RunArtifactInventory:
        """Every artifact of the run."""

    @abstractmethod
    def clear_batch_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        """Forget raw files; returns the number of batch rows that pointed there."""

    @abstractmethod
    def mark_artifacts_exported(self, *, run_id: str, export_root: str) -> None:
        """Record that the artifacts were exported, where to and when."""

    @abstractmethod
    def register_batch(
        self, *, run_id: str, local_batch_id: str, provider_batch_id: str, status: str, custom_ids: list[str]
    ) -> None:
        """Record a created batch and its custom_ids. May be repeated."""

    @abstractmethod
    def mark_items_submitted(
        self, *, run_id: str, provider_batch_id: str, submissions: list[PreparedSubmission]
    ) -> None:
        """QUEUED_LOCAL -> SUBMITTED in this batch."""

    @abstractmethod
    def update_batch_status(
        self,
        *,
        run_id: str,
        provider_batch_id: str,
        status: str,
        output_file_id: str | None = None,
        error_file_id: str | None = None,
    ) -> None:
        """Store a polled status; None leaves a stored file id; a terminal status is never taken back."""

    @abstractmethod
    def get_active_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        """Batches that are not terminal or still own SUBMITTED items, oldest first."""

    @abstractmethod
    def get_submitted_custom_ids_for_batch(self, *, run_id: str, provider_batch_id: str) -> list[str]:
        """custom_ids of the items that the batch still owns, in item order."""

    @abstractmethod
    def mark_items_completed(self, *, run_id: str, completions: list[CompletedItemRecord]) -> None:
        """SUBMITTED -> COMPLETED with the next terminal sequences. Others are not changed."""

    @abstractmethod
    def mark_items_failed(self, *, run_id: str, failures: list[ItemFailureRecord], max_attempts: int) -> None:
        """SUBMITTED -> FAILED_RETRYABLE or FAILED_PERMANENT, by the rules of ``core.lifecycle``.

        A record with ``count_attempt`` False sends its item back without using up an attempt.
        """

    @abstractmethod
    def mark_queued_items_failed(
        self, *, run_id: str, failures: list[QueuedItemFailureRecord], max_attempts: int
    ) -> None:
        """The same for QUEUED_LOCAL items, which have no batch."""

    @abstractmethod
    def reset_batch_items_to_pending(
        self, *, run_id: str, provider_batch_id: str, error: ItemFailure
    ) -> None:
        """Send every item that the batch still owns back, no attempt counted; keeps ``error`` as the last one."""

    @abstractmethod
    def get_active_submitted_token_estimate(self, *, run_id: str) -> int:
        """Estimated tokens of the SUBMITTED items."""

    @abstractmethod
    def record_batch_retry_failure(
        self, *, run_id: str, error_class: str, base_delay_sec: float, max_delay_sec: float
    ) -> RetryBackoffState:
        """Count a failure of the control plane and advance the backoff."""

    @abstractmethod
    def clear_batch_retry_backoff(self, *, run_id: str) -> None:
        """Reset the consecutive failures and the backoff; the total stays."""

    @abstractmethod
    def get_batch_retry_backoff_remaining_sec(self, *, run_id: str) -> float:
        """Seconds until the next submission may leave, 0.0 when none is held back."""

    @abstractmethod
    def get_run_summary(self, *, run_id: str) -> RunSummary:
        """The state of the run. Reads only."""

    @abstractmethod
    def get_item_records(self, *, run_id: str) -> list[PersistedItemRecord]:
        """Every item in item order. Grows with the run."""

    @abstractmethod
    def get_terminal_item_records(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[PersistedItemRecord]:
        """Terminal items whose sequence is above ``after_sequence``, in sequence order."""

    @abstractmethod
    def mark_nonterminal_items_cancelled(self, *, run_id: str, error: ItemFailure) -> int:
        """End every item that is not terminal with ``error``; returns how many."""

    # --- with a default ----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The store's clock: seconds since the epoch, by the database's clock if there is one."""
        return time.time()
