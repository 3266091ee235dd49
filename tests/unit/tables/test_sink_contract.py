"""Every sink keeps the same promises: a partition is replaced whole, says what it holds, and is read with others as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import BaseModel

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.tables import ResultTable, sink_of
from batchor_core.tables.result_columns import OWN_COLUMNS, result_schema
from tests.support.result_pages import BrokenPages, Pages, Review, bad, good

KEYS = [
    "2026-01-01",
    "Zürich",
    "東京",
    "a/b",
    "a|b",
    "a=b",
    "it's",
    "us",
    "US",
    " space ",
    ".",
    "_all",
    "%41",
]


class Rating(BaseModel):
    """What the model of :class:`Review` was before it grew."""

    stars: int


class Scored(BaseModel):
    """What it can't become: stars are no integers any more."""

    stars: str


@pytest.fixture(params=["parquet", "delta"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_table(kind: str, tmp_path: Path) -> Callable[[], ResultTable]:
    """Opens the table as another process would."""
    return lambda: sink_of(kind).table(str(tmp_path / "results"), ["shop", "reviews"])


@pytest.fixture
def table(open_table: Callable[[], ResultTable]) -> ResultTable:
    return open_table()


def ids(table: ResultTable, keys: Sequence[str | None]) -> list[str]:
    found = table.read(keys)
    assert found.dataset is not None
    return sorted(found.dataset.to_table(columns=["item_id"])["item_id"].to_pylist())


def test_partitions_are_written_and_read_each_by_itself_and_as_one(
    table: ResultTable, open_table: Callable[[], ResultTable]
) -> None:
    table.write(Pages([good(0), bad(1)]), "a", Review)
    report = table.write(Pages([good(2)]), "b", Review)
    assert (report.row_count, report.uri) == (1, table.where("b"))
    assert report.size_bytes > 0
    for reader in (table, open_table()):
        assert ids(reader, ["a"]) == ["row-0", "row-1"]
        assert ids(reader, ["b"]) == ["row-2"]
        assert ids(reader, ["a", "b"]) == ["row-0", "row-1", "row-2"]
        assert reader.read(["a", "c", "b"]).missing == ["c"]


def test_rows_come_back_as_they_were_written(table: ResultTable) -> None:
    table.write(Pages([good(0), bad(1, "sorry")]), "a", Review)
    dataset = table.read(["a"]).dataset
    assert dataset is not None
    rows = {row["item_id"]: row for row in dataset.to_table().to_pylist()}
    answered, failed = rows["row-0"], rows["row-1"]
    assert (answered["stars"], answered["output_status"], answered["place"]) == (5, "new", {"city": "Rome"})
    assert (answered["input_tokens"], answered["metadata"]) == (10, '{"line":0}')
    assert (failed["status"], failed["stars"], failed["error_class"]) == ("failed_permanent", None, "refusal")


def test_writing_a_partition_again_replaces_exactly_its_rows(table: ResultTable) -> None:
    table.write(Pages([good(0), good(1)]), "a", Review)
    table.write(Pages([good(2)]), "b", Review)
    table.write(Pages([good(3)]), "a", Review)
    assert ids(table, ["a", "b"]) == ["row-2", "row-3"]


def test_a_partition_without_rows_is_one_all_the_same(table: ResultTable) -> None:
    table.write(Pages([good(0)]), "a", Review)
    table.write(Pages([]), "a", Review)
    table.write(Pages([]), "b", Review)
    assert ids(table, ["a", "b"]) == []
    assert table.read(["a", "b", "c"]).missing == ["c"]
    assert [facts.rows for facts in table.facts(["a", "b", "c"])] == [0, 0]


def test_an_asset_without_partitions_is_replaced_as_a_whole(table: ResultTable) -> None:
    assert table.read([None]).missing == [None]
    assert table.read([None]).dataset is None
    table.write(Pages([good(0), good(1)]), None, Review)
    table.write(Pages([good(2, '{"stars": "four"}')]), None, Scored)
    dataset = table.read([None]).dataset
    assert dataset is not None
    assert dataset.to_table(columns=["item_id", "stars"]).to_pylist() == [
        {"item_id": "row-2", "stars": "four"}
    ]
    assert set(dataset.schema.names) == {*OWN_COLUMNS, "stars"}


def test_facts_are_told_without_reading_rows(table: ResultTable) -> None:
    assert table.facts(["a"]) == []
    table.write(Pages([good(0), good(1, '{"rating": 1}'), bad(2)]), "a", Review)
    table.write(Pages([good(3)]), "b", Review)
    first, second = table.facts(["a", "missing", "b"])
    assert (first.rows, first.answered, first.unfitting) == (3, 2, 1)
    assert (second.rows, second.answered, second.unfitting) == (1, 1, 0)
    assert first.size_bytes > 0
    for field in table.stored_schema(result_schema(Review)):
        assert first.schema.field(field.name).type == field.type


def test_a_failure_in_the_middle_leaves_what_was_there(table: ResultTable) -> None:
    table.write(Pages([good(0)]), "a", Review)
    with pytest.raises(ConnectionError):
        table.write(BrokenPages([good(1), good(2)]), "a", Review)
    assert ids(table, ["a"]) == ["row-0"]


@pytest.mark.parametrize("key", KEYS)
def test_any_key_names_a_partition_of_its_own(table: ResultTable, key: str) -> None:
    table.write(Pages([good(0)]), "other", Review)
    table.write(Pages([good(1), good(2)]), key, Review)
    table.write(Pages([good(3)]), key, Review)
    assert ids(table, [key]) == ["row-3"]
    assert ids(table, ["other"]) == ["row-0"]


def test_a_model_that_has_grown_is_read_whole(table: ResultTable) -> None:
    table.write(Pages([good(0, '{"stars": 4}')]), "old", Rating)
    table.write(Pages([good(1)]), "new", Review)
    dataset = table.read(["old", "new"]).dataset
    assert dataset is not None
    rows = {row["item_id"]: row for row in dataset.to_table().to_pylist()}
    assert (rows["row-0"]["stars"], rows["row-0"]["place"]) == (4, None)
    assert (rows["row-1"]["stars"], rows["row-1"]["place"]) == (5, {"city": "Rome"})
    table.write(Pages([good(2, '{"stars": 3}')]), "old", Rating)  # and the older form fits still
    assert ids(table, ["old", "new"]) == ["row-1", "row-2"]


def test_columns_that_nothing_holds_together_are_refused_and_named(table: ResultTable) -> None:
    table.write(Pages([good(0)]), "old", Review)

    def both() -> None:
        table.write(
            Pages([good(1, '{"stars": "four"}')]), "new", Scored
        )  # a table refuses it here, and files do
        table.read(["old", "new"])  # here

    with pytest.raises(InvalidInputError, match="stars is int64"):
        both()
    assert ids(table, ["old"]) == ["row-0"]


def test_a_data_set_is_filtered_further(table: ResultTable) -> None:
    table.write(Pages([good(0), bad(1)]), "a", Review)
    table.write(Pages([bad(2)]), "b", Review)
    dataset = table.read(["a"]).dataset
    assert dataset is not None
    found: pa.Table = dataset.filter(pc.field("status") == "completed").to_table()
    assert found["item_id"].to_pylist() == ["row-0"]


def test_two_assets_share_a_folder(kind: str, tmp_path: Path) -> None:
    outer, inner = (sink_of(kind).table(str(tmp_path), key) for key in (["shop"], ["shop", "reviews"]))
    outer.write(Pages([good(0)]), "reviews", Review)
    inner.write(Pages([good(1)]), "a", Review)
    assert (ids(outer, ["reviews"]), ids(inner, ["a"])) == (["row-0"], ["row-1"])


def test_its_own_url_goes_before_that_of_the_deployment(kind: str, tmp_path: Path) -> None:
    sink: Any = sink_of({"kind": kind, "url": str(tmp_path / "mine")})
    assert sink.table(str(tmp_path / "results"), ["reviews"]).where("a").startswith(str(tmp_path / "mine"))
    assert sink_of(sink.to_payload()) == sink
