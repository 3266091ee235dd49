"""Rows come in the order of the input, whatever they ended in and however many temporary pieces that takes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from batchor_core.tables import input_order
from batchor_core.tables.input_order import in_input_order, with_index

SCHEMA = pa.schema(
    [("id", pa.string()), ("vector", pa.list_(pa.float32(), 2)), ("part", pa.struct([("a", pa.int64())]))]
)


def batches(order: list[int], page: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(order), page):
        indexes = order[start : start + page]
        rows = [{"id": f"row-{n}", "vector": [n, -n], "part": {"a": n} if n % 3 else None} for n in indexes]
        yield with_index(pa.RecordBatch.from_pylist(rows, SCHEMA), indexes)


def shuffled(rows: int) -> list[int]:
    order = list(range(rows))
    random.Random(7).shuffle(order)
    return order


ORDERS = {
    "none": [],
    "one": [0],
    "as they were sent": list(range(500)),
    "backwards": list(reversed(range(500))),
    "batches that ended in another order": [*range(300, 500), *range(100), *range(100, 300)],
    "shuffled": shuffled(500),
    "with holes, as of a run that goes on": shuffled(1000)[:500],
}


@pytest.mark.parametrize("piece_bytes", [1, 2_000, 2**30])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_rows_come_in_the_order_of_their_index(
    order: list[int], piece_bytes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(input_order, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(input_order, "MERGED_BYTES", 300)
    found = list(in_input_order(batches(order, 17)))
    assert all(batch.schema == SCHEMA for batch in found)
    rows = [row for batch in found for row in batch.to_pylist()]
    assert [row["id"] for row in rows] == [f"row-{n}" for n in sorted(order)]
    assert all(row["vector"] == [float(row["id"][4:]), -float(row["id"][4:])] for row in rows)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(input_order, "PIECE_BYTES", 1_000)
    rows = in_input_order(batches(shuffled(500), 17))
    next(rows)
    assert list(tmp_path.iterdir()) != []
    rows.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
