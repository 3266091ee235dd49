"""Pydantic models as the JSON Schemas that Gemini takes as ``responseJsonSchema``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from batchor_core.core.exceptions import StructuredOutputSchemaError
from batchor_core.core.structured import StructuredOutputSchema, closed_model_schema

_KEPT = frozenset(
    {
        *("$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum"),
        *("items", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf"),
        *("properties", "additionalProperties", "required"),
    }
)
"""The keywords that the API supports, by the SDK's own description of the field (google-genai 3.6)."""


def model_output_schema(model: type[BaseModel], *, schema_name: str | None = None) -> StructuredOutputSchema:
    """Derive the JSON Schema of a Pydantic model.

    Every property is required and every object closed. What the API does not support, such as ``pattern``, is left out of the
    schema; the model class still checks it when the answer is parsed.

    Args:
        model: The class that answers are parsed into.
        schema_name: Name of the schema, which Gemini does not need; by default the class name in snake case.

    Raises:
        StructuredOutputSchemaError: The API can't take the schema: a model that contains itself, or any value at all.
        InvalidInputError: ``schema_name`` is not 1 to 64 of ``A-Z a-z 0-9 _ -``.
    """
    derived = closed_model_schema(model, schema_name=schema_name)
    definitions = derived.schema.get("$defs")
    for name in definitions if isinstance(definitions, Mapping) else ():
        if _reaches(name, name, definitions, set()):
            raise StructuredOutputSchemaError(
                f"{model.__name__}: {name} contains itself, and Gemini takes such models only in properties that may be left out; "
                "name the levels one by one, or ask for text and parse it"
            )
    return StructuredOutputSchema(derived.name, _told(derived.schema))


def _told(node: Any) -> Any:
    """A schema with the keywords that the API supports."""
    if not isinstance(node, Mapping):
        return node
    made: dict[str, Any] = {}
    for keyword, value in node.items():
        if keyword == "const":
            made["enum"] = [value]
        elif keyword in ("properties", "$defs"):
            made[keyword] = {name: _told(part) for name, part in value.items()}
        elif keyword in ("anyOf", "oneOf", "prefixItems"):
            made[keyword] = [_told(part) for part in value]
        elif keyword in ("items", "additionalProperties"):
            made[keyword] = _told(value)
        elif keyword == "exclusiveMinimum":
            made.setdefault("minimum", value)
        elif keyword == "exclusiveMaximum":
            made.setdefault("maximum", value)
        elif keyword in _KEPT:
            made[keyword] = value
    return made


def _reaches(start: str, wanted: str, definitions: Any, seen: set[str]) -> bool:
    """Whether a definition refers to another one, over whatever others."""
    for name in _named_in(definitions.get(start)):
        if name == wanted:
            return True
        if name not in seen:
            seen.add(name)
            if _reaches(name, wanted, definitions, seen):
                return True
    return False


def _named_in(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(_named_in, node)) if node else set()
    if not isinstance(node, Mapping):
        return set()
    found = set().union(*map(_named_in, node.values())) if node else set()
    ref = node.get("$ref")
    return found | {ref.rpartition("/")[2]} if isinstance(ref, str) else found
