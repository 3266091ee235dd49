"""Values of any library as JSON: dates, decimals, numpy and Arrow scalars, and everything that means "no value".

Rows come from pandas, numpy, Polars, Arrow, databases and plain Python, and each has its own missing values. None of
those libraries is imported here: values are recognised by their types' names and attributes.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from operator import is_
from pathlib import PurePath
from typing import Any
from uuid import UUID

from batchor_core.core.types import JSONValue

_JSON_ALREADY = frozenset({str, int, bool, type(None)})
_NEVER_MISSING = frozenset({str, int, bool, bytes, dict, list, tuple, set, datetime, date, time, timedelta})
# pandas has the first two, numpy the third
_MISSING_BY_NAME = frozenset({"NaTType", "NAType", "MaskedConstant"})


def is_missing(value: Any) -> bool:
    """Whether a value counts as missing: None, NaN or infinity of any number type, ``NaT``, ``NA``, masked, null."""
    kind = type(value)
    if value is None:
        return True
    if kind in _NEVER_MISSING:
        return False
    if isinstance(value, float):  # numpy's float64 too
        return not math.isfinite(value)
    if isinstance(value, Decimal):
        return not value.is_finite()
    if kind.__name__ in _MISSING_BY_NAME:
        return True
    if _is_arrow_scalar(value):
        return not value.is_valid or (value.type.num_fields == 0 and is_missing(_from_arrow(value)))
    if _is_numpy_scalar(value):
        return value.dtype.kind in "fmM" and not _is_finite(value)
    return False


def without_missing(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with None in place of every value that :func:`is_missing`, those in its lists, dicts, sets and arrays included."""
    return {name: _none_if_missing(value) for name, value in row.items()}


def json_safe(value: Any) -> JSONValue:
    """A value as JSON.

    Dates and times become ISO 8601, timedeltas seconds, decimals and UUIDs strings, bytes base64, enums their values,
    tuples, sets and arrays lists, scalars of numpy and Arrow the Python values that they stand for, and whatever
    :func:`is_missing` null. Integers keep all their digits.

    Raises:
        TypeError: The value has no JSON form; names the type and where in the value it is.
    """
    if type(value) in _JSON_ALREADY:
        return value  # type: ignore[no-any-return]
    try:
        return _json(value)
    except RecursionError:
        raise TypeError("the value contains itself, or is nested too deeply for JSON") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        path, unfit = _unfit_part(value)
        reason = (
            str(error)
            if isinstance(error, _NoJsonError)
            else f"a {type(unfit).__name__} has no JSON form: {error}"
        )
        raise TypeError(f"{reason}{f' (at {path})' if path else ''}; convert it in the callback") from error


class _NoJsonError(TypeError):
    """A value that JSON can't represent, in words for the user."""


def _json(value: Any) -> JSONValue:
    kind = type(value)
    if kind in _JSON_ALREADY:
        return value  # type: ignore[no-any-return]
    if kind is dict:
        return _object(value)
    if kind is list or kind is tuple:
        return [_json(inner) for inner in value]
    if is_missing(value):
        return None
    match value:
        case Enum():
            return _json(value.value)
        case str():  # such as numpy's
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        # of Arrow: its keys may repeat, and index nothing
        case Mapping() if type(value).__name__ == "MapScalar":
            return [[_json(key), _json(inner)] for key, inner in value]
        case Mapping():
            return _object(value)
        case list() | tuple():
            return [_json(inner) for inner in value]
        case set() | frozenset():
            return [_json(inner) for inner in sorted(value, key=str)]
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() | UUID() | PurePath():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case _:
            return _foreign(value)


def _object(value: Mapping[Any, Any]) -> dict[str, JSONValue]:
    made = {key if type(key) is str else _key(key): _json(inner) for key, inner in value.items()}
    if len(made) < len(value):
        raise _NoJsonError("two keys of a dict are the same text in JSON, so that one value would be lost")
    return made


def _key(key: Any) -> str:
    if is_missing(key):
        return "null"
    plain = _json(key) if isinstance(key, Enum | date | time) else key
    return str(plain)


def _foreign(value: Any) -> JSONValue:
    """What only other libraries have: scalars, arrays, columns."""
    if _is_arrow_scalar(value):
        return _json(_from_arrow(value))
    if _is_numpy_scalar(value):
        return _numpy_scalar(value)
    if hasattr(value, "dtype") and getattr(value, "ndim", 0) > 0 and hasattr(value, "__getitem__"):
        # numpy's arrays, pandas' columns; of several dimensions by rows
        return [_json(inner) for inner in value]
    for name in ("to_pylist", "to_list"):  # Arrow's columns, Polars' columns
        convert = getattr(value, name, None)
        if callable(convert):
            return _json(convert())
    if type(value).__name__ == "Period":
        return str(value)
    raise _NoJsonError(f"a {type(value).__name__} has no JSON form")


def _is_numpy_scalar(value: Any) -> bool:
    return (
        getattr(value, "ndim", None) == 0
        and hasattr(value, "dtype")
        and callable(getattr(value, "item", None))
    )


def _is_finite(scalar: Any) -> bool:
    if scalar.dtype.kind == "f":
        return bool(abs(scalar) < math.inf)  # a long double beyond a double's range is finite
    return bool(scalar == scalar)  # NaT differs from itself


def _numpy_scalar(scalar: Any) -> JSONValue:
    match scalar.dtype.kind:
        case "M":
            return str(scalar)  # ISO 8601, with the digits that its unit has
        case "m":
            return float(scalar / type(scalar[()])(1, "s"))
        case "f":
            plain = float(scalar)
            return plain if plain == scalar else str(scalar)  # a long double may hold more digits
        case "c":
            raise _NoJsonError("a complex number has no JSON form")
        case "V" if scalar.dtype.names:
            return {name: _json(scalar[name]) for name in scalar.dtype.names}
        case _:
            return _json(scalar.item())


def _is_arrow_scalar(value: Any) -> bool:
    return callable(getattr(value, "as_py", None)) and hasattr(value, "is_valid")


def _from_arrow(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except ValueError:  # nanoseconds, which Python's own types can't hold
        return str(scalar).replace(" ", "T", 1)


def _none_if_missing(value: Any) -> Any:
    kind = type(value)
    if kind in _JSON_ALREADY:
        return value
    if kind is dict:
        return {key: _none_if_missing(inner) for key, inner in value.items()}
    if kind is list:
        return [_none_if_missing(inner) for inner in value]
    if kind is tuple:  # as Arrow's maps have
        return tuple([_none_if_missing(inner) for inner in value])
    if kind is set or kind is frozenset:
        return kind(_none_if_missing(inner) for inner in value)
    if _is_column(value):
        return _column_without_missing(value)
    return None if is_missing(value) else value


def _is_column(value: Any) -> bool:
    """Whether it is an array of numpy or a column of pandas or Polars."""
    return hasattr(value, "dtype") and (
        getattr(value, "ndim", 0) > 0 or callable(getattr(value, "to_list", None))
    )


def _column_without_missing(values: Any) -> Any:
    """The column itself, or a list with None in it where something is missing: not every column can hold None."""
    if type(values).__name__ == "ndarray":  # at once, for vectors are long
        kind = values.dtype.kind
        if kind in "biuSU" or (kind == "f" and bool((abs(values) < math.inf).all())):
            return values
    plain = list(values)
    made = [_none_if_missing(value) for value in plain]
    return values if all(map(is_, made, plain)) else made


def _unfit_part(value: Any, path: str = "") -> tuple[str, Any]:
    """Where in a value the first part is that has no JSON form, and that part."""
    parts: Any = ()
    if isinstance(value, Mapping) and type(value).__name__ != "MapScalar":
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, inner in parts:
        try:
            _json(inner)
        except (TypeError, ValueError, ArithmeticError):
            return _unfit_part(inner, f"{path}[{key!r}]")
    return path, value


def stored_as_json(value: Any) -> JSONValue:
    """A value that is kept as JSON and given back: the same value, with null for what :func:`is_missing`.

    Unlike :func:`json_safe`, it changes nothing that would come back as something else, such as dates.

    Raises:
        TypeError: Some part is no JSON value; names its type and where it is.
    """
    return _kept(value, "")


def _kept(value: Any, path: str) -> JSONValue:
    if type(value) in _JSON_ALREADY:
        return value  # type: ignore[no-any-return]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path or 'it'} has the key {key!r}, and JSON's keys are strings")
        return {key: _kept(inner, f"{path}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
    if is_missing(value):
        return None
    if isinstance(value, str | int | float | Enum | UUID) or _is_plain_number(value):
        return _json(value)
    raise TypeError(f"{path or 'it'} is a {type(value).__name__}")


def _is_plain_number(value: Any) -> bool:
    return _is_numpy_scalar(value) and value.dtype.kind in "biuf"
