"""The memory store's rows: plain dicts that stand in for tables, and the moves that keep them consistent.

Everything here is called under the store's lock. A method either raises before it changes anything, or succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from batchor_core.core import lifecycle
from batchor_core.core.admission import Measure, Place
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.enums import IntentState, ItemStatus, RunControlState
from batchor_core.core.exceptions import DuplicateItemError, RunStateError
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure, RunSummary
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.retry import LONGEST_LEASE_SEC, is_due
from batchor_core.core.trouble import trouble
from batchor_core.core.types import JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.columns import (
    STATUS_NAME,
    decode_optional_json,
    encode_failure,
    encode_optional_json,
    pack_response,
    raw_columns,
    usage_columns,
)
from batchor_core.storage.late_batches import NOTHING_LATE, late_fields, waiting_begins_again
from batchor_core.storage.repeated import StoredContents
from batchor_core.storage.rows import record_of
from batchor_core.storage.state import (
    ActiveBatchRecord,
    BatchEnd,
    CompletedItemRecord,
    DriverIdentity,
    IngestCheckpoint,
    IntentRecord,
    ItemFailureRecord,
    MaterializedItem,
    PersistedItemRecord,
    PersistedRunConfig,
    RawResponseRef,
    ResultRow,
    ResultsWait,
    RetryBackoffState,
    request_bytes,
)

_NEW = ItemState(ItemStatus.PENDING, attempt_count=0, generation=0)

_SETTLED: dict[str, Any] = {"quarantined": False, "quarantine_cause": None}


def frozen(value: JSONValue | None) -> str | None:
    """JSON as text, so that neither side can change what the other holds; refuses what is not JSON."""
    return encode_optional_json(value)


def thawed(text: str | None) -> JSONValue | None:
    """The value that :func:`frozen` was given, a fresh copy each time."""
    value: JSONValue | None = decode_optional_json(text)
    return value


@dataclass(slots=True)
class Answer:
    """The last answer to an item, good or bad."""

    output_text: str | None = None
    output_json: str | None = None
    text_is_json: bool = False
    output_data: bytes | None = None
    raw_response: bytes | None = None
    raw: RawResponseRef | None = None
    raw_batch_id: str | None = None
    usage: TokenUsage | None = None


@dataclass(slots=True)
class ItemRow:
    """One item. ``intent_id`` is set while an intent owns it, ``batch_id`` while a batch does."""

    item_index: int
    item_id: str
    metadata: str | None
    prompt: str
    system_prompt: str | None
    request_line: bytes | None
    content_address: bytes | None
    request_bytes: int
    submission_tokens: int
    state: ItemState = _NEW
    custom_id: str | None = None
    intent_id: str | None = None
    batch_id: str | None = None
    artifact_path: str | None = None
    artifact_line: int | None = None
    artifact_sha256: str | None = None
    sequence: int | None = None
    error: ItemFailure | None = None
    answer: Answer = field(default_factory=Answer)


@dataclass(slots=True)
class IntentRow:
    """A submission, and the items it was made for in line order."""

    record: IntentRecord
    indexes: tuple[int, ...]

    @property
    def has_artifact(self) -> bool:
        """Whether its request file is there to be exported: a dropped submission's file is thrown away."""
        return bool(self.record.sha256) and self.record.state is not IntentState.DROPPED


@dataclass(slots=True)
class BatchRow:
    """A registered batch. ``owned`` are the items that are SUBMITTED in it."""

    record: ActiveBatchRecord
    owned: set[int] = field(default_factory=set)
    output_artifact_path: str | None = None
    error_artifact_path: str | None = None
    usage: TokenUsage | None = None
    poll_error: str | None = None

    @property
    def active(self) -> bool:
        """Whether there is still something to poll or to harvest."""
        return bool(self.owned) or not lifecycle.is_terminal_batch(self.record.status)


@dataclass(slots=True)
class LeaseRow:
    """A run's lease; the epoch outlives its holders."""

    owner: DriverIdentity | None = None
    epoch: int = 0
    expires_at: float = 0.0

    def is_live(self, now: float) -> bool:
        """Whether somebody holds it, as far as the clock can tell."""
        return self.owner is not None and not is_due(self.expires_at, now, longest=LONGEST_LEASE_SEC)


@dataclass(slots=True)
class RunRow:
    """A run with everything that belongs to it."""

    run_id: str
    config: PersistedRunConfig
    created_at: float
    control_state: RunControlState = RunControlState.RUNNING
    control_reason: str | None = None
    checkpoint: IngestCheckpoint | None = None
    lease: LeaseRow = field(default_factory=LeaseRow)
    backoff: RetryBackoffState = field(default_factory=RetryBackoffState)
    usage: TokenUsage = field(default_factory=TokenUsage)
    place: Place | None = None
    orphan_batches: int = 0
    last_sequence: int = 0
    exported_at: float | None = None
    export_root: str | None = None
    items: dict[int, ItemRow] = field(default_factory=dict)
    index_of: dict[str, int] = field(default_factory=dict)
    by_custom_id: dict[str, int] = field(default_factory=dict)
    by_status: dict[ItemStatus, set[int]] = field(
        default_factory=lambda: {status: set() for status in ItemStatus}
    )
    tokens: dict[ItemStatus, int] = field(default_factory=lambda: dict.fromkeys(ItemStatus, 0))
    ended: dict[int, int] = field(default_factory=dict)
    intents: dict[str, IntentRow] = field(default_factory=dict)
    batches: dict[str, BatchRow] = field(default_factory=dict)
    rendered: dict[int, RenderedChunk] = field(default_factory=dict)

    # --- items -------------------------------------------------------------------------------------------------------

    def add(self, items: Sequence[MaterializedItem], *, compare: bool = False) -> int:
        """Insert new items and return how many; a replayed one is passed over, a repeated id refuses the whole chunk.

        With ``compare``, so does one that is there with other contents.
        """
        fresh = self._fresh(items)
        if compare:
            self._check_same(items)
        for item in fresh:
            row = ItemRow(
                item_index=item.item_index,
                item_id=item.item_id,
                metadata=item.metadata_json or frozen(item.metadata),
                prompt=item.prompt,
                system_prompt=item.system_prompt,
                request_line=item.request_line,
                content_address=item.content_address,
                request_bytes=request_bytes(item),
                submission_tokens=item.submission_tokens,
            )
            self.items[item.item_index] = row
            self.index_of[item.item_id] = item.item_index
            self.by_status[ItemStatus.PENDING].add(item.item_index)
            self.tokens[ItemStatus.PENDING] += item.submission_tokens
        return len(fresh)

    def _check_same(self, items: Sequence[MaterializedItem]) -> None:
        """Refuse items that are there with other contents."""
        for item in items:
            there = self.items.get(item.item_index)
            if there is not None:
                stored = StoredContents(there.metadata, there.prompt, there.system_prompt, there.request_line)
                stored.check_same(self.run_id, item)

    def _fresh(self, items: Sequence[MaterializedItem]) -> list[MaterializedItem]:
        fresh: list[MaterializedItem] = []
        seen: dict[str, int] = {}
        repeated: dict[str, tuple[int, int]] = {}
        for item in items:
            known = self.index_of.get(item.item_id, seen.get(item.item_id))
            if item.item_id in seen or (known is not None and known != item.item_index):
                first = item.item_index if known is None else known
                repeated.setdefault(item.item_id, (first, item.item_index))
            elif known is None:
                fresh.append(item)
            seen[item.item_id] = item.item_index
        if repeated:
            raise DuplicateItemError(self.run_id, list(repeated), indexes=repeated)
        indexes = [item.item_index for item in fresh]
        for index in indexes:
            if index in self.items:
                there = self.items[index].item_id
                raise RunStateError(self.run_id, f"item {index} is {there!r} already; the source has changed")
        if len(set(indexes)) < len(indexes):
            raise RunStateError(self.run_id, "two items of a chunk have the same index")
        return fresh

    def move(self, item: ItemRow, state: ItemState) -> None:
        """Put an item into another state, and keep the counters and memberships right."""
        before, after = item.state.status, state.status
        self.by_status[before].discard(item.item_index)
        self.by_status[after].add(item.item_index)
        self.tokens[before] -= item.submission_tokens
        self.tokens[after] += item.submission_tokens
        if before is ItemStatus.SUBMITTED and after is not ItemStatus.SUBMITTED and item.batch_id is not None:
            self.batches[item.batch_id].owned.discard(item.item_index)
        if after not in lifecycle.IN_FLIGHT:
            self._forget_custom_id(item)
            item.intent_id = item.batch_id = None
        item.state = state
        if after in lifecycle.TERMINAL:
            self.last_sequence += 1
            item.sequence = self.last_sequence
            self.ended[self.last_sequence] = item.item_index

    def name(self, item: ItemRow, custom_id: str) -> None:
        """Give an item the custom_id of its next attempt."""
        self._forget_custom_id(item)
        item.custom_id = custom_id
        self.by_custom_id[custom_id] = item.item_index

    def estimate(self, item: ItemRow, tokens: int) -> None:
        """Take over a better estimate of an item's tokens."""
        self.tokens[item.state.status] += tokens - item.submission_tokens
        item.submission_tokens = tokens

    def _forget_custom_id(self, item: ItemRow) -> None:
        if item.custom_id is not None:
            self.by_custom_id.pop(item.custom_id, None)
            item.custom_id = None

    def claimable(self, *, max_attempts: int, limit: int | None) -> list[ItemRow]:
        """Items that may be claimed, in item order."""
        indexes = sorted(index for status in lifecycle.CLAIMABLE for index in self.by_status[status])
        found: list[ItemRow] = []
        for index in indexes:
            if limit is not None and len(found) >= limit:
                break
            if lifecycle.can_claim(self.items[index].state, max_attempts=max_attempts):
                found.append(self.items[index])
        return found

    def claim(self, item: ItemRow, *, intent_id: str | None) -> None:
        """Take an item for a batch, under an intent or, through the documented methods, without one."""
        names = CustomIds(self.run_id)
        self.name(item, names.of(item.item_id, item.item_index, item.state.generation))
        item.intent_id = intent_id
        self.move(item, lifecycle.claimed(item.state))

    def release(self, item: ItemRow, *, used_custom_id: bool) -> None:
        """Take an item back without an answer."""
        self.move(item, lifecycle.released(item.state, used_custom_id=used_custom_id))

    def in_status(self, *statuses: ItemStatus) -> list[ItemRow]:
        """Items in one of these states, in item order."""
        return [
            self.items[index]
            for index in sorted(index for status in statuses for index in self.by_status[status])
        ]

    def free_queued(self) -> list[ItemRow]:
        """QUEUED_LOCAL items that no intent owns."""
        return [item for item in self.in_status(ItemStatus.QUEUED_LOCAL) if self.owns(None, item)]

    # --- answers -----------------------------------------------------------------------------------------------------

    def submitted_item(self, custom_id: str, batch_id: str | None) -> ItemRow | None:
        """The item that a batch (any of them, for None) owns under this custom_id."""
        index = self.by_custom_id.get(custom_id)
        item = None if index is None else self.items[index]
        if item is None or item.state.status is not ItemStatus.SUBMITTED:
            return None
        return item if batch_id is None or item.batch_id == batch_id else None

    def complete(self, record: CompletedItemRecord, batch_id: str | None) -> bool:
        """Store a good answer; says whether it changed anything."""
        item = self.submitted_item(record.custom_id, batch_id)
        if item is None:
            return False
        item.error = None
        item.answer = Answer(
            output_text=record.output_text,
            output_json=frozen(record.output_json),
            text_is_json=record.text_is_json,
            output_data=record.output_data,
            raw_response=pack_response(record.raw_response),
            raw=record.raw,
            raw_batch_id=item.batch_id,
            usage=record.usage,
        )
        self._bill(record.usage)
        self.move(item, lifecycle.completed(item.state))
        return True

    def fail(
        self, record: ItemFailureRecord, batch_id: str | None, *, max_attempts: int
    ) -> ItemStatus | None:
        """Store a bad answer; returns the item's new status, None when nothing changed."""
        item = self.submitted_item(record.custom_id, batch_id)
        if item is None:
            return None
        answer = Answer(
            output_text=record.output_text,
            raw_response=pack_response(record.raw_response),
            raw=record.raw,
            raw_batch_id=item.batch_id,
            usage=record.usage,
        )
        self._bill(record.usage)
        self.fail_item(item, record.error, count_attempt=record.count_attempt, max_attempts=max_attempts)
        if item.state.status in lifecycle.TERMINAL:  # an answer that is tried again is no result
            item.answer = answer
        return item.state.status

    def fail_item(self, item: ItemRow, error: ItemFailure, *, count_attempt: bool, max_attempts: int) -> None:
        """Let an item fail by the rules."""
        item.error = error
        state = lifecycle.failed(
            item.state, retryable=error.retryable, count_attempt=count_attempt, max_attempts=max_attempts
        )
        self.move(item, state)

    def cancel(self, items: Iterable[ItemRow], error: ItemFailure) -> int:
        """End items that will not be answered."""
        count = 0
        for item in items:
            item.error = error
            self.move(item, lifecycle.cancelled(item.state))
            count += 1
        return count

    def _bill(self, usage: TokenUsage | None) -> None:
        if usage is not None:
            self.usage += usage

    def record(self, item: ItemRow) -> PersistedItemRecord:
        """All that is known of an item."""
        return record_of(self.row(item))

    def row(self, item: ItemRow) -> ResultRow:
        """The same, its JSON as text."""
        answer = item.answer
        return ResultRow(
            item.sequence,
            item.item_id,
            item.item_index,
            STATUS_NAME[item.state.status],
            item.state.attempt_count,
            item.metadata or "{}",
            answer.output_text,
            answer.output_json,
            answer.text_is_json,
            None if item.error is None else encode_failure(item.error),
            *usage_columns(answer.usage),
            self._raw_artifact_path(answer),
            *raw_columns(answer.raw),
            answer.raw_response,
            answer.output_data,
        )

    def _raw_artifact_path(self, answer: Answer) -> str | None:
        if answer.raw is None or answer.raw_batch_id is None:
            return None
        batch = self.batches[answer.raw_batch_id]
        return batch.error_artifact_path if answer.raw.is_error_file else batch.output_artifact_path

    # --- intents and batches -----------------------------------------------------------------------------------------

    def intent(self, local_batch_id: str) -> IntentRow:
        """The intent of this id, or RunStateError."""
        row = self.intents.get(local_batch_id)
        if row is None:
            raise RunStateError(self.run_id, f"no submission {local_batch_id!r}")
        return row

    def intent_in(self, local_batch_id: str, allowed: Sequence[IntentState]) -> IntentRow:
        """The intent, if it is in one of these states, or RunStateError."""
        row = self.intent(local_batch_id)
        if row.record.state not in allowed:
            raise RunStateError(self.run_id, f"submission {local_batch_id!r} is {row.record.state}")
        return row

    def owned_by(self, intent: IntentRow) -> list[ItemRow]:
        """The items that the intent still holds, in line order."""
        rows = (self.items[index] for index in intent.indexes)
        return [row for row in rows if self.owns(intent.record.local_batch_id, row)]

    @staticmethod
    def owns(local_batch_id: str | None, item: ItemRow) -> bool:
        """Whether the intent of this id holds the item; None for a claim without one."""
        return item.intent_id == local_batch_id and item.state.status is ItemStatus.QUEUED_LOCAL

    def drop(self, intent: IntentRow, error_class: str) -> int:
        """The intent's batch does not exist: free its items; returns how many."""
        items = self.owned_by(intent)
        for item in items:
            self.release(item, used_custom_id=intent.record.sending_at is not None)
        unsent = intent.record.state in lifecycle.UNSENT
        intent.record = replace(
            intent.record,
            state=IntentState.DROPPED,
            last_error_class=error_class,
            # of a dropped intent this says that there was doubt; about a postponed one there was none
            next_check_at=None if unsent else intent.record.next_check_at,
        )
        return len(items)

    def register(self, intent: IntentRow, *, provider_batch_id: str, status: str, now: float) -> None:
        """The intent's batch exists: record it and submit its items."""
        if provider_batch_id in self.batches:
            raise RunStateError(self.run_id, f"batch {provider_batch_id!r} belongs to another submission")
        self.batches[provider_batch_id] = BatchRow(
            ActiveBatchRecord(
                provider_batch_id=provider_batch_id,
                status=status,
                local_batch_id=intent.record.local_batch_id,
                input_file_id=intent.record.input_file_id,
                item_count=intent.record.item_count,
                created_at=now,
            )
        )
        self.backoff = replace(self.backoff, last_error_message=None)  # submission works
        for item in self.owned_by(intent):
            self.submit(item, provider_batch_id)
        intent.record = replace(
            intent.record, state=IntentState.REGISTERED, provider_batch_id=provider_batch_id
        )

    def quarantine(self, intent: IntentRow, error_class: str) -> None:
        """A person has to decide."""
        intent.record = replace(intent.record, state=IntentState.QUARANTINED, last_error_class=error_class)
        batch = self.batches.get(intent.record.provider_batch_id or "")
        if batch is not None:
            batch.record = replace(batch.record, quarantined=True, quarantine_cause=error_class)

    def given_up_in_doubt(self) -> list[IntentRow]:
        """Submissions of which nobody knows for certain that they have no batch."""
        # mark_unknown sets next_check_at, so it tells who was in doubt from who was refused
        return [
            intent
            for intent in self.intents.values()
            if intent.record.state is IntentState.DROPPED and intent.record.next_check_at is not None
        ]

    def find_again(self, intent: IntentRow, *, provider_batch_id: str, now: float) -> None:
        """A lost batch is there after all, under this id; patience with a late one is counted from here."""
        known = str(intent.record.provider_batch_id)
        batch = self.batches[known]
        changes = _SETTLED | waiting_begins_again(
            ended_at=batch.record.ended_at, due_at=batch.record.due_at, now=now
        )
        batch.poll_error = None
        if provider_batch_id != known:
            if provider_batch_id in self.batches:
                raise RunStateError(self.run_id, f"batch {provider_batch_id!r} belongs to another submission")
            changes |= {
                "provider_batch_id": provider_batch_id,
                "status": "validating",
                "output_file_id": None,
                "error_file_id": None,
                "due_at": None,
                **NOTHING_LATE,
            }
            self.batches = {
                provider_batch_id if name == known else name: row for name, row in self.batches.items()
            }
            for item in self.items.values():
                if item.batch_id == known:
                    item.batch_id = provider_batch_id
                if item.answer.raw_batch_id == known:
                    item.answer.raw_batch_id = provider_batch_id
        batch.record = replace(batch.record, **changes)
        intent.record = replace(
            intent.record, state=IntentState.REGISTERED, provider_batch_id=provider_batch_id
        )

    def give_up_batch(self, intent: IntentRow, error_class: str, *, now: float) -> None:
        """A batch will bring nothing more: what it still owns comes back.

        One that is over stays on record with what it has brought; any other may turn up after all.
        """
        batch = self.batches[str(intent.record.provider_batch_id)]
        for index in sorted(batch.owned):
            self.release(self.items[index], used_custom_id=True)
        batch.record = replace(batch.record, **NOTHING_LATE, **_SETTLED)
        if lifecycle.is_terminal_batch(batch.record.status):
            intent.record = replace(intent.record, state=IntentState.REGISTERED, last_error_class=error_class)
            return
        batch.record = replace(batch.record, status=lifecycle.LOST_BATCH)
        intent.record = replace(
            intent.record, state=IntentState.DROPPED, last_error_class=error_class, next_check_at=now
        )

    def register_by_hand(
        self,
        *,
        local_batch_id: str,
        provider_batch_id: str,
        status: str,
        custom_ids: Sequence[str],
        now: float,
    ) -> None:
        """Record a batch that was created outside of a driver session, and give it the items it names.

        They stay QUEUED_LOCAL until they are marked submitted; after a crash, requeueing does that.
        """
        if provider_batch_id in self.batches:
            return
        if local_batch_id in self.intents:
            raise RunStateError(self.run_id, f"submission {local_batch_id!r} exists")
        record = IntentRecord(
            local_batch_id=local_batch_id,
            state=IntentState.REGISTERED,
            epoch=0,
            item_count=len(custom_ids),
            submission_tokens=0,
            created_at=now,
        )
        intent = self.intents[local_batch_id] = IntentRow(record, indexes=())
        self.register(intent, provider_batch_id=provider_batch_id, status=status, now=now)
        named = [self.by_custom_id[name] for name in custom_ids if name in self.by_custom_id]
        intent.indexes = tuple(index for index in named if self.owns(None, self.items[index]))
        for index in intent.indexes:
            self.items[index].intent_id = local_batch_id

    def submit(self, item: ItemRow, provider_batch_id: str) -> None:
        """Hand an item over to a registered batch."""
        item.batch_id = provider_batch_id
        self.move(item, lifecycle.submitted(item.state))
        self.batches[provider_batch_id].owned.add(item.item_index)

    def batches_in_order(self) -> list[BatchRow]:
        """Batches in the order in which their submissions were begun."""
        ids = (intent.record.provider_batch_id for intent in self.intents.values())
        return [self.batches[batch_id] for batch_id in ids if batch_id is not None]

    def batch(self, provider_batch_id: str) -> BatchRow:
        """The batch of this id, or RunStateError."""
        row = self.batches.get(provider_batch_id)
        if row is None:
            raise RunStateError(self.run_id, f"no batch {provider_batch_id!r} is registered")
        return row

    def poll(
        self,
        batch: BatchRow,
        *,
        status: str,
        output_file_id: str | None,
        error_file_id: str | None,
        due_at: float | None = None,
        next_poll_at: float = 0.0,
    ) -> None:
        """Keep what a poll said. A final status stays, and a file id that is missing now does not undo one."""
        known = batch.record
        batch.record = replace(
            known,
            status=known.status if lifecycle.is_terminal_batch(known.status) else status,
            output_file_id=output_file_id or known.output_file_id,
            error_file_id=error_file_id or known.error_file_id,
            due_at=known.due_at if due_at is None else due_at,
            poll_failures=0,
            next_poll_at=next_poll_at,
        )
        batch.poll_error = None

    def wait_for(self, batch: BatchRow, wait: ResultsWait) -> None:
        """Keep what is waited for of a batch that is over."""
        self.poll(
            batch,
            status=wait.status,
            output_file_id=wait.output_file_id,
            error_file_id=wait.error_file_id,
            next_poll_at=wait.next_poll_at,
        )
        batch.record = replace(batch.record, **late_fields(wait))

    def end(self, batch: BatchRow, end: BatchEnd) -> None:
        """Keep a batch's final state; nobody has to decide about it any more."""
        batch.usage = end.usage
        self.poll(batch, status=end.status, output_file_id=None, error_file_id=None)
        batch.record = replace(batch.record, **NOTHING_LATE, **_SETTLED)
        intent = self.intents[batch.record.local_batch_id]
        if intent.record.state is IntentState.QUARANTINED:
            intent.record = replace(intent.record, state=IntentState.REGISTERED)

    def requeue_local(self) -> int:
        """Free what was claimed and certainly not sent; finish the registration of what was sent."""
        freed = 0
        for intent in self.intents.values():
            match intent.record.state:
                case IntentState.CLAIMED | IntentState.UPLOADED:
                    if not intent.record.is_postponed:
                        freed += self.drop(intent, "driver_lost")
                case IntentState.REGISTERED:
                    if self.by_status[ItemStatus.QUEUED_LOCAL]:
                        for item in self.owned_by(intent):
                            self.submit(item, intent.record.provider_batch_id or "")
                case (
                    IntentState.SENDING | IntentState.UNKNOWN | IntentState.QUARANTINED | IntentState.DROPPED
                ):
                    pass
                case _:
                    assert_never(intent.record.state)
        for item in self.free_queued():
            self.release(item, used_custom_id=False)
            freed += 1
        return freed

    # --- the run as a whole ------------------------------------------------------------------------------------------

    @property
    def tokens_in_flight(self) -> int:
        """Estimated tokens of the items that are, or are about to be, in a batch."""
        return sum(self.tokens[status] for status in lifecycle.IN_FLIGHT)

    def in_flight(self, measure: Measure) -> int:
        """What the run has in flight, as an allowance counts it."""
        match measure:
            case Measure.ENQUEUED_TOKENS:
                return self.tokens_in_flight
            case _:
                assert_never(measure)

    @property
    def can_send_more(self) -> bool:
        """Whether the run has items to send, and is not paused or cancelled."""
        waits = any(self.by_status[status] for status in lifecycle.CLAIMABLE)
        return waits and self.control_state is RunControlState.RUNNING

    def share(self, budget_key: str) -> None:
        """Count the run under this key from here on."""
        if self.config.budget_key != budget_key:
            self.config = replace(self.config, budget_key=budget_key)

    @property
    def ingestion_complete(self) -> bool:
        """Whether all items are read.

        A run without a checkpoint got all its items when it was created; one without items either was interrupted before
        its checkpoint was written, and is not to be taken for a finished one.
        """
        return bool(self.items) if self.checkpoint is None else self.checkpoint.ingestion_complete

    def move_checkpoint(
        self, *, next_item_index: int, payload: JSONValue | None, ingestion_complete: bool
    ) -> None:
        """Say how far reading has come."""
        self.checkpoint = replace(
            self.checkpoint or IngestCheckpoint(source_kind="", source_ref="", source_fingerprint=""),
            next_item_index=next_item_index,
            checkpoint_payload=thawed(frozen(payload)),
            ingestion_complete=ingestion_complete,
        )

    def backoff_remaining(self, now: float) -> float:
        """Seconds until the next submission may leave."""
        at = self.backoff.next_retry_at or 0.0
        return 0.0 if is_due(at, now, longest=self.backoff.backoff_sec) else at - now

    def count_failure(
        self, *, error_class: str, delay: Callable[[int], float], now: float, message: str | None = None
    ) -> RetryBackoffState:
        """Advance the backoff; ``delay`` gives the seconds for the n-th failure in a row."""
        consecutive = self.backoff.consecutive_failures + 1
        backoff_sec = delay(consecutive)
        self.backoff = RetryBackoffState(
            consecutive_failures=consecutive,
            total_failures=self.backoff.total_failures + 1,
            backoff_sec=backoff_sec,
            next_retry_at=now + backoff_sec,
            last_error_class=error_class,
            last_error_message=message,
        )
        return self.backoff

    def clear_backoff(self) -> None:
        """The control plane works again."""
        self.backoff = RetryBackoffState(total_failures=self.backoff.total_failures)

    def summary(self, now: float) -> RunSummary:
        """Where the run stands."""
        counts = {status: len(indexes) for status, indexes in self.by_status.items()}
        states = [intent.record.state for intent in self.intents.values()]
        active = [batch for batch in self.batches.values() if batch.active]
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
            estimated_tokens=self.tokens_in_flight,
            unknown_batches=states.count(IntentState.UNKNOWN),
            quarantined_batches=states.count(IntentState.QUARANTINED),
            orphan_batches=self.orphan_batches,
            late_batches=sum(batch.record.ended_at is not None for batch in active),
            late_rows=sum(batch.record.late_rows for batch in active),
            overdue_batches=sum(
                batch.record.due_at is not None
                and batch.record.due_at < now
                and not lifecycle.is_terminal_batch(batch.record.status)
                for batch in active
            ),
            created_at=self.created_at,
            trouble=trouble(
                status,
                self.control_state,
                submit_failures=self.backoff.consecutive_failures,
                submit_error=self.backoff.last_error_message,
                poll_failures=max((batch.record.poll_failures for batch in active), default=0),
                poll_error=max((batch.poll_error or "" for batch in active), default="") or None,
            ),
        )

    @property
    def was_sent(self) -> bool:
        """Whether any batch of the run exists, or may have been asked for."""
        records = [intent.record for intent in self.intents.values()]
        return bool(self.batches) or any(record.sending_at is not None for record in records)

    def reopen_failed(self) -> int:
        """Make permanently failed items PENDING, their results withdrawn."""
        items = self.in_status(ItemStatus.FAILED_PERMANENT)
        for item in items:
            if item.sequence is not None:
                del self.ended[item.sequence]
            item.sequence, item.error, item.answer = None, None, Answer()
            self.move(item, lifecycle.reopened(item.state))
        self.control_state, self.control_reason = RunControlState.RUNNING, None
        return len(items)
