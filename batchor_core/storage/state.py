"""The state store: what every backend can do.

There are two surfaces: the documented methods, see ``documented_store``, and the sessions that the engine drives runs
through, see ``session``. This module also exports everything that the methods of your own store take and return.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from batchor_core.core.caps import Cap, CapStanding
from batchor_core.core.queue_limits import QueueLimit
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.spending import SpentBatch
from batchor_core.storage.documented_store import DocumentedStore
from batchor_core.storage.planning_reads import PlanningReads
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
    RawResponseRef,
    RequestArtifactPointer,
    ResultRow,
    RetryBackoffState,
    RunArtifactInventory,
    RunListing,
    StoredItem,
    request_bytes,
)
from batchor_core.storage.rows import row_of
from batchor_core.storage.session import (
    AppliedOutcome,
    BatchEnd,
    Candidate,
    DriverIdentity,
    DriverSession,
    LeaseRecord,
    OwnerCheck,
    RequestDraft,
    ResultsWait,
    SubmissionDecision,
    SubmissionRecord,
)
from batchor_core.storage.third_party import ThirdPartySession
from batchor_core.storage.third_party_book import rendered_in_this_process

__all__ = [
    "ActiveBatchRecord",
    "AppliedOutcome",
    "BatchArtifactPointer",
    "BatchEnd",
    "Candidate",
    "ClaimedItem",
    "CompletedItemRecord",
    "DriverIdentity",
    "DriverSession",
    "IngestCheckpoint",
    "ItemFailureRecord",
    "LeaseRecord",
    "MaterializedItem",
    "OwnerCheck",
    "PersistedItemRecord",
    "PersistedRunConfig",
    "PreparedSubmission",
    "QueuedItemFailureRecord",
    "RawResponseRef",
    "RequestArtifactPointer",
    "RequestDraft",
    "ResultRow",
    "ResultsWait",
    "RetryBackoffState",
    "RunArtifactInventory",
    "RunListing",
    "StateStore",
    "StoredItem",
    "SubmissionDecision",
    "SubmissionRecord",
    "request_bytes",
]


class StateStore(DocumentedStore):
    """A store of runs.

    For your own store, implement the abstract methods. The methods defined here have working defaults: override them
    for leases, for speed, or for the extra figures.
    """

    supports_leases: bool = False
    """Whether several drivers may share a run. If False, only one process at a time may drive it."""

    supports_reuse: bool = False
    """Whether runs may get answers of other runs, see ``BatchJob.reuse``."""

    def get_result_rows(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[ResultRow]:
        """:meth:`get_terminal_item_records` without decoding; pages, exports and tables are made from it."""
        records = self.get_terminal_item_records(run_id=run_id, after_sequence=after_sequence, limit=limit)
        return [row_of(record) for record in records]

    def get_rendered_chunks(self, *, run_id: str) -> list[RenderedChunk]:
        """The digests that were given with the items, in item order; here those of this process.

        Items of earlier builds have none.
        """
        return rendered_in_this_process(self, run_id)

    def has_row_options(self, *, run_id: str) -> bool:
        """Whether items of the run have request options of their own, as far as is known."""
        return any(chunk.has_options for chunk in self.get_rendered_chunks(run_id=run_id))

    def iter_stored_items(self, *, run_id: str, first_index: int, count: int) -> Iterator[StoredItem]:
        """Items from an index on, as they were stored; by default without their requests."""
        for record in self.get_item_records(run_id=run_id):
            if first_index <= record.item_index < first_index + count:
                yield StoredItem(record.item_index, record.item_id, record.metadata)

    def can_follow(self, *, run_id: str) -> bool:
        """Whether an item that waits for an equal one would not wait any longer; False where none do."""
        return False

    def open_session(
        self, *, run_id: str, owner: DriverIdentity, ttl_sec: float, owner_is_dead: OwnerCheck | None = None
    ) -> DriverSession | None:
        """Take the run's lease and return the session to drive it with; None while another live driver holds it.

        A lease is free if it was given up, has expired by the store's clock or belongs to the same ``owner.session``,
        or if ``owner_is_dead`` returns True for its holder. A take-over increases the fencing token; renewing it does
        not.
        """
        return ThirdPartySession(self, run_id)

    def get_lease(self, *, run_id: str) -> LeaseRecord | None:
        """Who drives the run now, or None."""
        return None

    def get_control_reason(self, *, run_id: str) -> str | None:
        """Why the run paused itself, or None."""
        return None

    def list_runs(self) -> list[RunListing]:
        """Every run, newest first. Stores without a list of runs raise NotImplementedError."""
        raise NotImplementedError(f"{type(self).__name__} can't list its runs")

    def list_submissions(self, *, run_id: str) -> list[SubmissionRecord]:
        """Every submission of a run, oldest first; empty if the store does not keep them."""
        return []

    def get_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        """Every batch of a run, finished ones included; by default only the active ones."""
        return self.get_active_batches(run_id=run_id)

    def registered_batches(self, provider_batch_ids: Sequence[str]) -> set[str]:
        """Those of these batches that any run of the store has registered; none if the store can't look them up."""
        return set()

    def runs_with_doubtful_past(self, *, sent_after: float) -> list[str]:
        """Runs with a submission that was sent after this moment and given up without certainty (see ``runtime.forgotten_batches``)."""
        return []

    def get_retry_backoff(self, *, run_id: str) -> RetryBackoffState:
        """The control plane's backoff state."""
        return RetryBackoffState(backoff_sec=self.get_batch_retry_backoff_remaining_sec(run_id=run_id))

    def get_spent(self, *, since: float | None = None, until: float | None = None) -> list[SpentBatch]:
        """What each batch has cost that was created from ``since`` until before ``until``.

        Stores that keep no amounts raise NotImplementedError.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no amounts")

    def keep_caps(self, caps: Sequence[Cap], *, by_operator: bool = False) -> None:
        """Store caps, or other limits of caps that are there. What an operator has set counts before what the code says.

        Stores that keep no amounts raise NotImplementedError, unless there are no caps.
        """
        if caps:
            raise NotImplementedError(f"{type(self).__name__} can't keep caps")

    def remove_cap(self, cap: Cap) -> bool:
        """Remove a cap of this scope, measure and time, whatever its limit; says whether it was there."""
        return False

    def get_cap_standings(self, *, run_id: str) -> list[CapStanding]:
        """The caps that hold for a run, and how far they are used; none if the store keeps none."""
        return []

    def get_queue_limit(self, *, key: str) -> QueueLimit | None:
        """What refused batches have shown of an account and model (``core.queue_limits``). A store without it knows nothing."""
        return None

    def queue_refused(self, *, run_id: str, key: str, local_batch_id: str) -> None:
        """A batch was refused since too many tokens wait; its items still count as in flight. May be repeated."""

    def queue_accepted(self, *, run_id: str, key: str, local_batch_id: str) -> None:
        """A batch was run, so that a known limit grows. Writes nothing where none is known."""

    def list_caps(self) -> list[Cap]:
        """Every cap, with the limit that counts; none if the store keeps none."""
        return []

    def reopen_failed_items(self, *, run_id: str) -> int:
        """Make every FAILED_PERMANENT item PENDING again, its attempts forgotten and its result withdrawn.

        For operators who want failed rows tried once more. Returns how many. The run is RUNNING again.
        """
        raise NotImplementedError(f"{type(self).__name__} can't reopen items")

    def discard_unsent_run(self, *, run_id: str) -> bool:
        """Remove a run completely if nothing of it was sent to a provider and no driver holds it; returns whether it
        did.

        For runs whose items could not be read. A store that can't decide keeps the run.
        """
        return False

    def delete_run(self, *, run_id: str) -> None:
        """Remove a run wholly, its results too. Its files are the caller's to delete, before this.

        Raises:
            RunStateError: It is driven, batches of it may be at the provider, or it was sent and is not finished; see
                ``core.lifecycle.why_kept``. Nothing was removed.
        """
        raise NotImplementedError(f"{type(self).__name__} can't delete runs")

    def settle_submission(
        self,
        *,
        run_id: str,
        local_batch_id: str,
        decision: SubmissionDecision,
        provider_batch_id: str | None = None,
    ) -> None:
        """Apply an operator's decision about a QUARANTINED (or UNKNOWN) submission.

        ``adopt`` registers ``provider_batch_id``, ``resubmit`` frees the items for a new batch, ``fail`` ends them. If
        a batch was registered and then lost, its own id may be adopted again; ``wait`` does the same without an id, and
        restarts the wait for a late batch.

        Raises:
            RunStateError: The submission does not need a decision, or the batch belongs to another submission.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no submissions")

    def planning_reads(self) -> PlanningReads:
        """What a plan reads of the store; by default nothing."""
        return PlanningReads()

    def artifact_root(self) -> Path | None:
        """Default folder for the files of the store's runs; None for a temporary folder."""
        return Path.home() / ".batchor" / "artifacts"

    def close(self) -> None:
        """Release connections. The store must not be used afterwards."""
