"""Reading items: claimed ones, lines to write, and results by pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, and_, bindparam, case, func, null, select
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.request_lines import named_line
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.storage import sql_submissions
from batchor_core.storage.columns import (
    any_escaped,
    decode_json,
    decode_optional_text,
    decode_text,
)
from batchor_core.storage.records import ClaimedItem, ResultRow
from batchor_core.storage.schema import batches, item_contents, item_results, items, repairs, request_pointers
from batchor_core.storage.session import RequestDraft
from batchor_core.storage.sql_engine import Database, plain_rows
from batchor_core.storage.sql_ingestion import parts_of, whole_line
from batchor_core.storage.sql_items import ACTUAL_STATUS, owned_by
from batchor_core.storage.sql_repairs import ITS_REPAIR, NEXT_LINE

_DRAFT_PAGE = 1_000
_FIRST_PAGE = 50
_PAGE_BYTES = 16 << 20

_contents, _results = item_contents.c, item_results.c
_its_contents = and_(_contents.run_key == items.c.run_key, _contents.item_index == items.c.item_index)
_its_result = and_(_results.run_key == items.c.run_key, _results.sequence == items.c.terminal_sequence)

_raw_path = case(
    (_results.raw_offset.is_(None), null()),
    (_results.raw_is_error_file, batches.c.error_artifact_path),
    else_=batches.c.output_artifact_path,
)


def _columns(status: Any, attempt_count: Any, error: Any, cost: Any) -> tuple[Any, ...]:
    """In the order of :class:`ResultRow`."""
    return (
        _results.sequence,
        _contents.item_id,
        _contents.item_index,
        status,
        attempt_count,
        func.coalesce(_contents.metadata, "{}"),
        _results.output_text,
        _results.output_json,
        _results.text_is_json,
        error,
        *[_results[kind] for kind in TOKEN_KINDS],
        _raw_path,
        _results.raw_is_error_file,
        _results.raw_offset,
        _results.raw_length,
        _results.raw_response,
        _results.output_data,
        cost,
        _results.reused_run_id,
        _results.reused_item_id,
        _results.saved,
    )


def claimed_items(connection: Connection, run_key: int, chosen: ColumnElement[bool]) -> list[ClaimedItem]:
    """The chosen items as the documented claim returns them, in order."""
    pointers = request_pointers.c
    its_pointer = and_(pointers.run_key == items.c.run_key, pointers.item_index == items.c.item_index)
    wanted = (
        select(
            items.c.item_id,
            _contents.metadata,
            _contents.prompt,
            _contents.system_prompt,
            items.c.attempt_count,
            pointers.artifact_path,
            pointers.line_number,
            pointers.request_sha256,
        )
        .join_from(items, item_contents, _its_contents)
        .outerjoin(request_pointers, its_pointer)
        .where(items.c.run_key == run_key, chosen)
        .order_by(items.c.item_index)
    )
    return [
        ClaimedItem(
            item_id=decode_text(row.item_id),
            metadata=_metadata(row.metadata),
            prompt=decode_text(row.prompt),
            system_prompt=decode_optional_text(row.system_prompt),
            attempt_count=row.attempt_count,
            request_artifact_path=decode_optional_text(row.artifact_path),
            request_artifact_line=row.line_number,
            request_sha256=row.request_sha256,
        )
        for row in connection.execute(wanted).all()
    ]


def drafts(
    database: Database, *, run_key: int, names: CustomIds, local_batch_id: str
) -> Iterator[RequestDraft]:
    """The lines of a submission, each page in a transaction of its own, so that none stays open meanwhile.

    There are none once it has a batch.
    """
    with database.read() as connection:
        submission = sql_submissions.find_submission(connection, run_key, local_batch_id)
    if submission is None:
        raise RunStateError(names.run_id, f"no submission {local_batch_id!r}")
    if submission.provider_batch_id is not None:
        return iter(())
    return _drafts(database, run_key=run_key, names=names, intent_key=submission.intent_key)


def _drafts(database: Database, *, run_key: int, names: CustomIds, intent_key: int) -> Iterator[RequestDraft]:
    line_number, last_index, limit = 0, -1, _FIRST_PAGE
    with database.read() as connection:
        parts = parts_of(connection, run_key)
    name = names.of
    while True:
        with database.read() as connection:
            page = list(
                plain_rows(connection, _draft_page(run_key, intent_key, after=last_index, limit=limit))
            )
        for item_id, index, given, generation, prompt, system_prompt, stored, number in page:
            line_number, last_index = line_number + 1, index
            plain_id = decode_text(item_id)
            custom_id = decode_text(given) if given else name(plain_id, index, generation)
            line = None if stored is None or number is None else parts[number].named(stored, custom_id)
            if line is None and (whole := whole_line(stored, number, parts)) is not None:
                line = named_line(whole, custom_id, is_first=generation == 0)
            yield RequestDraft(
                plain_id,
                index,
                custom_id,
                generation,
                line_number,
                prompt and decode_text(prompt),
                decode_optional_text(system_prompt),
                line,
            )
        if len(page) < limit:
            return
        limit = _next_limit(page)


def _next_limit(page: list[tuple[Any, ...]]) -> int:
    """How many lines to read next: with images in them, a thousand would take hundreds of megabytes."""
    size = sum(len(row[6] or b"") for row in page)
    return min(_DRAFT_PAGE, max(1, _PAGE_BYTES * len(page) // max(1, size)))


def _draft_page(run_key: int, intent_key: int, *, after: int, limit: int) -> Any:
    wanted = select(
        items.c.item_id,
        items.c.item_index,
        items.c.custom_id,
        items.c.generation,
        _contents.prompt,
        _contents.system_prompt,
        *NEXT_LINE,
    )
    owned = and_(items.c.run_key == run_key, owned_by(intent_key, has_batch=False))
    return (
        wanted.join_from(items, item_contents, _its_contents)
        .outerjoin(repairs, ITS_REPAIR)
        .where(owned, items.c.item_index > after)
        .order_by(items.c.item_index)
        .limit(limit)
    )


def _result_page() -> Select[Any]:
    its_contents = and_(_contents.run_key == _results.run_key, _contents.item_index == _results.item_index)
    return (
        select(*_columns(_results.status, _results.attempt_count, _results.error, _results.cost))
        .join_from(item_results, item_contents, its_contents)
        .outerjoin(batches, batches.c.intent_key == _results.intent_key)
        .where(_results.run_key == bindparam("run_key"), _results.sequence > bindparam("after_sequence"))
        .order_by(_results.sequence)
        .limit(bindparam("limit", type_=BigInteger))
    )


_RESULT_PAGE = _result_page()  # asked for every thousand rows, and putting it together takes as long as fifty
_NO_LIMIT = 2**62


def terminal_rows(
    connection: Connection, run_key: int, *, after_sequence: int, limit: int | None
) -> list[ResultRow]:
    """Results in the order in which they became terminal."""
    values = {
        "run_key": run_key,
        "after_sequence": after_sequence,
        "limit": _NO_LIMIT if limit is None else limit,
    }
    return _rows(plain_rows(connection, _RESULT_PAGE, values))


def item_rows(connection: Connection, run_key: int) -> list[ResultRow]:
    """Every item, in item order, whether it has a result or not."""
    error = case((_results.sequence.is_(None), items.c.last_error), else_=_results.error)
    cost = case((_results.sequence.is_(None), items.c.cost), else_=_results.cost)
    wanted = (
        select(*_columns(ACTUAL_STATUS, items.c.attempt_count, error, cost))
        .join_from(items, item_contents, _its_contents)
        .outerjoin(item_results, _its_result)
        .outerjoin(batches, batches.c.intent_key == _results.intent_key)
        .where(items.c.run_key == run_key)
        .order_by(items.c.item_index)
    )
    return _rows(plain_rows(connection, wanted))


_named: Callable[[tuple[Any, ...]], ResultRow] = partial(tuple.__new__, ResultRow)  # a third of _make's time


def _rows(found: Iterator[tuple[Any, ...]]) -> list[ResultRow]:
    rows = list(map(_named, found))
    # there are hardly ever any, and each of millions of rows would pay for a look
    if (
        any_escaped(row.item_id for row in rows)
        or any_escaped(row.output_text for row in rows)
        or any_escaped({row.raw_artifact_path for row in rows})
        or any_escaped({row.reused_item_id for row in rows})
    ):
        return [_unescaped(row) for row in rows]
    return rows


def _unescaped(row: ResultRow) -> ResultRow:
    return row._replace(
        item_id=decode_text(row.item_id),
        output_text=decode_optional_text(row.output_text),
        raw_artifact_path=decode_optional_text(row.raw_artifact_path),
        reused_item_id=decode_optional_text(row.reused_item_id),
    )


def _metadata(stored: str | None) -> Any:
    return decode_json(stored) if stored else {}
