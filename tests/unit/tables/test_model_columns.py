"""Every kind of pydantic field becomes the Arrow column that a reader expects, value for value."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    NaiveDatetime,
    RootModel,
    create_model,
)
from typing_extensions import TypeAliasType, TypedDict

from batchor_core.tables.model_columns import model_columns


class Mood(enum.StrEnum):
    GOOD = "good"
    BAD = "bad"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(BaseModel):
    x: int
    y: float | None = None


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Empty(BaseModel):
    pass


class Tags(RootModel[list[str]]):
    pass


class Movie(TypedDict):
    title: str


@dataclasses.dataclass
class Size:
    width: int


Shout = NewType("Shout", str)
Words = TypeAliasType("Words", list[str])
UTC = pa.timestamp("us", tz="UTC")
POINT = pa.struct([("x", pa.int64()), ("y", pa.float64())])

TYPES = [
    (str, pa.string()),
    (int, pa.int64()),
    (float, pa.float64()),
    (bool, pa.bool_()),
    (bytes, pa.binary()),
    (int | float, pa.float64()),
    (Optional[int], pa.int64()),  # noqa: UP045 - the old spelling is a type of its own
    (Literal["a", "b"], pa.string()),
    (Literal[1, 2], pa.int64()),
    (Literal[1, "a"], pa.string()),
    (Mood, pa.string()),
    (Level, pa.int64()),
    (dt.datetime, UTC),
    (AwareDatetime, UTC),
    (NaiveDatetime, pa.timestamp("us")),
    (dt.date, pa.date32()),
    (dt.time, pa.time64("us")),
    (dt.timedelta, pa.duration("us")),
    (Decimal, pa.decimal128(38, 18)),
    (Annotated[Decimal, Field(max_digits=10, decimal_places=2)], pa.decimal128(10, 2)),
    (Annotated[Decimal, Field(max_digits=10, decimal_places=2)] | None, pa.decimal128(10, 2)),
    (uuid.UUID, pa.string()),
    (HttpUrl, pa.string()),
    (Shout, pa.string()),
    (Words, pa.list_(pa.string())),
    (list[Mood], pa.list_(pa.string())),
    (list[list[int]], pa.list_(pa.list_(pa.int64()))),
    (set[int], pa.list_(pa.int64())),
    (tuple[int, ...], pa.list_(pa.int64())),
    (tuple[int, str], pa.string()),
    (Point, POINT),
    (Point | None, POINT),
    (list[Point], pa.list_(POINT)),
    (Tags, pa.list_(pa.string())),
    (Movie, pa.struct([("title", pa.string())])),
    (Size, pa.struct([("width", pa.int64())])),
    (dict[str, int], pa.string()),
    (list, pa.string()),
    (Any, pa.string()),
    (int | str, pa.string()),
    (Point | Movie, pa.string()),
    (Open, pa.string()),
    (Empty, pa.string()),
]


@pytest.mark.parametrize(("annotation", "arrow"), TYPES, ids=[str(annotation) for annotation, _ in TYPES])
def test_each_type_has_its_column(annotation: Any, arrow: pa.DataType) -> None:
    model = create_model("Model", field=(annotation, ...))
    [column] = model_columns(model)
    assert column.type == arrow


def test_a_recursive_model_nests_once_and_is_json_below() -> None:
    [name, children] = model_columns(Node)
    assert (name.type, children.type) == (pa.string(), pa.list_(pa.string()))
    tree = Node(name="a", children=[Node(name="b", children=[Node(name="c")])])
    [[inner]] = children.array([tree.children]).to_pylist()
    assert json.loads(inner) == {"name": "b", "children": [{"name": "c", "children": []}]}


def test_names_that_are_taken_are_prefixed_whatever_their_letter_case() -> None:
    model = create_model(
        "Model", status=(str, ...), Item_ID=(str, ...), output_status=(str, ...), fine=(str, ...)
    )
    columns = model_columns(model, taken=["item_id", "status"])
    assert [column.name for column in columns] == [
        "output_status",
        "output_Item_ID",
        "output_output_status",
        "fine",
    ]
    assert [column.attribute for column in columns] == ["status", "Item_ID", "output_status", "fine"]


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (int, 2**63, None),
        (int, 2**63 - 1, 2**63 - 1),
        (Decimal, Decimal("1e30"), None),
        (Decimal, Decimal("NaN"), None),
        (Decimal, Decimal("0.1234567890123456789"), None),
        (Decimal, Decimal("1e-30"), None),
        (Decimal, Decimal("0e-30"), Decimal("0.000000000000000000")),
        (Decimal, Decimal("0e50"), Decimal("0.000000000000000000")),
        (Decimal, Decimal("0.1000000000000000000000"), Decimal("0.100000000000000000")),
        (list[Decimal], [Decimal("1e-30"), Decimal("1e20"), Decimal(2)], [None, None, Decimal(2)]),
        (Annotated[Decimal, Field(max_digits=5, decimal_places=2)], Decimal("1.005"), None),
        (Annotated[Decimal, Field(max_digits=5, decimal_places=2)], Decimal("999.99"), Decimal("999.99")),
        (Annotated[Decimal, Field(max_digits=5, decimal_places=2)], Decimal("1000"), None),
        (int | float, 1234567890123456789, None),
        (int | float, 2**53, 2.0**53),
        (int | float, 2**53 + 1, None),
        (int | float, 10**400, None),
        (int | float, 0.5, 0.5),
        (float, float("1e400"), None),
        (float | None, float("-1e400"), None),
        (list[float], [float("1e400"), 1.0], [None, 1.0]),
        (int | float, float("1e400"), None),
        (int | float | None, -(2**53) - 1, None),
        (list[int | float | None], [2**53 + 1, 1, None, 0.5], [None, 1.0, None, 0.5]),
        (dt.time, dt.time(12), dt.time(12)),
        (dt.time, dt.time(12, tzinfo=dt.timezone(dt.timedelta(hours=2))), None),
        (list[dt.time], [dt.time(12, tzinfo=dt.UTC), dt.time(1)], [None, dt.time(1)]),
        (Decimal, Decimal("-12345678901234567890.5"), Decimal("-12345678901234567890.500000000000000000")),
        (Level, Level.HIGH, 2),
        (Mood, Mood.BAD, "bad"),
        (set[int], {7}, [7]),
        (dict[str, Any], {"a": [1, None]}, '{"a":[1,null]}'),
        (int | str, 1, "1"),
        (int | str, "1", '"1"'),
        (dt.datetime, dt.datetime(2026, 1, 1, 12), dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)),  # noqa: DTZ001
        (Size, Size(3), {"width": 3}),
        (Tags, Tags(["a"]), ["a"]),
        (HttpUrl, HttpUrl("https://example.org/a"), "https://example.org/a"),
    ],
)
def test_values_arrive_or_become_null(annotation: Any, value: Any, stored: Any) -> None:
    [column] = model_columns(create_model("Model", field=(annotation, ...)))
    assert column.array([None, value]).to_pylist() == [None, stored]


def test_one_value_that_does_not_fit_costs_the_others_nothing() -> None:
    [column] = model_columns(create_model("Model", field=(int, ...)))
    assert column.array([1, 2**70, 3]).to_pylist() == [1, None, 3]


class Everything(BaseModel):
    text: str
    number: int = Field(ge=-(2**63), lt=2**63)
    share: float = Field(allow_inf_nan=False)
    flag: bool
    mood: Mood
    level: Level
    kind: Literal["a", "b"]
    day: dt.date
    clock: dt.time
    moment: dt.datetime
    price: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
    key: uuid.UUID
    point: Point | None
    points: list[Point]
    words: list[str] | None
    extra: dict[str, int]


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.integers(-(2**63), 2**63 - 1)
POINTS = st.builds(Point, x=NUMBER, y=st.none() | st.floats(allow_nan=False, allow_infinity=False))
EVERYTHING = st.builds(
    Everything,
    text=TEXT,
    number=NUMBER,
    share=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    mood=st.sampled_from(Mood),
    level=st.sampled_from(Level),
    kind=st.sampled_from(["a", "b"]),
    day=st.dates(),
    clock=st.times(),
    moment=st.datetimes(timezones=st.just(dt.UTC)),
    price=st.decimals(min_value=-(10**9), max_value=10**9, places=2),
    key=st.uuids(),
    point=st.none() | POINTS,
    points=st.lists(POINTS, max_size=3),
    words=st.none() | st.lists(TEXT, max_size=3),
    extra=st.dictionaries(TEXT, st.integers(-9, 9), max_size=2),
)


@given(st.lists(st.none() | EVERYTHING, max_size=5))
def test_models_come_back_from_parquet_as_they_were(rows: list[Everything | None]) -> None:
    columns = model_columns(Everything)
    arrays = [
        column.array([None if row is None else getattr(row, column.attribute) for row in rows])
        for column in columns
    ]
    table = pa.table(arrays, schema=pa.schema([(column.name, column.type) for column in columns]))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    stored = pq.read_table(pa.BufferReader(sink.getvalue())).to_pylist()
    back = [
        None if row["text"] is None else Everything.model_validate({**row, "extra": json.loads(row["extra"])})
        for row in stored
    ]
    assert back == rows
    assert pl.read_parquet(sink.getvalue().to_pybytes()).height == len(rows)
