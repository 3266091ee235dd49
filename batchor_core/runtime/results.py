"""Reading what a run has brought, page by page: typed objects, JSON lines, raw responses from their artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import orjson
from pydantic import BaseModel

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import StructuredOutputError
from batchor_core.core.garbage import collecting_less
from batchor_core.core.jsontext import to_json
from batchor_core.core.late import decode_later
from batchor_core.core.models import BatchResultItem, StructuredItemResult, TextItemResult
from batchor_core.core.outcome import parse_line
from batchor_core.core.structured import parse_structured_output
from batchor_core.core.types import JSONValue
from batchor_core.runtime.engine import CHUNK, Engine
from batchor_core.storage.state import PersistedItemRecord


def check_cursor(after_sequence: int, limit: int | None) -> None:
    """Refuse what can't be a cursor or a page size.

    Raises:
        ValueError: ``after_sequence`` is negative, or ``limit`` is below 1.
    """
    if after_sequence < 0:
        raise ValueError(f"after_sequence must not be negative, and is {after_sequence}; begin with 0")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 or None, and is {limit}")


def record_pages(
    engine: Engine, run_id: str, *, after_sequence: int = 0, limit: int | None = None, page_size: int = CHUNK
) -> Iterator[list[PersistedItemRecord]]:
    """Terminal records in the order of their sequence, a page at a time, at most ``limit`` in all."""
    left = limit
    while left is None or left > 0:
        size = page_size if left is None else min(page_size, left)
        with collecting_less():
            page = engine.store.get_terminal_item_records(
                run_id=run_id, after_sequence=after_sequence, limit=size
            )
        if page:
            yield page
        if len(page) < size:
            return
        after_sequence = page[-1].terminal_result_sequence or after_sequence
        left = None if left is None else left - len(page)


def _raw_lines(engine: Engine, records: Sequence[PersistedItemRecord]) -> list[bytes | None]:
    """The line of each record in its batch's kept file; None where it is not kept there (any more)."""
    lines: list[bytes | None] = [None] * len(records)
    by_file: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        if record.raw_response is None and record.raw_artifact_path is not None:
            by_file.setdefault(record.raw_artifact_path, []).append(position)
    for key, positions in by_file.items():
        refs = [records[position].raw for position in positions]
        ranges = [(ref.offset, ref.length) for ref in refs if ref is not None]
        with suppress(FileNotFoundError):  # pruned between the query and now
            for position, line in zip(positions, engine.artifacts.read_ranges(key, ranges), strict=True):
                lines[position] = line
    return lines


def typed_page(
    engine: Engine, records: Sequence[PersistedItemRecord], model: type[BaseModel] | None
) -> Iterator[BatchResultItem]:
    """The records as result objects of a text run (``model`` None) or of a structured one.

    Raises:
        StructuredOutputError: A stored answer does not satisfy the model, which must have changed since it was stored.
    """
    for record, line in zip(records, _raw_lines(engine, records), strict=True):
        result = _typed(record, model)
        yield result if line is None else decode_later(result, "raw_response", parse_line, line)


def _typed(record: PersistedItemRecord, model: type[BaseModel] | None) -> BatchResultItem:
    # by position: names cost half as much again, and there may be millions
    if model is None:
        return TextItemResult(
            record.item_id,
            record.status,
            record.attempt_count,
            record.output_text,
            record.raw_response,
            record.error,
            record.metadata,
            record.usage,
        )
    return StructuredItemResult(
        record.item_id,
        record.status,
        record.attempt_count,
        _output(record, model) if record.status is ItemStatus.COMPLETED else None,
        record.output_text,
        record.raw_response,
        record.error,
        record.metadata,
        record.usage,
    )


def _output(record: PersistedItemRecord, model: type[BaseModel]) -> BaseModel:
    try:
        return parse_structured_output(_answer_text(record), model)
    except StructuredOutputError as error:
        raise StructuredOutputError(
            error.error_class,
            f"item {record.item_id!r}: the stored answer does not fit {model.__qualname__} as it is now ({error.message}). "
            "Read it with the model that the run was started with, or untyped with export_terminal_results().",
            raw_error=error.raw_error,
        ) from error


def _answer_text(record: PersistedItemRecord) -> str:
    if record.output_text is not None:
        return record.output_text
    return to_json(record.output_json).decode()


def json_lines(engine: Engine, records: Sequence[PersistedItemRecord], *, structured: bool) -> bytes:
    """The records as lines of results.jsonl. Raw responses are copied as they are, not decoded and encoded again."""
    lines = []
    for record, line in zip(records, _raw_lines(engine, records), strict=True):
        row: dict[str, Any] = {
            "item_id": record.item_id,
            "status": record.status,
            "attempt_count": record.attempt_count,
            "metadata": record.metadata,
            "output_text": record.output_text,
        }
        if structured:
            row["output_json"] = _fragment(record.output_json)
        # as the provider wrote it, neither decoded nor encoded again
        row["raw_response"] = (
            _fragment(record.raw_response) if line is None else orjson.Fragment(line.rstrip(b"\r\n"))
        )
        row["error"] = None if record.error is None else _fragment(record.error.to_payload())
        lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines)


def _fragment(value: JSONValue) -> orjson.Fragment | None:
    return None if value is None else orjson.Fragment(to_json(value))
