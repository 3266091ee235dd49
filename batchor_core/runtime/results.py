"""Reading what a run has brought, page by page: typed objects, JSON lines, raw responses from their artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any

import orjson
from pydantic import BaseModel

from batchor_core.core.answers import parse_line
from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import StructuredOutputError
from batchor_core.core.garbage import collecting_less
from batchor_core.core.jsontext import to_json
from batchor_core.core.late import decode_later
from batchor_core.core.models import BatchResultItem, StructuredItemResult, TextItemResult
from batchor_core.core.structured import parse_structured_output
from batchor_core.runtime.engine import CHUNK, Engine
from batchor_core.storage.columns import unpack_response
from batchor_core.storage.rows import (
    answer_text,
    error_json,
    failure_of,
    metadata_json,
    metadata_of,
    output_json,
    response_json,
    status_of,
    usage_of,
)
from batchor_core.storage.state import ResultRow


def check_cursor(after_sequence: int, limit: int | None) -> None:
    """Refuse what can't be a cursor or a page size.

    Raises:
        ValueError: ``after_sequence`` is negative, or ``limit`` is below 1.
    """
    if after_sequence < 0:
        raise ValueError(f"after_sequence must not be negative, and is {after_sequence}; begin with 0")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 or None, and is {limit}")


def row_pages(
    engine: Engine, run_id: str, *, after_sequence: int = 0, limit: int | None = None, page_size: int = CHUNK
) -> Iterator[list[ResultRow]]:
    """Results in the order of their sequence, a page at a time, at most ``limit`` in all."""
    left = limit
    while left is None or left > 0:
        size = page_size if left is None else min(page_size, left)
        with collecting_less():
            page = engine.store.get_result_rows(run_id=run_id, after_sequence=after_sequence, limit=size)
        if page:
            yield page
        if len(page) < size:
            return
        after_sequence = page[-1].sequence or after_sequence
        left = None if left is None else left - len(page)


def _raw_lines(engine: Engine, rows: Sequence[ResultRow]) -> Iterator[bytes | None]:
    """The line of each row in its batch's kept file; None where it is not kept there (any more)."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    keys: list[str | None] = []
    for row in rows:
        key, offset, length = row.raw_artifact_path, row.raw_offset, row.raw_length
        if row.raw_response is not None or key is None or offset is None or length is None:
            keys.append(None)
            continue
        keys.append(key)
        ranges.setdefault(key, []).append((offset, length))
    lines = {key: _lines_of(engine, key, wanted) for key, wanted in ranges.items()}
    for key in keys:
        yield None if key is None else next(lines[key])
    for left in lines.values():
        next(left, None)  # closes the file


def _lines_of(engine: Engine, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes | None]:
    with suppress(FileNotFoundError):  # pruned between the query and now
        yield from engine.artifacts.read_ranges(key, ranges)
        return
    yield from repeat(None, len(ranges))


def typed_page(
    engine: Engine, rows: Sequence[ResultRow], model: type[BaseModel] | None
) -> Iterator[BatchResultItem]:
    """The rows as result objects of a text run (``model`` None) or of a structured one.

    Raises:
        StructuredOutputError: A stored answer does not satisfy the model, which must have changed since it was stored.
    """
    for row, line in zip(rows, _raw_lines(engine, rows), strict=True):
        result = _typed(row, model)
        if row.raw_response is not None:
            yield decode_later(result, "raw_response", unpack_response, row.raw_response)
        elif line is not None:
            yield decode_later(result, "raw_response", parse_line, line)
        else:
            yield result


def _typed(row: ResultRow, model: type[BaseModel] | None) -> BatchResultItem:
    # by position: names cost half as much again, and there may be millions
    if model is None:
        return TextItemResult(
            row.item_id,
            status_of(row),
            row.attempt_count,
            row.output_text,
            None,
            failure_of(row),
            metadata_of(row),
            usage_of(row),
        )
    status = status_of(row)
    return StructuredItemResult(
        row.item_id,
        status,
        row.attempt_count,
        _output(row, model) if status is ItemStatus.COMPLETED else None,
        row.output_text,
        None,
        failure_of(row),
        metadata_of(row),
        usage_of(row),
    )


def _output(row: ResultRow, model: type[BaseModel]) -> BaseModel:
    try:
        return parse_structured_output(answer_text(row), model)
    except StructuredOutputError as error:
        raise StructuredOutputError(
            error.error_class,
            f"item {row.item_id!r}: the stored answer does not fit {model.__qualname__} as it is now ({error.message}). "
            "Read it with the model that the run was started with, or untyped with export_terminal_results().",
            raw_error=error.raw_error,
        ) from error


def json_lines(engine: Engine, rows: Sequence[ResultRow], *, structured: bool) -> Iterator[bytes]:
    """The rows as lines of results.jsonl. What is JSON already is copied, neither decoded nor encoded again."""
    for row, raw in zip(rows, _raw_lines(engine, rows), strict=True):
        line: dict[str, Any] = {
            "item_id": row.item_id,
            "status": row.status,
            "attempt_count": row.attempt_count,
            "metadata": orjson.Fragment(metadata_json(row)),
            "output_text": row.output_text,
        }
        if structured:
            line["output_json"] = _fragment(output_json(row))
        if raw is None:
            line["raw_response"] = _fragment(response_json(row))
        else:  # as the provider wrote it
            line["raw_response"] = orjson.Fragment(raw.rstrip(b"\r\n"))
        line["error"] = _fragment(error_json(row))
        yield _encoded(line)


def _fragment(json: str | bytes | None) -> orjson.Fragment | None:
    return None if json is None else orjson.Fragment(json)


def _encoded(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half of a surrogate pair, which only an escape can stand for
        escaped = {
            name: orjson.Fragment(to_json(value)) if isinstance(value, str) else value
            for name, value in line.items()
        }
        return orjson.dumps(escaped, option=orjson.OPT_APPEND_NEWLINE)
