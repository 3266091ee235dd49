"""What goes in and out of a state store: values of runs, items, batches, results and files.

Item indexes are 0-based positions in the source. Times are seconds since the epoch, by the store's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from batchor_core.core.enums import ItemStatus
from batchor_core.core.lazy_field import Late
from batchor_core.core.models import (
    ArtifactPolicy,
    ChunkPolicy,
    ItemFailure,
    ProviderConfig,
    RetryPolicy,
    RunSummary,
)
from batchor_core.core.request_lines import longest_line
from batchor_core.core.results import ReusedFrom
from batchor_core.core.reuse import Reuse
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage


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
    reuse: Reuse | None = None
    """Whose answers the run may have; None for nobody's."""


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
    """``metadata`` as JSON text, if it was already encoded."""
    request_bytes: int = 0
    """The most bytes that the line may have, with its end, whatever its name; 0 where it has to be found out."""
    content_address: bytes | None = None
    """What is asked, of whom, as a digest: equal for equal requests. None where the line depends on its custom_id."""
    model: str | None = None
    """The model that it names itself; None for that of the job."""


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
    ``cost`` is what the answer has cost, in picodollars (see ``core.pricing``); None where no price is known.
    """

    custom_id: str
    output_text: str | None
    raw_response: JSONObject | None = None
    output_json: JSONValue | None = None
    usage: TokenUsage | None = None
    raw: RawResponseRef | None = None
    text_is_json: bool = False
    output_data: bytes | None = None
    cost: int | None = None


class NextRequest(NamedTuple):
    """A request that asks again with the reason why an answer was bad. It is for one answer of the model."""

    line: bytes
    """As ``MaterializedItem.request_line``."""
    submission_tokens: int
    request_bytes: int
    most: int
    """How often an item may be asked like this."""


@dataclass(frozen=True, slots=True)
class ItemFailureRecord:
    """A bad answer. ``count_attempt`` False sends the item back without using up an attempt. ``cost``: as of a good one.

    ``next_request`` is what the item asks in its next attempt; without it, its own request.
    """

    custom_id: str
    error: ItemFailure
    count_attempt: bool = True
    output_text: str | None = None
    raw_response: JSONObject | None = None
    usage: TokenUsage | None = None
    raw: RawResponseRef | None = None
    cost: int | None = None
    next_request: NextRequest | None = None


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
    poll_error: str | None = None
    """What was stored of the last of them."""
    next_poll_at: float = 0.0
    quarantined: bool = False
    """A person has to decide about it."""
    quarantine_cause: str | None = None
    """Why: a :class:`~batchor_core.core.lateness.Cause`, or ``batch_not_found``."""
    due_at: float | None = None
    """By when it should have ended."""
    ended_at: float | None = None
    """When the engine saw that it had ended; None while it runs, and for batches that ended under earlier builds. A person's
    decision to wait on for its results resets it."""
    late_rows: int = 0
    """Items that are waited for."""
    looks: int = 0
    """Checks without the results since ``ended_at``."""
    wait_reason: str | None = None
    """What is waited for, in words."""
    stated_completed: int | None = None
    """The most answered rows that the provider has ever stated; None if it has stated none."""
    cost: int = 0
    """Picodollars for its answers so far."""
    unpriced_answers: int = 0
    """Answers that are not in ``cost``, since no price is known for them."""
    model: str | None = None
    """The model of its items, where they name it themselves; None for that of the job."""


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
    cost: int | None = None
    """Picodollars for its answered attempts, as far as their prices are known; None if none is."""
    reused_from: ReusedFrom | None = None
    """Whose answer it is, if the item was not sent itself."""
    saved: int | None = None
    """Picodollars that the answer of a reused item has cost; None if no price is known."""


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
    cost: int | None = None
    """Picodollars for its answered attempts, as far as their prices are known; None if none is."""
    reused_run_id: str | None = None
    """Of an item that was not sent itself, the run whose answer it has."""
    reused_item_id: str | None = None
    """And the item in it."""
    saved: int | None = None
    """And the picodollars that its answer has cost; None if no price is known."""


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
