"""What OpenAI refuses in the schema of a strict structured output.

The rules are those of the structured outputs guide of 2026. Only what is certain to be refused is: the limits
on nesting and on the length of names are left to the live service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_REFUSED_KEYWORDS = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "default",
)
_MAX_PROPERTIES = 5_000
_MAX_ENUM_VALUES = 1_000


def strict_problem(schema: Mapping[str, Any]) -> str | None:
    """Say why a schema is refused in strict mode; None if it is fine."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return "In context=(), the root must be an object and must not be a union ('anyOf')."
    properties = enum_values = 0
    for path, part in _parts(schema, ()):
        problem = _part_problem(part)
        if problem:
            return f"In context={path}, {problem}"
        properties += len(part.get("properties", ()))
        enum_values += len(part.get("enum", ()))
    if properties > _MAX_PROPERTIES:
        return f"The schema has {properties:,} properties; at most {_MAX_PROPERTIES:,} are allowed."
    if enum_values > _MAX_ENUM_VALUES:
        return f"The schema has {enum_values:,} enum values; at most {_MAX_ENUM_VALUES:,} are allowed."
    return None


def _part_problem(part: Mapping[str, Any]) -> str | None:
    for keyword in _REFUSED_KEYWORDS:
        if keyword in part:
            return f"'{keyword}' is not permitted."
    if part.get("type") != "object":
        return None
    if part.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    missing = set(part.get("properties", ())) - set(part.get("required", ()))
    if missing:
        return f"'required' must name every property. Missing: {', '.join(sorted(missing))}."
    return None


def _parts(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """``(path, schema)`` for the schema and all schemas in it. References are met where they are defined."""
    if not isinstance(schema, Mapping):
        return
    yield path, schema
    for keyword in ("properties", "$defs", "definitions"):
        for name, part in (schema.get(keyword) or {}).items():
            yield from _parts(part, (*path, keyword, name))
    for place, part in enumerate(schema.get("anyOf") or ()):
        yield from _parts(part, (*path, "anyOf", str(place)))
    yield from _parts(schema.get("items"), (*path, "items"))
