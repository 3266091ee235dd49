"""A run of the model. Nothing is counted along the way and no index is kept: whatever is asked is looked for.

A method either raises before it changes anything, or succeeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from batchor_core.core import lifecycle
from batchor_core.core.admission import Measure, Place
from batchor_core.core.caps import labels_of
from batchor_core.core.enums import ItemStatus, RunControlState, SubmissionState
from batchor_core.core.exceptions import InvalidInputError, RunStateError
from batchor_core.core.models import ItemFailure, RunSummary
from batchor_core.core.pricing import cost_of
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.retry import backoff_delay, is_due
from batchor_core.core.trouble import trouble
from batchor_core.core.types import JSONValue
from batchor_core.storage.late_batches import NOTHING_LATE, late_fields, waiting_begins_again
from batchor_core.storage.records import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    IngestCheckpoint,
    PersistedRunConfig,
    RetryBackoffState,
)
from batchor_core.storage.session import BatchEnd, ResultsWait, SubmissionDecision, SubmissionRecord
from tests.support.model_store.facts import Batch, Item, Lease, Submission, copied
from tests.support.model_store.items import RunItems, amount, unpriced

_SETTLED: dict[str, Any] = {"quarantined": False, "quarantine_cause": None}
_GIVEN_UP = ItemFailure(
    "submission_unknown", "an operator gave up the batch that this item was sent in", retryable=False
)


@dataclass(slots=True)
class Run(RunItems):
    """A run with everything that belongs to it."""

    config: PersistedRunConfig = field(kw_only=True)
    created_at: float = field(kw_only=True)
    control_state: RunControlState = RunControlState.RUNNING
    control_reason: str | None = None
    checkpoint: IngestCheckpoint | None = None
    lease: Lease = field(default_factory=Lease)
    backoff: RetryBackoffState = field(default_factory=RetryBackoffState)
    place: Place | None = None
    orphan_batches: int = 0
    cost_notes: list[str] = field(default_factory=list)
    exported_at: float | None = None
    export_root: str | None = None
    submissions: dict[str, Submission] = field(default_factory=dict)
    rendered: dict[int, RenderedChunk] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """What caps may be for."""
        return labels_of(self.run_id, tags=self.config.batch_metadata, extras=self.config.extras)

    # --- submissions -------------------------------------------------------------------------------------------------

    def submission(self, local_batch_id: str, allowed: Sequence[SubmissionState]) -> Submission:
        """The submission, if it is in one of these states, or RunStateError."""
        found = self.submissions.get(local_batch_id)
        if found is None:
            raise RunStateError(self.run_id, f"no submission {local_batch_id!r}")
        if found.record.state not in allowed:
            raise RunStateError(self.run_id, f"submission {local_batch_id!r} is {found.record.state}")
        return found

    def drop(self, submission: Submission, error_class: str) -> int:
        """The submission's batch does not exist: free its items; returns how many."""
        record = submission.record
        items = [item for item in self.items if item.is_queued_by(submission)]
        for item in items:
            self.release(item, used_custom_id=record.sending_at is not None)
        # of a dropped submission this says that there was doubt; about a postponed one there was none
        next_check_at = None if record.state in lifecycle.UNSENT else record.next_check_at
        submission.record = replace(
            record, state=SubmissionState.DROPPED, last_error_class=error_class, next_check_at=next_check_at
        )
        return len(items)

    def register(self, submission: Submission, batch_id: str, status: str, *, now: float) -> None:
        """The submission's batch exists: record it and submit its items."""
        self._check_new(batch_id)
        record = submission.record
        submission.batch = Batch(
            ActiveBatchRecord(
                batch_id,
                status,
                local_batch_id=record.local_batch_id,
                input_file_id=record.input_file_id,
                item_count=record.item_count,
                created_at=now,
            )
        )
        submission.record = replace(record, state=SubmissionState.REGISTERED, provider_batch_id=batch_id)
        self.backoff = replace(self.backoff, last_error_message=None)  # submission works
        self._hand_over(submission)

    def _hand_over(self, submission: Submission) -> None:
        for item in self.items:
            if item.is_queued_by(submission):
                self.move(item, lifecycle.submitted(item.state))

    def _check_new(self, batch_id: str) -> None:
        if any(batch.id == batch_id for batch in self.batches):
            raise RunStateError(self.run_id, f"batch {batch_id!r} belongs to another submission")

    def register_by_hand(
        self, local_batch_id: str, batch_id: str, status: str, custom_ids: Sequence[str], *, now: float
    ) -> None:
        """Record a batch that was created outside of a driver session, and give it the items it names.

        They stay QUEUED_LOCAL until they are marked submitted; after a crash, requeueing does that.
        """
        if any(batch.id == batch_id for batch in self.batches):
            return
        if local_batch_id in self.submissions:
            raise RunStateError(self.run_id, f"submission {local_batch_id!r} exists")
        record = SubmissionRecord(
            local_batch_id, SubmissionState.REGISTERED, fencing_token=0, item_count=len(custom_ids), submission_tokens=0,
            created_at=now,
        )  # fmt: skip
        submission = self.submissions[local_batch_id] = Submission(record)
        self.register(submission, batch_id, status, now=now)
        members = [item for item in self.queued_by_hand() if item.custom_id in custom_ids]
        for item in members:
            item.submission = submission

    def settle(
        self, submission: Submission, decision: SubmissionDecision, batch_id: str | None, *, now: float
    ) -> None:
        """An operator's word on a submission that waits for one."""
        batch, error_class = submission.batch, f"operator_{decision}"
        match decision:
            case "wait":
                if batch is None:
                    raise RunStateError(self.run_id, "the submission has no batch to wait for")
                self._find_again(submission, batch, batch.id, now=now)
            case "adopt":
                if not batch_id:
                    raise InvalidInputError("adopting a batch needs its provider_batch_id")
                if batch is None:
                    self.register(submission, batch_id, "validating", now=now)
                else:
                    self._find_again(submission, batch, batch_id, now=now)
            case "resubmit" | "fail":
                if decision == "fail":
                    held = [item for item in self.items if item.submission is submission]
                    self.cancel(held, _GIVEN_UP)
                if batch is None:
                    self.drop(submission, error_class)
                else:
                    self._give_up(submission, batch, error_class, now=now)
            case _:
                raise InvalidInputError(f"decision {decision!r} must be one of adopt, wait, resubmit, fail")

    def _find_again(self, submission: Submission, batch: Batch, batch_id: str, *, now: float) -> None:
        known = batch.record
        changes = _SETTLED | waiting_begins_again(ended_at=known.ended_at, due_at=known.due_at, now=now)
        if batch_id != batch.id:
            self._check_new(batch_id)
            changes |= {"provider_batch_id": batch_id, "status": "validating", "due_at": None, **NOTHING_LATE}
            changes |= {"output_file_id": None, "error_file_id": None, "stated_completed": None}
        batch.record = replace(known, poll_error=None, **changes)
        submission.record = replace(
            submission.record, state=SubmissionState.REGISTERED, provider_batch_id=batch_id
        )

    def _give_up(self, submission: Submission, batch: Batch, error_class: str, *, now: float) -> None:
        """What the batch still owns comes back. One that is over stays on record; any other may turn up after all."""
        for item in self.owned_by(batch):
            self.release(item, used_custom_id=True)
        changes: dict[str, Any] = {"state": SubmissionState.REGISTERED}
        if not batch.is_over:
            batch.record = replace(batch.record, status=lifecycle.LOST_BATCH)
            changes = {"state": SubmissionState.DROPPED, "next_check_at": now}
        batch.record = replace(batch.record, **NOTHING_LATE, **_SETTLED)
        submission.record = replace(submission.record, last_error_class=error_class, **changes)

    def requeue_local(self) -> int:
        """Free what was claimed and certainly not sent; finish the registration of what was sent."""
        freed = 0
        for submission in self.submissions.values():
            if submission.record.state in lifecycle.UNSENT and not submission.record.is_postponed:
                freed += self.drop(submission, "driver_lost")
            elif submission.record.state is SubmissionState.REGISTERED:
                self._hand_over(submission)
        for item in self.queued_by_hand():
            self.release(item, used_custom_id=False)
            freed += 1
        return freed

    # --- batches -----------------------------------------------------------------------------------------------------

    @property
    def batches(self) -> list[Batch]:
        """Batches in the order in which their submissions were begun."""
        return [one.batch for one in self.submissions.values() if one.batch is not None]

    def batch(self, batch_id: str) -> Batch:
        """The batch of this id, or RunStateError."""
        found = next((batch for batch in self.batches if batch.id == batch_id), None)
        if found is None:
            raise RunStateError(self.run_id, f"no batch {batch_id!r} is registered")
        return found

    def owned_by(self, batch: Batch) -> list[Item]:
        """Items that are SUBMITTED in the batch."""
        return [item for item in self.items if item.is_in(batch)]

    @property
    def active(self) -> list[Batch]:
        """Batches of which something is still to come."""
        return [batch for batch in self.batches if not batch.is_over or self.owned_by(batch)]

    def poll(
        self,
        batch: Batch,
        *,
        status: str,
        output_file_id: str | None,
        error_file_id: str | None,
        due_at: float | None = None,
        next_poll_at: float = 0.0,
        stated_completed: int | None = None,
        **more: Any,
    ) -> None:
        """Keep what a poll said. A final status stays, and what is missing now, or stated lower, does not undo what was said."""
        batch.keep_stated(stated_completed)
        known = batch.record
        batch.record = replace(
            known,
            status=known.status if batch.is_over else status,
            output_file_id=output_file_id or known.output_file_id,
            error_file_id=error_file_id or known.error_file_id,
            due_at=known.due_at if due_at is None else due_at,
            poll_failures=0,
            poll_error=None,
            next_poll_at=next_poll_at,
            **more,
        )

    def keep_files(self, pointer: BatchArtifactPointer) -> None:
        """Keep where a batch's result files lie; what the pointer leaves out stays."""
        batch = self.batch(pointer.provider_batch_id)
        batch.output_path = pointer.output_artifact_path or batch.output_path
        batch.error_path = pointer.error_artifact_path or batch.error_path

    def wait_for(self, batch: Batch, wait: ResultsWait) -> None:
        """Keep what is waited for of a batch that is over."""
        self.poll(
            batch,
            status=wait.status,
            output_file_id=wait.output_file_id,
            error_file_id=wait.error_file_id,
            next_poll_at=wait.next_poll_at,
            stated_completed=wait.stated_completed,
            **late_fields(wait),
        )

    def end(self, batch: Batch, end: BatchEnd, *, now: float) -> None:
        """Keep a batch's final state, and when it ended; nobody has to decide about it any more."""
        known = batch.record.ended_at
        changes = NOTHING_LATE | _SETTLED | {"ended_at": now if known is None else known}
        self.poll(batch, status=end.status, output_file_id=None, error_file_id=None, **changes)
        self.cost_notes += [note for note in end.cost_notes if note not in self.cost_notes]
        submission = self.submissions[batch.record.local_batch_id]
        if submission.record.state is SubmissionState.QUARANTINED:
            submission.record = replace(submission.record, state=SubmissionState.REGISTERED)

    def reopen_failed(self) -> int:
        """Make permanently failed items PENDING, their results withdrawn."""
        items = self.with_status(ItemStatus.FAILED_PERMANENT)
        for item in items:
            item.sequence = item.error = item.answer = None
            item.repairs = int(item.next_request is not None)
            self.move(item, lifecycle.reopened(item.state))
        self.control_state, self.control_reason = RunControlState.RUNNING, None
        return len(items)

    # --- the run as a whole ------------------------------------------------------------------------------------------

    def tokens(self, *statuses: ItemStatus) -> int:
        """Estimated tokens of the items in these."""
        return sum(item.tokens for item in self.with_status(*statuses))

    def in_flight(self, measure: Measure) -> int:
        """What the run has in flight, as an allowance counts it."""
        match measure:
            case Measure.ENQUEUED_TOKENS:
                return self.tokens(*lifecycle.IN_FLIGHT)
            case _:
                assert_never(measure)

    @property
    def can_send_more(self) -> bool:
        """Whether the run has items to send, and is not paused or cancelled."""
        return bool(self.with_status(*lifecycle.CLAIMABLE)) and self.control_state is RunControlState.RUNNING

    @property
    def ingestion_complete(self) -> bool:
        """Whether all items are read. A run without a checkpoint got all its items when it was created, or is a torso."""
        return bool(self.by_index) if self.checkpoint is None else self.checkpoint.ingestion_complete

    def move_checkpoint(
        self, *, next_item_index: int, payload: JSONValue | None, ingestion_complete: bool
    ) -> None:
        """Say how far reading has come."""
        self.checkpoint = replace(
            self.checkpoint or IngestCheckpoint(source_kind="", source_ref="", source_fingerprint=""),
            next_item_index=next_item_index,
            checkpoint_payload=copied(payload),
            ingestion_complete=ingestion_complete,
        )

    def backoff_remaining(self, now: float) -> float:
        """Seconds until the next submission may leave."""
        at = self.backoff.next_retry_at or 0.0
        return 0.0 if is_due(at, now, longest=self.backoff.backoff_sec) else at - now

    def count_failure(
        self, *, error_class: str, base_sec: float, max_sec: float, now: float, message: str | None = None
    ) -> RetryBackoffState:
        """Advance the backoff, without the databases' jitter."""
        failures = self.backoff.consecutive_failures + 1
        delay = backoff_delay(failures=failures, base_sec=base_sec, max_sec=max_sec, jitter=0.5)
        self.backoff = RetryBackoffState(
            failures, self.backoff.total_failures + 1, delay, now + delay, error_class, message
        )
        return self.backoff

    def clear_backoff(self) -> None:
        """The control plane works again."""
        self.backoff = RetryBackoffState(total_failures=self.backoff.total_failures)

    @property
    def was_sent(self) -> bool:
        """Whether any batch of the run exists, or may have been asked for."""
        sent = [one.record.sending_at is not None for one in self.submissions.values()]
        return bool(self.batches) or any(sent)

    def summary(self, now: float) -> RunSummary:
        """Where the run stands."""
        found = Counter(item.status for item in self.items)
        counts = {status: found[status] for status in ItemStatus}
        states = [one.record.state for one in self.submissions.values()]
        active = self.active
        status = lifecycle.run_status(counts, ingestion_complete=self.ingestion_complete)
        return RunSummary(
            run_id=self.run_id,
            status=status,
            control_state=self.control_state,
            total_items=len(self.items),
            completed_items=counts[ItemStatus.COMPLETED],
            failed_items=counts[ItemStatus.FAILED_PERMANENT],
            status_counts=counts,
            active_batches=len(active),
            backoff_remaining_sec=self.backoff_remaining(now),
            control_reason=self.control_reason,
            ingestion_complete=self.ingestion_complete,
            usage=self.usage,
            estimated_tokens=self.tokens(*lifecycle.IN_FLIGHT),
            unknown_batches=states.count(SubmissionState.UNKNOWN),
            quarantined_batches=states.count(SubmissionState.QUARANTINED),
            orphan_batches=self.orphan_batches,
            late_batches=sum(batch.record.ended_at is not None for batch in active),
            late_rows=sum(batch.record.late_rows for batch in active),
            overdue_batches=sum(
                not batch.is_over and batch.record.due_at is not None and batch.record.due_at < now
                for batch in active
            ),
            created_at=self.created_at,
            repairs=self.repairs,
            repaired_items=self.repaired_items,
            cost=cost_of(amount(self.answers), unpriced=unpriced(self.answers), notes=self.cost_notes),
            trouble=trouble(
                status,
                self.control_state,
                submit_failures=self.backoff.consecutive_failures,
                submit_error=self.backoff.last_error_message,
                submit_retry_at=self.backoff.next_retry_at,
                poll_failures=max((batch.record.poll_failures for batch in active), default=0),
                poll_error=min(
                    (batch.record.poll_error for batch in active if batch.record.poll_error), default=None
                ),
                poll_retry_at=min(
                    (batch.record.next_poll_at for batch in active if batch.record.poll_failures),
                    default=None,
                ),
            ),
        )
