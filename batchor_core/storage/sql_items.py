"""The rows of items: choosing, taking and moving them, and the rules of ``core.lifecycle`` as single statements.

Items that are answered one by one go through ``sql_answers``, which asks the rule for each. Where one rule sends a
whole set the same way (claimed, submitted, released, reopened), a single UPDATE is that rule's plain image; and where a
driver's submission gets its batch, it takes none at all, see ``IN_SUBMISSION``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, and_, bindparam, case, exists, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core import lifecycle
from batchor_core.core.custom_ids import CustomIds, parse
from batchor_core.core.enums import ItemStatus
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure
from batchor_core.storage.columns import STATUS, decode_text, encode_failure, encode_text
from batchor_core.storage.schema import (
    CLAIMABLE_QUEUE,
    FAILED_RESULTS,
    IN_SUBMISSION,
    QUEUES,
    TAKEN_QUEUE,
    batches,
    item_contents,
    item_results,
    items,
    repairs,
)
from batchor_core.storage.session import Candidate
from batchor_core.storage.sql_engine import Constant, Database, plain_rows
from batchor_core.storage.sql_row_models import with_models
from batchor_core.storage.sql_runs import LockedRun

PENDING, QUEUED_LOCAL, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED


_IS_CLAIMABLE = items.c.queue == CLAIMABLE_QUEUE
_HAS_BATCH = exists().where(batches.c.intent_key == items.c.intent_key).correlate(items)
_HAS_REPAIR = (
    exists()
    .where(repairs.c.run_key == items.c.run_key, repairs.c.item_index == items.c.item_index)
    .correlate(items)
)
ACTUAL_STATUS = case(
    (items.c.status != IN_SUBMISSION, items.c.status),
    (_HAS_BATCH, SUBMITTED.value),
    else_=QUEUED_LOCAL.value,
)
"""The status of an item, which is not always the stored one."""


def is_status(*statuses: ItemStatus) -> ColumnElement[bool]:
    """Items in one of these statuses."""
    stored = [status.value for status in statuses]
    if QUEUED_LOCAL in statuses and SUBMITTED in statuses:
        return items.c.status.in_([*stored, IN_SUBMISSION])
    if QUEUED_LOCAL in statuses or SUBMITTED in statuses:
        with_batch = _HAS_BATCH if SUBMITTED in statuses else ~_HAS_BATCH
        return or_(items.c.status.in_(stored), and_(items.c.status == IN_SUBMISSION, with_batch))
    if set(statuses) == set(lifecycle.CLAIMABLE):
        return _IS_CLAIMABLE
    if set(statuses) <= set(lifecycle.CLAIMABLE):
        return and_(_IS_CLAIMABLE, items.c.status.in_(stored))
    return items.c.status.in_(stored)


UNSENT_BY_HAND = and_(items.c.queue == TAKEN_QUEUE, items.c.intent_key.is_(None))
"""QUEUED_LOCAL items that the documented methods have taken, and that are in no submission."""


def owned_by(intent_key: int, *, has_batch: bool) -> ColumnElement[bool]:
    """SUBMITTED items of a submission that has a batch, or QUEUED_LOCAL ones of one that has none."""
    status = SUBMITTED if has_batch else QUEUED_LOCAL
    return and_(items.c.intent_key == intent_key, items.c.status.in_((status.value, IN_SUBMISSION)))


def named(run_key: int, database: Database, item_ids: Iterable[str]) -> ColumnElement[bool]:
    """Items of a run by their ids."""
    contents = item_contents.c
    wanted = select(contents.item_index).where(
        contents.run_key == run_key, database.among(contents.item_id, [encode_text(i) for i in item_ids])
    )
    return items.c.item_index.in_(wanted)


# --- taking ----------------------------------------------------------------------------------------------------------


def claimable(
    run_key: int | BindParameter[int], max_attempts: int | BindParameter[int]
) -> ColumnElement[bool]:
    """The image of ``lifecycle.can_claim``."""
    return and_(items.c.run_key == run_key, _IS_CLAIMABLE, items.c.attempt_count < max_attempts)


# put together once, see sql_runs
_CANDIDATES = (
    select(items.c.item_index, items.c.submission_tokens, items.c.request_bytes)
    .where(claimable(bindparam("key"), bindparam("attempts")))
    .order_by(items.c.item_index)
    .limit(bindparam("most"))
)


def candidates(connection: Connection, run_key: int, *, max_attempts: int, limit: int) -> list[Candidate]:
    """Claimable items in order, read from one index alone, with the models that some name."""
    values = {"key": run_key, "attempts": max_attempts, "most": limit}
    return with_models(
        connection, run_key, [Candidate(*row) for row in plain_rows(connection, _CANDIDATES, values)]
    )


def indexes_are(database: Database, indexes: Sequence[int]) -> ColumnElement[bool]:
    """Items at these distinct, sorted indexes; a gapless range is named by its ends."""
    if indexes and indexes[-1] - indexes[0] + 1 == len(indexes):
        return items.c.item_index.between(indexes[0], indexes[-1])
    return database.among(items.c.item_index, indexes)


class Waiting(NamedTuple):
    """How many items have a status, and the sum of their estimated tokens."""

    status: ItemStatus
    items: int
    tokens: int


def waiting(connection: Connection, claimed: ColumnElement[bool]) -> list[Waiting]:
    """What a claim of these claimable items would take."""
    counted = select(items.c.status, func.count(), func.sum(items.c.submission_tokens))
    found = connection.execute(counted.where(claimed).group_by(items.c.status)).all()
    return [Waiting(STATUS[status], count, int(tokens)) for status, count, tokens in found]


def queue(
    run: LockedRun, claimed: ColumnElement[bool], waiting: list[Waiting], *, intent_key: int | None
) -> None:
    """``lifecycle.claimed`` for what was :func:`waiting`, which then belongs to the submission, or to a caller's hand."""
    if intent_key is None:
        values: dict[str, Constant] = {"status": QUEUED_LOCAL.value, "queue": TAKEN_QUEUE}
    else:
        values = {"status": IN_SUBMISSION, "queue": None, "intent_key": intent_key}
    run.connection.execute(items.update().where(claimed).values(values))
    for status, count, tokens in waiting:
        run.move(status, QUEUED_LOCAL, count=count, tokens=tokens)


def move_all(
    run: LockedRun, chosen: ColumnElement[bool], *, before: ItemStatus, after: ItemStatus, **changes: object
) -> int:
    """Send every chosen item that is in ``before`` to ``after``; returns how many."""
    where = and_(items.c.run_key == run.run_key, is_status(before), chosen)
    count, tokens = count_items(run.connection, where)
    if count:
        values = {"status": after.value, "queue": QUEUES.get(after.value)} | changes
        run.connection.execute(items.update().where(where).values(values))
        run.move(before, after, count=count, tokens=tokens)
    return count


def count_items(connection: Connection, where: ColumnElement[bool]) -> tuple[int, int]:
    """How many items there are, and the sum of their estimated tokens."""
    counted = select(func.count(), func.coalesce(func.sum(items.c.submission_tokens), 0)).where(where)
    count, tokens = connection.execute(counted).one()
    return int(count), int(tokens)


def release_all(
    run: LockedRun,
    chosen: ColumnElement[bool],
    *,
    before: ItemStatus,
    used_custom_id: bool,
    error: ItemFailure | None = None,
) -> int:
    """``lifecycle.released`` for every chosen item in ``before``; keeps ``error`` as the last one."""
    changes: dict[str, Any] = {"intent_key": None}
    if used_custom_id:
        changes |= {"generation": items.c.generation + 1, "custom_id": None}
    if error is not None:
        changes["last_error"] = encode_failure(error)
    return move_all(run, chosen, before=before, after=PENDING, **changes)


def reopen_failed(run: LockedRun) -> int:
    """``lifecycle.reopened`` for every FAILED_PERMANENT item, its result withdrawn."""
    withdrawn = and_(item_results.c.run_key == run.run_key, FAILED_RESULTS)
    its_result = and_(
        item_results.c.run_key == items.c.run_key, item_results.c.sequence == items.c.terminal_sequence
    )
    count = move_all(
        run,
        items.c.item_index.in_(select(item_results.c.item_index).where(withdrawn)),
        before=ItemStatus.FAILED_PERMANENT,
        after=PENDING,
        attempt_count=0,
        generation=items.c.generation + 1,
        custom_id=None,
        intent_key=None,
        terminal_sequence=None,
        last_error=None,
        cost=select(item_results.c.cost).where(its_result).scalar_subquery(),
        # what was cancelled before it could be asked with the reason is asked like that now
        repairs=case((_HAS_REPAIR, 1), else_=None),
    )
    run.connection.execute(item_results.delete().where(withdrawn))
    return count


# --- finding ---------------------------------------------------------------------------------------------------------


class ItemRow(NamedTuple):
    """What the rules, and the counts, need to know of an item."""

    item_index: int
    item_id: str
    state: ItemState
    given_custom_id: str | None
    intent_key: int | None
    submission_tokens: int
    cost: int | None
    """Picodollars for its attempts so far."""
    repairs: int | None = None
    """How often it was asked again with the reason."""

    def custom_id(self, names: CustomIds) -> str:
        """The name of its present attempt."""
        if self.given_custom_id is not None:
            return self.given_custom_id
        return names.of(self.item_id, self.item_index, self.state.generation)


def item_rows(
    connection: Connection,
    run_key: int,
    chosen: ColumnElement[bool],
    *,
    status: ColumnElement[str] = ACTUAL_STATUS,
    limit: int | None = None,
) -> Iterator[ItemRow]:
    """The chosen items in order; read them within the transaction.

    ``status`` may be what is known of all of them, since the actual one is looked up for each.
    """
    wanted = (
        select(
            items.c.item_index,
            items.c.item_id,
            status,
            items.c.attempt_count,
            items.c.generation,
            items.c.custom_id,
            items.c.intent_key,
            items.c.submission_tokens,
            items.c.cost,
            items.c.repairs,
        )
        .where(items.c.run_key == run_key, chosen)
        .order_by(items.c.item_index)
        .limit(limit)
    )
    states: dict[tuple[str, int, int], ItemState] = {}  # few different ones for very many items
    for row in plain_rows(connection, wanted):
        stored, given = row[2:5], row[5]
        if (state := states.get(stored)) is None:
            name, attempts, generation = stored
            state = states[stored] = ItemState(STATUS[name], attempts, generation)
        yield _named_row((row[0], decode_text(row[1]), state, given and decode_text(given), *row[6:]))


# as quick as a plain tuple
_named_row: Callable[[tuple[Any, ...]], ItemRow] = partial(tuple.__new__, ItemRow)


def items_by_custom_id(
    run: LockedRun, custom_ids: Sequence[str], chosen: ColumnElement[bool]
) -> dict[str, ItemRow]:
    """The chosen items that are known by these names.

    The names that the engine gives tell the item's index, so that they are found by the primary key; what a caller of the
    documented methods made up is in an index of its own.
    """
    guesses = [attempt.item_index for name in custom_ids if (attempt := parse(name)) is not None]
    rows = item_rows(
        run.connection, run.run_key, and_(run.database.among(items.c.item_index, guesses), chosen)
    )
    found = {row.custom_id(run.custom_ids): row for row in rows}
    strangers = [encode_text(name) for name in custom_ids if name not in found]
    if strangers:
        given = and_(items.c.custom_id.is_not(None), run.database.among(items.c.custom_id, strangers), chosen)
        found |= {row.custom_id(run.custom_ids): row for row in item_rows(run.connection, run.run_key, given)}
    return found


def as_known(
    run: LockedRun, custom_ids: Sequence[str], known: Mapping[str, ItemRow], chosen: ColumnElement[bool]
) -> dict[str, ItemRow] | None:
    """The same items, taken from what was read of them before; None unless they all are still what they were.

    The items of a chunk of answers have almost never been changed meanwhile, and one sum over them costs a tenth of
    reading them again. Equal sums mean equal rows: what has left a batch comes back to it, if at all, in a later
    generation, and no generation ever goes back.
    """
    found = {name: known[name] for name in custom_ids if name in known}
    if len(found) < len(custom_ids):
        return None
    indexes, generations, tokens = [], 0, 0
    for row in found.values():
        indexes.append(row.item_index)
        generations += row.state.generation
        tokens += row.submission_tokens
    counted = select(func.count(), func.sum(items.c.generation), func.sum(items.c.submission_tokens))
    mine = and_(items.c.run_key == run.run_key, indexes_are(run.database, sorted(indexes)), chosen)
    unchanged = run.connection.execute(counted.where(mine)).one() == (len(found), generations, tokens)
    return found if unchanged else None


_OWN = (
    batches.update()
    .where(batches.c.intent_key == bindparam("key"))
    .values(submitted_items=batches.c.submitted_items + bindparam("more"))
)


def own(connection: Connection, intent_key: int | None, count: int) -> None:
    """The batch owns so many more (or fewer) SUBMITTED items."""
    connection.execute(_OWN, {"key": intent_key, "more": count})
