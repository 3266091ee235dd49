"""JSON text read and written without changing a number.

orjson is fast, but reads numbers that a double or 64 bits can't hold as the nearest double, so that two ids of twenty
digits become the same. A quick check finds texts that may contain such a number, and slower code reads and writes
those.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from batchor_core.core.types import JSONValue

# to a search for sixteen digits a translated text is one for a constant, which takes a twentieth of a pattern's time
_SHAPES = bytes.maketrans(b"123456789.E", b"0000000000e")
_LONGEST_SURE = 15  # a double holds every number of so many digits, unless its exponent has three
_DIGITS = b"0" * (_LONGEST_SURE + 1)
_EXPONENTS = (b"0e000", b"0e-000", b"0e+000")
_NUMBER = re.compile(rb"[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?")
_WITH_EXPONENT = re.compile(rb"[0-9][0-9.]*[eE][+-]?[0-9]{3,}")
_OUTSIDE_VALUES = re.compile(r'("(?:[^"\\]|\\.)*")|(-?\b(?:NaN|Infinity)\b)|\s+', re.DOTALL)


def loads_exactly(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, every number exact: an int of any size, a float, or a Decimal.

    A number with a fraction or an exponent is a float if a double reproduces its digits, as it does for every number
    that a program has written from a double. Any other is a Decimal.

    Raises:
        ValueError: It is not JSON (NaN and halves of surrogate pairs are not), or a number has too many digits to read.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:  # it may be that a number is too large for a double
            value = _loaded_slowly(text)
            # lone surrogates are no JSON here either
            json.dumps(value, default=str, ensure_ascii=False).encode()
        except (json.JSONDecodeError, UnicodeError, RecursionError):
            pass
        else:
            return value
        raise
    return value if all_numbers_fit(text) else _loaded_slowly(text)


def all_numbers_fit(text: bytes) -> bool:
    """Whether a double or 64 bits hold each number of a JSON text. Digits within its strings may count as numbers."""
    shapes = text.translate(_SHAPES)
    at = shapes.find(_DIGITS)
    while at >= 0:
        number = _NUMBER.match(text, at)
        if number is None:  # it begins with a point, as no number does
            at = len(text) - len(text[at:].lstrip(b"."))
        else:
            written, at = number[0], number.end()
            if not (b"." in written and _is_shortest(written)):
                start = number.start()
                if not _fits(text[start - 1 : at] if text[start - 1 : start] == b"-" else written):
                    return False
        at = shapes.find(_DIGITS, at)
    if any(exponent in shapes for exponent in _EXPONENTS):
        return all(map(_fits, _WITH_EXPONENT.findall(text)))
    return True


def _is_shortest(number: bytes) -> bool:
    """Whether it is what Python writes for a float, which is the usual case."""
    try:
        return repr(float(number)).encode() == number
    except ValueError:
        return False


def _fits(number: bytes) -> bool:
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
        raise ValueError(f"the exponent of {written[:40]} is too large") from None
    if math.isfinite(as_float):
        digits = len(exact.as_tuple().digits)
        if Decimal(f"{as_float:.{max(digits, 1) - 1}e}") == exact:
            return as_float
    return exact


def exact_json(value: Any) -> bytes:
    """JSON text of what :func:`loads_exactly` gives, every number as exact as it is; null for NaN and infinities.

    Raises:
        TypeError: A part is no JSON.
        RecursionError: It is nested too deeply.
    """
    try:
        return orjson.dumps(value, default=_fragment, option=_ONLY_JSON)
    except TypeError:  # integers beyond 64 bits, halves of surrogate pairs, deep nesting, or no JSON
        return _written(value).encode()


_ONLY_JSON = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError


def _written(value: Any) -> str:
    match value:
        case None | bool() | str():
            return json.dumps(value)
        case int():
            return int.__repr__(value)
        case float():
            return float.__repr__(value) if math.isfinite(value) else "null"
        case Decimal() if value.is_finite():
            return str(value)
        case dict():
            return f"{{{','.join(f'{_key(key)}:{_written(inner)}' for key, inner in value.items())}}}"
        case list() | tuple():
            return f"[{','.join(map(_written, value))}]"
        case _:
            raise TypeError(f"a {type(value).__name__} is not JSON")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is not a string")
    return json.dumps(key)


def loads_kept(text: str) -> Any:
    """The value of a JSON text that :func:`exact_json` wrote; also halves of surrogate pairs, which may be escaped in it."""
    try:
        return loads_exactly(text.encode())
    except ValueError:
        return json.loads(text, parse_float=_number)


def to_json(value: JSONValue) -> bytes:
    """JSON text of any value that a JSON parser gave, such as integers beyond 64 bits, which orjson refuses.

    NaN and infinities, which are not JSON, become null. Nesting too deep for every encoder is reported in the text
    instead of raised: a result must stay readable.
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
    except (TypeError, ValueError):
        if _holds_decimal(value):
            return _written(value)
        return json.dumps(_finite(value), allow_nan=False)


def _holds_decimal(value: Any) -> bool:
    match value:
        case Decimal():
            return True
        case dict():
            return any(map(_holds_decimal, value.values()))
        case list() | tuple():
            return any(map(_holds_decimal, value))
        case _:
            return False


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
    # a lone surrogate's escape in Python is the one in JSON
    return compact.encode("utf-8", "backslashreplace")
