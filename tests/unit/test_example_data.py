"""The rows that come with the examples are whole, and small enough to ship."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

DATA = Path(__file__).parents[2] / "examples" / "data"
ROWS = {"event": 1_074, "possession": 1_061, "time": 1_028}


def _rows(topic: str) -> list[dict[str, str]]:
    with (DATA / f"{topic}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("topic", ROWS)
def test_a_topic_has_all_its_rows_and_each_says_something(topic: str) -> None:
    rows = _rows(topic)
    assert len(rows) == ROWS[topic]
    assert {row["topic"] for row in rows} == {topic}
    assert all(row["id"] and row["term"] and row["gloss"] for row in rows)


def test_ids_are_unique_over_all_topics() -> None:
    ids = [row["id"] for topic in ROWS for row in _rows(topic)]
    assert len(ids) == len(set(ids))


def test_the_parquet_file_holds_the_same_rows_in_several_row_groups() -> None:
    file = pq.ParquetFile(DATA / "glosses.parquet")
    assert file.num_row_groups > 1
    assert file.read().to_pylist() == [row for topic in ROWS for row in _rows(topic)]


def test_the_data_stay_small_and_come_with_their_licence() -> None:
    assert sum(path.stat().st_size for path in DATA.glob("*.*")) < 2_000_000
    assert "Princeton University" in (DATA / "LICENSE.wordnet.txt").read_text(encoding="utf-8")
