"""Odd frames: what has no Arrow form, no rows, strange types; and what tells one frame from another."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from batchor_core import FrameItemSource
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.exceptions import InvalidInputError, SourceRowError
from batchor_core.runtime.snapshots import RunSnapshots
from batchor_core.sources.base import CheckpointedItemSource

UTC = dt.timezone(dt.timedelta(0))


def source(frame: Any, **options: Any) -> FrameItemSource[Any]:
    given: dict[str, Any] = {
        "item_id_from_row": lambda row: str(row["id"]),
        "payload_from_row": lambda row: row,
    }
    return FrameItemSource(frame, **(given | options))


def kept(frame: Any, folder: Path, **options: Any) -> CheckpointedItemSource[Any]:
    return source(frame, **options).with_snapshots(RunSnapshots(LocalArtifactStore(folder), "run", 1.0))


def rows(frame: Any, folder: Path, **options: Any) -> list[dict[str, Any]]:
    """The rows as they are read from a snapshot, which have to be those that are read without one."""
    live = [item.payload for item in source(frame, **options)]
    read = [one.item.payload for one in kept(frame, folder, **options).iter_from_checkpoint({"row": 0})]
    assert read == live
    return read


# --- values ----------------------------------------------------------------------------------------------------------

COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    "null": (pa.nulls(2), [None, None]),
    "float": (pa.array([float("nan"), 1.5]), [None, 1.5]),
    "decimal": (pa.array([decimal.Decimal("1.10"), None]), [decimal.Decimal("1.10"), None]),
    "bytes": (pa.array([b"\xff", b""]), [b"\xff", b""]),
    "date": (pa.array([dt.date(2026, 1, 2), None]), [dt.date(2026, 1, 2), None]),
    "nanoseconds": (
        pa.array([1_767_225_600_000_000_001, None], pa.timestamp("ns", "UTC")),
        [dt.datetime(2026, 1, 1, tzinfo=UTC), None],
    ),
    "duration": (pa.array([dt.timedelta(days=1), None]), [dt.timedelta(days=1), None]),
    "category": (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    "list": (pa.array([["a", None], None]), [["a", None], None]),
    "categories in a list": (
        pa.array([["a"], ["b", "a"]]).cast(pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        [["a"], ["b", "a"]],
    ),
    "views": (pa.array(["x" * 20, None]).cast(pa.string_view()), ["x" * 20, None]),
    "struct": (pa.array([{"a": 1, "b": {"c": "x"}}, None]), [{"a": 1, "b": {"c": "x"}}, None]),
    "map": (
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        [[("k", 1)], None],
    ),
    "fixed list": (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), [[1, 2], None]),
    "bool": (pa.array([True, None]), [True, None]),
    "uint64": (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_values_of_every_kind_are_kept(kind: str, tmp_path: Path) -> None:
    column, expected = COLUMNS[kind]
    table = pa.table({"id": [1, 2], "v": column})
    assert [row["v"] for row in rows(table, tmp_path)] == expected


def test_what_pandas_has_for_no_value_is_none(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b"],
            "at": pd.to_datetime([None, "2026-01-01"]),
            "n": pd.array([None, 3], dtype="Int64"),
            "f": [float("nan"), 1.0],
            "s": [None, "x"],
        }
    )
    first, second = rows(frame, tmp_path)
    assert first == {"id": "a", "at": None, "n": None, "f": None, "s": None}
    assert second == {"id": "b", "at": pd.Timestamp("2026-01-01").to_pydatetime(), "n": 3, "f": 1.0, "s": "x"}


def test_an_index_is_a_column_if_it_has_a_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3]})
    assert rows(frame[frame["id"] > 1], tmp_path / "1") == [{"id": 2}, {"id": 3}]
    named = pd.DataFrame({"v": [1]}, index=pd.Index(["a"], name="id"))
    assert rows(named, tmp_path / "2") == [{"v": 1, "id": "a"}]
    counted = pd.DataFrame({"v": ["x", "y"]}, index=pd.RangeIndex(2, name="id"))
    assert rows(counted, tmp_path / "3") == [{"id": 0, "v": "x"}, {"id": 1, "v": "y"}]


def test_categories_that_differ_from_batch_to_batch_are_kept(tmp_path: Path) -> None:
    parts = [pa.table({"id": pa.array(names).dictionary_encode()}) for names in (["a", "b"], ["c", "a"])]
    assert [row["id"] for row in rows(pa.concat_tables(parts), tmp_path)] == ["a", "b", "c", "a"]


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["b", "a"])])
@pytest.mark.parametrize("make", [pl.DataFrame.clone, pl.DataFrame.lazy, pl.DataFrame.to_arrow])
def test_the_categories_of_polars_are_kept(dtype: Any, make: Any, tmp_path: Path) -> None:
    """Their texts are views, which pyarrow does not look up."""
    words = pl.Series(["a", None, "b"], dtype=dtype)
    frame = pl.DataFrame({"id": [1, 2, 3], "one": words}).with_columns(
        many=pl.concat_list("one"), within=pl.struct("one")
    )
    assert rows(make(frame), tmp_path) == [
        {"id": number, "one": word, "many": [word], "within": {"one": word}}
        for number, word in enumerate(["a", None, "b"], 1)
    ]
    if make is not pl.DataFrame.lazy:
        assert source(make(frame)).source_identity() == source(frame).source_identity()


def test_frames_without_rows_or_without_batches_have_no_items(tmp_path: Path) -> None:
    for number, frame in enumerate(
        (pl.DataFrame(schema={"id": pl.Int64}), pd.DataFrame({"id": []}), pa.table({"id": []}))
    ):
        assert rows(frame, tmp_path / str(number)) == []


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (pd.DataFrame({"id": [1, 2], "x": [1, "z"]}), "has no Arrow form .*give every column one type"),
        (pd.DataFrame([[1, 2]], columns=["id", "id"]), "column 'id': there are two columns of this name"),
        (
            pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"]),
            "two columns of this name",
        ),
        (pl.DataFrame({"id": [1], "x": [object()]}), "column 'x': Polars can't export"),
        (pl.Series("id", [1]), r"give a frame, such as series\.to_frame\(\)"),
        (pl.DataFrame({"id": [1]}, schema={"id": pl.Int128}), "does not know the type of a column; cast it"),
        (
            datasets.DatasetDict(train=datasets.Dataset.from_dict({"id": [1]})),
            "a dict of data sets; give one of 'train'",
        ),
        (
            datasets.IterableDataset.from_generator(lambda: iter([{"id": 1}])),
            r"does not say which columns .*resolve_features\(\)",
        ),
    ],
)
def test_frames_that_can_not_be_read_are_refused_in_words(frame: Any, problem: str, tmp_path: Path) -> None:
    for read in (
        lambda: list(source(frame)),
        lambda: source(frame).source_identity(),
        lambda: list(kept(frame, tmp_path).iter_from_checkpoint({"row": 0})),
    ):
        with pytest.raises(SourceRowError, match=problem):
            read()


@pytest.mark.parametrize("given", [None, "rows.csv", [{"id": 1}], {"id": [1]}, iter([]), pl.DataFrame, 5])
def test_what_is_no_frame_is_refused_at_once(given: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=r"frame must be a frame, a table .*RowItemSource takes an iterable"
    ):
        source(given)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [1], "text": ["x"]})
    with pytest.raises(SourceRowError, match=r"frame, line 1, column 'txt': .* Did you mean 'text'\?"):
        rows(frame, tmp_path, payload_from_row=lambda row: row["txt"])
    with pytest.raises(
        SourceRowError, match="column 'txt': there is no such column to read; the columns are 'id', 'text'"
    ):
        rows(frame, tmp_path, columns=["id", "txt"])


def test_a_value_without_a_python_form_is_named_behind_the_rows_before_it(tmp_path: Path) -> None:
    moments = pa.array([0, 0, 253402300799], pa.timestamp("s", tz="Asia/Tokyo"))
    read = kept(pa.table({"id": ["a", "b", "c"], "at": moments}), tmp_path).iter_from_checkpoint({"row": 0})
    assert [next(read).item.item_id, next(read).item.item_id] == ["a", "b"]
    with pytest.raises(SourceRowError, match=r"frame, line 3, column 'at': .* years 1 to 9999"):
        next(read)


def test_only_the_columns_that_are_asked_for_are_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [1], "text": ["x"], "large": ["y" * 1_000_000]})
    assert rows(frame, tmp_path, columns=["text", "id"]) == [{"text": "x", "id": 1}]
    [file] = tmp_path.rglob("*.arrow")
    assert file.stat().st_size < 2_000


def test_the_payload_is_the_row_made_json_by_default() -> None:
    frame = pl.DataFrame({"id": [1], "day": [dt.date(2026, 1, 1)]})
    [item] = FrameItemSource(
        frame, item_id_from_row=lambda row: str(row["id"]), name="days", primary_key="day"
    )
    assert item.payload == {"id": 1, "day": "2026-01-01"}
    assert item.metadata["batchor_lineage"] == {
        "source_path": "days",
        "row_index": 0,
        "primary_key": "2026-01-01",
    }


# --- identity --------------------------------------------------------------------------------------------------------


def identity(frame: Any) -> str:
    return source(frame).source_identity().source_fingerprint


def tables() -> list[pa.Table]:
    return [pa.table({"id": [1, 2], "v": column}) for column, _ in COLUMNS.values()]


def test_the_same_content_is_the_same_however_it_lies_in_memory() -> None:
    for table in tables():
        halves = pa.concat_tables([table.slice(0, 1), table.slice(1)])
        longer = pa.concat_tables([table.slice(1), table, table]).combine_chunks().slice(1, 2)
        assert identity(table) == identity(halves) == identity(longer)


def test_other_content_is_another() -> None:
    changed = [table.slice(0, 1) for table in tables()] + [
        pa.concat_tables([table, table]) for table in tables()
    ]
    found = [identity(table) for table in (*tables(), *changed)]
    assert len(set(found)) == len(found)
    for one, other in (
        ([["a", "b"], ["c"]], [["a"], ["b", "c"]]),
        (["ab", "c"], ["a", "bc"]),
        ([None, "a"], ["a", None]),
        ([None, ""], ["", ""]),
        ([{"a": None}, None], [None, {"a": None}]),
    ):
        assert identity(pa.table({"v": one})) != identity(pa.table({"v": other}))


def test_what_lies_beneath_a_null_does_not_count() -> None:
    hidden = [
        pa.Array.from_buffers(
            pa.int64(), 2, [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([value, 5], "int64").tobytes())]
        )
        for value in (1, 7)
    ]
    assert hidden[0].to_pylist() == [None, 5]
    assert identity(pa.table({"v": hidden[0]})) == identity(pa.table({"v": hidden[1]}))


def test_metadata_of_a_schema_does_not_count() -> None:
    table = pa.table({"id": [1]})
    assert identity(table) == identity(table.replace_schema_metadata({"a": "b"}))


def test_recipes_are_known_by_their_columns_alone() -> None:
    lazy = pl.LazyFrame({"id": [1]})
    assert identity(lazy) == identity(lazy.with_columns(id=pl.col("id") + 1))
    assert identity(lazy) != identity(lazy.with_columns(x=1))

    def never(frame: pl.DataFrame) -> pl.DataFrame:
        raise AssertionError("it is evaluated")

    identity(lazy.map_batches(never, schema={"id": pl.Int64}))
