"""Data that has no Python form is refused with its row, its column and what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from batchor_core import FrameItemSource, ParquetItemSource, RowItemSource
from batchor_core.core.exceptions import SourceRowError

END_OF_9999 = 253_402_300_799_999_999  # microseconds
START_OF_1 = -62_135_596_800_000_000
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
)


def payloads(data: Any) -> list[Any]:
    return [item.payload for item in RowItemSource(data, item_id_from_row=lambda row: str(row["id"]))]


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        (pa.array([END_OF_9999], pa.timestamp("us", "Asia/Tokyo")), "Clip"),
        (pa.array([START_OF_1], pa.timestamp("us", "America/New_York")), "Clip"),
        (pa.array([2**62], pa.timestamp("us")), "Clip"),
        (pa.array([[END_OF_9999]], pa.list_(pa.timestamp("us", "Asia/Tokyo"))), "Clip"),
        (pa.array([2**31 - 1], pa.date32()), "Clip"),
        (pa.array([2**62], pa.date64()), "Clip"),
        (pa.array([2**62], pa.duration("s")), "Clip"),
        (pa.array([1], pa.timestamp("us", "Mars/Base")), "Cast the column to UTC"),
        (pa.array([90_000], pa.int32()).cast(pa.time32("s")), "Clean the column"),
        (pa.array([-1], pa.int64()).cast(pa.time64("us")), "Clean the column"),
        (NOT_UTF8, "Cast the column to binary"),
    ],
)
@pytest.mark.parametrize("shape", ["table", "dataset", "reader"])
def test_a_value_that_python_can_not_hold_is_named(
    value: pa.Array, fix: str, shape: str, tmp_path: Path
) -> None:
    fine = pa.nulls(12_000, value.type)
    table = pa.table(
        {"id": pa.array(range(12_001)), "fine": pa.nulls(12_001), "t": pa.chunked_array([fine, value])}
    )
    data: Any = table
    if shape == "dataset":
        pq.write_table(table, tmp_path / "rows.parquet")
        data = pads.dataset(tmp_path / "rows.parquet")
    elif shape == "reader":
        data = table.to_reader()
    with pytest.raises(
        SourceRowError, match=r"^rows, line 12001, column 't': .* has no Python form"
    ) as caught:
        payloads(data)
    if shape != "dataset":  # Parquet has fewer types
        assert str(value.type) in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"]),
            "rows, column 'id': there are two columns of this name",
        ),
        (pd.DataFrame([[1, 2]], columns=["id", "id"]), "rows, column 'id': there are two columns"),
        (pd.DataFrame({"id": [1, 2], "x": [1, "z"]}), "has no Arrow form .* column x .*one type"),
        (pl.DataFrame({"id": [1], "x": [object()]}), "rows, column 'x': Polars can't export"),
        ([{"id": 1}, ("id", 1)], "rows, line 2: a row maps column names to values, .* type tuple"),
        ("abc", "rows: rows are a table, .* type str"),
        (5, "rows are a table, a frame or an iterable of mappings, and this is of type int"),
    ],
)
def test_data_without_rows_is_refused_in_words(data: Any, message: str) -> None:
    with pytest.raises(SourceRowError, match=message):
        payloads(data)


def test_a_damaged_file_of_a_data_set_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    dataset = pads.dataset(tmp_path / "x.parquet", schema=pa.schema([("id", pa.string())]))
    with pytest.raises(SourceRowError, match=r"rows, line 1: .*x\.parquet"):
        payloads(dataset)


def test_what_the_users_own_iterator_raises_is_left_as_it_is() -> None:
    def rows() -> Any:
        yield {"id": 1}
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match=r"^gone$"):
        payloads(rows())


def test_rows_of_sqlite_are_rows() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    assert payloads(connection.execute("select 1 as id, 'x' as name")) == [{"id": 1, "name": "x"}]
    connection.close()


def test_periods_of_pandas_are_their_text_and_not_the_numbers_under_them(tmp_path: Path) -> None:
    quarters = pd.PeriodIndex(["2024Q1", None, "2024Q2"], freq="Q")
    frame = pd.DataFrame({"id": ["a", "b", "c"], "t": quarters})
    frame.to_parquet(tmp_path / "rows.parquet")
    path = str(tmp_path / "rows.parquet")
    for made in (
        FrameItemSource(frame, item_id_from_row=_id),
        RowItemSource(frame, item_id_from_row=_id),
        ParquetItemSource(path, item_id_from_row=_id, payload_from_row=dict),
    ):
        assert [item.payload["t"] for item in made] == ["2024Q1", None, "2024Q2"]


def _id(row: Any) -> str:
    return str(row["id"])


@pytest.mark.parametrize(
    ("values", "where", "fix"),
    [
        (pd.Series([1, 10**20], dtype=object), "frame, line 2, column 't'", "convert the column to strings"),
        (pd.arrays.SparseArray([1.0, 2.0]), "frame, column 't'", "to_dense"),
        (pd.Series([["a"], ["\ud83d"]], dtype=object), "frame, line 2, column 't'", "half a surrogate pair"),
    ],
)
def test_a_value_that_arrow_has_no_form_for_is_named_with_its_row(values: Any, where: str, fix: str) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "t": values})
    with pytest.raises(SourceRowError, match=f"^{where}: ") as caught:
        list(FrameItemSource(frame, item_id_from_row=_id))
    assert fix in str(caught.value)
    assert str(caught.value).encode()  # it can be printed


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (pl.LazyFrame({"id": ["a"]}).select(pl.col("nope")), "ColumnNotFoundError"),
        (pl.LazyFrame({"id": ["a"]}).with_columns(pl.col("id").str.to_integer()), "ComputeError"),
        (duckdb.sql("select error('boom') as id"), "InvalidInputException: .*boom"),
    ],
    ids=["a column that is not there", "a failing expression", "a failing query"],
)
def test_what_a_library_raises_while_it_computes_names_the_frame(frame: Any, problem: str) -> None:
    with pytest.raises(SourceRowError, match=f"^sales: the frame can't be computed: {problem}"):
        list(FrameItemSource(frame, item_id_from_row=lambda row: row["id"], name="sales"))
