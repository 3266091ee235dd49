"""The rows of items: adding them, taking them, and moving them by the rules of ``core.lifecycle``.

Items that are answered one by one go through :class:`ItemChanges`, which asks the rule for each. Where one rule sends a
whole set the same way (claimed, submitted, released, reopened), a single UPDATE is that rule's plain image; and where a
driver's submission gets its batch, it takes none at all, see ``IN_SUBMISSION``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, exists, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core import lifecycle
from batchor_core.core.custom_ids import CustomIds, parse
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import DuplicateItemError, RunStateError
from batchor_core.core.lifecycle import ItemState
from batchor_core.core.models import ItemFailure
from batchor_core.storage.columns import (
    STATUS,
    STATUS_NAME,
    decode_optional_text,
    decode_text,
    encode_failure,
    encode_json,
    encode_optional_json,
    encode_optional_text,
    encode_text,
    pack_response,
    raw_columns,
    usage_columns,
)
from batchor_core.storage.line_parts import LineParts, common_parts
from batchor_core.storage.repeated import StoredContents
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
    line_parts,
)
from batchor_core.storage.sql_engine import Constant, Database, plain_rows
from batchor_core.storage.sql_runs import LockedRun
from batchor_core.storage.state import (
    Candidate,
    CompletedItemRecord,
    ItemFailureRecord,
    MaterializedItem,
    request_bytes,
)

PENDING, QUEUED_LOCAL, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED

_NEW_COLUMNS = ("item_index", "item_id", "submission_tokens", "request_bytes")
_NEW: dict[str, Constant] = {
    "status": PENDING.value,
    "queue": CLAIMABLE_QUEUE,
    "attempt_count": 0,
    "generation": 0,
}
_CONTENT_COLUMNS = (
    "item_index",
    "item_id",
    "metadata",
    "prompt",
    "system_prompt",
    "request_line",
    "parts_number",
    "content_address",
)
# what changes with the state; a terminal item keeps its last name and submission, which saves touching their indexes
_CHANGE_COLUMNS = ("status", "queue", "attempt_count", "generation", "custom_id", "intent_key")
_ERROR_COLUMNS = ("last_error",)  # apart, since what goes on without an error keeps the one before
_END_COLUMNS = ("status", "attempt_count", "terminal_sequence")
_ENDED: dict[str, Constant] = {"queue": None, "last_error": None}
_RESULT_COLUMNS = tuple(column.name for column in item_results.columns if column.name != "run_key")


_IS_CLAIMABLE = items.c.queue == CLAIMABLE_QUEUE
_HAS_BATCH = exists().where(batches.c.intent_key == items.c.intent_key).correlate(items)
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


# --- adding ----------------------------------------------------------------------------------------------------------


def append(run: LockedRun, chunk: Sequence[MaterializedItem]) -> Sequence[MaterializedItem]:
    """Add a chunk, passing over what is there already; returns what was new.

    Raises:
        DuplicateItemError: An id occurs twice in the chunk.
        RunStateError: An index is there with another id, or twice in the chunk.
        IntegrityError: An id is there under another index; :func:`repeated_ids` says which.
    """
    fresh = _fresh(run, chunk)
    mine: dict[str, Constant] = {"run_key": run.run_key}
    item_ids = [encode_text(item.item_id) for item in fresh]
    rows = [
        (item.item_index, item_id, item.submission_tokens, request_bytes(item))
        for item, item_id in zip(fresh, item_ids, strict=True)
    ]
    contents = [
        (item.item_index, item_id, _metadata(item), encode_text(item.prompt), encode_optional_text(item.system_prompt),
         *line, item.content_address)
        for item, item_id, line in zip(fresh, item_ids, _cut_lines(run, fresh), strict=True)
    ]  # fmt: skip
    run.database.insert_many(run.connection, items, _NEW_COLUMNS, rows, same=mine | _NEW)
    run.database.insert_many(run.connection, item_contents, _CONTENT_COLUMNS, contents, same=mine)
    run.add(PENDING, count=len(fresh), tokens=sum(item.submission_tokens for item in fresh))
    return fresh


def check_same(run: LockedRun, repeated: Sequence[MaterializedItem]) -> None:
    """Refuse items that are stored, at their indexes, with other contents.

    Raises:
        RunStateError: One of them is.
    """
    if not repeated:
        return
    parts = parts_of(run.connection, run.run_key)
    contents = item_contents.c
    for start in range(0, len(repeated), _COMPARED_AT_ONCE):
        page = {item.item_index: item for item in repeated[start : start + _COMPARED_AT_ONCE]}
        wanted = select(*(contents[name] for name in _CONTENT_COLUMNS)).where(
            contents.run_key == run.run_key, run.database.among(contents.item_index, list(page))
        )
        for index, _, metadata, prompt, system_prompt, line, number, _ in run.connection.execute(wanted):
            stored = StoredContents(
                metadata,
                decode_text(prompt),
                decode_optional_text(system_prompt),
                whole_line(line, number, parts),
            )
            stored.check_same(run.run_id, page[index])


_BETWEEN = select(items.c.item_index, items.c.item_id).where(
    items.c.run_key == bindparam("key"), items.c.item_index.between(bindparam("first"), bindparam("last"))
)


def _metadata(item: MaterializedItem) -> str | None:
    if not item.metadata:
        return None
    return encode_json(item.metadata) if item.metadata_json is None else item.metadata_json


_COMPARED_AT_ONCE = 1_000

_MAX_PARTS = 8
"""A run whose lines have less in common than so many tries can tell keeps them whole."""


def _cut_lines(run: LockedRun, chunk: Sequence[MaterializedItem]) -> list[tuple[bytes | None, int | None]]:
    """Each item's line as it is stored, and the number of the parts that are left out of it."""
    lines = [item.request_line for item in chunk]
    known = parts_of(run.connection, run.run_key)
    number, parts = max(known.items(), default=(-1, None))
    cut = _cut(lines, number, parts)
    if sum(number is None for _, number in cut) * 2 > len(cut) and len(known) < _MAX_PARTS:
        # most lines do not have what the ones before had in common
        found = common_parts([line for line in lines if line is not None], parts)
        if found is not None:
            values = {"run_key": run.run_key, "number": number + 1, **found._asdict()}
            run.connection.execute(line_parts.insert().values(values))
            cut = _cut(lines, number + 1, found)
    return cut


def _cut(
    lines: Sequence[bytes | None], number: int, parts: LineParts | None
) -> list[tuple[bytes | None, int | None]]:
    if parts is None:
        return [(line, None) for line in lines]
    return [
        (line, None) if line is None or (rest := parts.cut(line)) is None else (rest, number)
        for line in lines
    ]


_PARTS = select(line_parts.c.number, line_parts.c.head, line_parts.c.tail).where(
    line_parts.c.run_key == bindparam("key")
)


def parts_of(connection: Connection, run_key: int) -> dict[int, LineParts]:
    """What the request lines of a run have in common, by number."""
    return {
        number: LineParts(head, tail) for number, head, tail in connection.execute(_PARTS, {"key": run_key})
    }


def whole_line(stored: bytes | None, number: int | None, parts: Mapping[int, LineParts]) -> bytes | None:
    """A line as it was given, from what is stored of it."""
    return stored if stored is None or number is None else parts[number].restored(stored)


def _fresh(run: LockedRun, chunk: Sequence[MaterializedItem]) -> Sequence[MaterializedItem]:
    if not chunk:
        return chunk
    by_id = {item.item_id: item for item in chunk}
    if len(by_id) < len(chunk):
        twice = _occurring_twice(chunk)
        raise DuplicateItemError(run.run_id, list(twice), indexes=twice)
    indexes = {item.item_index for item in chunk}
    if len(indexes) < len(chunk):
        raise RunStateError(run.run_id, "two items of a chunk have the same index")
    ends = {"key": run.run_key, "first": min(indexes), "last": max(indexes)}
    there = {index: decode_text(item_id) for index, item_id in run.connection.execute(_BETWEEN, ends)}
    if not there:
        return chunk
    for item in chunk:
        known = there.get(item.item_index)
        if known is not None and known != item.item_id:
            if repeated := repeated_ids(run.database, run.connection, run.run_key, chunk):
                raise DuplicateItemError(run.run_id, list(repeated), indexes=repeated)
            raise RunStateError(
                run.run_id, f"item {item.item_index} is {known!r} already; the source has changed"
            )
    return [item for item in chunk if item.item_index not in there]


def _occurring_twice(chunk: Sequence[MaterializedItem]) -> dict[str, tuple[int, int]]:
    first: dict[str, int] = {}
    twice: dict[str, tuple[int, int]] = {}
    for item in chunk:
        if item.item_id in first:
            twice.setdefault(item.item_id, (first[item.item_id], item.item_index))
        first.setdefault(item.item_id, item.item_index)
    return twice


def repeated_ids(
    database: Database, connection: Connection, run_key: int, chunk: Sequence[MaterializedItem]
) -> dict[str, tuple[int, int]]:
    """Ids of the chunk that are stored under another index: that index, and the one in the chunk."""
    index_of = {item.item_id: item.item_index for item in chunk}
    wanted = select(items.c.item_id, items.c.item_index).where(
        items.c.run_key == run_key, named(run_key, database, index_of)
    )
    there = {decode_text(item_id): index for item_id, index in connection.execute(wanted).all()}
    return {
        item_id: (there[item_id], index)
        for item_id, index in index_of.items()
        if there.get(item_id, index) != index
    }


# --- taking ----------------------------------------------------------------------------------------------------------


def claimable(run_key: int, max_attempts: int) -> ColumnElement[bool]:
    """The image of ``lifecycle.can_claim``."""
    return and_(items.c.run_key == run_key, _IS_CLAIMABLE, items.c.attempt_count < max_attempts)


def candidates(connection: Connection, run_key: int, *, max_attempts: int, limit: int) -> list[Candidate]:
    """Claimable items in order, read from one index alone."""
    wanted = (
        select(items.c.item_index, items.c.submission_tokens, items.c.request_bytes)
        .where(claimable(run_key, max_attempts))
        .order_by(items.c.item_index)
        .limit(limit)
    )
    return [Candidate(*row) for row in plain_rows(connection, wanted)]


def indexes_are(database: Database, indexes: Sequence[int]) -> ColumnElement[bool]:
    """Items at these distinct, sorted indexes; a gapless range is named by its ends."""
    if indexes and indexes[-1] - indexes[0] + 1 == len(indexes):
        return items.c.item_index.between(indexes[0], indexes[-1])
    return database.among(items.c.item_index, indexes)


class Standing(NamedTuple):
    """How many items have a status, and the sum of their estimated tokens."""

    status: ItemStatus
    items: int
    tokens: int


def waiting(connection: Connection, claimed: ColumnElement[bool]) -> list[Standing]:
    """What a claim of these claimable items would take."""
    counted = select(items.c.status, func.count(), func.sum(items.c.submission_tokens))
    found = connection.execute(counted.where(claimed).group_by(items.c.status)).all()
    return [Standing(STATUS[status], count, int(tokens)) for status, count, tokens in found]


def queue(
    run: LockedRun, claimed: ColumnElement[bool], standing: list[Standing], *, intent_key: int | None
) -> None:
    """``lifecycle.claimed`` for what was :func:`waiting`, which then belongs to the intent, or to a caller's hand."""
    if intent_key is None:
        values: dict[str, Constant] = {"status": QUEUED_LOCAL.value, "queue": TAKEN_QUEUE}
    else:
        values = {"status": IN_SUBMISSION, "queue": None, "intent_key": intent_key}
    run.connection.execute(items.update().where(claimed).values(values))
    for status, count, tokens in standing:
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
        yield _named_row((row[0], decode_text(row[1]), state, given and decode_text(given), row[6], row[7]))


_named_row: Callable[[tuple[Any, ...]], ItemRow] = partial(
    tuple.__new__, ItemRow
)  # as quick as a plain tuple


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

    A chunk of answers meets items that nobody else has touched, nearly always, and one sum over them costs a tenth of
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


# --- ending ----------------------------------------------------------------------------------------------------------


LONG_TEXT = 1 << 20
"""Characters of an answer from which on it is written by itself."""


class ItemChanges:
    """What a transaction does to items one by one, collected and then written in bulk."""

    def __init__(self, run: LockedRun) -> None:
        self._run = run
        self._changes: list[tuple[object, ...]] = []
        self._errors: list[tuple[object, ...]] = []
        self._ends: list[tuple[object, ...]] = []
        self._results: list[tuple[object, ...]] = []
        self._long_results: list[tuple[object, ...]] = []
        self._moves: defaultdict[tuple[ItemStatus, ItemStatus], list[int]] = defaultdict(lambda: [0, 0])
        self._owned: defaultdict[int | None, int] = defaultdict(int)

    def complete(self, item: ItemRow, record: CompletedItemRecord) -> None:
        """A good answer."""
        output_json = None if record.text_is_json else encode_optional_json(record.output_json)
        self._run.bill(record.usage)
        state = lifecycle.completed(item.state)
        self._terminal(item, state, record, None, output_json, record.text_is_json, record.output_data)

    def fail(self, item: ItemRow, record: ItemFailureRecord, *, max_attempts: int) -> ItemStatus:
        """A bad answer; returns where the item goes."""
        state = lifecycle.failed(
            item.state,
            retryable=record.error.retryable,
            count_attempt=record.count_attempt,
            max_attempts=max_attempts,
        )
        error = encode_failure(record.error)
        self._run.bill(record.usage)
        if state.status in lifecycle.TERMINAL:
            self._terminal(item, state, record, error, None, False)
        else:
            self._move(item, state, last_error=error)
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
        stored = encode_failure(error)
        if state.status in lifecycle.TERMINAL:
            blank = CompletedItemRecord(custom_id="", output_text=None)
            self._terminal(item, state, blank, stored, None, False)
        else:
            self._move(item, state, last_error=stored)

    def write(self) -> None:
        """Write everything that was collected."""
        run = self._run
        run.database.insert_many(
            run.connection, item_results, _RESULT_COLUMNS, self._results, same={"run_key": run.run_key}
        )
        run.database.insert_long(
            run.connection, item_results, _RESULT_COLUMNS, self._long_results, same={"run_key": run.run_key}
        )
        for columns, rows, same in (
            (_END_COLUMNS, self._ends, _ENDED),
            (_CHANGE_COLUMNS, self._changes, {}),
            (_ERROR_COLUMNS, self._errors, {}),
        ):
            run.database.change_items(run.connection, run.run_key, columns, rows, same=same)
        for (before, after), (count, tokens) in self._moves.items():
            run.move(before, after, count=count, tokens=tokens)
        for intent_key, count in self._owned.items():
            own(run.connection, intent_key, count)

    def _terminal(
        self,
        item: ItemRow,
        state: ItemState,
        record: CompletedItemRecord | ItemFailureRecord,
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
             item.intent_key, *raw_columns(record.raw), pack_response(record.raw_response), output_data)
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
