"""What a batch's ``output`` in YAML is: text, a whole body, a vector, or a Pydantic model.

A model is imported, or made of a JSON schema or of the short form, a mapping of fields. There a field is a type (``string``, ``integer``, ``number``, ``boolean``, ``list[...]`` of one of these), a list of the
allowed values, or a mapping of further fields. A ``?`` after the type allows null.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Optional

from pydantic import BaseModel, ConfigDict, create_model

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_schema_model import Making, is_json_schema, model_of_schema
from batchor_core.core.outputs import BodyOutput, OutputSpec, VectorOutput

_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}
_LIST = re.compile(r"list\[(.+)\]")
_MAKING = Making(
    place="output",
    instead="give package.module.Model as the output",
    class_name=lambda name: "".join(part.capitalize() for part in name.split("_")),
    element="",
    extra="forbid",
)
_made_models: dict[str, type[BaseModel]] = {}


def __getattr__(name: str) -> type[BaseModel]:
    """The models of the YAML that this process has loaded: the drivers of stored runs import them by this module and name."""
    try:
        return _made_models[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def output_of(name: str, given: str | Mapping[str, Any] | None) -> type[BaseModel] | OutputSpec | None:
    """The output of a batch; None for text.

    Args:
        name: Class name of a model that is made here.
        given: ``text``, ``body``, ``{vector: dimensions}``, or what :func:`output_model` takes.

    Raises:
        InvalidInputError: It is none of these; names the field.
    """
    if given is None or given == "text":
        return None
    if given == "body":
        return BodyOutput()
    if isinstance(given, Mapping) and wants_vectors(given):
        return VectorOutput(given["vector"])
    return output_model(name, given)


def wants_vectors(given: object) -> bool:
    """Whether a batch's ``output`` is a vector."""
    return isinstance(given, Mapping) and given.keys() == {"vector"} and isinstance(given["vector"], int)


def output_model(name: str, schema: str | Mapping[str, Any]) -> type[BaseModel]:
    """The model for a component's ``output``.

    Args:
        name: Class name of a model that is made here.
        schema: ``package.module.Model`` to import, a JSON schema of an object, or a mapping of field names to types.

    Raises:
        InvalidInputError: It is neither; names the field.
    """
    if isinstance(schema, str):
        return _imported(schema)
    model = model_of_schema(name, schema, _MAKING) if is_json_schema(schema) else _made(name, schema)
    model.__module__ = __name__
    _made_models[model.__qualname__] = model
    return model


def _imported(path: str) -> type[BaseModel]:
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInputError(
            f"output: {path!r} can't be imported ({error}); give package.module.Model, text or body"
        ) from error
    if not isinstance(found, type) or not issubclass(found, BaseModel):
        raise InvalidInputError(f"output: {path!r} is not a Pydantic model")
    return found


def _made(name: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    if not fields:
        raise InvalidInputError(f"output: {name} has no fields")
    annotated: dict[str, Any] = {
        field: (_annotation(f"{name}_{field}", field, kind), ...) for field, kind in fields.items()
    }
    return create_model(_class_name(name), __config__=ConfigDict(extra="forbid"), **annotated)


def _annotation(name: str, field: str, kind: Any) -> Any:
    if isinstance(kind, Mapping):
        return _made(name, kind)
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        if not kind or not all(isinstance(value, str | int) for value in kind):
            raise InvalidInputError(f"output: the allowed values of {field!r} must be strings or integers")
        return Literal[tuple(kind)]
    if isinstance(kind, str):
        text = kind.strip()
        if text.endswith("?"):
            return Optional[_annotation(name, field, text[:-1])]  # noqa: UP045 - of a type made at run time
        if text in _TYPES:
            return _TYPES[text]
        inner = _LIST.fullmatch(text)
        if inner:
            return list[_annotation(name, field, inner[1])]  # type: ignore[misc]
    raise InvalidInputError(
        f"output: {field!r} has the type {kind!r}; use {', '.join(_TYPES)}, list[...], a list of allowed values or a "
        "mapping of fields"
    )


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name) if part)
