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
            pending.append(part if part.schema.types == schema.types else _cast(part, schema))
            start += part.num_rows
            missing -= part.num_rows
            if not missing:
                yield pa.concat_batches(pending)
                pending, missing = [], size
    if pending:
        yield pa.concat_batches(pending)


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if not any(map(_has_categories_of_views, batch.schema.types)):
        return batch.cast(schema)
    columns = [_column(column, kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as another type. pyarrow can't look up Polars' categories, whose texts are views."""
    if not _has_categories_of_views(column.type):
        return column.cast(kind)
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(kind)).cast(kind)
    return pa.array(column.to_pylist(), kind)


def _has_categories_of_views(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        values = kind.value_type
        return bool(pa.types.is_string_view(values) or pa.types.is_binary_view(values))
    return any(_has_categories_of_views(kind.field(index).type) for index in range(kind.num_fields))
