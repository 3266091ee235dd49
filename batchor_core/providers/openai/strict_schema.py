"""Pydantic models as OpenAI's strict JSON Schemas.

Rules and limits: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas (2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from batchor_core.core.closed_schema import (
    DEFINITION,
    FORMATS,
    children,
    definition_name,
)
from batchor_core.core.exceptions import StructuredOutputSchemaError
from batchor_core.core.json_limits import is_text, json_fault, limits_fault, shown
from batchor_core.core.structured import StructuredOutputSchema, closed_model_schema
from batchor_core.core.types import JSONValue

MAX_PROPERTIES = 5_000
MAX_NESTING = 10
MAX_TOTAL_CHARS = 120_000  # names of properties and definitions, enum and const values
MAX_ENUM_VALUES = 1_000
LARGE_ENUM = 250  # from here on the values of one string enum have a limit of their own
MAX_LARGE_ENUM_CHARS = 15_000

_TYPES = {"string", "number", "boolean", "integer", "object", "array", "null"}
_SUPPORTED = {
    *("type", "title", "description", "enum", "const", "anyOf", "$defs", "$schema", "$id", "$comment"),
    *("examples", "deprecated", "readOnly", "writeOnly"),
    *("pattern", "format", "minLength", "maxLength"),
    *("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("items", "minItems", "maxItems"),
    *("properties", "required", "additionalProperties"),
}
_HOLDERS = {"properties", "$defs", "anyOf", "items"}
"""Keywords whose values hold schemas, which are walked."""
_IN_CODE = "check it in a Pydantic validator instead"
_PAIRS = "use a list of models with a key and a value field"
_MENDS = {
    "default": "remove the default, or make the field nullable with None as its default (`T | None = None`)",
    "oneOf": "use anyOf (in Pydantic: a plain or discriminated union)",
    "allOf": "write the combined properties into one model",
    "not": _IN_CODE,
    "if": _IN_CODE,
    "then": _IN_CODE,
    "else": _IN_CODE,
    "dependentRequired": _IN_CODE,
    "dependentSchemas": _IN_CODE,
    "uniqueItems": _IN_CODE,
    "contains": _IN_CODE,
    "prefixItems": "use a model with one named field per position, or a list",
    "patternProperties": _PAIRS,
    "propertyNames": _PAIRS,
    "unevaluatedProperties": _PAIRS,
    "minProperties": _PAIRS,
    "maxProperties": _PAIRS,
}
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def model_output_schema(model: type[BaseModel], *, schema_name: str | None = None) -> StructuredOutputSchema:
    """Derive the strict JSON Schema of a Pydantic model.

    Every property becomes required and every object closed. ``T | None = None`` is sent as a nullable property; any
    other default is an error, since strict mode has no defaults. Titles are dropped, descriptions kept. What the rewriting
    drops, such as ``format: uri`` or ``uniqueItems``, OpenAI can't enforce and the model class still checks when the answer is
    parsed.

    Args:
        model: The class that answers are parsed into.
        schema_name: Name of the schema at the provider; by default the class name in snake case.

    Raises:
        StructuredOutputSchemaError: OpenAI would refuse the schema; names the JSON path, what is wrong and the fix.
        InvalidInputError: ``schema_name`` is not 1 to 64 of ``A-Z a-z 0-9 _ -``.
    """
    derived = closed_model_schema(model, schema_name=schema_name)
    try:
        validate_strict_json_schema(derived.schema)
    except StructuredOutputSchemaError as error:
        raise StructuredOutputSchemaError(f"{model.__name__}: {error}") from None
    return derived


def validate_strict_json_schema(schema: Mapping[str, JSONValue]) -> None:
    """Check a whole schema against OpenAI's rules and limits for strict mode.

    Raises:
        StructuredOutputSchemaError: Names the JSON path (``$.properties.address.properties.tags``, followed through
            ``$ref``), what is wrong there, and how to fix it.
    """
    try:
        _Check(schema).run()
    except RecursionError:
        raise _error(
            "$", "is nested too deeply to be read", f"at most {MAX_NESTING} levels are allowed"
        ) from None


class _Check:
    """One walk over a schema that raises at the first thing that strict mode refuses."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
        self._definitions: Mapping[str, Any] = definitions if isinstance(definitions, Mapping) else {}
        self._seen: set[str] = set()
        self._nesting: dict[str, int] = {}
        self._properties = 0
        self._enum_values = 0
        self._chars = sum(len(name) for name in self._definitions)

    def run(self) -> None:
        self._check_root()
        self._walk(self._root, "$")
        for name, definition in self._definitions.items():
            if name not in self._seen:
                self._seen.add(name)
                self._walk(definition, _below("$.$defs", name))
        self._check_totals()

    def _check_root(self) -> None:
        root = self._root
        if not isinstance(root, Mapping):
            raise _error("$", "is not an object schema", "give a JSON Schema with type: object")
        if "anyOf" in root or "oneOf" in root:
            raise _error("$", "is a union", "wrap the union in a model with one field")
        if "$ref" in root:
            raise _error("$", "is a reference", "put the definition itself at the root")
        if root.get("type") != "object":
            raise _error(
                "$", f"has type {root.get('type')!r}, not 'object'", "wrap it in a model with one field"
            )

    def _walk(self, node: Any, path: str) -> None:
        if not isinstance(node, Mapping):
            raise _error(path, f"is {node!r}, not a schema", "give it a type")
        if "$ref" in node:
            self._follow(node, path)
            return
        for keyword in node:
            if keyword not in _SUPPORTED:
                raise _error(path, f"has {_shown(node, keyword)}", _MENDS.get(keyword, "remove the keyword"))
        self._check_values(node, path)
        if "anyOf" in node:
            self._check_union(node["anyOf"], path)
        kinds = self._check_type(node, path)
        self._count_values(node, path)
        if node.get("format", "date") not in FORMATS:
            raise _error(
                path, f"has format {node['format']!r}", f"use one of {', '.join(sorted(FORMATS))}, or none"
            )
        if "object" in kinds or "properties" in node:
            self._check_object(node, path)
        if "array" in kinds:
            if "items" not in node:
                raise _error(path, "is an array without items", "say what the list holds, such as list[str]")
            self._walk(node["items"], f"{path}.items")

    def _check_values(self, node: Mapping[str, Any], path: str) -> None:
        """Check what is no schema itself: limits, enum values, descriptions. They go into every request line."""
        for names in (node.get("properties", ()), node.get("$defs", ())):
            for name in names:
                if not isinstance(name, str) or not is_text(name):
                    raise _error(
                        path, f"has a property or definition named {name!r}", "use text that UTF-8 can hold"
                    )
        plain = {keyword: value for keyword, value in node.items() if keyword not in _HOLDERS}
        if fault := limits_fault(node) or json_fault(plain):
            raise _error(f"{path}{fault.where}", fault.problem, fault.fix)

    def _follow(self, node: Mapping[str, Any], path: str) -> None:
        ref = node["$ref"]
        if len(node) > 1:
            beside = ", ".join(repr(key) for key in node if key != "$ref")
            raise _error(path, f"has {beside} beside $ref", "move it into the definition")
        if ref == "#":
            return
        if (
            not isinstance(ref, str)
            or not ref.startswith(DEFINITION)
            or definition_name(ref) not in self._definitions
        ):
            raise _error(
                path,
                f"refers to {ref!r}, which is not there",
                "refer to '#' or to a name in the root's $defs",
            )
        name = definition_name(ref)
        if name not in self._seen:
            self._seen.add(name)
            self._walk(self._definitions[name], path)

    def _check_union(self, choices: Any, path: str) -> None:
        if not isinstance(choices, list) or not choices:
            raise _error(path, "has an anyOf that is not a list of schemas", "give at least one schema")
        for index, choice in enumerate(choices):
            self._walk(choice, f"{path}.anyOf[{index}]")

    def _check_type(self, node: Mapping[str, Any], path: str) -> set[str]:
        declared = node.get("type")
        if declared is None:
            if "anyOf" in node:
                return set()
            raise _error(
                path,
                "has no type, so that any value fits",
                "give it a type instead of Any, object or a bare list",
            )
        kinds = declared if isinstance(declared, list) else [declared]
        for kind in kinds:
            if kind not in _TYPES:
                raise _error(path, f"has type {kind!r}", f"use one of {', '.join(sorted(_TYPES))}")
        return set(kinds)

    def _check_object(self, node: Mapping[str, Any], path: str) -> None:
        if node.get("additionalProperties") is not False:
            fix = f"{_PAIRS} instead of a dict, and no extra='allow' (additionalProperties must be false)"
            raise _error(path, "is an open object, which takes any further keys", fix)
        properties = node.get("properties", {})
        if not isinstance(properties, Mapping):
            raise _error(path, "has properties that are not an object", "map each name to a schema")
        required = node.get("required", [])
        for name, value in properties.items():
            below = _below(f"{path}.properties", name)
            self._properties += 1
            self._chars += len(name)
            self._walk(value, below)
            if name not in required:
                raise _error(
                    below, "is not required (it has a default or may be left out)", _MENDS["default"]
                )
        for name in required:
            if name not in properties:
                raise _error(
                    path, f"requires {name!r}, which is not among its properties", "remove it from required"
                )

    def _count_values(self, node: Mapping[str, Any], path: str) -> None:
        if "const" in node:
            self._chars += len(str(node["const"]))
        if "enum" not in node:
            return
        values = node["enum"]
        if not isinstance(values, list) or not values:
            raise _error(path, "has an enum that is not a list of values", "give at least one value")
        chars = sum(len(str(value)) for value in values)
        if len(values) > LARGE_ENUM and node.get("type") == "string" and chars > MAX_LARGE_ENUM_CHARS:
            problem = f"is an enum of {len(values):,} strings with {chars:,} characters"
            raise _error(
                path,
                problem,
                f"beyond {LARGE_ENUM} values at most {MAX_LARGE_ENUM_CHARS:,} characters are allowed",
            )
        self._enum_values += len(values)
        self._chars += chars

    def _check_totals(self) -> None:
        nesting = self._levels(self._root)
        for found, limit, what in (
            (self._properties, MAX_PROPERTIES, "properties"),
            (nesting, MAX_NESTING, "levels of nested objects"),
            (self._enum_values, MAX_ENUM_VALUES, "enum values"),
            (self._chars, MAX_TOTAL_CHARS, "characters of names and enum values"),
        ):
            if found > limit:
                raise _error("$", f"has {found:,} {what}", f"at most {limit:,} are allowed; split the model")

    def _levels(self, node: Any) -> int:
        """Objects within each other. A reference back to where we come from adds none, so recursion is free."""
        if "$ref" in node:
            name = "" if node["$ref"] == "#" else definition_name(node["$ref"])
            if name and name not in self._nesting:
                self._nesting[name] = 0
                self._nesting[name] = self._levels(self._definitions[name])
            return self._nesting.get(name, 0)
        return ("properties" in node) + max(map(self._levels, children(node)), default=0)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{path}[{name!r}]"


def _shown(node: Mapping[str, Any], keyword: str) -> str:
    return f"the default {shown(node[keyword])}" if keyword == "default" else f"the keyword {keyword!r}"


def _error(path: str, problem: str, fix: str) -> StructuredOutputSchemaError:
    return StructuredOutputSchemaError(f"{path} {problem}; {fix}")
