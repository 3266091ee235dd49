"""Whatever holds rows gives items: frames, tables and iterables of mappings."""

import datetime as dt
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from batchor_core import RowItemSource
from batchor_core.core.exceptions import InvalidInputError, SourceRowError

COLUMNS = {"id": [1, 2, 3], "text": ["a", "b", None], "day": [dt.date(2026, 1, day) for day in (1, 2, 3)]}


def table() -> pa.Table:
    return pa.table(COLUMNS)


def dataset(folder: Path) -> pads.Dataset:
    pq.write_table(table(), folder / "rows.parquet")
    return pads.dataset(folder)


SHAPES: dict[str, Callable[[Path], Any]] = {
    "arrow table": lambda _: table(),
    "record batches": lambda _: table().to_reader(),
    "dataset": dataset,
    "polars": lambda _: pl.DataFrame(COLUMNS),
    "polars lazy": lambda _: pl.LazyFrame(COLUMNS),
    "pandas": lambda _: pd.DataFrame(COLUMNS),
    "duckdb": lambda _: duckdb.connect().from_arrow(table()),
    "dicts": lambda _: table().to_pylist(),
    "iterator": lambda _: iter(table().to_pylist()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_data_gives_the_same_rows(shape: str, tmp_path: Path) -> None:
    source = RowItemSource(SHAPES[shape](tmp_path), item_id_from_row=lambda row: f"row-{row['id']}")
    items = list(source)
    assert [item.item_id for item in items] == ["row-1", "row-2", "row-3"]
    assert [item.payload for item in items] == [
        {"id": 1, "text": "a", "day": "2026-01-01"},
        {"id": 2, "text": "b", "day": "2026-01-02"},
        {"id": 3, "text": None, "day": "2026-01-03"},
    ]


def test_callbacks_choose_payload_and_metadata() -> None:
    source = RowItemSource(
        table(),
        item_id_from_row=lambda row: str(row["id"]),
        payload_from_row=lambda row: row["text"],
        metadata_from_row=lambda row: {"day": row["day"]},
        name="letters",
    )
    item = next(iter(source))
    assert (item.payload, item.metadata["day"]) == ("a", "2026-01-01")
    assert item.metadata["batchor_lineage"] == {"source_path": "letters", "row_index": 0}


def test_a_missing_column_is_named_with_the_row() -> None:
    source = RowItemSource(table(), item_id_from_row=lambda row: row["key"], name="letters")
    with pytest.raises(
        SourceRowError, match=r"letters, line 1, column 'key': .* the columns are 'id', 'text', 'day'"
    ):
        list(source)


def test_missing_values_of_mappings_are_none_for_every_function() -> None:
    frame = pd.DataFrame({"id": ["a"], "at": pd.to_datetime([None]), "n": [float("nan")], "m": [pd.NA]})
    [record] = frame.to_dict("records")
    seen: list[Any] = []
    source = RowItemSource(
        [{**record, "nested": [np.datetime64("NaT"), {"x": decimal.Decimal("NaN")}]}],
        item_id_from_row=lambda row: row["id"],
        payload_from_row=lambda row: seen.append(row),
        metadata_from_row=lambda row: row,
    )
    [item] = source
    expected = {"id": "a", "at": None, "n": None, "m": None, "nested": [None, {"x": None}]}
    assert seen == [expected]
    del item.metadata["batchor_lineage"]
    assert item.metadata == expected


@pytest.mark.parametrize("missing", [pd.NA, None, pd.NaT, float("nan")])
def test_a_missing_id_is_named_with_its_row(missing: Any) -> None:
    source = RowItemSource([{"id": missing}], item_id_from_row=lambda row: missing)
    with pytest.raises(SourceRowError, match=r"row.* 1.*item_id_from_row returned .*every row needs an id"):
        list(source)


def test_a_value_without_a_python_form_is_named() -> None:
    moments = pa.array([0, 0, 253402300799], pa.timestamp("s", tz="Asia/Tokyo"))
    source = RowItemSource(
        pa.table({"id": ["a", "b", "c"], "at": moments}).to_reader(1),
        item_id_from_row=lambda row: row["id"],
        name="letters",
    )
    rows = iter(source)
    assert [next(rows).item_id, next(rows).item_id] == ["a", "b"]
    with pytest.raises(SourceRowError, match=r"letters, line 3, column 'at': .* years 1 to 9999"):
        next(rows)


def test_a_stream_that_breaks_off_names_the_row() -> None:
    schema = pa.schema([("id", pa.string())])

    def batches() -> Any:
        yield pa.record_batch({"id": ["a", "b"]}, schema=schema)
        raise pa.ArrowInvalid("the other side is gone")

    source = RowItemSource(
        pa.RecordBatchReader.from_batches(schema, batches()),
        item_id_from_row=lambda row: row["id"],
        name="letters",
    )
    with pytest.raises(
        SourceRowError, match=r"letters, line 3: the data can't be read .*the other side is gone"
    ):
        list(source)


@pytest.mark.parametrize("data", [None, "rows", {"id": "a"}, 5])
def test_data_that_has_no_rows_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="rows are a table, a frame or an iterable of mappings"):
        list(RowItemSource(data, item_id_from_row=lambda row: row["id"]))


def test_rows_that_are_no_mappings_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="a row maps column names to values, and this one is of type str"
    ):
        list(RowItemSource(["text"], item_id_from_row=lambda row: row["id"]))
