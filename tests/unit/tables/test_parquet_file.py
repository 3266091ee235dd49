"""A result file holds every row, typed, and appears only when it is whole."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Literal

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from batchor_core.core.usage import TokenUsage
from batchor_core.tables.parquet_file import parquet_facts, write_results_parquet
from batchor_core.tables.partition_files import partition_path
from batchor_core.tables.report import ErrorCount
from batchor_core.tables.result_columns import OWN_COLUMNS, result_schema
from tests.support.result_pages import BrokenPages, Pages, Review, bad, good


def test_answers_are_typed_and_failures_stand_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "out.parquet"
    report = write_results_parquet(Pages([good(0), bad(1, "sorry")]), path, Review)
    rows = pq.read_table(path).to_pylist()
    assert rows[0] == {
        "item_id": "row-0",
        "status": "completed",
        "attempt_count": 1,
        "stars": 5,
        "output_status": "new",
        "place": {"city": "Rome"},
        "output_text": '{"stars":5,"status":"new","place":{"city":"Rome"}}',
        "error_class": None,
        "error_message": None,
        "input_tokens": 10,
        "cache_write_tokens": 0,
        "cached_tokens": 2,
        "output_tokens": 3,
        "reasoning_tokens": 1,
        "cost_usd": None,
        "metadata": '{"line":0}',
        "reused_run_id": None,
        "reused_item_id": None,
    }
    assert rows[1]["status"] == "failed_permanent"
    assert (rows[1]["error_class"], rows[1]["error_message"], rows[1]["output_text"]) == (
        "refusal",
        "I can't",
        "sorry",
    )
    assert rows[1]["stars"] is rows[1]["place"] is rows[1]["input_tokens"] is None
    assert (report.row_count, report.failed_count, report.errors) == (
        2,
        1,
        {"refusal": ErrorCount(1, "row-1", "I can't")},
    )
    assert report.usage == TokenUsage(10, 2, 3, 1)
    assert report.last_sequence == 2
    assert report.preview[0]["stars"] == 5


def test_polars_reads_nested_columns_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write_results_parquet(Pages([good(0), bad(1)]), path, Review)
    frame = pl.read_parquet(path)
    assert frame.select(pl.col("place").struct.field("city")).to_series().to_list() == ["Rome", None]


def test_a_text_run_has_our_columns_only(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write_results_parquet(Pages([good(0, "plain words")]), path)
    table = pq.read_table(path)
    assert table.column_names == list(OWN_COLUMNS)
    assert table.column("output_text").to_pylist() == ["plain words"]


def test_an_empty_run_gives_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    report = write_results_parquet(Pages([]), path, Review)
    assert (report.row_count, report.last_sequence, report.preview) == (0, 0, [])
    assert pl.read_parquet(path).height == 0


def test_an_answer_of_an_older_model_keeps_its_text(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write_results_parquet(Pages([good(0, '{"rating": 4}'), good(1)]), path, Review)
    rows = pq.read_table(path).to_pylist()
    assert (rows[0]["stars"], rows[0]["output_text"]) == (None, '{"rating": 4}')
    assert rows[1]["stars"] == 5


class Choice(StrEnum):
    YES = "yes"
    NO = "no"


class Part(BaseModel):
    name: str
    weights: list[float]


class Whole(BaseModel):
    count: int
    share: float | None
    choice: Choice
    kind: Literal["a", "b"]
    parts: list[Part]
    part: Part | None


PARTS = st.builds(
    Part, name=st.text(max_size=5), weights=st.lists(st.floats(allow_nan=False, allow_infinity=False))
)
WHOLES = st.builds(
    Whole,
    count=st.integers(-(2**70), 2**70),  # some beyond the column's 64 bits
    share=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    parts=st.lists(PARTS, max_size=3),
    part=st.none() | PARTS,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(WHOLES, max_size=5))
@example([Whole(count=-(2**63) - 1, share=None, choice=next(iter(Choice)), kind="a", parts=[], part=None)])
def test_a_file_holds_what_the_instances_hold(wholes: list[Whole]) -> None:
    records = [good(index, whole.model_dump_json()) for index, whole in enumerate(wholes)]
    records.append(bad(len(records)))
    write_results_parquet(Pages(records), "memory://whole.parquet", Whole)
    with fsspec.open("memory://whole.parquet") as file:
        rows = pq.read_table(file, columns=list(Whole.model_fields)).to_pylist()
    expected = [whole.model_dump() for whole in wholes]
    for one in expected:
        one["count"] = one["count"] if -(2**63) <= one["count"] < 2**63 else None
    assert rows == [*expected, dict.fromkeys(Whole.model_fields)]


def test_an_answer_without_text_is_read_from_its_json(tmp_path: Path) -> None:
    record = dataclasses.replace(good(0), output_text=None, output_json={"rating": 1})
    report = write_results_parquet(Pages([record]), tmp_path / "out.parquet", Review)
    assert report.unfitting_count == 1


def test_the_footer_tells_how_many_answers_do_not_fit(tmp_path: Path) -> None:
    path = str(tmp_path / "out.parquet")
    report = write_results_parquet(Pages([good(0, '{"rating": 4}'), good(1), bad(2)]), path, Review)
    assert report.unfitting_count == 1
    facts = parquet_facts(path)
    assert facts is not None
    assert (facts.answered, facts.unfitting) == (2, 1)
    assert facts.schema.equals(result_schema(Review))
    assert parquet_facts(str(tmp_path / "other.parquet")) is None


def test_a_failure_in_the_middle_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write_results_parquet(Pages([good(0)]), path, Review)
    with pytest.raises(ConnectionError):
        write_results_parquet(BrokenPages([good(0), good(1)]), path, Review)
    assert pq.read_table(path).num_rows == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.parquet"]


def test_a_url_is_written_through_fsspec() -> None:
    url = "memory://results/reviews/a.parquet"
    write_results_parquet(Pages([good(0)]), url, Review)
    memory = fsspec.filesystem("memory")
    assert [Path(name).name for name in memory.ls("/results/reviews", detail=False)] == ["a.parquet"]
    with fsspec.open(url) as file:
        assert pq.read_table(file).num_rows == 1


def test_row_groups_are_bounded_and_pages_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.tables.result_columns.PAGE_ROWS", 10)
    monkeypatch.setattr("batchor_core.tables.parquet_file.ROW_GROUP_ROWS", 25)
    path = tmp_path / "out.parquet"
    write_results_parquet(Pages([good(index) for index in range(64)]), path, Review)
    meta = pq.ParquetFile(path).metadata
    assert [meta.row_group(index).num_rows for index in range(meta.num_row_groups)] == [30, 30, 4]


def test_wide_rows_close_a_row_group_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.tables.result_columns.PAGE_ROWS", 1)
    monkeypatch.setattr("batchor_core.tables.parquet_file.ROW_GROUP_BYTES", 1500)
    path = tmp_path / "out.parquet"
    write_results_parquet(Pages([good(index, "x" * 1000) for index in range(4)]), path)
    assert pq.ParquetFile(path).metadata.num_row_groups == 2


def test_field_descriptions_travel_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    report = write_results_parquet(Pages([good(0)]), path, Review)
    assert report.schema.field("stars").metadata == {b"description": b"One to five"}
    assert pq.read_schema(path).field("stars").metadata[b"description"] == b"One to five"


def test_metadata_is_json(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write_results_parquet(Pages([good(7)]), path)
    assert json.loads(pq.read_table(path).column("metadata")[0].as_py()) == {"line": 7}


def test_record_types_are_those_of_the_documented_schema(tmp_path: Path) -> None:
    report = write_results_parquet(Pages([]), tmp_path / "out.parquet", Review)
    assert report.schema.field("attempt_count").type == pa.int32()
    assert report.schema.field("stars").type == pa.int64()


@pytest.mark.parametrize(
    ("base", "key", "partition", "path"),
    [
        ("/data", ["reviews"], "2026-01-01", "/data/reviews/2026-01-01.parquet"),
        ("data/", ["shop", "reviews"], "de", "data/shop/reviews/de.parquet"),
        ("data", ["reviews"], "2026-01-01|eu", "data/reviews/2026-01-01--eu.parquet"),
        ("s3://bucket/base", ["reviews"], None, "s3://bucket/base/reviews.parquet"),
    ],
)
def test_partition_paths_are_readable(base: str, key: list[str], partition: str | None, path: str) -> None:
    assert partition_path(base, key, partition) == path


def test_no_partition_key_leaves_its_folder() -> None:
    path = partition_path("/data", ["reviews"], "../../etc/passwd")
    assert path.startswith("/data/reviews/etc_passwd--")
    assert ".." not in path


MEASURE = """
import resource, sys
from pydantic import BaseModel
from batchor_core.core.enums import ItemStatus
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.rows import row_of
from batchor_core.storage.state import PersistedItemRecord
from batchor_core.tables import input_order
from batchor_core.tables.parquet_file import write_parquet
from batchor_core.tables.stream import ResultStream

input_order.PIECE_BYTES = 2 * 1024 * 1024

class Review(BaseModel):
    stars: int
    text: str

class Pages:
    def __init__(self, rows):
        self.rows = rows

    def iter_row_pages(self, *, page_size):
        for start in range(0, self.rows, page_size):
            yield [
                row_of(PersistedItemRecord(
                    item_id=f"row-{n}", item_index=n, status=ItemStatus.COMPLETED, attempt_count=1, metadata={"n": n},
                    terminal_result_sequence=n + 1, usage=TokenUsage(10, 0, 5, 0),
                    output_text='{"stars":5,"text":"%s"}' % (str(n) * 40),
                ))
                for n in range(start, min(start + page_size, self.rows))
            ]

peaks = []
for rows in map(int, sys.argv[3:]):
    report = write_parquet(ResultStream(Pages(rows), Review, order=sys.argv[2]), sys.argv[1])
    assert report.row_count == rows
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(*peaks)
"""


@pytest.mark.parametrize("order", ["ended", "input"])
def test_memory_is_flat_whatever_the_number_of_rows(order: str, tmp_path: Path) -> None:
    """A million rows behave as these do; measured so, they peak at the same number of megabytes."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "out.parquet"), order, "40000", "160000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    small, large = map(int, done.stdout.split())
    assert large - small < 40, f"{small} MiB for 40,000 rows, {large} MiB for 160,000"
    groups = pq.ParquetFile(tmp_path / "out.parquet").metadata
    sizes = [groups.row_group(index).num_rows for index in range(groups.num_row_groups)]
    assert sum(sizes) == 160_000
    assert all(10_000 <= size <= 50_000 for size in sizes[:-1])
