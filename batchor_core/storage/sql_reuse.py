"""The index of requests and the answers behind it: what a scope has of a content address, and how an item gets the answer.

An answer is copied to each item that gets it, so that no run depends on another. Where a raw response lies in a kept file, the
copy points there: the file stays with the run that paid for it, and is gone when that run's raw outputs are pruned or the run
is deleted.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, func, select

from batchor_core.core.enums import ItemStatus
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


class InScope(NamedTuple):
    """A run that is looked at and not changed: what of a LockedRun a look-up needs."""

    database: Database
    connection: Connection
    run_key: int
    reuse_scope_key: int | None

    def now(self) -> float:
        """The store's clock."""
        return self.database.now(self.connection)


class Entry(NamedTuple):
    """The item that the index leads to.

    Attributes:
        run_key: Its run.
        item_index: The item in it.
        known: Where it stands.
        run_id: Of an answered item, the run that paid for it, which may be another one that is gone.
        item_id: And the item there.
        error: Why it failed, as JSON.
        cost: Picodollars that its answer has cost, whoever paid for it; None if no price is known.
        copied: The columns of its answer, as in ``_COPIED``; their texts as they are stored.
    """

    run_key: int
    item_index: int
    known: Known
    run_id: str
    item_id: str
    error: str | None
    cost: int | None
    copied: tuple[Any, ...]

    @property
    def text(self) -> str:
        """The answer as text."""
        text, json_text = self.copied[:2]
        return decode_text(text if text is not None else json_text or "")


def moves_of(entries: Mapping[bytes, Entry], *, now: float, terms: ReuseTerms) -> dict[bytes, Move]:
    """What becomes of items that are equal to these."""
    decided: dict[Known, Move] = {}  # few different ones for very many items
    moves = {}
    for address, entry in entries.items():
        if (move := decided.get(entry.known)) is None:
            move = decided[entry.known] = decide(entry.known, now=now, max_age_sec=terms.max_age_sec)
        if move is Move.TAKE and terms.accepts is not None and not terms.accepts(entry.text):
            move = Move.LEAD  # the job's model is another one by now
        moves[address] = move
    return moves


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


def shortened(addresses: Collection[bytes]) -> tuple[int, ...]:
    """Content addresses as the index has them."""
    return struct.unpack(f">{len(addresses)}q", b"".join([address[:8] for address in addresses]))


_LED_TO = (
    select(
        items.c.item_index,
        items.c.status,
        items.c.item_id,
        item_contents.c.content_address,
        submission_intents.c.created_at,
        func.coalesce(_results.answered_at, batches.c.created_at),
        _results.reused_run_id,
        _results.reused_item_id,
        _results.error,
        case((_results.reused_run_id.is_(None), _results.cost), else_=_results.saved),
        *[_results[name] for name in _COPIED],
    )
    .select_from(items)
    .join(
        item_contents,
        and_(item_contents.c.run_key == items.c.run_key, item_contents.c.item_index == items.c.item_index),
    )
    .outerjoin(
        item_results,
        and_(_results.run_key == items.c.run_key, _results.sequence == items.c.terminal_sequence),
    )
    .outerjoin(batches, batches.c.intent_key == _results.intent_key)
    .outerjoin(submission_intents, submission_intents.c.intent_key == items.c.intent_key)
    .where(items.c.run_key == bindparam("run_key"))
)


class Found(NamedTuple):
    """What the index has of some content addresses.

    Attributes:
        entries: By content address.
        mentioned: Shortened addresses that it leads from, also where they are those of other requests or lead nowhere.
    """

    entries: dict[bytes, Entry]
    mentioned: set[int]


def look_up(run: LockedRun | InScope, addresses: Collection[bytes]) -> Found:
    """What the run's scope has of some content addresses: the item that asked last."""
    return _look_up(run, addresses, run.reuse_scope_key)


def look_up_answers(
    run: LockedRun | InScope, addresses: Collection[bytes], *, now: float, terms: ReuseTerms
) -> Found:
    """The same; but an earlier answer that the terms allow takes the place of an item of another run that has none (yet)."""
    found = look_up(run, addresses)
    if run.reuse_scope_key is None:
        return found
    unanswered = [address for address, entry in found.entries.items() if not _is_best(entry.known)]
    if unanswered:
        earlier = _look_up(run, unanswered, _displaced(run.reuse_scope_key)).entries
        moves = moves_of(earlier, now=now, terms=terms) if earlier else {}
        found.entries.update(
            {address: earlier[address] for address in unanswered if moves.get(address) is Move.TAKE}
        )
    return found


def _is_best(known: Known) -> bool:
    return known.is_own_run or known.status is ItemStatus.COMPLETED


def _displaced(scope_key: int) -> int:
    """Where the index keeps the last answer of a request that was asked once more, since it was too old or did not fit."""
    return -scope_key


def places_of(scope_key: int) -> tuple[int, int]:
    """Both keys under which the index has items of a scope."""
    return scope_key, _displaced(scope_key)


def _look_up(run: LockedRun | InScope, addresses: Collection[bytes], scope_key: int | None) -> Found:
    asked = sorted(shortened(addresses))  # near each other in the index
    found = Found({}, set())
    led_to: defaultdict[int, list[int]] = defaultdict(list)
    for start in range(0, len(asked), _AT_ONCE):
        page = asked[start : start + _AT_ONCE]
        for key, run_key, index in run.database.find_requests(run.connection, reuse_index, scope_key, page):
            found.mentioned.add(key)
            led_to[run_key].append(index)
    for run_key, indexes in led_to.items():
        indexes.sort()  # as they lie in the tables
        for start in range(0, len(indexes), _AT_ONCE):
            found.entries.update(_entries_of(run, run_key, indexes[start : start + _AT_ONCE]))
    return found


def _entries_of(
    run: LockedRun | InScope, run_key: int, indexes: Sequence[int]
) -> Iterator[tuple[bytes, Entry]]:
    named = run.connection.execute(select(runs.c.run_id).where(runs.c.run_key == run_key)).scalar()
    if named is None:
        return  # its run is gone
    is_own = run_key == run.run_key
    knowns: dict[tuple[str, float | None], Known] = {}
    wanted = _LED_TO.where(run.database.among(items.c.item_index, indexes))
    for (
        index,
        status,
        item_id,
        address,
        claimed_at,
        answered_at,
        origin,
        origin_item,
        error,
        cost,
        *copied,
    ) in plain_rows(run.connection, wanted, {"run_key": run_key}):
        if address is None:
            continue
        since = answered_at if status == _COMPLETED else claimed_at
        if (known := knowns.get((status, since))) is None:
            # whatever is no status is that of an item in a submission
            stands = STATUS.get(status, ItemStatus.QUEUED_LOCAL)
            known = knowns[status, since] = Known(stands, is_own, since)
        yield (
            address,
            Entry(
                run_key,
                index,
                known,
                named if origin is None else origin,
                item_id if origin is None else origin_item,
                error,
                cost,
                tuple(copied),
            ),
        )


_COMPLETED = ItemStatus.COMPLETED.value


def lead(run: LockedRun, leading: Mapping[bytes, int], found: Found) -> None:
    """Have the index lead to these items of the run; the caller holds the scope's lock.

    ``found`` is where it leads so far. The answers there are kept: the new ones may not come.
    """
    rows = sorted(dict(zip(shortened(leading), leading.values(), strict=True)).items())
    scope_key = run.reuse_scope_key
    assert scope_key is not None
    _remove(run, scope_key, [key for key, _ in rows if key in found.mentioned])
    kept = {
        shortened([address])[0]: found.entries[address]
        for address in leading
        if address in found.entries and found.entries[address].known.status is ItemStatus.COMPLETED
    }
    if kept:
        place = _displaced(scope_key)
        _remove(run, place, list(kept))
        values = [
            {"scope_key": place, "short_address": key, "run_key": one.run_key, "item_index": one.item_index}
            for key, one in kept.items()
        ]
        run.connection.execute(reuse_index.insert(), values)
    run.database.insert_many(
        run.connection,
        reuse_index,
        ("short_address", "item_index"),
        rows,
        same={"scope_key": scope_key, "run_key": run.run_key},
    )


def _remove(run: LockedRun, scope_key: int, keys: Sequence[int]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        page = run.database.among(_index.short_address, keys[start : start + _AT_ONCE])
        run.connection.execute(reuse_index.delete().where(_index.scope_key == scope_key, page))


def bring_back(run: LockedRun, keys: Sequence[int]) -> None:
    """Have the index lead to earlier answers again, from addresses of which it has nothing any more."""
    if not keys:
        return
    scope_key = run.reuse_scope_key
    assert scope_key is not None
    place, page = _displaced(scope_key), run.database.among(_index.short_address, keys)
    wanted = reuse_index.update().where(_index.scope_key == place, page).values(scope_key=scope_key)
    run.connection.execute(wanted)


def lock_scope(run: LockedRun) -> None:
    """Let one transaction at a time change the index of the run's scope. The last lock of a transaction, see LockedRun."""
    run.database.lock_budget(run.connection, f"reuse {run.reuse_scope_key}")


class Taken(NamedTuple):
    """A new item that is answered already."""

    item: MaterializedItem
    answer: Entry


def take(
    run: LockedRun, fresh: Sequence[MaterializedItem], terms: ReuseTerms
) -> tuple[list[Taken], Sequence[MaterializedItem]]:
    """Which new items have an answer already, and which have to be sent."""
    addresses = [item.content_address for item in fresh if item.content_address is not None]
    now = run.now()
    found, _ = look_up_answers(run, addresses, now=now, terms=terms)
    moves = moves_of(found, now=now, terms=terms) if found else {}
    if Move.TAKE not in moves.values():
        return [], fresh
    taken, others = list[Taken](), list[MaterializedItem]()
    for item in fresh:
        address = item.content_address
        if address is not None and moves.get(address) is Move.TAKE:
            taken.append(Taken(item, found[address]))
        else:
            others.append(item)
    return taken, others


_TAKEN_COLUMNS = (
    "sequence",
    "item_index",
    "attempt_count",
    "cost",
    "reused_run_id",
    "reused_item_id",
    "saved",
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
        cost: Picodollars for those; None if no price is known.
        answer: What it gets.
    """

    sequence: int
    item_index: int
    attempt_count: int
    cost: int | None
    answer: Entry


def insert_results(run: LockedRun, ends: Iterable[TakenResult]) -> None:
    """Copy the answers, and count them."""
    rows: list[tuple[Any, ...]] = []
    long_rows: list[tuple[Any, ...]] = []
    for sequence, index, attempts, cost, answer in ends:
        run_key, led_to, known, run_id, item_id, _, saved, copied = answer
        is_own = run_key == run.run_key  # both are deleted together, and neither takes the other's place
        run.count_reused(saved, from_own_run=is_own)
        leads = (None, None) if is_own else (run_key, led_to)
        is_long = copied[0] is not None and len(copied[0]) > LONG_TEXT
        (long_rows if is_long else rows).append(
            (sequence, index, attempts, cost, run_id, item_id, saved, known.since, *leads, *copied)
        )
    same: dict[str, Any] = {"run_key": run.run_key, "status": _COMPLETED}
    run.database.insert_many(run.connection, item_results, _TAKEN_COLUMNS, rows, same=same)
    run.database.insert_long(run.connection, item_results, _TAKEN_COLUMNS, long_rows, same=same)
