"""The items of a run of the model, and their answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from batchor_core.core import lifecycle
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import DuplicateItemError, RunStateError
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure
from batchor_core.core.repair import is_over
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.records import (
    CompletedItemRecord,
    ItemFailureRecord,
    MaterializedItem,
)
from tests.support.model_store.facts import Batch, Item, Submission, copied


@dataclass(slots=True)
class RunItems:
    """Everything that belongs to a run's items. No index is kept: what is asked is looked for."""

    run_id: str
    usage: TokenUsage = field(default_factory=TokenUsage)
    answers: list[CompletedItemRecord | ItemFailureRecord] = field(default_factory=list)
    """All that were ever stored."""
    last_sequence: int = 0
    repairs: int = 0
    repaired_items: int = 0
    by_index: dict[int, Item] = field(default_factory=dict)

    # --- items -------------------------------------------------------------------------------------------------------

    @property
    def items(self) -> list[Item]:
        """Every item, in item order."""
        return [self.by_index[index] for index in sorted(self.by_index)]

    def with_status(self, *statuses: ItemStatus) -> list[Item]:
        """Items in one of these, in item order."""
        return [item for item in self.items if item.status in statuses]

    def named(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """Items of these ids."""
        wanted = set(item_ids)
        return {item.given.item_id: item for item in self.items if item.given.item_id in wanted}

    def add(self, given: Sequence[MaterializedItem], *, compare: bool = False) -> int:
        """Insert new items and return how many; a replayed one is passed over, a repeated id refuses the whole chunk.

        With ``compare``, so does one that is there with other contents.
        """
        items = [item._replace(metadata=copied(item.metadata)) for item in given]
        fresh = self._fresh(items)
        for item in items if compare else ():
            if item.item_index in self.by_index:
                self._check_same(self.by_index[item.item_index].given, item)
        for item in fresh:
            self.by_index[item.item_index] = Item(item, item.submission_tokens)
        return len(fresh)

    def _check_same(self, there: MaterializedItem, item: MaterializedItem) -> None:
        for name in ("metadata", "prompt", "system_prompt", "request_line"):
            if getattr(there, name) != getattr(item, name):
                raise RunStateError(
                    self.run_id,
                    f"item {item.item_index} ({item.item_id!r}) is stored with another {name}",
                )

    def _fresh(self, items: Sequence[MaterializedItem]) -> list[MaterializedItem]:
        index_of = {item.given.item_id: item.index for item in self.items}
        fresh, seen = list[MaterializedItem](), dict[str, int]()
        repeated: dict[str, tuple[int, int]] = {}
        for item in items:
            known = index_of.get(item.item_id, seen.get(item.item_id))
            if known is not None and (item.item_id in seen or known != item.item_index):
                repeated.setdefault(item.item_id, (known, item.item_index))
            elif known is None:
                fresh.append(item)
            seen[item.item_id] = item.item_index
        if repeated:
            raise DuplicateItemError(self.run_id, list(repeated), indexes=repeated)
        indexes = [item.item_index for item in fresh]
        if len(set(indexes)) < len(indexes) or self.by_index.keys() & set(indexes):
            raise RunStateError(self.run_id, "an index is there already; the source has changed")
        return fresh

    def move(self, item: Item, state: ItemState) -> None:
        """Put an item into another state; a terminal one gets the next sequence."""
        item.state = state
        if state.status not in lifecycle.IN_FLIGHT:
            item.custom_id = item.submission = None
        if state.status in lifecycle.TERMINAL:
            self.last_sequence += 1
            item.sequence = self.last_sequence

    def claimable(self, *, max_attempts: int, limit: int | None) -> list[Item]:
        """Items that may be claimed, in item order."""
        found = [item for item in self.items if lifecycle.can_claim(item.state, max_attempts=max_attempts)]
        return found[:limit]

    def claim(self, item: Item, submission: Submission | None) -> None:
        """Take an item for a submission or, by hand, without one."""
        names = CustomIds(self.run_id)
        item.custom_id = names.of(item.given.item_id, item.index, item.state.generation)
        item.submission = submission
        self.move(item, lifecycle.claimed(item.state))

    def release(self, item: Item, *, used_custom_id: bool) -> None:
        """Take an item back without an answer."""
        self.move(item, lifecycle.released(item.state, used_custom_id=used_custom_id))

    def cancel(self, items: Iterable[Item], error: ItemFailure) -> int:
        """End items that will not be answered."""
        ended = list(items)
        for item in ended:
            item.error = error
            self.move(item, lifecycle.cancelled(item.state))
        return len(ended)

    def queued_by_hand(self) -> list[Item]:
        """QUEUED_LOCAL items that no submission holds."""
        return [item for item in self.items if item.is_queued_by(None)]

    # --- answers -----------------------------------------------------------------------------------------------------

    def submitted(self, custom_id: str, batch: Batch | None) -> Item | None:
        """The item that a batch (any of them, for None) owns under this custom_id."""
        return next((item for item in self.items if item.custom_id == custom_id and item.is_in(batch)), None)

    def complete(self, record: CompletedItemRecord, batch: Batch | None) -> bool:
        """Store a good answer; says whether it changed anything."""
        item = self.submitted(record.custom_id, batch)
        if item is None:
            return False
        self._keep_answer(item, record._replace(output_json=copied(record.output_json)))
        item.error = None
        self.move(item, lifecycle.completed(item.state))
        self.repaired_items += item.next_request is not None
        self.ask_own(item)
        return True

    def fail(self, record: ItemFailureRecord, batch: Batch | None, *, max_attempts: int) -> ItemStatus | None:
        """Store a bad answer; returns the item's new status, None when nothing changed."""
        item = self.submitted(record.custom_id, batch)
        if item is None:
            return None
        before = item.answer, item.answered_in
        self._keep_answer(item, record)
        self.fail_item(item, record.error, count_attempt=record.count_attempt, max_attempts=max_attempts)
        self._ask_next(item, record)
        if item.status not in lifecycle.TERMINAL:  # an answer that is tried again is no result
            item.answer, item.answered_in = before
        return item.status

    def _ask_next(self, item: Item, record: ItemFailureRecord) -> None:
        asked = record.next_request
        if asked and lifecycle.is_repaired(item.state, repairs=item.repairs, most=asked.most):
            self.ask_own(item)
            item.own_tokens, item.tokens, item.next_request = item.tokens, asked.submission_tokens, asked
            item.repairs += 1
            self.repairs += 1
        elif is_over(record.error, ended=item.status in lifecycle.TERMINAL):
            self.ask_own(item)

    def ask_own(self, item: Item) -> None:
        """Let an item ask its own request."""
        if item.next_request is not None:
            item.tokens, item.next_request = item.own_tokens, None

    def _keep_answer(self, item: Item, record: CompletedItemRecord | ItemFailureRecord) -> None:
        assert item.submission is not None
        item.answer, item.answered_in = record, item.submission.batch
        self.usage += record.usage or TokenUsage()
        self.answers.append(record)
        if record.cost is not None:
            item.amounts.append(record.cost)
        if (batch := item.submission.batch) is not None:
            batch.answers.append(record)
            batch.record = replace(
                batch.record, cost=amount(batch.answers), unpriced_answers=unpriced(batch.answers)
            )

    def fail_item(self, item: Item, error: ItemFailure, *, count_attempt: bool, max_attempts: int) -> None:
        """Let an item fail by the rules."""
        item.error = error
        state = lifecycle.failed(
            item.state, retryable=error.retryable, count_attempt=count_attempt, max_attempts=max_attempts
        )
        self.move(item, state)


def amount(answers: Sequence[CompletedItemRecord | ItemFailureRecord]) -> int:
    """What answers have cost, in picodollars."""
    return sum(answer.cost or 0 for answer in answers)


def unpriced(answers: Sequence[CompletedItemRecord | ItemFailureRecord]) -> int:
    """How many answers are not in :func:`amount`. A failure without token counts was not billed."""
    billed = [
        answer for answer in answers if isinstance(answer, CompletedItemRecord) or answer.usage is not None
    ]
    return sum(answer.cost is None for answer in billed)
