"""JSON text read and written without changing a number.

orjson is fast and reads what a double or 64 bits can't hold as the nearest double, so that two ids of twenty digits become
the same one. What may hold such a number is found by its looks, and read and written by slower means.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from batchor_core.core.types import JSONValue

# sixteen digits, or an exponent of three: anything shorter a double holds
_LOOKS_LONG = re.compile(rb"[0-9](?:[0-9.]{15}|[eE][+-]?[0-9]{3})")
_LONG_NUMBER = re.compile(rb"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?")
_SHORTEST = 16
_OUTSIDE_VALUES = re.compile(r'("(?:[^"\\]|\\.)*")|(-?\b(?:NaN|Infinity)\b)|\s+', re.DOTALL)


def loads_exactly(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, every number exact: an int of any size, a float, or a Decimal.

    A number with a fraction or an exponent is a float if a double prints back the digits that are written, as it does
    for every number that a program has written from a double. Any other is a Decimal.

    Raises:
        ValueError: It is not JSON (NaN and halves of surrogate pairs are not), or a number has too many digits to read.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        if not _LOOKS_LONG.search(text):
            raise
        try:
            value = _loaded_slowly(text)
            json.dumps(
                value, default=str, ensure_ascii=False
            ).encode()  # lone surrogates are no JSON here either
        except (json.JSONDecodeError, UnicodeError, RecursionError):
            pass
        else:
            return value
        raise
    if _LOOKS_LONG.search(text) and not all_numbers_fit(text):
        return _loaded_slowly(text)
    return value


def all_numbers_fit(text: bytes) -> bool:
    """Whether a double or 64 bits hold each number of a JSON text; some of what is in its strings is taken for numbers."""
    return all(_fits(number) for number in _LONG_NUMBER.findall(text))


def _fits(number: bytes) -> bool:
    if len(number) < _SHORTEST and b"e" not in number and b"E" not in number:
        return True
    digits = number.removeprefix(b"-")
    if digits.isdigit():
        return len(digits) < 19 or (len(digits) < 21 and -(2**63) <= int(number) < 2**64)
    try:
        return type(_number(number.decode())) is float
    except ValueError:
        return True  # such as a version within a string


def _loaded_slowly(text: bytes) -> Any:
    return json.loads(text.decode(), parse_float=_number, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _number(written: str) -> float | Decimal:
    """A JSON number that is not an integer, as a float if that keeps it."""
    as_float = float(written)
    if repr(as_float) == written:
        return as_float
    try:
        exact = Decimal(written)
    except InvalidOperation:
        raise ValueError(f"the exponent of {written[:40]} is beyond all bounds") from None
    if math.isfinite(as_float):
        digits = len(exact.as_tuple().digits)
        if Decimal(f"{as_float:.{max(digits, 1) - 1}e}") == exact:
            return as_float
    return exact


def to_json(value: JSONValue) -> bytes:
    """JSON text of any value that a JSON parser gave, such as integers beyond 64 bits, which orjson refuses.

    NaN and infinities, which are not JSON, become null. Deep nesting that no encoder follows is named instead of raised: a
    result must stay readable.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return standard_json(value).encode()
    except RecursionError:
        return b'"[nested too deeply to be shown]"'


def standard_json(value: Any) -> str:
    """What ``json.dumps`` makes of a value, in ASCII, with null for NaN and infinities as orjson writes them."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value


def minified(text: str) -> bytes:
    """A JSON text on one line, its numbers and strings as they are written, null in place of NaN and infinities."""
    compact = _OUTSIDE_VALUES.sub(lambda found: found[1] or ("null" if found[2] else ""), text)
    return compact.encode(
        "utf-8", "backslashreplace"
    )  # a lone surrogate's escape in Python is the one in JSON
