"""Answers as plain dicts, for models whose instances would hold nothing else: several times as fast as making instances.

Whether a model is one of these is decided once, from its core schema, which is what Pydantic itself validates by. The schema is
rewritten so that each model gives a dict of its fields and each enum the value of its member. All else stays as it is:
constraints, coercions, aliases and settings are applied by the same code. Whatever runs code of the user's (validators, hooks,
properties, default factories), and whatever has another form in its column, is left to instances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError, SchemaValidator

from batchor_core.tables.model_columns import Column

_Node = Mapping[str, Any]

_SCALARS = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
_VALUES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_SHOWN_ONLY = {"metadata", "serialization", "ref"}
_MODEL = {
    "type",
    "cls",
    "schema",
    "config",
    "custom_init",
    "root_model",
    "generic_origin",
    "frozen",
} | _SHOWN_ONLY
_MODEL_FIELDS = {"type", "fields", "model_name", "computed_fields", "extra_behavior"} | _SHOWN_ONLY
_MODEL_FIELD = {
    *("type", "schema", "validation_alias", "metadata", "frozen"),
    *("serialization_alias", "serialization_exclude", "serialization_exclude_if"),
}
_LIST = {"type", "items_schema", "min_length", "max_length", "strict", "fail_fast"} | _SHOWN_ONLY
_DEFAULT = {"type", "schema", "default", "validate_default", "copy_default"} | _SHOWN_ONLY
_ENUM = {"type", "cls", "members", "sub_type", "missing", "strict"} | _SHOWN_ONLY
_HOOKS = ("__getattribute__", "__new__", "model_validate_json")
"""Methods that come between the core schema and what is read from an instance, and that the core schema does not show."""


class _Plain(NamedTuple):
    schema: dict[str, Any]
    arrow: pa.DataType


class _NotPlainError(Exception):
    """The instances of the model may hold something else than plain validation gives."""


def plain_validator(model: type[BaseModel], columns: Sequence[Column]) -> SchemaValidator | None:
    """A validator that takes an answer's JSON and gives a dict of what the model's columns take.

    None if it can't be proven from the model's core schema that this is what an instance would hold. It may refuse an answer
    that the model takes, and never takes one that the model refuses.
    """
    if not all(column.is_plain for column in columns):
        return None
    try:
        schema, arrow = _plain(TypeAdapter(model).core_schema, {}, ())
        # two readings of the same model, its annotations and its core schema, have to agree
        if arrow != pa.struct([pa.field(column.attribute, column.type) for column in columns]):
            return None
        return SchemaValidator(schema)
    except (_NotPlainError, SchemaError, PydanticUserError):
        return None


def _plain(node: _Node, definitions: Mapping[str, _Node], parents: tuple[str, ...]) -> _Plain:
    kind = node["type"]
    match kind:
        case "float":  # 1e400 is an infinity, for which the column has null: it is left to instances
            return _Plain({**_without_notes(node), "allow_inf_nan": False}, _SCALARS[kind])
        case "str" | "int" | "bool":
            return _Plain(_without_notes(node), _SCALARS[kind])
        case "nullable":
            inner = _plain(node["schema"], definitions, parents)
            return _Plain({**_without_notes(node), "schema": inner.schema}, inner.arrow)
        case "list" if node.keys() <= _LIST and "items_schema" in node:
            inner = _plain(node["items_schema"], definitions, parents)
            return _Plain({**_without_notes(node), "items_schema": inner.schema}, pa.list_(inner.arrow))
        case "literal":
            return _choice(node, node["expected"])
        case "enum" if node.keys() <= _ENUM:
            # what only the enum's _missing_ or a coercion makes a member of is refused here, and so left to instances
            return _choice(node, [member.value for member in node["members"]])
        case "function-after" if isinstance(node["function"]["function"], attrgetter):  # use_enum_values
            if node["schema"]["type"] != "enum" or repr(node["function"]["function"]) != _ENUM_VALUE:
                raise _NotPlainError
            return _plain(node["schema"], definitions, parents)
        case "model":
            return _fields(node, definitions, parents)
        case "definitions":
            found = {one["ref"]: one for one in node["definitions"]}
            return _plain(node["schema"], {**definitions, **found}, parents)
        case "definition-ref":
            ref = node["schema_ref"]
            if ref in parents or ref not in definitions:
                raise _NotPlainError
            return _plain(definitions[ref], definitions, (*parents, ref))
        case _:
            raise _NotPlainError


_ENUM_VALUE = repr(attrgetter("value"))


def _choice(node: _Node, values: Sequence[Any]) -> _Plain:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) != 1 or not kinds <= _VALUES.keys():
        raise _NotPlainError
    schema: dict[str, Any] = {"type": "literal", "expected": list(values)}
    if "strict" in node:
        schema["strict"] = node["strict"]
    return _Plain(schema, _VALUES[kinds.pop()])


def _fields(node: _Node, definitions: Mapping[str, _Node], parents: tuple[str, ...]) -> _Plain:
    """A model as a typed dict."""
    model, inner, config = node["cls"], node["schema"], node.get("config") or {}
    if (
        not node.keys() <= _MODEL
        or node.get("custom_init")
        or node.get("root_model")
        or inner["type"] != "model-fields"
        or not inner.keys() <= _MODEL_FIELDS
        or not inner["fields"]
        or inner.get("computed_fields")
        or "allow" in (inner.get("extra_behavior"), config.get("extra_fields_behavior"))
        or any(
            hook in vars(kind) for kind in model.__mro__ if kind not in BaseModel.__mro__ for hook in _HOOKS
        )
    ):
        raise _NotPlainError
    fields, types = {}, []
    for name, field in inner["fields"].items():
        # a class attribute that is found before the instance's own, such as a property, is not what was validated
        if not field.keys() <= _MODEL_FIELD or hasattr(model, name):
            raise _NotPlainError
        schema, is_required = field["schema"], True
        if schema["type"] == "default":
            if not schema.keys() <= _DEFAULT or type(schema.get("default", ...)) not in (
                *_VALUES,
                type(None),
            ):
                raise _NotPlainError
            if schema.get("default") in (math.inf, -math.inf):  # nothing validates a default
                raise _NotPlainError
            value, is_required = _plain(schema["schema"], definitions, parents), False
            value = value._replace(schema={**_without_notes(schema), "schema": value.schema})
        else:
            value = _plain(schema, definitions, parents)
        fields[name] = {"type": "typed-dict-field", "schema": value.schema, "required": is_required}
        if "validation_alias" in field:
            fields[name]["validation_alias"] = field["validation_alias"]
        types.append(pa.field(name, value.arrow))
    # a model's settings are its own: an empty config would be that of the model around it
    typed: dict[str, Any] = {
        "type": "typed-dict",
        "fields": fields,
        "config": {"title": model.__name__, **config},
    }
    if "extra_behavior" in inner:
        typed["extra_behavior"] = inner["extra_behavior"]
    return _Plain(typed, pa.struct(types))


def _without_notes(node: _Node) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in _SHOWN_ONLY}
