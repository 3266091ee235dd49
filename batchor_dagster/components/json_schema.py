"""A JSON schema in YAML as a Pydantic model, which then checks the answers as any other does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, create_model

from batchor_core.core.exceptions import InvalidInputError

_PLAIN: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": type(None)}
_LIMITS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minItems": "min_length",
    "maxItems": "max_length",
}
_SHAPES = {"type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "$ref"}
_SAID = {"$schema", "$id", "$defs", "definitions", "title", "description", "examples", "default"}
"""Keywords that say nothing about which answers are right."""


def is_json_schema(output: Mapping[str, Any]) -> bool:
    """Whether a mapping is a JSON schema; in the short form of ``output`` no field has the type ``object``."""
    return output.get("type") == "object" and isinstance(output.get("properties"), Mapping)


def model_of_schema(name: str, schema: Mapping[str, Any]) -> type[BaseModel]:
    """The model whose instances are the objects of a schema.

    Properties that are not required may be null: an answer has all of them.

    Raises:
        InvalidInputError: The schema says something that no field of a model can say; names the place.
    """
    return _Schema(schema).model(name, schema, place="output")


class _Schema:
    def __init__(self, whole: Mapping[str, Any]) -> None:
        self._whole = whole
        self._within: list[str] = []

    def model(self, name: str, schema: Mapping[str, Any], *, place: str) -> type[BaseModel]:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            _refuse(place, "an object needs properties")
        if schema.get("additionalProperties", False) is not False:
            _refuse(
                place, "additionalProperties can only be false: answers have the properties that are named"
            )
        required = schema.get("required", [])
        fields: dict[str, Any] = {}
        for key, inner in properties.items():
            if str(key).startswith("_"):
                _refuse(f"{place}.{key}", "the name of a field can't begin with an underscore")
            kind = self._annotation(f"{name}_{key}", inner, place=f"{place}.{key}")
            told = inner.get("description")
            fields[str(key)] = (
                (kind, Field(description=told))
                if key in required
                else (kind | None, Field(None, description=told))
            )
        unknown = sorted(set(required) - set(properties))
        if unknown:
            _refuse(place, f"{unknown[0]!r} is required and is none of the properties")
        return create_model(
            "".join(part.capitalize() for part in name.split("_")),
            __config__=ConfigDict(extra="forbid"),
            __doc__=schema.get("description"),
            **fields,
        )

    def _annotation(self, name: str, schema: Any, *, place: str) -> Any:
        if not isinstance(schema, Mapping):
            _refuse(place, f"a schema is a mapping, and this is {schema!r}")
        unknown = sorted(schema.keys() - _SHAPES - _SAID - _LIMITS.keys() - {"additionalProperties"})
        if unknown:
            _refuse(place, f"{unknown[0]!r} can't be a field of a model")
        limits = {_LIMITS[key]: value for key, value in schema.items() if key in _LIMITS}
        kind = self._kind(name, schema, place=place)
        return Annotated[kind, Field(**limits)] if limits else kind

    def _kind(self, name: str, schema: Mapping[str, Any], *, place: str) -> Any:
        if "$ref" in schema:
            return self._referred(name, str(schema["$ref"]), place=place)
        if "const" in schema:
            return _one_of([schema["const"]], place=place)
        if "enum" in schema:
            return _one_of(schema["enum"], place=place)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return _union(self._annotation(name, one, place=f"{place}.{key}") for one in schema[key])
        kinds = schema.get("type")
        if isinstance(kinds, Sequence) and not isinstance(kinds, str):
            return _union(self._kind(name, {**schema, "type": kind}, place=place) for kind in kinds)
        if kinds == "object":
            return self.model(name, schema, place=place)
        if kinds == "array":
            return list[self._annotation(name, schema.get("items"), place=f"{place}.items")]  # type: ignore[misc]
        if kinds in _PLAIN:
            return _PLAIN[kinds]
        return _refuse(place, f"the type {kinds!r} is none of {', '.join(_PLAIN)}, array and object")

    def _referred(self, name: str, path: str, *, place: str) -> Any:
        if path in self._within:
            _refuse(place, f"{path} is within itself")
        found: Any = self._whole
        for step in path.removeprefix("#/").split("/"):
            found = found.get(step) if isinstance(found, Mapping) else None
        if not path.startswith("#/") or found is None:
            _refuse(place, f"there is no {path} in the schema")
        self._within.append(path)
        try:
            return self._annotation(name, found, place=path)
        finally:
            self._within.pop()


def _one_of(values: Any, *, place: str) -> Any:
    if not values:
        _refuse(place, "enum is empty")
    if not all(value is None or isinstance(value, str | int) for value in values):
        _refuse(place, "enum and const can have strings, integers, true, false and null")
    return Literal[tuple(values)]


def _union(kinds: Any) -> Any:
    return reduce(or_, kinds)


def _refuse(place: str, problem: str) -> NoReturn:
    raise InvalidInputError(f"{place}: {problem}. For anything else, give package.module.Model as the output")
