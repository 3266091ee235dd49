"""Misspelt keys of a component's YAML, named with their place and the nearest key that exists."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError, create_model, model_validator

from batchor_dagster.components.wrong_values import simplified
from batchor_dagster.misspelt_names import advice


def unknown_keys(value: object, model: type[BaseModel], *, place: str = "") -> Iterator[str]:
    """A line for each key that the model does not have, at any depth.

    Args:
        value: The value in the YAML. The model itself checks values that should be mappings but are not.
        model: The model that it should fit.
        place: Of the value, such as ``batches[0].openai``.
    """
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        path = f"{place}.{key}" if place else str(key)
        if key not in model.model_fields:
            yield f"unknown key {path!r}{advice(str(key), model.model_fields)}"
            continue
        nested = _nested(model.model_fields[key].annotation)
        if nested is None:
            continue
        if isinstance(inner, Sequence) and not isinstance(inner, str):
            for index, one in enumerate(inner):
                yield from unknown_keys(one, nested, place=f"{path}[{index}]")
        else:
            yield from unknown_keys(inner, nested, place=path)


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The model within ``Model | None``, ``list[Model]`` or ``Annotated[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, list):
        return next((found for one in typing.get_args(annotation) if (found := _nested(one))), None)
    return None


def checked(derived: type[BaseModel], described: type[BaseModel]) -> type[BaseModel]:
    """The model that Dagster derives from a component, with clear errors about unknown keys and wrong values.

    Args:
        derived: Dagster's model, in which every object may be a template string instead. Therefore it reports a whole
            object as invalid if one of its keys is.
        described: The component.
    """

    def check(cls: type[BaseModel], value: Any, validate: Callable[[Any], Any]) -> Any:
        lines = list(unknown_keys(value, described))
        if lines:
            raise ValueError("; ".join(lines))
        try:
            return validate(value)
        except ValidationError as error:
            raise simplified(error, value) from None

    def schema(cls: type[BaseModel], *arguments: Any, **settings: Any) -> dict[str, Any]:
        full: dict[str, Any] = _pointed(derived.model_json_schema(*arguments, **settings))
        return full

    around: Any = model_validator(mode="wrap")
    made = create_model(
        derived.__name__, __base__=derived, __validators__={"name_what_is_wrong": around(classmethod(check))}
    )
    made.model_json_schema = classmethod(schema)  # type: ignore[assignment, method-assign]
    return made


def _pointed(schema: Any) -> Any:
    """A JSON schema whose errors point at the key that is wrong.

    ``anyOf`` an object or a template string becomes: if it is not a string, it is that object. Validators then check
    inside it. An unknown property is compared with the names of the known ones, which the validators' messages list.
    """
    if isinstance(schema, list):
        return [_pointed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _pointed(value) for key, value in schema.items()}
    if isinstance(made.get("anyOf"), list):
        plain = [one for one in made["anyOf"] if one.keys() <= {"type"} and one.get("type") in _PLAIN]
        others = [one for one in made["anyOf"] if one not in plain]
        if plain and len(others) == 1:
            del made["anyOf"]
            made |= {"if": {"type": [one["type"] for one in plain]}, "else": others[0]}
    if made.get("additionalProperties") is False and isinstance(made.get("properties"), dict):
        del made["additionalProperties"]
        made["propertyNames"] = {"enum": list(made["properties"])}
    return made


_PLAIN = {"string", "null"}
"""Types that a template string, or nothing, has instead of an object."""
