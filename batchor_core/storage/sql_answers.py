"""The ends of items: answers, failures and cancellations, each by the rules of ``core.lifecycle``, written in bulk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import and_
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core import lifecycle
from batchor_core.core.enums import ItemStatus
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure
from batchor_core.core.repair import is_over
from batchor_core.storage import sql_repairs
from batchor_core.storage.columns import (
    LONG_TEXT,
    STATUS_NAME,
    encode_failure,
    encode_optional_json,
    encode_optional_text,
    pack_response,
    raw_columns,
    usage_columns,
)
from batchor_core.storage.records import CompletedItemRecord, ItemFailureRecord, NextRequest
from batchor_core.storage.schema import QUEUES, item_results, items
from batchor_core.storage.session import AppliedOutcome
from batchor_core.storage.sql_costs import Bill, charge, with_attempt
from batchor_core.storage.sql_engine import Constant
from batchor_core.storage.sql_items import (
    SUBMITTED,
    ItemRow,
    as_known,
    is_status,
    item_rows,
    items_by_custom_id,
    own,
)
from batchor_core.storage.sql_reuse import Entry, TakenResult, insert_results
from batchor_core.storage.sql_runs import LockedRun

# what changes with the state; a terminal item keeps its last name and submission, which saves touching their indexes
_CHANGE_COLUMNS = ("status", "queue", "attempt_count", "generation", "custom_id", "intent_key", "cost")
_ERROR_COLUMNS = ("last_error",)  # apart, since what goes on without an error keeps the one before
_END_COLUMNS = ("status", "attempt_count", "terminal_sequence")
_ENDED: dict[str, Constant] = {"queue": None, "last_error": None}
_OF_TAKEN = ("reused_run_id", "reused_item_id", "saved", "answered_at", "reused_run_key", "reused_index")
_RESULT_COLUMNS = tuple(
    column.name for column in item_results.columns if column.name not in ("run_key", *_OF_TAKEN)
)


class ItemChanges:
    """What a transaction does to items one by one, collected and then written in bulk."""

    def __init__(self, run: LockedRun) -> None:
        self._run = run
        self._changes: list[tuple[object, ...]] = []
        self._errors: list[tuple[object, ...]] = []
        self._ends: list[tuple[object, ...]] = []
        self._results: list[tuple[object, ...]] = []
        self._long_results: list[tuple[object, ...]] = []
        self._taken: list[TakenResult] = []
        self._moves: defaultdict[tuple[ItemStatus, ItemStatus], list[int]] = defaultdict(lambda: [0, 0])
        self._owned: defaultdict[int | None, int] = defaultdict(int)
        self._bills: defaultdict[int | None, Bill] = defaultdict(Bill)
        self._asked: dict[int, NextRequest] = {}
        self._repairs_answered: dict[int, bool] = {}

    def complete(self, item: ItemRow, record: CompletedItemRecord) -> None:
        """A good answer."""
        output_json = None if record.text_is_json else encode_optional_json(record.output_json)
        self._bills[item.intent_key].good.append(record)
        cost = with_attempt(item.cost, record.cost)
        state = lifecycle.completed(item.state)
        if item.repairs:
            self._repairs_answered[item.item_index] = True
        self._terminal(item, state, record, cost, None, output_json, record.text_is_json, record.output_data)

    def take(self, item: ItemRow, answer: Entry) -> None:
        """The answer of an equal item."""
        state = lifecycle.reused(item.state)
        sequence = self._run.next_sequence()
        # what it has cost before is unknown only if it was sent before
        cost = item.cost if item.state.attempt_count else item.cost or 0
        self._taken.append(TakenResult(sequence, item.item_index, state.attempt_count, cost, answer))
        self._ends.append((item.item_index, STATUS_NAME[state.status], state.attempt_count, sequence))
        self._count(item, state.status)

    def fail(self, item: ItemRow, record: ItemFailureRecord, *, max_attempts: int) -> ItemStatus:
        """A bad answer; returns where the item goes."""
        # what is wrong with a request that asks again, such as its length, need not be wrong with the row's own
        retryable = record.error.retryable or bool(
            item.repairs and sql_repairs.is_asked(self._run, item.item_index)
        )
        state = lifecycle.failed(
            item.state,
            retryable=retryable,
            count_attempt=record.count_attempt,
            max_attempts=max_attempts,
        )
        error = encode_failure(record.error)
        self._bills[item.intent_key].bad.append(record)
        cost = with_attempt(item.cost, record.cost)
        next_request = record.next_request
        if next_request and lifecycle.is_repaired(state, repairs=item.repairs or 0, most=next_request.most):
            self._asked[item.item_index] = next_request
        elif item.repairs and is_over(record.error, ended=state.status in lifecycle.TERMINAL):
            self._repairs_answered[item.item_index] = False
        if state.status in lifecycle.TERMINAL:
            self._terminal(item, state, record, cost, error, None, False)
        else:
            self._move(item._replace(cost=cost), state, last_error=error)
        return state.status

    def release(self, item: ItemRow, *, used_custom_id: bool) -> None:
        """No answer."""
        self._move(item, lifecycle.released(item.state, used_custom_id=used_custom_id))

    def submit(self, item: ItemRow, custom_id: str, intent_key: int) -> None:
        """The item is in a batch that was created outside of a driver session."""
        derived = self._run.custom_ids.of(item.item_id, item.item_index, item.state.generation)
        given = None if custom_id == derived else custom_id
        owned = item._replace(given_custom_id=given, intent_key=intent_key)
        self._move(owned, lifecycle.submitted(item.state))

    def end(self, item: ItemRow, state: ItemState, error: ItemFailure) -> None:
        """A failure without an answer: before submission, or by the run's cancellation."""
        self.end_like(item, state, encode_failure(error))

    def end_like(self, item: ItemRow, state: ItemState, stored: str) -> None:
        """The same, with a failure as it is stored."""
        if state.status in lifecycle.TERMINAL:
            blank = CompletedItemRecord(custom_id="", output_text=None)
            self._terminal(item, state, blank, item.cost, stored, None, False)
        else:
            self._move(item, state, last_error=stored)

    @property
    def asked_again(self) -> int:
        """Items that are asked again with the reason."""
        return len(self._asked)

    def write(self) -> None:
        """Write everything that was collected."""
        run = self._run
        run.database.insert_many(
            run.connection, item_results, _RESULT_COLUMNS, self._results, same={"run_key": run.run_key}
        )
        run.database.insert_long(
            run.connection, item_results, _RESULT_COLUMNS, self._long_results, same={"run_key": run.run_key}
        )
        insert_results(run, self._taken)
        for columns, rows, same in (
            (_END_COLUMNS, self._ends, _ENDED),
            (_CHANGE_COLUMNS, self._changes, {}),
            (_ERROR_COLUMNS, self._errors, {}),
        ):
            run.database.change_items(run.connection, run.run_key, columns, rows, same=same)
        sql_repairs.write(run, self._asked, self._repairs_answered)
        for (before, after), (count, tokens) in self._moves.items():
            run.move(before, after, count=count, tokens=tokens)
        for intent_key, count in self._owned.items():
            own(run.connection, intent_key, count)
        for intent_key, bill in self._bills.items():
            sums = bill.sums()
            run.bill(sums)
            charge(run.connection, intent_key, sums)

    def _terminal(
        self,
        item: ItemRow,
        state: ItemState,
        record: CompletedItemRecord | ItemFailureRecord,
        cost: int | None,
        error: str | None,
        output_json: str | None,
        text_is_json: bool,
        output_data: bytes | None = None,
    ) -> None:
        sequence, status = self._run.next_sequence(), STATUS_NAME[state.status]
        is_long = record.output_text is not None and len(record.output_text) > LONG_TEXT
        results = self._long_results if is_long else self._results
        results.append(
            (sequence, item.item_index, status, state.attempt_count,
             encode_optional_text(record.output_text), output_json, text_is_json, *usage_columns(record.usage), error,
             item.intent_key, *raw_columns(record.raw), pack_response(record.raw_response), output_data,
             cost)
        )  # fmt: skip
        self._ends.append((item.item_index, status, state.attempt_count, sequence))
        self._count(item, state.status)

    def _move(self, item: ItemRow, state: ItemState, *, last_error: str | None = None) -> None:
        self._count(item, state.status)
        renamed = state.generation != item.state.generation
        custom_id = None if renamed else encode_optional_text(item.given_custom_id)
        intent_key = item.intent_key if state.status is SUBMITTED else None
        status = state.status.value
        self._changes.append(
            (
                item.item_index,
                status,
                QUEUES.get(status),
                state.attempt_count,
                state.generation,
                custom_id,
                intent_key,
                item.cost,
            )
        )
        if last_error is not None:
            self._errors.append((item.item_index, last_error))

    def _count(self, item: ItemRow, after: ItemStatus) -> None:
        before = item.state.status
        moved = self._moves[before, after]
        moved[0] += 1
        moved[1] += item.submission_tokens
        if before is SUBMITTED:
            self._owned[item.intent_key] -= 1
        if after is SUBMITTED:
            self._owned[item.intent_key] += 1


def apply_answers(
    run: LockedRun,
    owned: ColumnElement[bool],
    completions: Sequence[CompletedItemRecord] = (),
    failures: Sequence[ItemFailureRecord] = (),
    released_custom_ids: Sequence[str] = (),
    *,
    max_attempts: int = 0,
    known: Mapping[str, ItemRow] = MappingProxyType({}),
) -> AppliedOutcome:
    """Answers to ``owned`` items, each item's first; everything else was answered before and is skipped.

    ``known`` is what was read of them before, by custom_id, and need not be true any more.
    """
    names = [good.custom_id for good in completions] + [bad.custom_id for bad in failures]
    names.extend(released_custom_ids)
    if not names:
        return AppliedOutcome()
    waiting = as_known(run, names, known, owned)
    if waiting is None:
        waiting = items_by_custom_id(run, names, owned)
    changes = ItemChanges(run)
    completed = failed = retrying = released = 0
    for good in completions:
        if (item := waiting.pop(good.custom_id, None)) is not None:
            changes.complete(item, good)
            completed += 1
    for bad in failures:
        if (item := waiting.pop(bad.custom_id, None)) is not None:
            ended = changes.fail(item, bad, max_attempts=max_attempts) in lifecycle.TERMINAL
            failed += ended
            retrying += not ended
    for custom_id in released_custom_ids:
        if (item := waiting.pop(custom_id, None)) is not None:
            changes.release(item, used_custom_id=True)
            released += 1
    changes.write()
    return AppliedOutcome(completed, failed, retrying, released, asked_again=changes.asked_again)


def cancel_items(
    run: LockedRun, chosen: ColumnElement[bool], error: ItemFailure, *, limit: int | None = None
) -> int:
    """End the first ``limit`` chosen items by ``lifecycle.cancelled``; returns how many."""
    rows = list(item_rows(run.connection, run.run_key, chosen, limit=limit))
    changes = ItemChanges(run)
    for row in rows:
        changes.end(row, lifecycle.cancelled(row.state), error)
    changes.write()
    return len(rows)


def end_waiting(run: LockedRun, errors: Mapping[int, ItemFailure]) -> int:
    """End claimable items, by index, each with its error; returns how many."""
    chosen = and_(run.database.among(items.c.item_index, list(errors)), is_status(*lifecycle.CLAIMABLE))
    rows = list(item_rows(run.connection, run.run_key, chosen))
    changes = ItemChanges(run)
    for row in rows:
        changes.end(row, lifecycle.cancelled(row.state), errors[row.item_index])
    changes.write()
    return len(rows)
