"""A JSON schema, in YAML or in a file, as a Pydantic model, which then checks the answers as any other does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Making:
    """How models are made and named where the schema is given. It stays as it is: stored runs are compared with the schemas of their models.

    Attributes:
        place: What errors call the schema.
        instead: What they advise for schemas that no model can be made of.
        class_name: Of a model, by the names on the way to it.
        element: What is added to the name of a list for the model of its elements.
        extra: Whether an answer may have further properties, which are then left out.
    """

    place: str
    instead: str
    class_name: Callable[[str], str]
    element: str
    extra: Literal["forbid", "ignore"]


def is_json_schema(output: Mapping[str, Any]) -> bool:
    """Whether a mapping is a JSON schema; in the short form of ``output`` no field has the type ``object``."""
    return output.get("type") == "object" and isinstance(output.get("properties"), Mapping)


def model_of_schema(name: str, schema: Mapping[str, Any], making: Making) -> type[BaseModel]:
    """The model whose instances are the objects of a schema.

    Properties that are not required may be null: an answer has all of them.

    Raises:
        InvalidInputError: The schema says something that no field of a model can say; names the place.
    """
    return _Schema(schema, making).model(name, schema, place=making.place)


class _Schema:
    def __init__(self, whole: Mapping[str, Any], making: Making) -> None:
        self._whole = whole
        self._making = making
        self._within: list[str] = []

    def model(self, name: str, schema: Mapping[str, Any], *, place: str) -> type[BaseModel]:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            self._refuse(place, "an object needs properties")
        if self._making.extra == "forbid" and schema.get("additionalProperties", False) is not False:
            self._refuse(
                place, "additionalProperties can only be false: answers have the properties that are named"
            )
        required = schema.get("required", [])
        fields: dict[str, Any] = {}
        for key, inner in properties.items():
            if str(key).startswith("_"):
                self._refuse(f"{place}.{key}", "the name of a field can't begin with an underscore")
            if str(key).startswith("model_") and hasattr(BaseModel, key):
                self._refuse(f"{place}.{key}", "Pydantic has an attribute of this name itself")
            kind = self._annotation(f"{name}_{key}", inner, place=f"{place}.{key}")
            told = inner.get("description")
            fields[str(key)] = (
                (kind, Field(description=told))
                if key in required
                else (kind | None, Field(None, description=told))
            )
        unknown = sorted(set(required) - set(properties))
        if unknown:
            self._refuse(place, f"{unknown[0]!r} is required and is none of the properties")
        return create_model(
            self._making.class_name(name),
            __config__=ConfigDict(extra=self._making.extra),
            __doc__=schema.get("description"),
            **fields,
        )

    def _annotation(self, name: str, schema: Any, *, place: str) -> Any:
        if not isinstance(schema, Mapping):
            self._refuse(place, f"a schema is a mapping, and this is {schema!r}")
        unknown = sorted(schema.keys() - _SHAPES - _SAID - _LIMITS.keys() - {"additionalProperties"})
        if unknown:
            self._refuse(place, f"{unknown[0]!r} can't be a field of a model")
        limits = {_LIMITS[key]: value for key, value in schema.items() if key in _LIMITS}
        kind = self._kind(name, schema, place=place)
        return Annotated[kind, Field(**limits)] if limits else kind

    def _kind(self, name: str, schema: Mapping[str, Any], *, place: str) -> Any:
        if "$ref" in schema:
            return self._referred(name, str(schema["$ref"]), place=place)
        if "const" in schema:
            return self._one_of([schema["const"]], place=place)
        if "enum" in schema:
            return self._one_of(schema["enum"], place=place)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._union(
                    (self._annotation(name, one, place=f"{place}.{key}") for one in schema[key]), place=place
                )
        kinds = schema.get("type")
        if isinstance(kinds, Sequence) and not isinstance(kinds, str):
            return self._union(
                (self._kind(name, {**schema, "type": kind}, place=place) for kind in kinds), place=place
            )
        if kinds == "object":
            return self.model(name, schema, place=place)
        if kinds == "array":
            element = self._annotation(
                name + self._making.element, schema.get("items"), place=f"{place}.items"
            )
            return list[element]  # type: ignore[valid-type]
        if kinds in _PLAIN:
            return _PLAIN[kinds]
        return self._refuse(place, f"the type {kinds!r} is none of {', '.join(_PLAIN)}, array and object")

    def _referred(self, name: str, path: str, *, place: str) -> Any:
        if path in self._within:
            self._refuse(place, f"{path} is within itself")
        found: Any = self._whole
        for step in path.removeprefix("#/").split("/"):
            found = found.get(step) if isinstance(found, Mapping) else None
        if not path.startswith("#/") or found is None:
            self._refuse(place, f"there is no {path} in the schema")
        self._within.append(path)
        try:
            return self._annotation(name, found, place=path)
        finally:
            self._within.pop()

    def _one_of(self, values: Any, *, place: str) -> Any:
        if not values or not isinstance(values, list):
            self._refuse(place, "enum is empty" if isinstance(values, list) else "enum must be a list")
        if not all(value is None or isinstance(value, str | int) for value in values):
            self._refuse(place, "enum and const can have strings, integers, true, false and null")
        return Literal[tuple(values)]

    def _union(self, kinds: Any, *, place: str) -> Any:
        kinds = list(kinds)
        if not kinds:
            self._refuse(place, "it allows no type at all")
        return reduce(or_, kinds)

    def _refuse(self, place: str, problem: str) -> NoReturn:
        raise InvalidInputError(f"{place}: {problem}. For anything else, {self._making.instead}")
