"""Rows of Python values as JSON texts that give back the same values: what a snapshot holds of rows that have no Arrow types.

A database's driver gives a column values of any type, and none before row 70,000, so that no schema can be told in advance.
JSON's own values stand for themselves; every other is an object with one key, its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

import pyarrow as pa

from batchor_core.core.jsontext import exact_json, loads_kept
from batchor_core.core.plain import is_missing, json_safe
from batchor_core.core.types import JSONValue
from batchor_core.sources.arrow_rows import Problem

IS_JSON = b"batchor.json"
"""Key in a schema's metadata: the one column holds rows as JSON."""

JSON_SCHEMA = pa.schema([("row", pa.large_string())], {IS_JSON: b"1"})
"""Of batches that :func:`json_batches` gives."""

_AS_THEY_ARE = frozenset({str, int, bool, float, type(None)})
_KINDS: tuple[tuple[str, type, Callable[[Any], JSONValue], Callable[[Any], Any]], ...] = (
    ("datetime", datetime, datetime.isoformat, datetime.fromisoformat),  # before date, whose subclass it is
    ("date", date, date.isoformat, date.fromisoformat),
    ("time", time, time.isoformat, time.fromisoformat),
    (
        "timedelta",
        timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    ("decimal", Decimal, str, Decimal),
    ("bytes", bytes, bytes.hex, bytes.fromhex),
    ("uuid", UUID, str, UUID),
)
_READERS = {name: read for name, _, _, read in _KINDS}


def json_batches(rows: Iterable[Mapping[str, Any]], size: int, problem: Problem) -> Iterator[pa.RecordBatch]:
    """Rows as batches of one column.

    Raises:
        SourceRowError: A value has no JSON form; names the 1-based row and the column.
    """
    texts = (_text(row, line, problem) for line, row in enumerate(rows, 1))
    while part := list(islice(texts, size)):
        yield pa.record_batch([pa.array(part, pa.large_string())], schema=JSON_SCHEMA)


def rows_of_json(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a batch that :func:`json_batches` gave."""
    for text in batch.column(0).to_pylist():
        yield {name: _decoded(value) for name, value in loads_kept(text).items()}


def _text(row: Mapping[str, Any], line: int, problem: Problem) -> str:
    encoded = {}
    for name, value in row.items():
        try:
            encoded[name] = _encoded(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise problem(f"this value can't be kept: {error}", line=line, column=name) from error
    return exact_json(encoded).decode()


def _encoded(value: Any) -> JSONValue:
    if type(value) in _AS_THEY_ARE:
        return value  # type: ignore[no-any-return]
    if is_missing(value):
        return None
    if isinstance(value, list | tuple):
        return [_encoded(inner) for inner in value]
    if isinstance(value, dict):
        return {"dict": [[str(key), _encoded(inner)] for key, inner in value.items()]}
    if isinstance(value, bytearray | memoryview):
        return {"bytes": bytes(value).hex()}
    for name, kind, write, _ in _KINDS:
        if isinstance(value, kind):
            return {name: write(value)}
    return _encoded(json_safe(value))


def _decoded(value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return [_decoded(inner) for inner in value]
    if kind is not dict:
        return value
    [(name, written)] = value.items()
    if name == "dict":
        return {key: _decoded(inner) for key, inner in written}
    return _READERS[name](written)
