"""Arrow record batches, cut again: of one size, and of types that can be cut and written independently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with types that can be cut into pieces and written one by one: no dictionaries, no views."""
    return pa.schema([field.with_type(_plain_type(field.type)) for field in schema], schema.metadata)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain_type(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain_type(kind.value_type)))
    return kind


def even_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ``size`` rows, the last one of fewer; types become those of ``schema``."""
    pending: list[pa.RecordBatch] = []
    missing = size
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, missing)
            pending.append(part if part.schema.types == schema.types else part.cast(schema))
            start += part.num_rows
            missing -= part.num_rows
            if not missing:
                yield pa.concat_batches(pending)
                pending, missing = [], size
    if pending:
        yield pa.concat_batches(pending)
