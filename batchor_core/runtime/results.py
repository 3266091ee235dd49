"""Reading the results of a run, page by page: typed objects, JSON lines, raw responses from their artifacts."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import repeat
from typing import Any, TypeVar, assert_never

import orjson
from pydantic import BaseModel

from batchor_core.core.answers import parse_line
from batchor_core.core.enums import ItemStatus, RunLifecycleStatus
from batchor_core.core.exceptions import RunNotFinishedError, StructuredOutputError
from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.jsontext import to_json
from batchor_core.core.lazy_field import decode_later
from batchor_core.core.models import RunSummary
from batchor_core.core.outputs import (
    BodyOutput,
    ModelOutput,
    OutputKind,
    OutputSpec,
    TextOutput,
    VectorOutput,
)
from batchor_core.core.results import (
    BatchResultItem,
    BodyItemResult,
    StructuredItemResult,
    TextItemResult,
    ToolItemResult,
    VectorItemResult,
)
from batchor_core.core.structured import parse_structured_output
from batchor_core.core.tools import ToolOutput
from batchor_core.runtime.engine import CHUNK, Engine
from batchor_core.storage.columns import unpack_response
from batchor_core.storage.records import ResultRow
from batchor_core.storage.rows import (
    answer_bytes,
    answer_text,
    body_text,
    cost_usd,
    error_json,
    failed_text,
    failure_of,
    metadata_json,
    metadata_of,
    output_json,
    response_json,
    reused_from,
    status_of,
    usage_of,
)
from batchor_core.storage.state import StateStore


def check_cursor(after_sequence: int, limit: int | None) -> None:
    """Refuse what can't be a cursor or a page size.

    Raises:
        ValueError: ``after_sequence`` is negative, or ``limit`` is below 1.
    """
    if after_sequence < 0:
        raise ValueError(f"after_sequence must not be negative, but is {after_sequence}; begin with 0")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 or None, but is {limit}")


def check_finished(summary: RunSummary) -> None:
    """Refuse what only a finished run allows.

    Raises:
        RunNotFinishedError: The run is not finished.
    """
    if summary.status is RunLifecycleStatus.RUNNING:
        raise RunNotFinishedError(summary.run_id)


def row_pages(
    store: StateStore,
    run_id: str,
    *,
    after_sequence: int = 0,
    limit: int | None = None,
    page_size: int = CHUNK,
) -> Iterator[list[ResultRow]]:
    """Results in the order of their sequence, a page at a time, at most ``limit`` in all."""
    left = limit
    while left is None or left > 0:
        size = page_size if left is None else min(page_size, left)
        with collecting_less():
            page = store.get_result_rows(run_id=run_id, after_sequence=after_sequence, limit=size)
        if page:
            yield page
        if len(page) < size:
            return
        after_sequence = page[-1].sequence or after_sequence
        left = None if left is None else left - len(page)


def _raw_lines(engine: Engine, rows: Sequence[ResultRow]) -> Iterator[bytes | None]:
    """The line of each row in its batch's stored file; None if it was never stored or has been deleted."""
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


def typed_page(engine: Engine, rows: Sequence[ResultRow], output: OutputSpec) -> Iterator[BatchResultItem]:
    """The rows as result objects of the run's kind of output.

    Raises:
        StructuredOutputError: A stored answer does not satisfy the model, which must have changed since it was stored.
    """
    typed = _typed_by(output)
    for row, line in zip(rows, _raw_lines(engine, rows), strict=True):
        result = typed(row)
        if row.raw_response is not None:
            yield decode_later(result, "raw_response", unpack_response, row.raw_response)
        elif line is not None:
            yield decode_later(result, "raw_response", parse_line, line)
        else:
            yield result


def _typed_by(output: OutputSpec) -> Callable[[ResultRow], BatchResultItem]:
    match output:
        case TextOutput():
            return _text_result
        case ModelOutput(model):
            return _text_result if model is None else partial(_structured_result, model=model)
        case VectorOutput():
            return partial(_vector_result, output=output)
        case BodyOutput():
            return partial(_body_result, output=output)
        case ToolOutput(models):
            return _text_result if models is None else partial(_tool_result, output=output)
        case _:
            assert_never(output)


# by position: names cost half as much again, and there may be millions


def _text_result(row: ResultRow) -> TextItemResult:
    return TextItemResult(
        row.item_id,
        status_of(row),
        row.attempt_count,
        row.output_text,
        None,
        failure_of(row),
        metadata_of(row),
        usage_of(row),
        cost_usd(row),
        reused_from(row),
    )


def _structured_result(row: ResultRow, *, model: type[BaseModel]) -> StructuredItemResult[Any]:
    parse = partial(parse_structured_output, model=model)
    output = _parsed(row, parse) if status_of(row) is ItemStatus.COMPLETED else None
    return _with_output(StructuredItemResult, row, output, row.output_text)


def _vector_result(row: ResultRow, *, output: VectorOutput) -> VectorItemResult:
    data = answer_bytes(row)
    return _with_output(VectorItemResult, row, None if data is None else output.value(data), failed_text(row))


def _body_result(row: ResultRow, *, output: BodyOutput) -> BodyItemResult:
    body = body_text(row)
    return _with_output(BodyItemResult, row, None if body is None else output.value(body), failed_text(row))


def _tool_result(row: ResultRow, *, output: ToolOutput) -> ToolItemResult:
    is_good = status_of(row) is ItemStatus.COMPLETED
    return _with_output(
        ToolItemResult, row, _parsed(row, output.called) if is_good else None, row.output_text
    )


_Made = TypeVar("_Made", StructuredItemResult[Any], VectorItemResult, BodyItemResult, ToolItemResult)


def _with_output(made: type[_Made], row: ResultRow, output: Any, text: str | None) -> _Made:
    return made(
        row.item_id,
        status_of(row),
        row.attempt_count,
        output,
        text,
        None,
        failure_of(row),
        metadata_of(row),
        usage_of(row),
        cost_usd(row),
        reused_from(row),
    )


def _parsed(row: ResultRow, parse: Callable[[str], BaseModel]) -> BaseModel:
    try:
        return parse(answer_text(row))
    except StructuredOutputError as error:
        raise StructuredOutputError(
            error.error_class,
            f"item {row.item_id!r}: the stored answer does not fit its model as it is now ({error.message}). "
            "Read it with the model that the run was started with, or untyped with export_terminal_results().",
            raw_error=error.raw_error,
        ) from error


def json_lines(engine: Engine | None, rows: Sequence[ResultRow], kind: OutputKind) -> Iterator[bytes]:
    """The rows as lines of results.jsonl. What is JSON already is copied, neither decoded nor encoded again.

    Without an engine, which has the files that raw responses are in, lines have no ``raw_response``.
    """
    is_model, add_output = kind in (OutputKind.MODEL, OutputKind.TOOL), _adding(kind)
    raw_lines = repeat(None, len(rows)) if engine is None else _raw_lines(engine, rows)
    for row, raw in zip(rows, raw_lines, strict=True):
        line: dict[str, Any] = {
            "item_id": row.item_id,
            "status": row.status,
            "attempt_count": row.attempt_count,
            "metadata": orjson.Fragment(metadata_json(row)),
            "output_text": row.output_text,
        }
        if is_model:
            line["output_json"] = _fragment(output_json(row))
        elif add_output is not None:
            add_output(line, row)
        if raw is None and engine is not None:
            line["raw_response"] = _fragment(response_json(row))
        elif raw is not None:  # as the provider wrote it
            line["raw_response"] = orjson.Fragment(raw.rstrip(b"\r\n"))
        line["error"] = _fragment(error_json(row))
        line["cost_usd"] = cost_usd(row)
        if row.reused_run_id is not None:
            line["reused_from"] = {"run_id": row.reused_run_id, "item_id": row.reused_item_id}
        yield _encoded(line)


def _add_vector(line: dict[str, Any], row: ResultRow) -> None:
    """Add the vector in base64, as providers send it: exact, and half as long as its numbers in decimal."""
    data = answer_bytes(row)
    line["output_text"] = failed_text(row)
    line["output_vector"] = None if data is None else b2a_base64(data, newline=False).decode()


def _add_body(line: dict[str, Any], row: ResultRow) -> None:
    body = body_text(row)
    line["output_text"] = failed_text(row)
    line["output_json"] = None if body is None else orjson.Fragment(body)


def _adding(kind: OutputKind) -> Callable[[dict[str, Any], ResultRow], None] | None:
    """The function that adds an answer to its line; None for answers that :func:`json_lines` adds itself."""
    match kind:
        case OutputKind.TEXT | OutputKind.MODEL | OutputKind.TOOL:
            return None  # the call would cost each of millions of lines as much as a twentieth of its time
        case OutputKind.VECTOR:
            return _add_vector
        case OutputKind.BODY:
            return _add_body
        case _:
            assert_never(kind)


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
