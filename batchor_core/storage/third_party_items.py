"""The items of a run on a store that has only the documented methods: those that this driver holds, and those in batches."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from batchor_core.core import lifecycle
from batchor_core.core.custom_ids import CustomIdFormat, CustomIds, parse
from batchor_core.core.enums import ItemStatus
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure
from batchor_core.storage.documented_store import DocumentedStore
from batchor_core.storage.records import (
    ClaimedItem,
    CompletedItemRecord,
    ItemFailureRecord,
    PersistedItemRecord,
    PreparedSubmission,
    QueuedItemFailureRecord,
)
from batchor_core.storage.session import AppliedOutcome
from batchor_core.storage.third_party_book import Book, Held, Submitted

_PAGE = 1_000
_UNLIMITED = 2**31 - 1

_RecordT = TypeVar("_RecordT", CompletedItemRecord, ItemFailureRecord)

_MISSING = ItemFailure(
    "batch_output_missing_row", "the batch ended without an answer for this item", retryable=True
)


class ThirdPartyItems:
    """The items of one run; the book's lock is the caller's to hold.

    Args:
        store: The store.
        book: What this process remembers of the run.
    """

    def __init__(self, store: DocumentedStore, book: Book) -> None:
        self._store = store
        self._book = book
        self._run_id = book.run_id
        self._chars_per_token = store.get_run_config(run_id=book.run_id).chunk_policy.chars_per_token

    # --- held --------------------------------------------------------------------------------------------------------

    def take(self, *, max_attempts: int, limit: int) -> None:
        """Claim so many more items, and hold them."""
        claimed = self._store.claim_items_for_submission(
            run_id=self._run_id, max_attempts=max_attempts, limit=limit
        )
        self._learn_indexes(item.item_id for item in claimed)
        for item in claimed:
            index = self._book.index_of[item.item_id]
            self._book.held[index] = Held(index, self._estimate(item), item)

    def give_back(self) -> None:
        """Let go of all that is held."""
        item_ids = [held.item.item_id for held in self._book.held.values()]
        self._book.held.clear()
        if item_ids:
            self._store.release_items_to_pending(run_id=self._run_id, item_ids=item_ids)

    def _learn_indexes(self, item_ids: Iterable[str]) -> None:
        if any(item_id not in self._book.index_of for item_id in item_ids):
            self._book.index_of.update((record.item_id, record.item_index) for record in self._records())

    def _records(self) -> list[PersistedItemRecord]:
        return self._store.get_item_records(run_id=self._run_id)

    def _estimate(self, item: ClaimedItem) -> int:
        known = self._book.tokens_of.get(item.item_id, 0)
        return known or -(-(len(item.prompt) + len(item.system_prompt or "")) // self._chars_per_token)

    def end(self, errors: dict[int, ItemFailure]) -> None:
        """End held items, by index, for good."""
        records = [
            QueuedItemFailureRecord(
                self._book.held.pop(index).item.item_id, replace(error, retryable=False), count_attempt=False
            )
            for index, error in errors.items()
        ]
        if records:
            self._store.mark_queued_items_failed(
                run_id=self._run_id, failures=records, max_attempts=_UNLIMITED
            )

    def end_all(self, error: ItemFailure) -> int:
        """End everything that can be claimed; returns how many."""
        count = 0
        self.give_back()
        while True:
            self.take(max_attempts=_UNLIMITED, limit=_PAGE)
            if not self._book.held:
                return count
            count += len(self._book.held)
            self.end(dict.fromkeys(self._book.held, error))

    # --- in batches --------------------------------------------------------------------------------------------------

    def submit(self, provider_batch_id: str, lines: Sequence[tuple[str, Held]]) -> None:
        """Hand items over to a batch that has been recorded, under these custom_ids."""
        submissions = [PreparedSubmission(held.item.item_id, name, held.tokens) for name, held in lines]
        self._store.mark_items_submitted(
            run_id=self._run_id, provider_batch_id=provider_batch_id, submissions=submissions
        )
        for custom_id, held in lines:
            self._book.submitted[custom_id] = Submitted(held.item_index, held.item.attempt_count)

    def submitted(self, provider_batch_id: str) -> dict[str, Submitted]:
        """The items that a batch still owns, by custom_id, in item order."""
        known = self._book.submitted
        custom_ids = self._store.get_submitted_custom_ids_for_batch(
            run_id=self._run_id, provider_batch_id=provider_batch_id
        )
        if any(custom_id not in known for custom_id in custom_ids):
            self._learn_submitted(custom_ids)
        return {name: known[name] for name in custom_ids if name in known}

    def _learn_submitted(self, custom_ids: Iterable[str]) -> None:
        """Find the items of custom_ids that an earlier process, perhaps of an earlier build, made."""
        records = {record.item_index: record for record in self._records()}
        for custom_id in custom_ids:
            attempt = parse(custom_id)
            record = None if attempt is None else records.get(attempt.item_index)
            if attempt is None or record is None:
                continue
            # the documented methods can't keep the run's format
            names = (CustomIds(self._run_id, known) for known in CustomIdFormat)
            if custom_id in [name.of(record.item_id, *attempt) for name in names]:
                self._book.submitted[custom_id] = Submitted(record.item_index, record.attempt_count)

    def settle(
        self,
        provider_batch_id: str,
        completions: Sequence[CompletedItemRecord],
        failures: Sequence[ItemFailureRecord],
        released_custom_ids: Sequence[str],
        *,
        max_attempts: int,
    ) -> AppliedOutcome:
        """Store answers to items that the batch still owns, each item's first."""
        owned = self.submitted(provider_batch_id)
        good = _first_of_each(list(map(_with_text, completions)), owned)
        for record in good:
            owned.pop(record.custom_id)
        missing = [ItemFailureRecord(name, _MISSING, count_attempt=False) for name in released_custom_ids]
        bad = _first_of_each([*failures, *missing], owned)
        if good:
            self._store.mark_items_completed(run_id=self._run_id, completions=good)
        if bad:
            self._store.mark_items_failed(run_id=self._run_id, failures=bad, max_attempts=max_attempts)
        for name in [record.custom_id for record in good] + [record.custom_id for record in bad]:
            self._book.submitted.pop(name, None)
        return _outcome(good, bad, owned, max_attempts=max_attempts)


def _with_text(record: CompletedItemRecord) -> CompletedItemRecord:
    """The documented record has no place for bytes: they are kept as base64; ``storage.rows`` reads them."""
    if record.output_data is None:
        return record
    text = b2a_base64(record.output_data, newline=False).decode()
    return record._replace(output_text=text, output_data=None)


def _first_of_each(records: Sequence[_RecordT], owned: dict[str, Submitted]) -> list[_RecordT]:
    first: dict[str, _RecordT] = {}
    for record in records:
        if record.custom_id in owned:
            first.setdefault(record.custom_id, record)
    return list(first.values())


def _outcome(
    good: Sequence[CompletedItemRecord],
    bad: Sequence[ItemFailureRecord],
    owned: dict[str, Submitted],
    *,
    max_attempts: int,
) -> AppliedOutcome:
    """What the store should have done with these records, by the rules that every store follows."""
    ends = [
        lifecycle.failed(
            ItemState(ItemStatus.SUBMITTED, owned[record.custom_id].attempt_count, generation=0),
            retryable=record.error.retryable,
            count_attempt=record.count_attempt,
            max_attempts=max_attempts,
        ).status
        for record in bad
        if record.error is not _MISSING
    ]
    return AppliedOutcome(
        completed=len(good),
        failed=ends.count(ItemStatus.FAILED_PERMANENT),
        retrying=ends.count(ItemStatus.FAILED_RETRYABLE),
        released=len(bad) - len(ends),
    )
