"""Adding items, each once: stored items are never changed, so an item that is added again must be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.exc import IntegrityError

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import DuplicateItemError, RunStateError, StorageError
from batchor_core.storage import sql_row_models, sql_runs
from batchor_core.storage.columns import (
    decode_optional_json,
    decode_optional_text,
    decode_text,
    encode_json,
    encode_optional_text,
    encode_text,
)
from batchor_core.storage.line_parts import LineParts, common_parts
from batchor_core.storage.records import MaterializedItem, request_bytes
from batchor_core.storage.schema import CLAIMABLE_QUEUE, item_contents, items, line_parts
from batchor_core.storage.session import ReuseTerms
from batchor_core.storage.sql_engine import Constant, Database
from batchor_core.storage.sql_items import PENDING, named
from batchor_core.storage.sql_reuse import Taken, TakenResult, insert_results, take
from batchor_core.storage.sql_runs import LockedRun

_NEW_COLUMNS = ("item_index", "item_id", "submission_tokens", "request_bytes")
_NEW: dict[str, Constant] = {
    "status": PENDING.value,
    "queue": CLAIMABLE_QUEUE,
    "attempt_count": 0,
    "generation": 0,
}
_ENDED: dict[str, Constant] = _NEW | {
    "status": ItemStatus.COMPLETED.value,
    "queue": None,
    "submission_tokens": 0,
    "request_bytes": 0,
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
_COMPARED_AT_ONCE = 1_000

_MAX_PARTS = 8
"""A run whose lines have less in common than so many tries can tell keeps them whole."""


def append(
    run: LockedRun, chunk: Sequence[MaterializedItem], reuse: ReuseTerms | None = None
) -> Sequence[MaterializedItem]:
    """Add a chunk, passing over what is there already; returns what was new. Under ``reuse``, what was answered before has ended.

    Raises:
        DuplicateItemError: An id occurs twice in the chunk.
        RunStateError: An index is there with another id, or twice in the chunk.
        IntegrityError: An id is there under another index; :func:`repeated_ids` says which.
    """
    fresh = _fresh(run, chunk)
    if not fresh:
        return fresh
    taken: Sequence[Taken] = ()
    waiting = fresh
    if reuse is not None and run.reuse_scope_key is not None:
        taken, waiting = take(run, fresh, reuse)
    if waiting:
        item_ids = [encode_text(item.item_id) for item in waiting]
        rows = [
            (item.item_index, item_id, item.submission_tokens, request_bytes(item))
            for item, item_id in zip(waiting, item_ids, strict=True)
        ]
        same: dict[str, Constant] = {"run_key": run.run_key, **_NEW}
        run.database.insert_many(run.connection, items, _NEW_COLUMNS, rows, same=same)
        _insert_contents(run, waiting, item_ids, cut_lines(run, [item.request_line for item in waiting]))
        sql_row_models.insert(run, waiting)
        run.add(PENDING, count=len(waiting), tokens=sum(item.submission_tokens for item in waiting))
    if taken:
        _append_taken(run, taken)
    return fresh


def _insert_contents(
    run: LockedRun,
    chunk: Sequence[MaterializedItem],
    item_ids: Sequence[str],
    lines: Sequence[tuple[bytes | None, int | None]],
) -> None:
    contents = [
        (item.item_index, item_id, _metadata(item), encode_text(item.prompt), encode_optional_text(item.system_prompt),
         *line, item.content_address)
        for item, item_id, line in zip(chunk, item_ids, lines, strict=True)
    ]  # fmt: skip
    run.database.insert_many(
        run.connection, item_contents, _CONTENT_COLUMNS, contents, same={"run_key": run.run_key}
    )


def _append_taken(run: LockedRun, taken: Sequence[Taken]) -> None:
    """Items that are answered already. Their requests are not kept: nobody will send them."""
    item_ids = [encode_text(one.item.item_id) for one in taken]
    sequences = [run.next_sequence() for _ in taken]
    rows = [
        (one.item.item_index, item_id, sequence)
        for one, item_id, sequence in zip(taken, item_ids, sequences, strict=True)
    ]
    columns = ("item_index", "item_id", "terminal_sequence")
    same: dict[str, Constant] = {"run_key": run.run_key, **_ENDED}
    run.database.insert_many(run.connection, items, columns, rows, same=same)
    _insert_contents(run, [one.item for one in taken], item_ids, [(None, None)] * len(taken))
    insert_results(
        run,
        (
            TakenResult(sequence, one.item.item_index, 0, 0, one.answer)
            for sequence, one in zip(sequences, taken, strict=True)
        ),
    )
    run.add(ItemStatus.COMPLETED, count=len(taken), tokens=0)


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
            stored = _Contents(
                decode_optional_json(metadata) or {},
                decode_text(prompt),
                decode_optional_text(system_prompt),
                whole_line(line, number, parts),
            )
            _check_contents(run.run_id, page[index], stored)


class _Contents(NamedTuple):
    """The parts of an item that are stored once and never change."""

    metadata: Any
    prompt: str
    system_prompt: str | None
    request_line: bytes | None


def _check_contents(run_id: str, item: MaterializedItem, stored: _Contents) -> None:
    metadata = decode_optional_json(_metadata(item)) or {}  # as it would be read back
    given = _Contents(metadata, item.prompt, item.system_prompt, item.request_line)
    for name, there, here in zip(_Contents._fields, stored, given, strict=True):
        if there != here:
            raise RunStateError(
                run_id,
                f"item {item.item_index} ({item.item_id!r}) is stored with another {name}. Stored items are "
                "never changed: pass the same content, or start a new run for the new content",
            )


_BETWEEN = select(items.c.item_index, items.c.item_id).where(
    items.c.run_key == bindparam("key"), items.c.item_index.between(bindparam("first"), bindparam("last"))
)


def _metadata(item: MaterializedItem) -> str | None:
    if not item.metadata:
        return None
    return encode_json(item.metadata) if item.metadata_json is None else item.metadata_json


def cut_lines(run: LockedRun, lines: Sequence[bytes | None]) -> list[tuple[bytes | None, int | None]]:
    """Each line as it is stored, and the number of the parts that were cut out of it."""
    known = parts_of(run.connection, run.run_key)
    newest, parts = max(known.items(), default=(-1, None))
    cut = _cut(lines, newest, parts)
    # lines that ask again begin otherwise than those of the source, and the two may come in turns
    for number in range(newest - 1, -1, -1):
        if _are_mostly_cut(cut):
            return cut
        cut = _cut(lines, number, known[number])
    if not _are_mostly_cut(cut) and len(known) < _MAX_PARTS:
        # most lines do not have what the ones before had in common
        found = common_parts([line for line in lines if line is not None], parts)
        if found is not None:
            values = {"run_key": run.run_key, "number": newest + 1, **found._asdict()}
            run.connection.execute(line_parts.insert().values(values))
            cut = _cut(lines, newest + 1, found)
    return cut


def _are_mostly_cut(lines: Sequence[tuple[bytes | None, int | None]]) -> bool:
    return sum(number is None for _, number in lines) * 2 <= len(lines)


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


@contextmanager
def naming_repeated_ids(database: Database, run_id: str, chunk: Sequence[MaterializedItem]) -> Iterator[None]:
    """Turn the database's refusal of a repeated id into an error that names it.

    Asking beforehand would look up every id of every chunk for what hardly ever happens.
    """
    try:
        yield
    except IntegrityError as error:
        with database.read() as connection:
            run_key = sql_runs.run_key_of(database, connection, run_id)
            repeated = repeated_ids(database, connection, run_key, chunk)
        if not repeated:
            raise StorageError(f"{database.where}: {error.orig}") from error
        raise DuplicateItemError(run_id, list(repeated), indexes=repeated) from error
