"""What the model keeps of items, submissions, batches and leases: plain objects that point at each other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from batchor_core.core import lifecycle
from batchor_core.core.caps import Reservation
from batchor_core.core.enums import ItemStatus, SubmissionState
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure
from batchor_core.core.retry import LONGEST_LEASE_SEC, is_due
from batchor_core.storage.columns import (
    decode_optional_json,
    encode_failure,
    encode_json,
    encode_optional_json,
    pack_response,
    raw_columns,
    usage_columns,
)
from batchor_core.storage.records import (
    ActiveBatchRecord,
    CompletedItemRecord,
    ItemFailureRecord,
    MaterializedItem,
    NextRequest,
    RequestArtifactPointer,
    ResultRow,
    request_bytes,
)
from batchor_core.storage.session import DriverIdentity, SubmissionRecord

_NEW = ItemState(ItemStatus.PENDING, attempt_count=0, generation=0)


def copied(value: Any) -> Any:
    """JSON with no part in common with what the caller holds; refuses what is not JSON."""
    return decode_optional_json(encode_optional_json(value))


@dataclass(slots=True)
class Batch:
    """A registered batch."""

    record: ActiveBatchRecord
    output_path: str | None = None
    error_path: str | None = None
    answers: list[CompletedItemRecord | ItemFailureRecord] = field(default_factory=list)

    @property
    def id(self) -> str:
        """What the provider calls it."""
        return self.record.provider_batch_id

    @property
    def is_over(self) -> bool:
        """Whether the provider does nothing more about it."""
        return lifecycle.is_terminal_batch(self.record.status)

    def keep_stated(self, stated: int | None) -> None:
        """Keep how many answered rows were stated at the most."""
        if stated is not None and stated > (self.record.stated_completed or 0):
            self.record = replace(self.record, stated_completed=stated)


@dataclass(slots=True)
class Submission:
    """A submission, the items it was made for in line order, and its batch once there is one."""

    record: SubmissionRecord
    indexes: tuple[int, ...] = ()
    batch: Batch | None = None
    reservation: Reservation | None = None

    @property
    def has_file(self) -> bool:
        """Whether its request file is there to be exported: a dropped submission's file is thrown away."""
        return bool(self.record.sha256) and self.record.state is not SubmissionState.DROPPED

    @property
    def is_given_up_in_doubt(self) -> bool:
        """Whether nobody knows for certain that it has no batch."""
        return self.record.state is SubmissionState.DROPPED and self.record.next_check_at is not None


@dataclass(slots=True)
class Item:
    """One item: the submission that holds it or brought it into its batch, and its last answer with the batch it is from."""

    given: MaterializedItem
    tokens: int
    state: ItemState = _NEW
    custom_id: str | None = None
    submission: Submission | None = None
    pointer: RequestArtifactPointer | None = None
    sequence: int | None = None
    error: ItemFailure | None = None
    answer: CompletedItemRecord | ItemFailureRecord | None = None
    answered_in: Batch | None = None
    repairs: int = 0
    next_request: NextRequest | None = None
    """What it asks next instead of its own request, whose tokens are then in ``own_tokens``."""
    own_tokens: int = 0
    amounts: list[int] = field(default_factory=list)
    """What its attempts have cost, in picodollars, where that is known."""

    @property
    def index(self) -> int:
        """Its place in the source."""
        return self.given.item_index

    @property
    def status(self) -> ItemStatus:
        """Where it stands."""
        return self.state.status

    @property
    def size_bytes(self) -> int:
        """The most bytes of its next request."""
        return request_bytes(self.given) if self.next_request is None else self.next_request.request_bytes

    def is_queued_by(self, submission: Submission | None) -> bool:
        """Whether the submission holds it unsent; None for a claim by hand."""
        return self.status is ItemStatus.QUEUED_LOCAL and self.submission is submission

    def is_in(self, batch: Batch | None) -> bool:
        """Whether the batch owns it; None for any batch."""
        if self.status is not ItemStatus.SUBMITTED or self.submission is None:
            return False
        return batch is None or self.submission.batch is batch

    def row(self) -> ResultRow:
        """All that is known of it."""
        answer = self.answer or CompletedItemRecord("", None)
        good = answer if isinstance(answer, CompletedItemRecord) else CompletedItemRecord("", None)
        return ResultRow(
            self.sequence,
            self.given.item_id,
            self.index,
            self.status.value,
            self.state.attempt_count,
            encode_json(self.given.metadata),
            answer.output_text,
            encode_optional_json(good.output_json),
            good.text_is_json,
            None if self.error is None else encode_failure(self.error),
            *usage_columns(answer.usage),
            self._raw_path(),
            *raw_columns(answer.raw),
            pack_response(answer.raw_response),
            good.output_data,
            sum(self.amounts) if self.amounts else None,
        )

    def _raw_path(self) -> str | None:
        if self.answer is None or self.answer.raw is None or self.answered_in is None:
            return None
        batch = self.answered_in
        return batch.error_path if self.answer.raw.is_error_file else batch.output_path


@dataclass(slots=True)
class Lease:
    """A run's lease; the fencing token outlives its holders."""

    owner: DriverIdentity | None = None
    fencing_token: int = 0
    expires_at: float = 0.0

    def is_live(self, now: float) -> bool:
        """Whether somebody holds it, as far as the clock can tell."""
        return self.owner is not None and not is_due(self.expires_at, now, longest=LONGEST_LEASE_SEC)
