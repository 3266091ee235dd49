"""Reading items: claimed ones, lines to write, and results by pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, and_, select
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core.enums import ItemStatus
from batchor_core.core.late import decode_later
from batchor_core.core.lifecycle import custom_id_for
from batchor_core.storage.schema import batches, item_contents, item_results, items, request_pointers
from batchor_core.storage.sql_codec import (
    STATUS,
    decode_answer,
    decode_failure,
    decode_json,
    decode_optional_json,
    decode_optional_text,
    decode_text,
    unpack_response,
    usage_from_columns,
)
from batchor_core.storage.sql_engine import Database, plain_rows
from batchor_core.storage.sql_items import is_status
from batchor_core.storage.state import ClaimedItem, PersistedItemRecord, RawResponseRef, RequestDraft

_DRAFT_PAGE = 1_000

_contents, _results = item_contents.c, item_results.c
_its_contents = and_(_contents.run_key == items.c.run_key, _contents.item_index == items.c.item_index)
_its_result = and_(_results.run_key == items.c.run_key, _results.sequence == items.c.terminal_sequence)

_RESULT = (
    _results.sequence,
    _results.output_text,
    _results.output_json,
    _results.text_is_json,
    _results.error,
    _results.input_tokens,
    _results.cached_tokens,
    _results.output_tokens,
    _results.reasoning_tokens,
    _results.raw_is_error_file,
    _results.raw_offset,
    _results.raw_length,
    _results.raw_response,
    batches.c.output_artifact_path,
    batches.c.error_artifact_path,
)
_ITEM = (
    items.c.item_id,
    items.c.item_index,
    items.c.status,
    items.c.attempt_count,
    _contents.metadata,
    items.c.last_error,
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


def drafts(database: Database, *, run_key: int, run_id: str, intent_key: int) -> Iterator[RequestDraft]:
    """The lines of an open intent, each page in a transaction of its own, so that none stays open meanwhile."""
    line_number, last_index = 0, -1
    while True:
        with database.read() as connection:
            page = list(plain_rows(connection, _draft_page(run_key, intent_key, after=last_index)))
        for item_id, index, custom_id, generation, prompt, system_prompt, request_line in page:
            line_number, last_index = line_number + 1, index
            plain_id = decode_text(item_id)
            yield RequestDraft(
                plain_id,
                index,
                decode_text(custom_id) if custom_id else custom_id_for(run_id, plain_id, index, generation),
                generation,
                line_number,
                decode_text(prompt),
                decode_optional_text(system_prompt),
                request_line,
            )
        if len(page) < _DRAFT_PAGE:
            return


def _draft_page(run_key: int, intent_key: int, *, after: int) -> Any:
    wanted = select(
        items.c.item_id,
        items.c.item_index,
        items.c.custom_id,
        items.c.generation,
        _contents.prompt,
        _contents.system_prompt,
        _contents.request_line,
    )
    owned = and_(
        items.c.run_key == run_key, items.c.intent_key == intent_key, is_status(ItemStatus.QUEUED_LOCAL)
    )
    return (
        wanted.join_from(items, item_contents, _its_contents)
        .where(owned, items.c.item_index > after)
        .order_by(items.c.item_index)
        .limit(_DRAFT_PAGE)
    )


def terminal_records(
    connection: Connection, run_key: int, *, after_sequence: int, limit: int | None
) -> list[PersistedItemRecord]:
    """Results in the order in which they became terminal."""
    its_item = and_(items.c.run_key == _results.run_key, items.c.item_index == _results.item_index)
    wanted = (
        select(*_ITEM, *_RESULT)
        .join_from(item_results, items, its_item)
        .join(item_contents, _its_contents)
        .outerjoin(batches, batches.c.intent_key == _results.intent_key)
        .where(_results.run_key == run_key, _results.sequence > after_sequence)
        .order_by(_results.sequence)
        .limit(limit)
    )
    return [_record(row) for row in plain_rows(connection, wanted)]


def item_records(connection: Connection, run_key: int) -> list[PersistedItemRecord]:
    """Every item, in item order."""
    wanted = (
        select(*_ITEM, *_RESULT)
        .join_from(items, item_contents, _its_contents)
        .outerjoin(item_results, _its_result)
        .outerjoin(batches, batches.c.intent_key == _results.intent_key)
        .where(items.c.run_key == run_key)
        .order_by(items.c.item_index)
    )
    return [_record(row) for row in plain_rows(connection, wanted)]


def _record(row: tuple[Any, ...]) -> PersistedItemRecord:
    # by position, in and out: at a hundred thousand rows a second, names cost too much
    (item_id, index, status, attempts, metadata, last_error,
     sequence, output_text, output_json, text_is_json, error, tokens_in, tokens_cached, tokens_out, tokens_reasoning,
     is_error_file, offset, length, packed, output_path, error_path) = row  # fmt: skip
    text = decode_optional_text(output_text)
    raw = raw_path = None
    if offset is not None:
        raw = RawResponseRef(bool(is_error_file), offset, length)
        raw_path = decode_optional_text(error_path if is_error_file else output_path)
    record = PersistedItemRecord(
        decode_text(item_id),
        index,
        STATUS[status],
        attempts,
        _metadata(metadata),
        sequence,
        text,
        decode_optional_json(output_json),
        unpack_response(packed),
        decode_failure(error if sequence is not None else last_error),
        usage_from_columns(tokens_in, tokens_cached, tokens_out, tokens_reasoning),
        raw_path,
        raw,
    )
    if text_is_json and text is not None:
        decode_later(record, "output_json", decode_answer, text)
    return record


def _metadata(stored: str | None) -> Any:
    return decode_json(stored) if stored else {}
