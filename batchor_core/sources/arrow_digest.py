"""The content of Arrow columns as a digest: the same rows have the same one, however they are cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from batchor_core.sources.arrow_batches import even_batches, plain_schema

_BATCH_ROWS = 10_000


def content_digest(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """BLAKE2b over the names, types and values of all rows, in order.

    What lies in memory beneath a null does not count, nor how a library has laid out the values.
    """
    plain = plain_schema(schema)
    digest = hashlib.blake2b(digest_size=20)
    digest.update(repr([(field.name, str(field.type)) for field in plain]).encode())
    rows = 0
    for batch in even_batches(batches, plain, _BATCH_ROWS):
        rows += batch.num_rows
        for column in batch.columns:
            _add(digest, column)
    return f"blake2b:{rows}:{digest.hexdigest()}"


def _add(digest: hashlib.blake2b, column: pa.Array) -> None:
    kind = column.type
    digest.update(b"%d;%d;" % (len(column), column.null_count))
    if column.null_count:
        _add_numbers(digest, column.is_valid().cast(pa.uint8()))
        column = column.drop_null()
    if pa.types.is_null(kind):
        return
    if pa.types.is_boolean(kind):
        _add_numbers(digest, column.cast(pa.uint8()))
    elif pa.types.is_struct(kind):
        for field in column.flatten():
            _add(digest, field)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _add_numbers(digest, pc.list_value_length(column).cast(pa.int64()))
        _add(digest, column.flatten())
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        _add_numbers(digest, pc.binary_length(column).cast(pa.int64()))
        _add_bytes(digest, column)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        _add(digest, column.cast(pa.large_binary()))
    elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        _add_numbers(digest, column)
    else:  # unions, maps, extension types and what is still to come: slow, and of any layout
        digest.update(repr(column.to_pylist()).encode("utf-8", "surrogatepass"))


def _add_numbers(digest: hashlib.blake2b, column: pa.Array) -> None:
    """Values of one width, without nulls."""
    if len(column):
        width = column.type.bit_width // 8
        start = column.offset * width
        digest.update(column.buffers()[1][start : start + len(column) * width])


def _add_bytes(digest: hashlib.blake2b, column: pa.Array) -> None:
    """Values of 64-bit offsets, without nulls."""
    if len(column):
        _, offsets, data = column.buffers()
        ends = pa.Array.from_buffers(pa.int64(), len(column) + 1, [None, offsets], offset=column.offset)
        first, last = ends[0].as_py(), ends[len(column)].as_py()
        if data is not None and last > first:
            digest.update(data[first:last])
