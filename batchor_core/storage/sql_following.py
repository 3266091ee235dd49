"""Items that wait for equal ones: whom a claim leaves out, what becomes of them, and what happens to the index when a run goes.

An item that is claimed has the index lead to it, in the claim's transaction and under the scope's lock; so of equal items that
are claimed at the same time, in whatever runs, one is sent. An item to which an equal one is in flight, or has ended, is moved
to a queue of its own. It is not told when that one ends: every cycle of its run's driver looks, by the same rule. Nothing is
lost with a process, and an item that nobody will answer any more goes back to be claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, exists, func, select
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core import lifecycle
from batchor_core.core.reuse import Move
from batchor_core.storage import sql_runs
from batchor_core.storage.schema import (
    CLAIMABLE_QUEUE,
    FOLLOWING_QUEUE,
    item_contents,
    item_results,
    items,
    reuse_index,
    runs,
)
from batchor_core.storage.session import Followed, ReuseTerms
from batchor_core.storage.sql_answers import ItemChanges
from batchor_core.storage.sql_engine import AnyRow, Database
from batchor_core.storage.sql_items import Waiting, indexes_are, item_rows, waiting
from batchor_core.storage.sql_reuse import (
    Entry,
    InScope,
    bring_back,
    lead,
    lock_scope,
    look_up,
    look_up_answers,
    moves_of,
    places_of,
    shortened,
)
from batchor_core.storage.sql_runs import LockedRun

PAGE = 1_000
"""Items that one transaction looks after."""

IS_FOLLOWING = items.c.queue == FOLLOWING_QUEUE

_in_flight = runs.c.queued_local_items + runs.c.submitted_items
MAY_BE_CANCELLED = and_(
    IS_FOLLOWING, ~exists().where(runs.c.run_key == items.c.run_key, _in_flight > 0).correlate(items)
)
"""Those of a run that has nothing in flight, so that no answer is on its way to them from there."""


def without_followers(
    run: LockedRun, indexes: Sequence[int], claimed: ColumnElement[bool], terms: ReuseTerms
) -> list[Waiting]:
    """Have items that are about to be claimed follow equal ones that need not be sent; returns what is left to claim."""
    if run.reuse_scope_key is not None:
        _divert(run, indexes, terms)
    return waiting(run.connection, claimed)


def take_back(run: LockedRun, indexes: Sequence[int]) -> None:
    """Items of a batch that is at the provider already, of which the store knew nothing, follow nobody any more."""
    if run.reuse_scope_key is not None:
        _queue(run, indexes, before=FOLLOWING_QUEUE, after=CLAIMABLE_QUEUE)


def _divert(run: LockedRun, indexes: Sequence[int], terms: ReuseTerms) -> None:
    lock_scope(run)
    addresses = _addresses(run.connection, run.run_key, indexes_are(run.database, indexes))
    now = run.now()
    known = look_up_answers(run, set(addresses.values()), now=now, terms=terms)
    found, moves = known.entries, moves_of(known.entries, now=now, terms=terms)
    leading: dict[bytes, int] = {}
    following: list[int] = []
    for index, address in addresses.items():
        if address in leading or _need_not_be_sent(run, index, found.get(address), moves.get(address)):
            following.append(index)
        else:
            leading[address] = index
    lead(run, leading, known)  # from here on
    _queue(run, following, before=CLAIMABLE_QUEUE, after=FOLLOWING_QUEUE)


def _need_not_be_sent(run: LockedRun, index: int, entry: Entry | None, move: Move | None) -> bool:
    is_led_to = entry is not None and (entry.run_key, entry.item_index) == (run.run_key, index)
    return not (entry is None or is_led_to or move is Move.LEAD)


def set_aside(run: LockedRun, indexes: Sequence[int], terms: ReuseTerms) -> set[int]:
    """Have claimable items that need not be sent follow; the index stays as it is."""
    if run.reuse_scope_key is None:
        return set()
    claimable = and_(items.c.queue == CLAIMABLE_QUEUE, indexes_are(run.database, indexes))
    addresses = _addresses(run.connection, run.run_key, claimable)
    now = run.now()
    found, _ = look_up_answers(run, set(addresses.values()), now=now, terms=terms)
    moves = moves_of(found, now=now, terms=terms)
    following = [
        index
        for index, address in addresses.items()
        if _need_not_be_sent(run, index, found.get(address), moves.get(address))
    ]
    _queue(run, following, before=CLAIMABLE_QUEUE, after=FOLLOWING_QUEUE)
    return set(following)


def _addresses(connection: Connection, run_key: int, chosen: ColumnElement[bool]) -> dict[int, bytes]:
    """The content addresses of items, in item order."""
    contents = item_contents.c
    wanted = (
        select(contents.item_index, contents.content_address)
        .join_from(
            items,
            item_contents,
            and_(contents.run_key == items.c.run_key, contents.item_index == items.c.item_index),
        )
        .where(items.c.run_key == run_key, chosen, contents.content_address.is_not(None))
        .order_by(contents.item_index)
    )
    return {index: bytes(address) for index, address in connection.execute(wanted)}


def _queue(run: LockedRun, indexes: Sequence[int], *, before: int, after: int) -> None:
    if indexes:
        mine = and_(
            items.c.run_key == run.run_key,
            items.c.queue == before,
            run.database.among(items.c.item_index, indexes),
        )
        run.connection.execute(items.update().where(mine).values(queue=after))


def page_to_look_after(database: Database, connection: Connection, run_id: str, *, after: int) -> list[int]:
    """The next page of items that follow others in which one would not do so any longer; reads only."""
    row = sql_runs.run_row(database, connection, run_id)
    if row.reuse_scope_key is None:
        return []
    run = InScope(database, connection, row.run_key, row.reuse_scope_key)
    while page := _page(connection, run.run_key, after):
        chosen = and_(IS_FOLLOWING, database.among(items.c.item_index, page))
        addresses = set(_addresses(connection, run.run_key, chosen).values())
        found, _ = look_up(run, addresses)
        moves = moves_of(found, now=run.now(), terms=ReuseTerms()).values()
        if len(found) < len(addresses) or any(move is not Move.FOLLOW for move in moves):
            return page
        after = page[-1]
    return []


def _page(connection: Connection, run_key: int, after: int) -> list[int]:
    wanted = (
        select(items.c.item_index)
        .where(items.c.run_key == run_key, IS_FOLLOWING, items.c.item_index > after)
        .order_by(items.c.item_index)
        .limit(PAGE)
    )
    return list(connection.execute(wanted).scalars())


def counts(connection: Connection, rows: Sequence[AnyRow]) -> dict[int, int]:
    """How many items of each of these runs follow others; runs without any may be left out."""
    return {
        row.run_key: connection.execute(_FOLLOWING, {"key": row.run_key}).scalar_one()
        for row in rows
        if row.reuse_scope_key is not None and (row.pending_items or row.failed_retryable_items)
    }


_FOLLOWING = select(func.count()).select_from(items).where(items.c.run_key == bindparam("key"), IS_FOLLOWING)


def go_on(run: LockedRun, page: Sequence[int], terms: ReuseTerms) -> Followed:
    """Look after a page of items that follow others."""
    chosen = and_(IS_FOLLOWING, run.database.among(items.c.item_index, page))
    addresses = _addresses(run.connection, run.run_key, chosen)
    now = run.now()
    found, _ = look_up_answers(run, set(addresses.values()), now=now, terms=terms)
    moves = moves_of(found, now=now, terms=terms)
    released: list[int] = []
    changes = ItemChanges(run)
    completed = failed = 0
    for row in list(item_rows(run.connection, run.run_key, chosen, status=items.c.status)):
        address = addresses[row.item_index]
        entry, move = found.get(address), moves.get(address, Move.LEAD)
        if entry is None or (entry.run_key, entry.item_index) == (run.run_key, row.item_index):
            move = Move.LEAD
        if move is Move.TAKE and entry is not None:
            changes.take(row, entry)
            completed += 1
        elif move is Move.FAIL and entry is not None and entry.error is not None:
            changes.end_like(row, lifecycle.cancelled(row.state), entry.error)
            failed += 1
        elif move is not Move.FOLLOW:
            released.append(row.item_index)
    changes.write()
    _queue(run, released, before=FOLLOWING_QUEUE, after=CLAIMABLE_QUEUE)
    return Followed(completed, failed, len(released))


class _Heir(NamedTuple):
    heir_run_key: int
    heir_index: int


def forget(run: LockedRun) -> None:
    """Before a run is deleted: have the index lead to items of other runs that have its answers, where there are any."""
    if run.reuse_scope_key is None:
        return
    lock_scope(run)
    last = -1
    while True:
        contents = item_contents.c
        wanted = (
            select(contents.item_index, contents.content_address)
            .where(contents.run_key == run.run_key, contents.item_index > last)
            .order_by(contents.item_index)
            .limit(PAGE)
        )
        page = run.connection.execute(wanted).all()
        if not page:
            return
        last = page[-1].item_index
        _hand_on(run, {index: bytes(address) for index, address in page if address is not None})


def _hand_on(run: LockedRun, addresses: Mapping[int, bytes]) -> None:
    connection, results, index = run.connection, item_results.c, reuse_index.c
    heirs = (
        select(results.reused_index, results.run_key, results.item_index)
        .where(
            results.reused_run_key == run.run_key,
            run.database.among(results.reused_index, list(addresses)),
        )
        .order_by(results.run_key.desc(), results.item_index.desc())
    )
    # of several the first one, which comes last
    successors = {led_to: _Heir(key, item) for led_to, key, item in connection.execute(heirs)}
    shorts = shortened(addresses.values())
    assert run.reuse_scope_key is not None
    mine = and_(
        index.scope_key.in_(places_of(run.reuse_scope_key)),
        index.run_key == run.run_key,
        run.database.among(index.short_address, shorts),
    )
    led = connection.execute(select(index.scope_key, index.short_address, index.item_index).where(mine)).all()
    connection.execute(reuse_index.delete().where(mine))
    inherited = [
        {"scope_key": place, "key": key, **successors[item]._asdict()}
        for place, key, item in led
        if item in successors
    ]
    if inherited:
        connection.execute(_LEAD_TO, inherited)
    bring_back(
        run, [key for place, key, item in led if place == run.reuse_scope_key and item not in successors]
    )
    if successors:
        gone = [{"gone": run.run_key, "led_to": item, **heir._asdict()} for item, heir in successors.items()]
        connection.execute(_INHERIT, gone)
        connection.execute(_FOLLOW_HEIR, gone)


_LEAD_TO = reuse_index.insert().values(
    scope_key=bindparam("scope_key"),
    short_address=bindparam("key"),
    run_key=bindparam("heir_run_key"),
    item_index=bindparam("heir_index"),
)
_of_gone = and_(
    item_results.c.reused_run_key == bindparam("gone"), item_results.c.reused_index == bindparam("led_to")
)
_is_heir = and_(
    item_results.c.run_key == bindparam("heir_run_key"), item_results.c.item_index == bindparam("heir_index")
)
_INHERIT = item_results.update().where(_of_gone, _is_heir).values(reused_run_key=None, reused_index=None)
_FOLLOW_HEIR = (
    item_results.update()
    .where(_of_gone)
    .values(reused_run_key=bindparam("heir_run_key"), reused_index=bindparam("heir_index"))
)
