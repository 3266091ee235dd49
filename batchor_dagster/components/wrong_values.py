"""Wrong values of a component's YAML, each reported once, with its place in the YAML."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails

_Place = tuple[int | str, ...]


def simplified(error: ValidationError, yaml: object) -> ValidationError:
    """The same error with one line for each wrong value.

    Dagster allows a template string in place of every value, so Pydantic reports one wrong value once for each
    alternative, at each level above it. Only the deepest report is kept.

    Args:
        error: What the derived model says.
        yaml: What it was given.
    """
    found: dict[_Place, ErrorDetails] = {}
    for one in error.errors(include_url=False):
        place = _place(one, yaml)
        known = found.get(place)
        if known is None or known["loc"][-1:] == ("str",):
            found[place] = one
    lines = [
        InitErrorDetails(
            # a type of Pydantic's own: Dagster makes the error again to add lines of the file
            type="value_error",
            loc=place,
            input=one["input"],
            ctx={"error": ValueError(_words(place, one))},
        )
        for place, one in found.items()
        if not any(other[: len(place)] == place and other != place for other in found)
    ]
    return ValidationError.from_exception_data(error.title, lines)


def _place(error: ErrorDetails, yaml: object) -> _Place:
    """The place of the value: Pydantic's location without the names of alternatives."""
    place: list[int | str] = []
    value: Any = yaml
    for step in error["loc"]:
        inner: Any = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        if isinstance(inner, Mapping) and step in inner:
            place.append(step)
            value = inner[step]
    if error["type"] == "missing":
        place.append(error["loc"][-1])
    return tuple(place)


def _words(place: _Place, error: ErrorDetails) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")
    if error["type"] == "missing":
        return f"{path} is missing"
    if error["loc"][-1:] == ("[key]",):
        return f"the key {path} is {error['input']!r}, which is not a string: put it in quotes"
    return f"{path} is {reprlib.repr(error['input'])}: {error['msg'][:1].lower()}{error['msg'][1:]}"
