"""No number of a JSON text is rounded, read or written."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchor_core.core.jsontext import loads_exactly, minified, standard_json, to_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", -(2**63) - 1),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2**64),
        ("1" * 4000, int("1" * 4000)),
        ("1e400", Decimal("1e400")),
        ("-1e-400", Decimal("-1e-400")),
        ("0.12345678901234567891", Decimal("0.12345678901234567891")),
        ("9007199254740993.0", Decimal("9007199254740993.0")),
        ("12345678901234567890.0", Decimal("12345678901234567890.0")),
        ("1.7976931348623159e308", Decimal("1.7976931348623159e308")),
        ("0.1", 0.1),
        ("0.10000000000000001", 0.1),
        ("1.000000000000000056e-01", 0.1),
        ("1e22", 1e22),
        ("5e-324", 5e-324),
        ("0.0000000000000000000000", 0.0),
        ("-0", 0),
    ],
)
def test_every_number_is_read_exactly(text: str, value: Any) -> None:
    for json_text, expected in ((text, value), (f'{{"a": [{text}]}}', {"a": [value]})):
        read = loads_exactly(json_text.encode())
        assert read == expected
        assert repr(read) == repr(expected)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_was_written_from_a_double_is_that_double(number: float) -> None:
    for text in (repr(number), f"{number:.16e}", f"{number:.17g}", f"{number:.30e}"):
        read = loads_exactly(text.encode())
        assert read == number
        assert not isinstance(read, Decimal)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_what_was_not_is_read_with_all_its_digits(number: Decimal) -> None:
    read = loads_exactly(str(number).encode())
    if isinstance(read, float):
        digits = len(number.as_tuple().digits)
        assert Decimal(f"{read:.{digits - 1}e}") == number
    else:
        assert Decimal(read) == number


def test_digits_within_strings_are_left_alone() -> None:
    value = {
        "ip": "10.20.30.40.50.60.70",
        "hex": "1e400",
        "card": "12345678901234567890",
        "version": "1." * 20,
    }
    assert loads_exactly(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[1e400, NaN]",
        "[12345678901234567890123, Infinity]",
        r'["\ud83d", 1e400]',
        "1" * 5000,
        "1e99999999999999999999999",
        "",
        "[1e400",
    ],
)
def test_what_is_no_json_or_has_no_bounds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads_exactly(text.encode())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([2**70, float("nan")], "[1180591620717411303424, null]"),
        (
            {"a": (float("inf"), {"b": 2**70, "c": "NaN"})},
            '{"a": [null, {"b": 1180591620717411303424, "c": "NaN"}]}',
        ),
    ],
)
def test_nan_beside_a_long_number_is_null(value: Any, text: str) -> None:
    assert standard_json(value) == text
    assert to_json(value) == text.encode()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_a_minified_text_has_the_same_value(value: Any) -> None:
    for text in (json.dumps(value, indent=2), json.dumps(value, ensure_ascii=False)):
        small = minified(text)
        assert json.loads(small) == value
        assert b"\n" not in small
