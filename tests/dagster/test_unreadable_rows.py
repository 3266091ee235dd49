"""Data that has no Python form is refused with its row, its column and what to do; answers without a column form stay in the text."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, create_model

from batchor_core.core.exceptions import SourceRowError
from batchor_dagster import write_results_parquet
from batchor_dagster.metadata import markdown_table
from batchor_dagster.rows import RowItemSource
from tests.support.result_pages import Pages, good

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
        (pl.DataFrame({"id": [1], "x": [object()]}), "rows, column 'x': Polars can't hand out"),
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


# --- answers ---------------------------------------------------------------------------------------------------------


def written(model: type[BaseModel], text: str, path: Path) -> tuple[pa.Table, Any]:
    report = write_results_parquet(Pages([good(0, text)]), path, model)
    return pq.read_table(path), report


@pytest.mark.parametrize(
    ("kind", "shape", "stored"), [(int | float, "{}", None), (list[int | float], "[{}, 1]", [None, 1.0])]
)
@pytest.mark.parametrize("number", [10**400, 1234567890123456789])
def test_a_number_that_no_float_holds_is_null_and_stays_in_the_text(
    kind: Any, shape: str, stored: Any, number: int, tmp_path: Path
) -> None:
    text = f'{{"v": {shape.format(number)}}}'
    table, report = written(create_model("M", v=kind), text, tmp_path / "x.parquet")
    assert table.column("v").to_pylist() == [stored]
    assert table.column("output_text").to_pylist() == [text]
    assert report.unfitting_count == 0


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("9999-12-31T23:59:59-12:00", END_OF_9999 - 999_999 + 12 * 3_600_000_000),
        ("0001-01-01T00:00:00+14:00", START_OF_1 - 14 * 3_600_000_000),
    ],
)
def test_a_date_beyond_the_range_of_utc_is_written_and_previewed(
    text: str, micros: int, tmp_path: Path
) -> None:
    table, report = written(create_model("M", at=datetime), f'{{"at": "{text}"}}', tmp_path / "x.parquet")
    assert table.column("at").cast(pa.int64()).to_pylist() == [micros]
    assert "out of range" in markdown_table(report.preview)
    assert report.preview[0]["item_id"] == "row-0"


def test_a_date_within_the_range_is_previewed_as_it_is(tmp_path: Path) -> None:
    _, report = written(create_model("M", at=datetime), '{"at": "9999-12-31T23:59:59Z"}', tmp_path / "x")
    assert report.preview[0]["at"] == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


FILL = """
import random, resource, signal, sys
from batchor_dagster import write_results_parquet
from tests.support.result_pages import Pages, good

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_results_parquet(Pages([good(n, random.randbytes(1_000).hex()) for n in range(1_000)]), sys.argv[1])
"""


def test_a_full_disk_says_which_file_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_text("before")
    process = subprocess.run([sys.executable, "-c", FILL, path], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert re.search(rf"while writing {path}; what was there before is untouched", process.stderr)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]
