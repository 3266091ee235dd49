"""A simple JSON schema as a Pydantic model: objects, lists, strings, numbers, enums and null."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Optional

from pydantic import BaseModel, Field, create_model

from batchor_core.core.exceptions import InvalidInputError

_SCALARS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": None,
}
_KNOWN = {
    "$schema",
    "$id",
    "additionalProperties",
    "const",
    "description",
    "enum",
    "items",
    "properties",
    "required",
    "title",
    "type",
}


def model_of_json_schema(path: Path) -> type[BaseModel]:
    """The model of a file with the schema of an object, named by its title or the file.

    Raises:
        InvalidInputError: The file holds no such schema, or one that needs more than this.
    """
    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidInputError(f"--schema: {path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidInputError(f"--schema: {path} is not JSON: {error}") from None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InvalidInputError(f"--schema: {path} must hold the JSON schema of an object")
    title = str(schema.get("title") or path.name.partition(".")[0])
    model: type[BaseModel] = _object(schema, title, where=f"{path}: ")
    return model


def _object(schema: dict[str, Any], title: str, *, where: str) -> Any:
    _check_known(schema, where)
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not properties:
        raise InvalidInputError(f"--schema: {where}an object needs properties")
    fields: dict[str, Any] = {}
    for name, part in properties.items():
        if not name.isidentifier() or name.startswith("_") or hasattr(BaseModel, name):
            raise _too_much(where, f"a property {name!r}")
        hint = _type(part, f"{title}_{name}", where=f"{where}{name}: ")
        described = Field(default=... if name in required else None, description=part.get("description"))
        fields[name] = (hint if name in required else Optional[hint], described)  # noqa: UP045 - a value here
    name = "".join(word[:1].upper() + word[1:] for word in _words(title)) or "Output"
    return create_model(name, __module__=__name__, __doc__=schema.get("description"), **fields)


def _type(schema: Any, title: str, *, where: str) -> Any:
    if not isinstance(schema, dict):
        raise InvalidInputError(f"--schema: {where}{schema!r} is not a schema")
    _check_known(schema, where)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Literal[tuple(values)]
    kind = schema.get("type")
    if isinstance(kind, list):
        parts = [_type({**schema, "type": one}, title, where=where) for one in kind if one != "null"]
        if len(parts) != 1:
            raise _too_much(where, f"type {kind!r}")
        return Optional[parts[0]] if "null" in kind else parts[0]  # noqa: UP045 - as above
    if kind == "object":
        return _object(schema, title, where=where)
    if kind == "array":
        element = _type(schema.get("items"), f"{title}_item", where=f"{where}items: ")
        return list[element]  # type: ignore[valid-type]
    if kind not in _SCALARS:
        raise _too_much(where, f"type {kind!r}")
    return _SCALARS[kind]


def _check_known(schema: dict[str, Any], where: str) -> None:
    if unknown := sorted(schema.keys() - _KNOWN):
        raise _too_much(where, ", ".join(map(repr, unknown)))


def _too_much(where: str, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"--schema: {where}{what} is not supported in a JSON schema file; write a Pydantic model and give FILE.py:MODEL"
    )


def _words(title: str) -> list[str]:
    return "".join(sign if sign.isalnum() else " " for sign in title).split()
