"""The state store: what every backend can do, and the records that go in and out.

There are two surfaces. :class:`StateStore` is the documented one: thirty-six small methods that anybody can implement.
:class:`DriverSession` is what the engine itself drives a run through: larger steps, each one transaction, each checked
against the run's lease. The built-in stores implement it natively; for any other store
:class:`~batchor_core.storage.documented.DocumentedSession` builds it out of the documented methods.

Item indexes are 0-based positions in the source. Times are seconds since the epoch, by the store's clock.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from batchor_core.core.admission import Allowance, Standing, Wait
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.enums import IntentState, ItemStatus, RunControlState
from batchor_core.core.lazy_field import Late
from batchor_core.core.models import (
    ArtifactPolicy,
    ChunkPolicy,
    ItemFailure,
    ProviderConfig,
    RetryPolicy,
    RunSummary,
)
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.request_lines import longest_line
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage

# --- records of the documented methods -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PersistedRunConfig:
    """A job as it is stored: everything but the items, the prompt builder and the secrets."""

    provider_config: ProviderConfig
    chunk_policy: ChunkPolicy
    retry_policy: RetryPolicy
    batch_metadata: dict[str, str] = field(default_factory=dict)
    artifact_policy: ArtifactPolicy = field(default_factory=ArtifactPolicy)
    schema_name: str | None = None
    structured_output_module: str | None = None
    structured_output_qualname: str | None = None
    output_schema: JSONObject | None = None
    """The strict JSON Schema that was sent, so that a changed model is noticed on resume."""
    budget_key: str | None = None
    """Runs with the same key share one enqueue budget: provider, account and model."""
    extras: JSONObject = field(default_factory=dict)
    """Free for integrations, such as the Dagster asset and partition that the run belongs to."""
    output: JSONObject | None = None
    """What the answers are, as ``core.outputs`` writes it; None in runs of earlier builds, see ``runtime.outputs``."""


class MaterializedItem(NamedTuple):
    """An item as it is stored, its prompt rendered."""

    item_id: str
    item_index: int
    payload: JSONValue
    """As the source gave it. The stores here don't keep it: what is sent is the prompt, and nothing asks for it again."""
    metadata: JSONObject
    prompt: str
    system_prompt: str | None = None
    request_line: bytes | None = None
    """The line without its custom_id and line end, as ``core.request_lines`` has it; or, beginning with a brace, the finished
    line for generation 0. The engine sets it, and leaves the prompt empty then."""
    submission_tokens: int = 0
    metadata_json: str | None = None
    """``metadata`` as JSON text, from whoever had to make it anyway."""
    request_bytes: int = 0
    """The most bytes that the line may have, with its end, whatever its name; 0 where it has to be found out."""
    content_address: bytes | None = None
    """What is asked, of whom, as a digest: equal for equal requests. None where the line depends on its custom_id."""


def request_bytes(item: MaterializedItem) -> int:
    """The most bytes that an item's line may have, with its end; 0 where it is not known before the line is built."""
    if item.request_bytes or item.request_line is None:
        return item.request_bytes
    return longest_line(item.request_line)


class StoredItem(NamedTuple):
    """What is stored of an item once and never changed."""

    item_index: int
    item_id: str
    metadata: JSONObject
    prompt: str = ""
    system_prompt: str | None = None
    request_line: bytes | None = None
    """As it was given; without it, and with an empty prompt, the store does not say what is asked."""
    content_address: bytes | None = None


@dataclass(frozen=True, slots=True)
class IngestCheckpoint:
    """How far the reading of a source has come."""

    source_kind: str
    source_ref: str
    source_fingerprint: str
    next_item_index: int = 0
    checkpoint_payload: JSONValue | None = None
    ingestion_complete: bool = False


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """An item taken for submission."""

    item_id: str
    metadata: JSONObject
    prompt: str
    system_prompt: str | None
    attempt_count: int
    request_artifact_path: str | None = None
    request_artifact_line: int | None = None
    request_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RequestArtifactPointer:
    """Where an item's request line lies: artifact key and 1-based line number."""

    item_id: str
    artifact_path: str
    line_number: int
    request_sha256: str


@dataclass(frozen=True, slots=True)
class BatchArtifactPointer:
    """Where a batch's raw output and error files lie."""

    provider_batch_id: str
    output_artifact_path: str | None = None
    error_artifact_path: str | None = None


@dataclass(frozen=True, slots=True)
class RunArtifactInventory:
    """Every artifact of a run."""

    request_artifact_paths: list[str]
    output_artifact_paths: list[str]
    error_artifact_paths: list[str]
    exported_at: float | None = None
    export_root: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedSubmission:
    """One item of a batch that has been created."""

    item_id: str
    custom_id: str
    submission_tokens: int


class RawResponseRef(NamedTuple):
    """Where a raw response lies inside a kept output or error file of its batch."""

    is_error_file: bool
    offset: int
    length: int


class CompletedItemRecord(NamedTuple):
    """A good answer. ``raw`` replaces ``raw_response`` where the provider's file is kept as an artifact.

    ``text_is_json`` says that ``output_text`` is the JSON of ``output_json``, which is then left None: it is stored once,
    as the text, and decoded when it is read. ``output_data`` holds an answer that is bytes, and there is no text then.
    """

    custom_id: str
    output_text: str | None
    raw_response: JSONObject | None = None
    output_json: JSONValue | None = None
    usage: TokenUsage | None = None
    raw: RawResponseRef | None = None
    text_is_json: bool = False
    output_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class ItemFailureRecord:
    """A bad answer. ``count_attempt`` False sends the item back without using up an attempt."""

    custom_id: str
    error: ItemFailure
    count_attempt: bool = True
    output_text: str | None = None
    raw_response: JSONObject | None = None
    usage: TokenUsage | None = None
    raw: RawResponseRef | None = None


@dataclass(frozen=True, slots=True)
class QueuedItemFailureRecord:
    """A failure before submission."""

    item_id: str
    error: ItemFailure
    count_attempt: bool = True


@dataclass(frozen=True, slots=True)
class ActiveBatchRecord:
    """A batch that is in flight, or that still owns SUBMITTED items."""

    provider_batch_id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    local_batch_id: str = ""
    input_file_id: str | None = None
    item_count: int = 0
    created_at: float = 0.0
    poll_failures: int = 0
    """Polls that failed in a row."""
    next_poll_at: float = 0.0
    quarantined: bool = False
    """A person has to decide about it."""
    quarantine_cause: str | None = None
    """Why: a :class:`~batchor_core.core.lateness.Cause`, or ``batch_not_found``."""
    due_at: float | None = None
    """By when it should have ended."""
    ended_at: float | None = None
    """Since when it is over and its results are waited for; None while they are not."""
    late_rows: int = 0
    """Items that are waited for."""
    looks: int = 0
    """How often it was looked at in vain since ``ended_at``."""
    wait_reason: str | None = None
    """What is waited for, in words."""


@dataclass(frozen=True, slots=True)
class PersistedItemRecord(Late):
    """An item with all that is known of it."""

    item_id: str
    item_index: int
    status: ItemStatus
    attempt_count: int
    metadata: JSONObject
    terminal_result_sequence: int | None = None
    output_text: str | None = None
    output_json: JSONValue | None = None
    raw_response: JSONObject | None = None
    error: ItemFailure | None = None
    usage: TokenUsage | None = None
    raw_artifact_path: str | None = None
    """Artifact that holds the raw response at ``raw``; read it from there when ``raw_response`` is None."""
    raw: RawResponseRef | None = None
    output_data: bytes | None = None
    """An answer that is bytes."""


class ResultRow(NamedTuple):
    """The same as a store keeps it: JSON is text that need not be decoded to be passed on. See ``storage.rows``.

    JSON text that begins with a blank holds what only the standard library reads back exactly, such as integers beyond
    64 bits.
    """

    sequence: int | None
    item_id: str
    item_index: int
    status: str
    attempt_count: int
    metadata: str
    """JSON."""
    output_text: str | None
    output_json: str | None
    """JSON; None where ``text_is_json``, too."""
    text_is_json: bool
    error: str | None
    """JSON of an ItemFailure."""
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cache_write_tokens: int | None
    raw_artifact_path: str | None
    raw_is_error_file: bool | None
    raw_offset: int | None
    raw_length: int | None
    raw_response: bytes | None
    """The response itself, compressed; None where it lies in an artifact."""
    output_data: bytes | None = None
    """An answer that is bytes."""


@dataclass(frozen=True, slots=True)
class RetryBackoffState:
    """Failures of the control plane, and how long to hold back."""

    consecutive_failures: int = 0
    total_failures: int = 0
    backoff_sec: float = 0.0
    next_retry_at: float | None = None
    last_error_class: str | None = None
    last_error_message: str | None = None
    """What it said; None once a submission has worked since."""


# --- records of the driver session -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DriverIdentity:
    """Who drives: enough to tell a live driver from a dead one on the same host."""

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
    """Who holds a run, in which epoch, until when."""

    owner: DriverIdentity
    epoch: int
    expires_at: float


class Candidate(NamedTuple):
    """An item that could be submitted, with what planning a batch needs."""

    item_index: int
    submission_tokens: int
    request_bytes: int
    """Length of its line with the line end; 0 where it is not known before the line is built."""


class RequestDraft(NamedTuple):
    """An item of an open intent, ready to be written as line ``line_number`` (1-based) of its file."""

    item_id: str
    item_index: int
    custom_id: str
    generation: int
    line_number: int
    prompt: str
    system_prompt: str | None
    request_line: bytes | None
    """The finished line, under ``custom_id``; None where it has to be built from the prompts."""


@dataclass(frozen=True, slots=True)
class IntentRecord:
    """The submission of one batch: see RELIABILITY in docs/explanation for the protocol."""

    local_batch_id: str
    state: IntentState
    epoch: int
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
        return self.state is IntentState.UPLOADED and self.next_check_at is not None


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """The final state of a batch, written with the last of its results."""

    status: str
    usage: TokenUsage | None = None


@dataclass(frozen=True, slots=True)
class AppliedOutcome:
    """What a chunk of results changed; replays change nothing."""

    completed: int = 0
    failed: int = 0
    retrying: int = 0
    released: int = 0


@dataclass(frozen=True, slots=True)
class RunListing:
    """A line of :meth:`StateStore.list_runs`.

    Attributes:
        run_id: The run.
        created_at: Seconds since 1970 by the store's clock.
        summary: Where it stands.
        extras: What its starter kept with it.
        last_sequence: The newest terminal sequence. Larger than the number of results where some were withdrawn to be
            tried again.
    """

    run_id: str
    created_at: float
    summary: RunSummary
    extras: JSONObject = field(default_factory=dict)
    last_sequence: int = 0


OwnerCheck: TypeAlias = Callable[[DriverIdentity], bool]
"""Says of a lease's holder whether its process is certainly gone."""

IntentDecision: TypeAlias = Literal["adopt", "wait", "resubmit", "fail"]
"""What an operator can decide about a submission of unknown outcome, or about a batch that is late."""


@dataclass(frozen=True, slots=True)
class ResultsWait:
    """Where the waiting for an ended batch's results stands.

    Attributes:
        status: The batch's final status.
        ended_at: Since when it is waited for.
        late_rows: Items that are waited for.
        looks: Looks in vain so far.
        reason: What is waited for, in words.
        next_poll_at: When to look again.
        output_file_id: As the provider names it now.
        error_file_id: As the provider names it now.
    """

    status: str
    ended_at: float
    late_rows: int
    looks: int
    reason: str
    next_poll_at: float
    output_file_id: str | None = None
    error_file_id: str | None = None


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
    ) -> None:
        """Add a chunk of items, keep the digests of what they were rendered to and move the checkpoint, in one transaction.

        An index that is there already with the same id is passed over (a replay after a crash).

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
    ) -> IntentRecord | None:
        """Create the intent CLAIMED and move its items to QUEUED_LOCAL. Line numbers follow the item order.

        Returns None, and changes nothing, when the items no longer fit an allowance shared with other runs
        (``core.admission.free``), or when one of them is no longer claimable. Under allowances, the run counts under their
        key from here on; with ``leaves_queue`` it has got what it waited for, and gives up its place.
        """

    @abstractmethod
    def standing(self, allowance: Allowance) -> Standing:
        """Where the run stands among all runs that share an allowance. Reads only."""

    @abstractmethod
    def keep_place(self, allowance: Allowance, wait: Wait) -> None:
        """Queue for an allowance, or say that the run still waits: a place that it has keeps its age."""

    @abstractmethod
    def drafts(self, *, local_batch_id: str) -> Iterator[RequestDraft]:
        """The items of an open intent in line order, streamed in pages."""

    @abstractmethod
    def mark_written(self, *, local_batch_id: str, sha256: str, size_bytes: int) -> None:
        """The request artifact is whole and synced."""

    @abstractmethod
    def mark_uploaded(
        self, *, local_batch_id: str, input_file_id: str, server_date_skew: float = 0.0
    ) -> None:
        """CLAIMED -> UPLOADED. ``server_date_skew``: the provider's clock less the store's, in seconds."""

    @abstractmethod
    def mark_sending(self, *, local_batch_id: str, ttl_sec: float) -> None:
        """UPLOADED -> SENDING, durable before it returns, with the time; also renews the lease for ``ttl_sec``.

        Raises RunStateError unless the intent is UPLOADED: no intent is ever sent twice.
        """

    @abstractmethod
    def postpone(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        """SENDING -> UPLOADED (or UPLOADED stays so): certainly no batch, as the input file is not ready; try again then.

        It keeps its items and its file, also when another driver takes over.
        """

    @abstractmethod
    def register(self, *, local_batch_id: str, provider_batch_id: str, status: str) -> None:
        """The batch exists: intent REGISTERED, batch recorded, its items SUBMITTED. Repeating it is fine."""

    @abstractmethod
    def drop(self, *, local_batch_id: str, error_class: str) -> None:
        """The batch certainly does not exist: intent DROPPED, items PENDING; generation + 1 if it was ever SENDING."""

    @abstractmethod
    def mark_unknown(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        """SENDING -> UNKNOWN (or UNKNOWN stays so): look it up at ``next_check_at``."""

    @abstractmethod
    def record_look_up(
        self, *, local_batch_id: str, clean_listings: int, fenced_at: float | None, next_check_at: float
    ) -> None:
        """Keep what the look-ups of an UNKNOWN intent have found so far."""

    @abstractmethod
    def quarantine(self, *, local_batch_id: str, error_class: str) -> None:
        """A person has to decide: intent QUARANTINED, its items stay where they are.

        Also for a REGISTERED one, whose batch is late or not known to the provider any more.
        """

    def record_sweep(self, *, next_check_at: float) -> None:
        """The provider's list has been read for batches of submissions that were given up; do so again then."""

    @abstractmethod
    def open_intents(self) -> list[IntentRecord]:
        """Intents that still own QUEUED_LOCAL items, oldest first."""

    @abstractmethod
    def requeue_local(self) -> int:
        """Free what a dead driver left behind.

        CLAIMED and UPLOADED intents are dropped, unless they are postponed; QUEUED_LOCAL items without an intent become PENDING; what may have been
        sent (SENDING, UNKNOWN, QUARANTINED) is left to the look-up. Returns the number of items freed.
        """

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
    ) -> None:
        """Keep a polled status and clear the batch's poll failures. A terminal status stays; it is never taken back.

        None leaves the stored ``due_at``. The batch is asked for again at ``next_poll_at``.
        """

    @abstractmethod
    def record_wait(self, *, provider_batch_id: str, wait: ResultsWait) -> None:
        """The batch is over, and some of its results are waited for. It stays active and keeps its SUBMITTED items."""

    @abstractmethod
    def record_poll_failure(
        self, *, provider_batch_id: str, next_poll_at: float, error: str | None = None
    ) -> int:
        """Count a failed poll, and keep what it said for the summary; returns how many failed in a row."""

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

        Only items that are SUBMITTED in this batch move; others are passed over, so that a replay changes nothing and
        counts no attempt twice. Results get the next terminal sequences in the order given, completions first. With
        ``end``, nothing of the batch is waited for any more, and nobody has to decide about it.
        """

    # the run as a whole

    @abstractmethod
    def pause(self, *, reason: str) -> None:
        """Pause the run by the engine's own decision; an operator's cancel request wins over it."""

    @abstractmethod
    def cancel_remaining(self, *, error: ItemFailure) -> int:
        """End every item that is neither terminal nor in a live batch or open intent; returns how many."""

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


class StateStore(ABC):
    """Where runs are kept.

    Implement the abstract methods to bring a store of your own; each call is one transaction. What follows them has
    working defaults. Methods that name a run raise :class:`~batchor_core.core.exceptions.RunNotFoundError` if there is
    none.
    """

    supports_leases: bool = False
    """Whether several drivers may share a run. Without it, one process at a time must drive."""

    @abstractmethod
    def has_run(self, *, run_id: str) -> bool:
        """Whether the run exists."""

    @abstractmethod
    def create_run(self, *, run_id: str, config: PersistedRunConfig, items: list[MaterializedItem]) -> None:
        """Create a run with its first items, wholly or not at all.

        Raises:
            RunStateError: A run of this id exists.
            DuplicateItemError: An id occurs twice in ``items``.
        """

    @abstractmethod
    def append_items(self, *, run_id: str, items: list[MaterializedItem]) -> None:
        """Add items, all or none. An item that is there already, just as it is given again, is passed over.

        Raises:
            DuplicateItemError: An id is there under another index, or twice in ``items``.
            RunStateError: An index is there with another id, prompt, request line or metadata, or twice in ``items``.
        """

    @abstractmethod
    def set_ingest_checkpoint(self, *, run_id: str, checkpoint: IngestCheckpoint) -> None:
        """Store where reading begins, and what is read."""

    @abstractmethod
    def get_ingest_checkpoint(self, *, run_id: str) -> IngestCheckpoint | None:
        """How far reading has come; None when nothing was stored."""

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
        """What the operator wants of the run."""

    @abstractmethod
    def set_run_control_state(self, *, run_id: str, control_state: RunControlState) -> None:
        """Store the operator's wish; clears the reason of a self-pause."""

    @abstractmethod
    def claim_items_for_submission(
        self, *, run_id: str, max_attempts: int, limit: int | None = None
    ) -> list[ClaimedItem]:
        """Move claimable items (PENDING, FAILED_RETRYABLE, attempts left) to QUEUED_LOCAL, in item order.

        Two claimers never get the same item.
        """

    @abstractmethod
    def release_items_to_pending(self, *, run_id: str, item_ids: list[str]) -> None:
        """Give claimed items back; others are left alone."""

    @abstractmethod
    def requeue_local_items(self, *, run_id: str) -> int:
        """Give back what a dead driver had claimed; returns how many items.

        Touches nothing that a live driver holds, nothing that may have been sent, and repairs items whose batch is
        registered.
        """

    @abstractmethod
    def record_request_artifacts(self, *, run_id: str, pointers: list[RequestArtifactPointer]) -> None:
        """Store where the request lines of items lie."""

    @abstractmethod
    def get_request_artifact_paths(self, *, run_id: str) -> list[str]:
        """Keys of the request artifacts, each once, sorted."""

    @abstractmethod
    def clear_request_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        """Forget request artifacts; returns the number of items that pointed there."""

    @abstractmethod
    def record_batch_artifacts(self, *, run_id: str, pointers: list[BatchArtifactPointer]) -> None:
        """Store where the raw files of batches lie; a None path leaves the stored one."""

    @abstractmethod
    def get_artifact_inventory(self, *, run_id: str) -> RunArtifactInventory:
        """Every artifact of the run."""

    @abstractmethod
    def clear_batch_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        """Forget raw files; returns the number of batch rows that pointed there."""

    @abstractmethod
    def mark_artifacts_exported(self, *, run_id: str, export_root: str) -> None:
        """Remember that the artifacts were exported, where to and when."""

    @abstractmethod
    def register_batch(
        self, *, run_id: str, local_batch_id: str, provider_batch_id: str, status: str, custom_ids: list[str]
    ) -> None:
        """Record a created batch and which custom_ids it holds. Repeating it is fine."""

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
        """SUBMITTED -> COMPLETED with the next terminal sequences. Others are left alone."""

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
        """Where the run stands. Reads only."""

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

    # --- with defaults: implement them for leases, speed, or the extra figures ---------------------------------------

    def get_result_rows(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[ResultRow]:
        """:meth:`get_terminal_item_records` without decoding: what pages, exports and tables are made from."""
        from batchor_core.storage.rows import row_of

        records = self.get_terminal_item_records(run_id=run_id, after_sequence=after_sequence, limit=limit)
        return [row_of(record) for record in records]

    def get_rendered_chunks(self, *, run_id: str) -> list[RenderedChunk]:
        """The digests that were given with the items, in item order; here those of this process.

        Items of earlier builds have none.
        """
        from batchor_core.storage.documented import rendered_in_this_process

        return rendered_in_this_process(self, run_id)

    def iter_stored_items(self, *, run_id: str, first_index: int, count: int) -> Iterator[StoredItem]:
        """Items from an index on, as they were stored; here without what they ask."""
        for record in self.get_item_records(run_id=run_id):
            if first_index <= record.item_index < first_index + count:
                yield StoredItem(record.item_index, record.item_id, record.metadata)

    def now(self) -> float:
        """The store's clock: seconds since the epoch, the database's where there is one."""
        return time.time()

    def open_session(
        self, *, run_id: str, owner: DriverIdentity, ttl_sec: float, owner_is_dead: OwnerCheck | None = None
    ) -> DriverSession | None:
        """Take the run's lease and return the session to drive it with; None while another live driver holds it.

        A lease is free when it was given up, has expired by the store's clock, belongs to the same ``owner.session``, or
        when ``owner_is_dead`` says so of its holder. Taking it over raises the epoch; the holder keeps its own.
        """
        from batchor_core.storage.documented import DocumentedSession

        return DocumentedSession(self, run_id)

    def get_lease(self, *, run_id: str) -> LeaseRecord | None:
        """Who drives the run now, or None."""
        return None

    def get_control_reason(self, *, run_id: str) -> str | None:
        """Why the run paused itself, or None."""
        return None

    def list_runs(self) -> list[RunListing]:
        """Every run, newest first. Stores without a list of runs raise NotImplementedError."""
        raise NotImplementedError(f"{type(self).__name__} can't list its runs")

    def list_intents(self, *, run_id: str) -> list[IntentRecord]:
        """Every submission of a run, oldest first; empty where the store does not keep them."""
        return []

    def get_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        """Every batch of a run, finished ones included; here only the active ones."""
        return self.get_active_batches(run_id=run_id)

    def registered_batches(self, provider_batch_ids: Sequence[str]) -> set[str]:
        """Those of these batches that any run of the store has registered; none where the store can't look them up."""
        return set()

    def runs_with_doubtful_past(self, *, sent_after: float) -> list[str]:
        """Runs with a submission that was sent after this moment and given up without certainty (see ``runtime.sweep``)."""
        return []

    def get_retry_backoff(self, *, run_id: str) -> RetryBackoffState:
        """The control plane's backoff state."""
        return RetryBackoffState(backoff_sec=self.get_batch_retry_backoff_remaining_sec(run_id=run_id))

    def reopen_failed_items(self, *, run_id: str) -> int:
        """Make every FAILED_PERMANENT item PENDING again, its attempts forgotten and its result withdrawn.

        For operators who want failed rows tried once more. Returns how many. The run is RUNNING again.
        """
        raise NotImplementedError(f"{type(self).__name__} can't reopen items")

    def discard_unsent_run(self, *, run_id: str) -> bool:
        """Remove a run wholly if nothing of it was ever sent to a provider and nobody drives it; says whether it did.

        For runs whose items could not be read. A store that can't tell keeps the run.
        """
        return False

    def settle_intent(
        self,
        *,
        run_id: str,
        local_batch_id: str,
        decision: IntentDecision,
        provider_batch_id: str | None = None,
    ) -> None:
        """An operator's word on a QUARANTINED (or UNKNOWN) intent.

        ``adopt`` registers ``provider_batch_id``, ``resubmit`` frees the items for a new batch, ``fail`` ends them. Where a
        batch was registered and then lost, its own id may be adopted once more; ``wait`` is the same without an id, and
        begins the waiting for a late batch again.

        Raises:
            RunStateError: The intent waits for nobody's word, or the batch belongs to another submission.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no submission intents")

    def artifact_root(self) -> Path | None:
        """Where the files of its runs lie unless the runner is told otherwise; None if they may go with the process."""
        return Path.home() / ".batchor" / "artifacts"

    def close(self) -> None:
        """Release connections. The store may not be used afterwards."""
