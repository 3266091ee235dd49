"""A driver's session: what the engine drives a run through, and the records that belong to it.

Each step is one transaction, checked against the run's lease. The built-in stores implement it natively; for any other
store :class:`~batchor_core.storage.third_party.ThirdPartySession` puts it together from the documented methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from batchor_core.core.admission import Allowance, Standing, Wait
from batchor_core.core.caps import CapStanding, Reservation
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.enums import SubmissionState
from batchor_core.core.models import ItemFailure
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.types import JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.following import Followed as Followed
from batchor_core.storage.following import ReuseTerms as ReuseTerms
from batchor_core.storage.records import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    CompletedItemRecord,
    ItemFailureRecord,
    MaterializedItem,
    RetryBackoffState,
)


@dataclass(frozen=True, slots=True)
class DriverIdentity:
    """A driver's identity: enough to distinguish a live driver from a dead one on the same host."""

    session: str
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    pid_start: str = ""
    pid_namespace: str = ""

    def same_machine(self, other: DriverIdentity) -> bool:
        """Whether both run where each could see the other's process."""
        mine, theirs = (
            (self.host, self.boot_id, self.pid_namespace),
            (other.host, other.boot_id, other.pid_namespace),
        )
        return bool(self.boot_id) and mine == theirs


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """Who holds a run, with which fencing token, until when."""

    owner: DriverIdentity
    fencing_token: int
    expires_at: float


class Candidate(NamedTuple):
    """An item that could be submitted, with what planning a batch needs."""

    item_index: int
    submission_tokens: int
    request_bytes: int
    """Length of its line with the line end; 0 if it is unknown before the line is built."""
    model: str | None = None
    """The model that it names itself; None for that of the job."""


class RequestDraft(NamedTuple):
    """An item of an open submission, ready to be written as line ``line_number`` (1-based) of its file."""

    item_id: str
    item_index: int
    custom_id: str
    generation: int
    line_number: int
    prompt: str
    system_prompt: str | None
    request_line: bytes | None
    """The finished line, under ``custom_id``; None if it has to be built from the prompts."""


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """The submission of one batch: see docs/explanation/how-a-run-works.md for the protocol."""

    local_batch_id: str
    state: SubmissionState
    fencing_token: int
    item_count: int
    submission_tokens: int
    created_at: float
    artifact_key: str | None = None
    sha256: str | None = None
    size_bytes: int = 0
    input_file_id: str | None = None
    key_fingerprint: str | None = None
    sending_at: float | None = None
    fenced_at: float | None = None
    clean_listings: int = 0
    next_check_at: float | None = None
    last_error_class: str | None = None
    provider_batch_id: str | None = None
    server_date_skew: float = 0.0
    uploaded_at: float | None = None

    @property
    def is_postponed(self) -> bool:
        """Whether it waits for its input file: the provider has refused to make a batch of it, but only for now."""
        return self.state is SubmissionState.UPLOADED and self.next_check_at is not None


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """The final state of a batch, written with the last of its results.

    Attributes:
        status: The provider's word for it.
        usage: The tokens that the provider states of the batch as a whole.
        cost_notes: What the amounts of its answers leave out, in words.
    """

    status: str
    usage: TokenUsage | None = None
    cost_notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AppliedOutcome:
    """What a chunk of results changed; replays change nothing."""

    completed: int = 0
    failed: int = 0
    retrying: int = 0
    released: int = 0
    billed: TokenUsage | None = field(default=None, compare=False)
    """With the batch's end, the tokens that all its answers state; None if the store does not add them up."""
    asked_again: int = 0
    """Of those that are retrying, how many are asked with the reason why their answer was bad."""


OwnerCheck: TypeAlias = Callable[[DriverIdentity], bool]
"""Returns whether the process of a lease's holder is certainly gone."""

SubmissionDecision: TypeAlias = Literal["adopt", "wait", "resubmit", "fail"]
"""What an operator can decide about a submission of unknown outcome, or about a batch that is late."""


@dataclass(frozen=True, slots=True)
class ResultsWait:
    """The state of the wait for an ended batch's results.

    Attributes:
        status: The batch's final status.
        ended_at: When the wait began.
        late_rows: Items whose results are missing.
        looks: Checks without the results so far.
        reason: What is missing, in words.
        next_poll_at: When to look again.
        output_file_id: The provider's current id of the output file.
        error_file_id: The provider's current id of the error file.
        stated_completed: The most answered rows that the provider has ever stated.
    """

    status: str
    ended_at: float
    late_rows: int
    looks: int
    reason: str
    next_poll_at: float
    output_file_id: str | None = None
    error_file_id: str | None = None
    stated_completed: int | None = None


class DriverSession(ABC):
    """One driver's hold on one run: every engine write, each in one transaction under the run's lease.

    Every mutating method raises :class:`~batchor_core.core.exceptions.LeaseLostError`, and writes nothing, if another
    driver took the run over. Every one may be repeated after a crash without harm.
    """

    run_id: str

    @property
    def custom_ids(self) -> CustomIds:
        """How the attempts of the run's items are named."""
        return CustomIds(self.run_id)

    # lease

    @abstractmethod
    def renew(self, *, ttl_sec: float) -> None:
        """Extend the lease. May be called from another thread than the rest."""

    @abstractmethod
    def close(self) -> None:
        """Give the lease up. Closing twice, or after it was lost, is fine."""

    # ingestion

    @abstractmethod
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
        """Add a chunk of items, keep the digests of what they were rendered to and move the checkpoint, in one transaction.

        An index that is already stored with the same id is skipped (a replay after a crash). Under ``reuse``, items that the
        run's scope has answers to are COMPLETED from the beginning.

        Raises:
            DuplicateItemError: An id occurs under another index, or twice in ``items``; nothing is written.
        """

    # submission

    @abstractmethod
    def candidates(self, *, max_attempts: int, limit: int) -> list[Candidate]:
        """Items that may be claimed, in item order, at most ``limit``."""

    @abstractmethod
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
        """Create the submission CLAIMED and move its items to QUEUED_LOCAL. Line numbers follow the item order.

        Under ``reuse``, items to which an equal one is in flight or answered are left out, and follow it from then on; where
        they all do, there is no submission, and None is returned.

        Returns None, and changes nothing, when the items no longer fit an allowance shared with other runs
        (``core.admission.free``), or when one of them is no longer claimable. Under allowances, the run counts under
        their key from here on; with ``leaves_queue`` it has got what it waited for and loses its place.

        The same where the items don't fit a cap that holds for the run, or it has one and there is no ``reservation``; but not
        with ``adopts``, since the batch exists already.
        """

    def caps(self) -> list[CapStanding]:
        """The caps that hold for the run, and how far they are used. Reads only; empty if the store keeps none."""
        return []

    @abstractmethod
    def standing(self, allowance: Allowance) -> Standing:
        """The run's standing among all runs that share an allowance. Reads only."""

    @abstractmethod
    def keep_place(self, allowance: Allowance, wait: Wait) -> None:
        """Queue for an allowance, or confirm that the run still waits: an existing place keeps its age."""

    @abstractmethod
    def drafts(self, *, local_batch_id: str) -> Iterator[RequestDraft]:
        """The items of an open submission in line order, streamed in pages."""

    @abstractmethod
    def mark_written(self, *, local_batch_id: str, sha256: str, size_bytes: int) -> None:
        """The request artifact is complete and synced."""

    @abstractmethod
    def mark_uploaded(
        self, *, local_batch_id: str, input_file_id: str, server_date_skew: float = 0.0
    ) -> None:
        """CLAIMED -> UPLOADED. ``server_date_skew``: the provider's clock less the store's, in seconds."""

    @abstractmethod
    def mark_sending(self, *, local_batch_id: str, ttl_sec: float) -> None:
        """UPLOADED -> SENDING, durable before it returns, with the time; also renews the lease for ``ttl_sec``.

        Raises RunStateError unless the submission is UPLOADED: no submission is ever sent twice.
        """

    @abstractmethod
    def postpone(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        """SENDING -> UPLOADED (or UPLOADED stays so): certainly no batch, as the input file is not ready; try again then.

        It keeps its items and its file, also when another driver takes over.
        """

    @abstractmethod
    def register(self, *, local_batch_id: str, provider_batch_id: str, status: str) -> None:
        """The batch exists: submission REGISTERED, batch recorded, its items SUBMITTED. May be repeated."""

    @abstractmethod
    def drop(self, *, local_batch_id: str, error_class: str) -> None:
        """The batch certainly does not exist: submission DROPPED, items PENDING; generation + 1 if it was ever SENDING."""

    @abstractmethod
    def mark_unknown(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        """SENDING -> UNKNOWN (or UNKNOWN stays so): look it up at ``next_check_at``."""

    @abstractmethod
    def record_look_up(
        self, *, local_batch_id: str, clean_listings: int, fenced_at: float | None, next_check_at: float
    ) -> None:
        """Keep what the look-ups of an UNKNOWN submission have found so far."""

    @abstractmethod
    def quarantine(self, *, local_batch_id: str, error_class: str) -> None:
        """A person has to decide: submission QUARANTINED, its items stay where they are.

        Also for a REGISTERED one, whose batch is late or not known to the provider any more.
        """

    def record_sweep(self, *, next_check_at: float) -> None:
        """The provider's list has been read for batches of submissions that were given up; do so again then."""

    @abstractmethod
    def open_submissions(self) -> list[SubmissionRecord]:
        """Submissions that still own QUEUED_LOCAL items, oldest first."""

    @abstractmethod
    def requeue_local(self) -> int:
        """Free what a dead driver left behind.

        CLAIMED and UPLOADED submissions are dropped, unless they are postponed; QUEUED_LOCAL items without a submission become
        PENDING; what may have been sent (SENDING, UNKNOWN, QUARANTINED) is left to the look-up. Returns the number of items
        freed.
        """

    def follow(self, reuse: ReuseTerms) -> Followed:
        """Go on with the items that follow equal ones, where those have ended. A store without reuse has none."""
        return Followed()

    def set_aside(self, item_indexes: Sequence[int], reuse: ReuseTerms) -> set[int]:
        """Have claimable items follow equal ones that are in flight or answered, as :meth:`claim` would; returns which do."""
        return set()

    @abstractmethod
    def fail_unsubmitted(self, failures: Sequence[tuple[int, ItemFailure]]) -> AppliedOutcome:
        """End claimable items, given by index, as FAILED_PERMANENT without an attempt (such as over-long requests)."""

    # consumption

    def remembered(self, batches: Sequence[ActiveBatchRecord]) -> list[ActiveBatchRecord]:
        """The same batches with what this session knows of them beyond the store."""
        return list(batches)

    @abstractmethod
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
        """Keep a polled status and clear the batch's poll failures. A terminal status stays; it is never taken back.

        None leaves the stored ``due_at``, and less than is stored leaves ``stated_completed``. The batch is asked for again at
        ``next_poll_at``.
        """

    @abstractmethod
    def record_wait(self, *, provider_batch_id: str, wait: ResultsWait) -> None:
        """The batch has ended, and some of its results are missing. It stays active and keeps its SUBMITTED items."""

    @abstractmethod
    def record_poll_failure(
        self,
        *,
        provider_batch_id: str,
        next_poll_at: float,
        error: str | None = None,
        stated_completed: int | None = None,
    ) -> int:
        """Count a failed poll, and keep its error for the summary; returns the number of failures in a row.

        ``stated_completed``: as in :meth:`update_batch`, if the batch was read and only its files could not be fetched.
        """

    def record_files(self, pointer: BatchArtifactPointer) -> bool:
        """Keep where a batch's result files lie; what the pointer leaves out stays. False if the store has to be told instead."""
        return False

    @abstractmethod
    def submitted_items(self, *, provider_batch_id: str) -> dict[str, int]:
        """Indexes of the items that the batch still owns, by custom_id, in item order."""

    @abstractmethod
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
        """Store a chunk of results, and with ``end`` the batch's final status, in one transaction.

        Only items that are SUBMITTED in this batch move; others are skipped, so that a replay changes nothing and
        counts no attempt twice. Results get the next terminal sequences in the order given, completions first. With
        ``end``, the wait for the batch's results ends, and it needs no decision any more.
        """

    # the run as a whole

    @abstractmethod
    def pause(self, *, reason: str) -> None:
        """Pause the run by the engine's own decision; an operator's cancel request takes precedence."""

    @abstractmethod
    def cancel_remaining(self, *, error: ItemFailure) -> int:
        """End every item that is neither terminal nor in a live batch or open submission; returns how many."""

    @abstractmethod
    def record_failure(
        self, *, error_class: str, base_delay_sec: float, max_delay_sec: float, message: str | None = None
    ) -> RetryBackoffState:
        """Count a failure of the control plane and advance the backoff; delays as in ``core.retry``.

        ``message`` is shown in the summary until a batch is registered.
        """

    @abstractmethod
    def clear_backoff(self) -> None:
        """The control plane works again. Writes nothing when there was no backoff."""

    @abstractmethod
    def count_orphan_batches(self, count: int) -> None:
        """Keep how many batches were found at the provider that this run never registered, all in all."""
