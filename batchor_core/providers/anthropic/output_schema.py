"""Anthropic's dialect of JSON Schema for structured outputs.

The API takes a part of JSON Schema and refuses the rest: no bounds on numbers, texts or most lists, no patterns, no recursion.
What it does not take goes into the description, so that the model is told; the model class checks it when the answer is parsed.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from batchor_core.core.exceptions import StructuredOutputSchemaError
from batchor_core.core.structured import StructuredOutputSchema, closed_model_schema

_TAKEN = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "allOf",
        "const",
        "default",
        "description",
        "enum",
        "items",
        "properties",
        "required",
        "title",
        "type",
    }
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def model_output_schema(model: type[BaseModel], *, schema_name: str | None = None) -> StructuredOutputSchema:
    """The schema of a model as the API takes it.

    Raises:
        StructuredOutputSchemaError: The model has no such schema: it contains itself, or an object with arbitrary keys.
    """
    name, schema = closed_model_schema(model, schema_name=schema_name)
    assert isinstance(name, str)
    assert isinstance(schema, dict)
    _refuse_recursion(model, schema)
    return StructuredOutputSchema(name, _node(schema, model, "$"))


def _node(node: Any, model: type[BaseModel], where: str) -> Any:
    if not isinstance(node, dict):
        return node
    if node.get("additionalProperties", False) is not False or (
        node.get("type") == "object" and "properties" not in node
    ):
        raise StructuredOutputSchemaError(
            f"{model.__name__}: {where} has arbitrary keys, which Anthropic's structured outputs don't have; "
            "give it a model of its own, or a list of key and value"
        )
    made: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("$defs", "properties"):
            made[key] = {name: _node(one, model, f"{where}.{name}") for name, one in value.items()}
        elif key in ("anyOf", "allOf"):
            made[key] = [_node(one, model, where) for one in value]
        elif key == "items":
            made[key] = _node(value, model, f"{where}[]")
        elif (
            key in _TAKEN
            or (key == "format" and value in _FORMATS)
            or (key == "minItems" and value in (0, 1))
        ):
            made[key] = value
        else:
            told[key] = value
    if told:
        rules = f"JSON Schema: {json.dumps(told, ensure_ascii=False)}"
        made["description"] = f"{made['description']} {rules}" if "description" in made else rules
    return made


def _refuse_recursion(model: type[BaseModel], schema: dict[str, Any]) -> None:
    definitions = schema.get("$defs", {})

    def walk(node: Any, inside: tuple[str, ...]) -> None:
        if isinstance(node, list):
            for one in node:
                walk(one, inside)
        elif isinstance(node, dict):
            ref = node.get("$ref")
            name = ref.rpartition("/")[2] if isinstance(ref, str) else None
            if ref == "#" or name in inside:
                raise StructuredOutputSchemaError(
                    f"{model.__name__} contains itself, which Anthropic's structured outputs don't allow; "
                    "limit the depth with models of their own"
                )
            if name is not None and name in definitions:
                walk(definitions[name], (*inside, name))
            for key, value in node.items():
                if key != "$defs":
                    walk(value, inside)

    walk(schema, ())
