"""Values of every library that rows come from have one JSON form, and what means "no value" is null in all of them."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import re
import uuid
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from batchor_core.core.plain import is_missing, json_safe, stored_as_json, without_missing

NAN, INFINITY = float("nan"), float("inf")


class Odd(enum.Enum):
    DAY = dt.date(2026, 1, 2)
    NOTHING = NAN


class Name(enum.StrEnum):
    ANN = "ann"


MISSING: list[Any] = [
    None,
    NAN,
    INFINITY,
    -INFINITY,
    decimal.Decimal("NaN"),
    decimal.Decimal("sNaN"),
    decimal.Decimal("-Infinity"),
    pd.NaT,
    pd.NA,
    pd.Timedelta("NaT"),
    np.float64("nan"),
    np.float32("nan"),
    np.float16("inf"),
    np.longdouble("nan"),
    np.datetime64("NaT"),
    np.timedelta64("NaT"),
    np.array("NaT", dtype="M8[ns]"),
    np.ma.masked,
    pa.scalar(None),
    pa.scalar(None, pa.timestamp("ns")),
    pa.scalar(NAN),
    pl.Series([None])[0],
]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_no_value_is_null_wherever_it_is(value: Any) -> None:
    assert is_missing(value)
    assert json_safe(value) is None
    assert json_safe({"a": [1, (value,)]}) == {"a": [1, [None]]}
    assert stored_as_json({"a": [value]}) == {"a": [None]}
    assert without_missing({"a": value, "b": [{"c": value}]}) == {"a": None, "b": [{"c": None}]}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.longdouble("0.5"), 0.5),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), "YQ=="),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.0, np.nan]), [1.0, None]),
        (np.array(["NaT", "2026-01-02"], dtype="M8[D]"), [None, "2026-01-02"]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])[0], {"a": 1, "b": 2.5}),
        (pd.Timestamp("2026-01-02 03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
        (pd.Timedelta("1500ms"), 1.5),
        (pd.Period("2026-01"), "2026-01"),
        (pd.Series([1.0, None]), [1.0, None]),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (pl.Series(["a", None]), ["a", None]),
        (pa.scalar(3), 3),
        (pa.scalar({"a": [1, None]}), {"a": [1, None]}),
        (
            {"m": pa.scalar([("a", 1), ("b", None)], pa.map_(pa.string(), pa.int64()))},
            {"m": [["a", 1], ["b", None]]},
        ),
        (pa.scalar(1, pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
        (pa.array([1, None]), [1, None]),
        (Odd.DAY, "2026-01-02"),
        (Odd.NOTHING, None),
        (Name.ANN, "ann"),
        (
            {Name.ANN: 1, dt.date(2026, 1, 2): 2, 3: 4, None: 5},
            {"ann": 1, "2026-01-02": 2, "3": 4, "null": 5},
        ),
        (decimal.Decimal("1.50"), "1.50"),
        (10**30, 10**30),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        ({3, 1}, [1, 3]),
        (dt.timedelta(minutes=1), 60.0),
        (dt.time(1, 2), "01:02:00"),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", repr(value)),  # workers have to agree on the names
)
def test_other_values_have_one_json_form(value: Any, plain: Any) -> None:
    made = json_safe(value)
    assert made == plain
    assert type(made) is type(plain)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [1, {"b": object()}]}, r"a object has no JSON form \(at \['a'\]\[1\]\['b'\]\)"),
        ([pd.Interval(1, 2)], r"a Interval has no JSON form \(at \[0\]\)"),
        (np.complex64(1), "a complex number has no JSON form"),
        (np.timedelta64(1, "Y"), "a timedelta64 has no JSON form"),
        (
            {"m": pa.scalar([("a", 2**62)], pa.map_(pa.string(), pa.timestamp("s")))},
            r"a MapScalar has no JSON form: .*\(at \['m'\]\)",
        ),
        ({1: "a", "1": "b"}, "two keys of a dict are the same text"),
    ],
)
def test_what_has_no_json_form_is_named_with_its_place(value: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        json_safe(value)


def test_a_value_that_holds_itself_is_an_error() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for convert in (json_safe, lambda value: json_safe([value])):
        with pytest.raises(TypeError, match="contains itself"):
            convert(endless)


@pytest.mark.parametrize("value", [np.int64(3), np.float32(0.5), np.bool_(True), 2**80, Name.ANN])
def test_numbers_of_other_libraries_are_kept_as_pythons(value: Any) -> None:
    assert stored_as_json([value]) == [value]
    assert type(stored_as_json([value])[0]) in {int, float, bool, str}  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [dt.date(2026, 1, 2)]}, r"\['a'\]\[0\] is a date"),
        ({"a": {1: 2}}, r"\['a'\] has the key 1, and JSON's keys are strings"),
        (decimal.Decimal(1), "it is a Decimal"),
    ],
)
def test_what_would_come_back_as_something_else_is_not_kept(value: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        stored_as_json(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([1.0, np.nan]), [1.0, None]),
        (np.array(["NaT"], dtype="M8[s]"), [None]),
        (np.array([1, pd.NA], dtype=object), [1, None]),
        (np.array([[1.0, np.inf], [2.0, 3.0]]), [[1.0, None], [2.0, 3.0]]),
        (pd.Series([pd.NaT]), [None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([1.0, None], dtype="Float64"), [1.0, None]),
        (np.ma.masked_array([1, 2], [False, True]), [1, None]),
        (pd.Categorical([None]), [None]),
        (pl.Series([1.0, float("nan")]), [1.0, None]),
        ({pd.NaT}, {None}),
        (frozenset([pd.NA, 1]), frozenset([None, 1])),
        ({"a": [{"b": np.array([np.nan])}]}, {"a": [{"b": [None]}]}),
    ],
)
def test_what_is_missing_within_arrays_and_sets_of_a_row_is_none(value: Any, expected: Any) -> None:
    found = without_missing({"v": value})["v"]
    assert json_safe(found) == json_safe(expected)
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value", [np.array([1.5]), np.array(["NaN"]), np.array([1], object), pd.Series([1]), pl.Series([None, 1])]
)
def test_arrays_in_which_nothing_is_missing_are_left_as_they_are(value: Any) -> None:
    assert without_missing({"v": value})["v"] is value
