"""Data that Dagster hands over, as the items of a batch job.

An upstream asset gives a frame, a table or an iterator. :class:`RowItemSource` makes items of its rows, and
:func:`resumable` lets any items be read again from the middle, which is what a retried step needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from batchor_core import BatchItem, IndexedBatchItem, ItemSource, ResumableItemSource
from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.core.plain import json_safe, without_missing
from batchor_core.sources.arrow_rows import Problem, UnfitValue, check_columns, python_rows
from batchor_core.sources.base import CheckpointedItemSource, SourceIdentity
from batchor_core.sources.rows import ItemIdFromRow, MetadataFromRow, Row, RowMapping
from batchor_core.storage.columns import decode_json, encode_strictly

_ROWS_AT_A_TIME = 10_000


class RowItemSource(ItemSource[Any]):
    """The rows of tabular data as items.

    ``data`` is a pyarrow Table, RecordBatchReader or Dataset; a pandas or Polars DataFrame or LazyFrame; anything else that
    speaks the Arrow C stream protocol (DuckDB relations do); or an iterable of mappings. Rows are made into dicts a batch at
    a time; nanoseconds are cut to the microseconds that ``datetime`` holds. What stands for no value in mappings, such as
    pandas' ``NaT`` or NaN, is None.

    Args:
        data: The rows.
        item_id_from_row: Gives each row's id, unique within the job.
        payload_from_row: What ``build_prompt`` gets; the row, made JSON, by default.
        metadata_from_row: JSON to keep beside the row and return with its result.
        name: What error messages and the items' lineage call the data.
    """

    def __init__(
        self,
        data: Any,
        *,
        item_id_from_row: ItemIdFromRow,
        payload_from_row: Callable[[Row], Any] | None = None,
        metadata_from_row: MetadataFromRow | None = None,
        name: str = "rows",
    ) -> None:
        self._data = data
        self._mapping: RowMapping[Any] = RowMapping(
            Path(name),
            item_id_from_row=item_id_from_row,
            payload_from_row=payload_from_row or json_safe,
            metadata_from_row=metadata_from_row,
            primary_key=None,
            partition_id=None,
        )

    @property
    def is_read_once(self) -> bool:
        """Whether the data is gone after one reading."""
        return isinstance(self._data, pa.RecordBatchReader | Iterator)

    def __iter__(self) -> Iterator[BatchItem[Any]]:
        for index, row in enumerate(_dicts(self._data, self._mapping.error)):
            yield self._mapping.item(row, row_index=index, line=index + 1)


def _dicts(data: Any, problem: Problem) -> Iterator[Row]:
    if hasattr(data, "collect") and not hasattr(data, "__arrow_c_stream__"):  # a Polars LazyFrame
        data = data.collect()
    if isinstance(data, pads.Dataset) or hasattr(data, "__arrow_c_stream__"):
        yield from map(without_missing, _arrow_dicts(data, problem))
        return
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping):
        raise problem(
            f"rows are a table, a frame or an iterable of mappings, and this is of type {type(data).__name__}"
        )
    for line, row in enumerate(data, 1):
        if not hasattr(row, "keys"):  # of sqlite3 are no Mapping, and have them
            raise problem(
                f"a row maps column names to values, and this one is of type {type(row).__name__}", line=line
            )
        yield without_missing(dict(row))


def _arrow_dicts(data: Any, problem: Problem) -> Iterator[Row]:
    line = 1

    def unfit(value: UnfitValue) -> SourceRowError:
        return problem(value.problem, line=line + value.row, column=value.column)

    batches = _batches(data, problem)
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_A_TIME):
                part = batch.slice(start, _ROWS_AT_A_TIME)
                yield from python_rows(part, unfit)
                line += part.num_rows
    except _UNREADABLE as error:  # not OSError, which may pass: a step is tried again after it
        raise problem(f"the data can't be read ({_words(error)})", line=line) from error


def _batches(data: Any, problem: Problem) -> Iterator[pa.RecordBatch]:
    if isinstance(data, pads.Dataset):
        check_columns(data.schema.names, problem)
        return iter(data.to_batches(batch_size=_ROWS_AT_A_TIME))
    check_columns([name for name in getattr(data, "columns", ()) if isinstance(name, str)], problem)
    dtypes = getattr(data, "schema", None)
    for name, dtype in dtypes.items() if isinstance(dtypes, Mapping) else ():
        if str(dtype) == "Object":  # Polars hands out the objects' addresses
            raise problem(
                "Polars can't hand out a column of Python objects; give it another type", column=str(name)
            )
    try:
        reader = pa.RecordBatchReader.from_stream(data)
    except (*_UNREADABLE, ValueError) as error:
        raise problem(f"the data has no Arrow form ({_words(error)}); give every column one type") from error
    check_columns(reader.schema.names, problem)
    return iter(reader)


_UNREADABLE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def _words(error: Exception) -> str:
    return "; ".join(map(str, error.args))


class _IndexedItems(ResumableItemSource[Any]):
    """Items that can be read again, known by their content."""

    def __init__(self, read: Callable[[], Iterable[BatchItem[Any]]], fingerprint: str) -> None:
        self._read = read
        self._fingerprint = fingerprint

    def source_identity(self) -> SourceIdentity:
        return SourceIdentity("rows", "the rows of a Dagster asset", self._fingerprint)

    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[Any]]:
        for index, item in enumerate(islice(self._read(), item_index, None), item_index):
            yield IndexedBatchItem(index, item)


def resumable(items: Iterable[BatchItem[Any]], folder: Path) -> CheckpointedItemSource[Any]:
    """The same items, in the same order, as a source that is read on from where a crash has stopped it.

    A checkpointed source is returned as it is. What can be iterated again is read once, for its fingerprint. What can be read
    only once is written to ``folder``, so that neither the fingerprint nor a later reading needs it in memory.
    """
    if isinstance(items, CheckpointedItemSource):
        return items
    fingerprint = hashlib.blake2b(digest_size=20)
    if not isinstance(items, Iterator) and not getattr(items, "is_read_once", False):
        for item in items:
            fingerprint.update(_line(item))
        return _IndexedItems(lambda: items, f"blake2b:{fingerprint.hexdigest()}")
    spool = folder / "items.jsonl"
    with spool.open("wb") as file:
        for item in items:
            line = _line(item)
            fingerprint.update(line)
            file.write(line)
    return _IndexedItems(lambda: _spooled(spool), f"blake2b:{fingerprint.hexdigest()}")


def _line(item: BatchItem[Any]) -> bytes:
    if not isinstance(item, BatchItem):
        raise InvalidInputError(
            f"a job's items must be BatchItem objects, and one is a {type(item).__name__}"
        )
    try:
        text = encode_strictly([item.item_id, item.payload, item.metadata])
    except TypeError as error:
        raise InvalidInputError(
            f"item {item.item_id!r}: its payload and metadata must be JSON, and are not ({error}). Convert them with "
            "batchor_core.sources.rows.json_safe"
        ) from error
    return f"{text}\n".encode()


def _spooled(path: Path) -> Iterator[BatchItem[Any]]:
    with path.open("rb") as file:
        for line in file:
            yield BatchItem(*decode_json(line.decode()))
