"""Rows in the order of the input instead of the order in which batches end.

Rows are sorted a piece at a time. If there is more than one piece, each is written to one temporary file, and the pieces are
merged as they are read from it. That takes up to six pieces of memory, about 100 MiB, for any number of rows; while pieces are
merged, a part of each is held, which is 8 MiB for each GiB of rows.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa

PIECE_BYTES = 16 * 1024 * 1024  # of memory; sorting one takes up to six times as much
BATCH_ROWS = 4_096  # of a batch that is given out
MERGED_BYTES = 128 * 1024  # of each piece, while they are merged

_INDEX = "batchor.item_index"


def with_index(batch: pa.RecordBatch, indexes: list[int]) -> pa.RecordBatch:
    """Rows with the index of their item in the input, which :func:`in_input_order` removes again."""
    return batch.add_column(0, pa.field(_INDEX, pa.int64()), pa.array(indexes, pa.int64()))


def in_input_order(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of all batches by their index, without it."""
    pieces: Iterator[pa.Table] = map(_sorted, gathered(batches, size_bytes=PIECE_BYTES))
    first, second = next(pieces, None), next(pieces, None)
    if first is None:
        return
    if second is None:
        yield from _plain(first)
        return
    schema, pieces = first.schema, chain([first, second], pieces)
    del first, second  # each is held no longer than the others
    with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
        path = str(Path(folder, "rows"))
        spans = _stored(pieces, path, schema)
        with pa.OSFile(path) as stored, pa.ipc.open_file(stored) as reader:
            for merged in _merged([map(reader.get_batch, span) for span in spans]):
                yield from _plain(merged)


def gathered(
    batches: Iterable[pa.RecordBatch], *, size_bytes: int, rows: int | None = None
) -> Iterator[pa.Table]:
    """Tables of so many bytes or rows, or a batch more."""
    held: list[pa.RecordBatch] = []
    held_rows = held_bytes = 0
    for batch in batches:
        held.append(batch)
        held_rows, held_bytes = held_rows + batch.num_rows, held_bytes + batch.nbytes
        if held_bytes >= size_bytes or (rows is not None and held_rows >= rows):
            yield pa.Table.from_batches(held)
            held, held_rows, held_bytes = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _stored(pieces: Iterable[pa.Table], path: str, schema: pa.Schema) -> list[range]:
    """Write all pieces to one file, and return which of its batches belong to each."""
    spans, count = [], 0
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for piece in pieces:
            parts = _parts(piece)
            for part in parts:
                writer.write_batch(part)
            spans.append(range(count, count + len(parts)))
            count += len(parts)
    return spans


def _merged(pieces: list[Iterator[pa.RecordBatch]]) -> Iterator[pa.Table]:
    heads = [(head, piece) for piece in pieces if (head := next(piece, None)) is not None]
    while heads:
        # nothing that is still to be read comes before the first of the heads' ends
        end = min(_index(head, head.num_rows - 1) for head, _ in heads)
        ready, left = [], []
        for head, piece in heads:
            count = bisect_right(range(head.num_rows), end, key=partial(_index, head))
            ready.append(head.slice(0, count))
            rest = head.slice(count) if count < head.num_rows else next(piece, None)
            if rest is not None:
                left.append((rest, piece))
        yield _sorted(pa.Table.from_batches(ready))
        heads = left


def _index(batch: pa.RecordBatch, row: int) -> int:
    index: int = batch.column(0)[row].as_py()
    return index


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by(_INDEX)


def _parts(piece: pa.Table) -> list[pa.RecordBatch]:
    rows = max(1, piece.num_rows * MERGED_BYTES // max(1, piece.nbytes))
    parts: list[pa.RecordBatch] = piece.to_batches(max_chunksize=rows)
    return parts


def _plain(piece: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from piece.drop_columns([_INDEX]).to_batches(max_chunksize=BATCH_ROWS)
