"""Answers that have no form in a column stay in the text."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, create_model

from batchor_dagster import write_results_parquet
from batchor_dagster.metadata import markdown_table
from tests.support.result_pages import Pages, good

END_OF_9999 = 253_402_300_799_999_999  # microseconds
START_OF_1 = -62_135_596_800_000_000


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
