"""Partitions that different forms of a model have made are read as one, or the error names them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from pydantic import BaseModel, Field, create_model

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.tables.common_schema import unified_schema
from batchor_core.tables.partition_files import PartitionFiles
from batchor_dagster import BatchorResource, build_results_io_manager, write_results_parquet
from tests.support.result_pages import Pages, bad, good

FRAMES = [pads.Dataset, pa.Table, pl.LazyFrame, pl.DataFrame, pd.DataFrame]
LAZY_AND_NOT = [pl.LazyFrame, pd.DataFrame]


class Inner(BaseModel):
    a: int


class Wider(BaseModel):
    a: float
    b: str | None = None


class First(BaseModel):
    stars: int
    inner: Inner
    many: list[Inner]


class Second(BaseModel):
    stars: float
    inner: Wider
    many: list[Wider]
    mood: str


OLD = {"stars": 4, "inner": {"a": 1}, "many": [{"a": 2}]}
NEW = {"stars": 4.5, "inner": {"a": 1.5, "b": "x"}, "many": [{"a": 2.5, "b": None}], "mood": "good"}


@pytest.fixture
def files(resource: BatchorResource) -> PartitionFiles:
    return PartitionFiles(resource.results_base(), ["facts"])


def write(files: PartitionFiles, key: str, model: type[BaseModel], *answers: Any) -> None:
    rows = [good(index, json.dumps(answer, default=str)) for index, answer in enumerate(answers)]
    write_results_parquet(Pages([*rows, bad(len(rows))]), files.path(key), model)


def load(
    resource: BatchorResource,
    keys: Sequence[str],
    wanted: Any = pa.Table,
    *,
    partition_key: str | None = None,
    metadata: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """What a downstream asset of these partitions gets."""
    partitions = dg.StaticPartitionsDefinition(list(keys))
    facts = dg.AssetSpec("facts", partitions_def=partitions).with_io_manager_key("results")
    got: list[Any] = []

    def downstream(facts: Any) -> None:
        got.append(facts)

    downstream.__annotations__["facts"] = wanted
    asset = dg.asset(
        ins={"facts": dg.AssetIn(metadata=metadata)},
        partitions_def=partitions if partition_key is not None else None,
    )(downstream)
    resources = {"batchor": resource, "results": build_results_io_manager(**settings)}
    dg.materialize([facts, asset], selection=[asset], resources=resources, partition_key=partition_key)
    return got[0]


def pylist(frame: Any) -> list[dict[str, Any]]:
    match frame:
        case pads.Dataset():
            frame = frame.to_table()
        case pa.Table():
            pass
        case pl.LazyFrame():
            return frame.collect().to_dicts()
        case pl.DataFrame():
            return frame.to_dicts()
        case _:
            frame = pa.Table.from_pandas(frame, preserve_index=False)
    rows: list[dict[str, Any]] = frame.to_pylist()
    return rows


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
@pytest.mark.parametrize("wanted", FRAMES)
def test_a_model_that_has_grown_is_read_whole(
    resource: BatchorResource, files: PartitionFiles, wanted: Any, order: tuple[str, str]
) -> None:
    write(files, "old", First, OLD)
    write(files, "new", Second, NEW)
    frame = load(resource, order, wanted, completed_only=True)
    assert isinstance(frame, wanted)
    answers = {row["stars"]: row for row in pylist(frame)}
    assert set(answers) == {4.0, 4.5}
    assert answers[4.0]["inner"] == {"a": 1.0, "b": None}
    assert list(answers[4.0]["many"]) == [{"a": 2.0, "b": None}]
    assert not isinstance(answers[4.0]["mood"], str)
    assert answers[4.5]["inner"] == {"a": 1.5, "b": "x"}
    assert list(answers[4.5]["many"]) == [{"a": 2.5, "b": None}]
    assert answers[4.5]["mood"] == "good"


def test_a_lazy_frame_filters_by_a_column_that_only_some_files_have(
    resource: BatchorResource, files: PartitionFiles
) -> None:
    write(files, "old", First, OLD, OLD)
    write(files, "new", Second, NEW)
    frame = load(resource, ["old", "new"], pl.LazyFrame)
    assert frame.filter(pl.col("mood") == "good").select("stars").collect()["stars"].to_list() == [4.5]
    assert frame.filter(pl.col("stars") > 3).select(pl.len()).collect().item() == 3


@pytest.mark.parametrize("wanted", LAZY_AND_NOT)
def test_columns_that_nothing_holds_together_are_named(
    resource: BatchorResource, files: PartitionFiles, wanted: Any
) -> None:
    write(files, "a", create_model("A", stars=int, mood=str), {"stars": 4, "mood": "x"})
    write(files, "b", create_model("B", stars=str, mood=str), {"stars": "four", "mood": "x"})
    with pytest.raises(
        dg.DagsterInvariantViolationError,
        match=r"facts: these partitions .*: column stars is int64 in a, string in b \(no type holds both\)\. Load",
    ):
        load(resource, ["a", "b"], wanted)


@pytest.mark.parametrize("wanted", LAZY_AND_NOT)
@pytest.mark.parametrize("nested", [False, True])
def test_integers_that_a_float_would_round_are_named_with_their_partition(
    resource: BatchorResource, files: PartitionFiles, wanted: Any, nested: bool
) -> None:
    def model(kind: Any) -> type[BaseModel]:
        wanted: Any = GenericAlias(list, (create_model("N", n=kind),)) if nested else kind
        return create_model("M", v=wanted)

    def answer(value: Any) -> dict[str, Any]:
        return {"v": [{"n": value}] if nested else value}

    write(files, "a", model(int), answer(2**53), answer(-(2**53)))
    write(files, "b", model(float), answer(0.5))
    assert len(pylist(load(resource, ["a", "b"], wanted))) == 5
    write(files, "c", model(int), answer(2**53 + 1))
    with pytest.raises(
        dg.DagsterInvariantViolationError, match=r"column v .*round integers of c, from 9007199254740993 to"
    ):
        load(resource, ["a", "b", "c"], wanted)


def no_ranges(partition: str) -> dict[str, tuple[int, int]]:
    raise AssertionError(f"nobody needs the values of {partition}")


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        (pa.null(), pa.list_(pa.string()), pa.list_(pa.string())),
        (pa.int64(), pa.null(), pa.int64()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.timestamp("us", tz="UTC"), pa.timestamp("ns", tz="UTC"), "nanoseconds don't hold every date"),
        (pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.binary(), pa.string(), "text would become bytes"),
        (pa.list_(pa.large_string()), pa.list_(pa.large_binary()), "text would become bytes"),
        (pa.binary(), pa.large_binary(), pa.large_binary()),
        (pa.decimal128(10, 2), pa.decimal128(38, 18), pa.decimal128(38, 18)),
        (pa.int64(), pa.decimal128(10, 2), pa.decimal128(21, 2)),
        (pa.int64(), pa.decimal128(4, 0), pa.decimal128(19, 0)),
        (pa.int64(), pa.decimal128(38, 18), pa.decimal128(38, 18)),
        (pa.list_(pa.int64()), pa.list_(pa.decimal128(4, 1)), pa.list_(pa.decimal128(20, 1))),
        (
            pa.struct([("a", pa.int64())]),
            pa.struct([("a", pa.decimal128(4, 2))]),
            pa.struct([("a", pa.decimal128(21, 2))]),
        ),
        (pa.int64(), pa.decimal128(30, 20), "no decimal of 38 digits holds both"),
        (
            pa.struct([("a", pa.null())]),
            pa.struct([("b", pa.int64()), ("a", pa.string())]),
            pa.struct([("a", pa.string()), ("b", pa.int64())]),
        ),
        (pa.decimal128(38, 0), pa.decimal128(38, 18), "no decimal of 38 digits holds both"),
        (pa.decimal128(10, 2), pa.float64(), "a float would round the decimals"),
        (pa.list_(pa.decimal128(10, 2)), pa.list_(pa.float64()), "a float would round the decimals"),
        (pa.timestamp("us", tz="UTC"), pa.timestamp("us"), "no type holds both"),
        (pa.bool_(), pa.int64(), "no type holds both"),
        (pa.date32(), pa.string(), "no type holds both"),
        (pa.struct([("a", pa.int64())]), pa.string(), "no type holds both"),
    ],
)
def test_types_are_promoted_without_loss_or_not_at_all(
    first: pa.DataType, second: pa.DataType, common: pa.DataType | str
) -> None:
    schemas = {"x": pa.schema([("v", first)]), "y": pa.schema([("v", second), ("w", pa.int8())])}
    if isinstance(common, str):
        with pytest.raises(InvalidInputError, match=common):
            unified_schema(schemas, no_ranges)
    else:
        assert unified_schema(schemas, no_ranges) == pa.schema([("v", common), ("w", pa.int8())])


@pytest.mark.parametrize("high", [2**63 - 1, 2**63])
def test_unsigned_integers_that_no_signed_ones_hold_are_named(high: int) -> None:
    schemas = {"x": pa.schema([("v", pa.int64())]), "y": pa.schema([("v", pa.uint64())])}

    def read() -> pa.Schema:
        return unified_schema(schemas, lambda _: {"v": (0, high)})

    if high < 2**63:
        assert read().field("v").type == pa.int64()
    else:
        with pytest.raises(InvalidInputError, match=rf"column v is .* integers of y, up to {high}"):
            read()


def test_every_column_that_does_not_fit_is_named_and_few_of_its_partitions() -> None:
    schemas = {f"p{n}": pa.schema([("v", pa.int64()), ("w", pa.bool_())]) for n in range(5)}
    schemas["q"] = pa.schema([("v", pa.string()), ("w", pa.string())])
    with pytest.raises(InvalidInputError) as caught:
        unified_schema(schemas, no_ranges)
    assert "column v is int64 in p0, p1, p2 and 2 more, string in q" in str(caught.value)
    assert "column w is bool in p0" in str(caught.value)


def test_dates_decimals_and_descriptions_survive(resource: BatchorResource, files: PartitionFiles) -> None:
    class Dated(BaseModel):
        day: date
        at: datetime
        price: Decimal = Field(max_digits=8, decimal_places=2, description="In euros")

    class Finer(Dated):
        price: Decimal = Field(max_digits=12, decimal_places=4, description="In euros")

    answer = {"day": "9999-12-31", "at": "0001-01-01T00:00:00Z", "price": "12.34"}
    write(files, "a", Dated, answer)
    write(files, "b", Finer, answer)
    table = load(resource, ["a", "b"], completed_only=True)
    assert table.column("day").to_pylist() == [date(9999, 12, 31)] * 2
    assert table.column("at").to_pylist() == [datetime(1, 1, 1, tzinfo=UTC)] * 2
    assert table.column("price").to_pylist() == [Decimal("12.3400")] * 2
    assert table.schema.field("price").metadata == {b"description": b"In euros"}


@pytest.mark.parametrize("wanted", FRAMES)
@pytest.mark.parametrize("nested", [False, True])
def test_integers_become_decimals_that_hold_them_all(
    resource: BatchorResource, files: PartitionFiles, wanted: Any, nested: bool
) -> None:
    price = Annotated[Decimal, Field(max_digits=10, decimal_places=2)]

    def model(kind: Any) -> type[BaseModel]:
        return create_model("M", v=list[kind] if nested else kind)

    for key, kind, value in (("a", int, 2**63 - 1), ("b", price, "1.25")):
        write(files, key, model(kind), {"v": [value] if nested else value})
    rows = pylist(load(resource, ["a", "b"], wanted, completed_only=True))
    assert [row["v"][0] if nested else row["v"] for row in rows] == [2**63 - 1, Decimal("1.25")]


@pytest.mark.parametrize("wanted", LAZY_AND_NOT)
def test_integers_and_decimals_that_no_decimal_holds_are_named(
    resource: BatchorResource, files: PartitionFiles, wanted: Any
) -> None:
    fine = Annotated[Decimal, Field(max_digits=30, decimal_places=20)]
    write(files, "a", create_model("A", v=int), {"v": 1})
    write(files, "b", create_model("B", v=fine), {"v": "1.5"})
    with pytest.raises(
        dg.DagsterInvariantViolationError,
        match=r"column v is int64 in a, decimal128\(30, 20\) in b \(no decimal of 38 digits holds both\)",
    ):
        load(resource, ["a", "b"], wanted)


# --- files that are not there, or no files ---------------------------------------------------------------------------

MAY_BE_MISSING = {"allow_missing_partitions": True}


@pytest.mark.parametrize("wanted", FRAMES)
def test_missing_partitions_are_skipped_where_the_input_says_so(
    resource: BatchorResource, files: PartitionFiles, wanted: Any
) -> None:
    write(files, "a", First, OLD)
    write(files, "c", First, OLD, OLD)
    frame = load(resource, ["a", "b", "c"], wanted, metadata=MAY_BE_MISSING)
    assert isinstance(frame, wanted)
    assert len(pylist(frame)) == 5
    with pytest.raises(dg.DagsterInvariantViolationError, match="facts has no results yet for b"):
        load(resource, ["a", "b", "c"], wanted, metadata={"allow_missing_partitions": False})


@pytest.mark.parametrize("wanted", [pl.DataFrame | None, Any])
def test_an_input_without_any_partition_is_none(resource: BatchorResource, wanted: Any) -> None:
    assert load(resource, ["a", "b"], wanted, metadata=MAY_BE_MISSING) is None
    assert load(resource, ["a", "b"], wanted, metadata=MAY_BE_MISSING, partition_key="a") is None


@pytest.mark.parametrize("wanted", LAZY_AND_NOT)
def test_a_frame_or_none_is_that_frame(resource: BatchorResource, files: PartitionFiles, wanted: Any) -> None:
    write(files, "a", First, OLD)
    assert isinstance(load(resource, ["a"], wanted | None, partition_key="a"), wanted)


def test_a_file_of_an_earlier_build_is_read(resource: BatchorResource) -> None:
    earlier = f"{resource.results_base()}/facts/_all.parquet"
    write_results_parquet(Pages([good(0)]), earlier)
    assert load(resource, ["_all"]).num_rows == 1


def test_a_damaged_file_is_named_with_its_partition(resource: BatchorResource, files: PartitionFiles) -> None:
    write(files, "a", First, OLD)
    write(files, "b", First, OLD)
    path = Path(files.path("b"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        dg.DagsterInvariantViolationError, match=r"facts: b: .*b\.parquet can't be read .* again"
    ):
        load(resource, ["a", "b"])
