"""What is Delta's own: types that it lacks, types that it keeps, commits that meet."""

from __future__ import annotations

import datetime as dt
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pydantic import BaseModel

from batchor_core import VectorOutput
from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.tables import DeltaSink, ResultTable
from batchor_core.tables.result_columns import result_schema
from tests.support.result_pages import Pages, Review, good


@pytest.fixture
def table(tmp_path: Path) -> ResultTable:
    return DeltaSink().table(str(tmp_path), ["reviews"])


class Inner(BaseModel):
    at: dt.time


class Odd(BaseModel):
    """Types that Delta has not got."""

    at: dt.time
    takes: dt.timedelta
    inner: list[Inner]


class Rounded(BaseModel):
    stars: float


class Shouted(BaseModel):
    STARS: int


class Partitioned(BaseModel):
    Partition_Key: str


def test_types_that_delta_lacks_are_told_in_those_that_it_has(table: ResultTable) -> None:
    answer = {"at": "12:30:00", "takes": "PT90S", "inner": [{"at": "01:02:03.5"}]}
    report = table.write(Pages([good(0, json.dumps(answer))]), "a", Odd)
    dataset = table.read(["a"]).dataset
    assert dataset is not None
    row = dataset.to_table(columns=["at", "takes", "inner"]).to_pylist()[0]
    assert row == {
        "at": "12:30:00.000000",
        "takes": 90_000_000,
        "inner": [{"at": "01:02:03.500000"}],
    }
    assert report.schema.field("takes").type == pa.int64()


def test_vectors_are_lists() -> None:
    stored = DeltaSink().table("/nowhere", ["a"]).stored_schema(result_schema(VectorOutput(3, "uint8")))
    assert stored.field("vector").type == pa.list_(pa.int16())


def test_a_float_is_not_cut_to_an_integer_column(table: ResultTable) -> None:
    """Delta itself would, and lose the half without a word."""
    table.write(Pages([good(0)]), "a", Review)
    with pytest.raises(InvalidInputError, match="stars is int64 and would be double"):
        table.write(Pages([good(0, '{"stars": 4.5}')]), "a", Rounded)


def test_partitions_may_be_written_at_the_same_time(tmp_path: Path) -> None:
    def write(number: int) -> None:
        table = DeltaSink().table(str(tmp_path), ["reviews"])  # the first one makes it, or the second
        table.write(Pages([good(number)]), f"p{number % 4}", Review)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    table = DeltaSink().table(str(tmp_path), ["reviews"])
    for number in range(4):
        dataset = table.read([f"p{number}"]).dataset
        assert dataset is not None
        [found] = dataset.to_table()["item_id"].to_pylist()
        assert found in (f"row-{number}", f"row-{number + 4}")


def test_other_readers_see_one_table_with_its_partitions(table: ResultTable) -> None:
    for key in ("a", "b"):
        table.write(Pages([good(0), good(1)]), key, Review)
    table.write(Pages([good(2)]), "b", Review)
    frame = pl.read_delta(table.where("a"))
    assert sorted(zip(frame["partition_key"], frame["item_id"], strict=True)) == [
        ("a", "row-0"),
        ("a", "row-1"),
        ("b", "row-2"),
    ]
    reviews = DeltaTable(table.where("a")).to_pyarrow_dataset()  # found by DuckDB by its name
    found = duckdb.sql("select count(*) from reviews where partition_key = 'b'")
    assert found is not None
    assert found.fetchall() == [(1,)]
    assert reviews.count_rows() == 3


def test_a_vacuumed_table_has_its_rows_still(table: ResultTable) -> None:
    for number in range(3):
        table.write(Pages([good(number)]), "a", Review)
    delta = DeltaTable(table.where("a"))
    delta.create_checkpoint()
    delta.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    dataset = table.read(["a"]).dataset
    assert dataset is not None
    assert dataset.to_table()["item_id"].to_pylist() == ["row-2"]
    assert [(facts.rows, facts.answered) for facts in table.facts(["a"])] == [(1, 1)]


@pytest.mark.parametrize(("key", "problem"), [("", "empty"), ("x" * 250, "too long"), ("é" * 60, "too long")])
def test_keys_that_can_not_be_folders_are_refused(table: ResultTable, key: str, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        table.write(Pages([good(0)]), key, Review)


def test_a_field_of_the_partition_column_s_name_is_refused_with_the_way_out(tmp_path: Path) -> None:
    row = Pages([good(0, '{"Partition_Key": "x"}')])
    with pytest.raises(InvalidInputError, match=r"DeltaSink\(partition_column=\.\.\.\)"):
        DeltaSink().table(str(tmp_path), ["reviews"]).write(row, "a", Partitioned)
    DeltaSink(partition_column="day").table(str(tmp_path), ["reviews"]).write(row, "a", Partitioned)
    assert DeltaTable(tmp_path / "reviews.delta").metadata().partition_columns == ["day"]


@pytest.mark.parametrize("column", ["order", "shop day", 'the "day"', "day-of-week"])
def test_the_partition_column_may_have_any_name(column: str, tmp_path: Path) -> None:
    table = DeltaSink(partition_column=column).table(str(tmp_path), ["reviews"])
    for key in ("a", "b", "a"):
        table.write(Pages([good(0)]), key, Review)
    assert [facts.rows for facts in table.facts(["a", "b"])] == [1, 1]
    read = table.read(["a"]).dataset
    assert read is not None
    assert read.to_table()[column].to_pylist() == ["a"]


def test_a_field_that_differs_from_a_column_in_case_alone_is_refused(table: ResultTable) -> None:
    table.write(Pages([good(0)]), "a", Review)
    with pytest.raises(InvalidInputError, match="has a column stars, and the results have STARS"):
        table.write(Pages([good(0, '{"STARS": 4}')]), "b", Shouted)


def test_a_folder_that_delta_would_look_for_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="reads the percent sign in this path as an escape"):
        DeltaSink().table(str(tmp_path / "a%20b"), ["reviews"])
    assert not list(tmp_path.iterdir())


def test_what_the_package_says_of_a_broken_table_is_one_line(table: ResultTable) -> None:
    table.write(Pages([good(0)]), "a", Review)
    (Path(table.where("a")) / "_delta_log" / f"{0:020}.json").write_text("broken")
    with pytest.raises(StorageError) as caught:
        table.facts(["a"])
    assert "\n" not in str(caught.value)


def test_a_table_that_is_partitioned_otherwise_is_refused(table: ResultTable) -> None:
    table.write(Pages([good(0)]), None, Review)
    with pytest.raises(InvalidInputError, match=r"partitioned by \[\], and would be by \['partition_key'\]"):
        table.write(Pages([good(0)]), "a", Review)


def test_without_its_package_a_sink_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    monkeypatch.setattr("batchor_core.tables.delta_sink.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"batchor-core\[delta\]"):
        DeltaSink()
