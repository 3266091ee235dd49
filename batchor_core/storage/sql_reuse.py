"""The index of requests and the answers behind it: what a scope has of a content address, and how an item gets the answer.

An answer is copied to each item that gets it, so that no run depends on another. Where a raw response lies in a kept file, the
copy points there: the file stays with the run that paid for it, and is gone when that run's raw outputs are pruned or the run
is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, select

from batchor_core.core.enums import ItemStatus
from batchor_core.core.lifecycle import IN_FLIGHT
from batchor_core.core.reuse import Known, Move, decide
from batchor_core.storage.columns import LONG_TEXT, STATUS, decode_text
from batchor_core.storage.records import MaterializedItem
from batchor_core.storage.schema import (
    batches,
    item_contents,
    item_results,
    items,
    reuse_index,
    reuse_scopes,
    runs,
    submission_intents,
)
from batchor_core.storage.session import ReuseTerms
from batchor_core.storage.sql_engine import Database, plain_rows
from batchor_core.storage.sql_runs import LockedRun

_AT_ONCE = 5_000
"""Addresses per query."""

_index, _results = reuse_index.c, item_results.c
_COPIED = (
    "output_text",
    "output_json",
    "text_is_json",
    "intent_key",
    "raw_is_error_file",
    "raw_offset",
    "raw_length",
    "raw_response",
    "output_data",
)


class Answer(NamedTuple):
    """A stored answer, its texts as the columns have them.

    Attributes:
        run_key: The run of the item that the index leads to.
        item_index: That item.
        run_id: The run that paid for it, which may be another one that is gone.
        item_id: The item there.
        answered_at: When its batch was created; None if that is unknown.
        columns: What is copied.
    """

    run_key: int
    item_index: int
    run_id: str
    item_id: str
    answered_at: float | None
    columns: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The answer as text."""
        text = self.columns["output_text"]
        return decode_text(text if text is not None else self.columns["output_json"] or "")


class Entry(NamedTuple):
    """What the index leads to.

    Attributes:
        run_key: The run.
        item_index: The item in it.
        known: Where that stands.
        answer: Its answer, if it is completed.
        error: Why it failed, as JSON.
    """

    run_key: int
    item_index: int
    known: Known
    answer: Answer | None
    error: str | None

    def move(self, *, now: float, terms: ReuseTerms) -> Move:
        """What becomes of an equal item."""
        move = decide(self.known, now=now, max_age_sec=terms.max_age_sec)
        if move is Move.TAKE and (
            self.answer is None or not (terms.accepts is None or terms.accepts(self.answer.text))
        ):
            return Move.LEAD  # the job's model is another one by now
        return move


def scope_key_of(database: Database, connection: Connection, reuse_key: str) -> int:
    """The number of a scope, which is made where there is none."""
    wanted = select(reuse_scopes.c.scope_key).where(reuse_scopes.c.reuse_key == reuse_key)
    found = connection.execute(wanted).scalar()
    if found is None:
        database.lock_budget(connection, "reuse")  # one transaction at a time makes scopes
        found = connection.execute(wanted).scalar()
    if found is None:
        inserted = connection.execute(reuse_scopes.insert().values(reuse_key=reuse_key)).inserted_primary_key
        assert inserted is not None
        found = inserted[0]
    return int(found)


def short(address: bytes) -> int:
    """A content address as the index has it."""
    return int.from_bytes(address[:8], "big", signed=True)


_MENTIONED = select(_index.short_address).where(_index.scope_key == bindparam("scope_key"))
_ENTRIES = (
    select(
        _index.run_key,
        _index.item_index,
        items.c.status,
        item_contents.c.content_address,
        item_contents.c.item_id,
        runs.c.run_id,
        submission_intents.c.created_at,
        func.coalesce(_results.answered_at, batches.c.created_at),
        _results.reused_run_id,
        _results.reused_item_id,
        _results.error,
        *[_results[name] for name in _COPIED],
    )
    .select_from(reuse_index)
    .join(items, and_(items.c.run_key == _index.run_key, items.c.item_index == _index.item_index))
    .join(
        item_contents,
        and_(item_contents.c.run_key == _index.run_key, item_contents.c.item_index == _index.item_index),
    )
    .join(runs, runs.c.run_key == _index.run_key)
    .outerjoin(
        item_results, and_(_results.run_key == _index.run_key, _results.sequence == items.c.terminal_sequence)
    )
    .outerjoin(batches, batches.c.intent_key == _results.intent_key)
    .outerjoin(submission_intents, submission_intents.c.intent_key == items.c.intent_key)
    .where(_index.scope_key == bindparam("scope_key"))
)


def entries(run: LockedRun, addresses: Collection[bytes]) -> dict[bytes, Entry]:
    """What the run's scope has of some content addresses."""
    asked = sorted({short(address): address for address in addresses}.items())
    scope = {"scope_key": run.reuse_scope_key}
    found: dict[bytes, Entry] = {}
    for start in range(0, len(asked), _AT_ONCE):
        page = [key for key, _ in asked[start : start + _AT_ONCE]]
        among = run.database.among
        mentioned = [
            key
            for (key,) in plain_rows(
                run.connection, _MENTIONED.where(among(_index.short_address, page)), scope
            )
        ]
        if not mentioned:
            continue
        wanted = _ENTRIES.where(among(_index.short_address, mentioned))
        for run_key, index, status, address, item_id, run_id, claimed_at, answered_at, *rest in plain_rows(
            run.connection, wanted, scope
        ):
            origin_run, origin_item, error, *copied = rest
            stands = STATUS.get(status, ItemStatus.QUEUED_LOCAL)
            answer = None
            if stands is ItemStatus.COMPLETED:
                columns = dict(zip(_COPIED, copied, strict=True))
                origin = (run_id, item_id) if origin_run is None else (origin_run, origin_item)
                answer = Answer(run_key, index, *origin, answered_at, columns)
            since = claimed_at if stands in IN_FLIGHT else answered_at
            known = Known(stands, run_key == run.run_key, since)
            found[bytes(address)] = Entry(run_key, index, known, answer, error)
    return found


def lead(run: LockedRun, leading: Mapping[bytes, int]) -> None:
    """Have the index lead to these items of the run; the caller holds the scope's lock."""
    wanted = {short(address): index for address, index in sorted(leading.items())}
    rows = sorted(wanted.items())
    scope_key = run.reuse_scope_key
    for start in range(0, len(rows), _AT_ONCE):
        page = rows[start : start + _AT_ONCE]
        keys = [key for key, _ in page]
        run.connection.execute(
            reuse_index.delete().where(
                _index.scope_key == scope_key, run.database.among(_index.short_address, keys)
            )
        )
        run.database.insert_many(
            run.connection,
            reuse_index,
            ("short_address", "item_index"),
            page,
            same={"scope_key": scope_key, "run_key": run.run_key},
        )


def lock_scope(run: LockedRun) -> None:
    """Let one transaction at a time change the index of the run's scope. The last lock of a transaction, see LockedRun."""
    run.database.lock_budget(run.connection, f"reuse {run.reuse_scope_key}")


class Taken(NamedTuple):
    """A new item that is answered already."""

    item: MaterializedItem
    answer: Answer


def take(
    run: LockedRun, fresh: Sequence[MaterializedItem], terms: ReuseTerms
) -> tuple[list[Taken], Sequence[MaterializedItem]]:
    """Which new items have an answer already, and which have to be sent."""
    found = entries(run, [item.content_address for item in fresh if item.content_address is not None])
    if not found:
        return [], fresh
    now, taken, others = run.now(), list[Taken](), list[MaterializedItem]()
    moves = {address: entry.move(now=now, terms=terms) for address, entry in found.items()}
    for item in fresh:
        address = item.content_address
        entry = None if address is None else found.get(address)
        if address is None or entry is None or entry.answer is None or moves[address] is not Move.TAKE:
            others.append(item)
        else:
            taken.append(Taken(item, entry.answer))
    return taken, others


_COMPLETED = ItemStatus.COMPLETED.value
_TAKEN_COLUMNS = (
    "sequence",
    "item_index",
    "attempt_count",
    "reused_run_id",
    "reused_item_id",
    "answered_at",
    "reused_run_key",
    "reused_index",
    *_COPIED,
)


class TakenResult(NamedTuple):
    """The end of an item that gets the answer of another one.

    Attributes:
        sequence: Its terminal sequence.
        item_index: The item.
        attempt_count: Its answered attempts, of which this is none.
        answer: What it gets.
    """

    sequence: int
    item_index: int
    attempt_count: int
    answer: Answer


def insert_results(run: LockedRun, ends: Iterable[TakenResult]) -> None:
    """Copy the answers, and count them."""
    rows: list[tuple[Any, ...]] = []
    long_rows: list[tuple[Any, ...]] = []
    for sequence, index, attempts, answer in ends:
        is_own = (
            answer.run_key == run.run_key
        )  # both are deleted together, and neither takes the other's place
        run.count_reused(from_own_run=is_own)
        led_to = (None, None) if is_own else (answer.run_key, answer.item_index)
        text = answer.columns["output_text"]
        (long_rows if text is not None and len(text) > LONG_TEXT else rows).append(
            (sequence, index, attempts, answer.run_id, answer.item_id, answer.answered_at, *led_to,
             *answer.columns.values())
        )  # fmt: skip
    same: dict[str, Any] = {"run_key": run.run_key, "status": _COMPLETED}
    run.database.insert_many(run.connection, item_results, _TAKEN_COLUMNS, rows, same=same)
    run.database.insert_long(run.connection, item_results, _TAKEN_COLUMNS, long_rows, same=same)
