"""Pydantic types as Arrow columns: the type of the column, and how a value gets there.

| Python | Arrow |
|---|---|
| str, int, float, bool, bytes | string, int64, float64, bool, binary |
| Literal and Enum of one of these | the same |
| datetime (NaiveDatetime), date, time, timedelta | timestamp[us, UTC] (timestamp[us]), date32, time64[us], duration[us] |
| Decimal | decimal128 of its max_digits and decimal_places, (38, 18) where they are not given |
| UUID, paths, URLs, IP addresses | string |
| list, set, frozenset, tuple[T, ...] | list |
| model, dataclass, TypedDict | struct |
| Optional[T] | T; every column may be null |
| dict, Any, other unions, recursive models, models with open or no fields, all else | JSON as a string |

A naive datetime in a UTC column is taken as UTC. A value that its column can't hold, such as an integer beyond 64 bits
or a Decimal beyond its digits, becomes null; the row's ``output_text`` still has it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args, get_origin

import pyarrow as pa
from pydantic import (
    AnyUrl,
    AwareDatetime,
    BaseModel,
    FutureDate,
    FutureDatetime,
    NaiveDatetime,
    PastDate,
    PastDatetime,
    RootModel,
    TypeAdapter,
)
from typing_extensions import TypeAliasType, is_typeddict

Convert: TypeAlias = "Callable[[Any], Any] | None"
"""Turns a value that is not None into what Arrow takes; None where Arrow takes it as it is."""

_UNCONSTRAINED_DECIMAL = (38, 18)  # the most that one decimal128 holds, half of it after the point
_ROUNDING = decimal.Context(prec=100, rounding=decimal.ROUND_HALF_EVEN)

_PLAIN: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bytes: pa.binary(),
    dt.datetime: pa.timestamp("us", tz="UTC"),
    dt.date: pa.date32(),
    dt.time: pa.time64("us"),
    dt.timedelta: pa.duration("us"),
    AwareDatetime: pa.timestamp("us", tz="UTC"),
    NaiveDatetime: pa.timestamp("us"),
    **dict.fromkeys((PastDatetime, FutureDatetime), pa.timestamp("us", tz="UTC")),
    **dict.fromkeys((PastDate, FutureDate), pa.date32()),
}
_SPELLED = (
    uuid.UUID,
    pathlib.PurePath,
    AnyUrl,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
)


@dataclass(frozen=True, slots=True)
class Column:
    """How one field of a model becomes a column.

    Attributes:
        attribute: The field's name on the model.
        name: The column's name.
        type: Its Arrow type.
        convert: Prepares one value, None where there is nothing to prepare.
        description: The field's description, if it has one.
    """

    attribute: str
    name: str
    type: pa.DataType
    convert: Convert
    description: str | None = None

    def array(self, values: Sequence[Any]) -> pa.Array:
        """One Arrow array of field values; None stays null."""
        convert = self.convert
        if convert is not None:
            try:
                values = [None if value is None else convert(value) for value in values]
            except _UNFITTING:
                values = [None if value is None else _converted(convert, value) for value in values]
        return to_array(values, self.type)


def model_columns(model: type[BaseModel], *, taken: Sequence[str] = ()) -> list[Column]:
    """The columns of a model, in the order of its fields.

    A name in ``taken`` (letter case aside, as SQL engines see it) is prefixed with ``output_``. A root model has one
    column, ``root``.
    """
    used = {name.casefold() for name in taken}
    columns = []
    for attribute, field in model.model_fields.items():
        name = attribute
        while name.casefold() in used:
            name = f"output_{name}"
        used.add(name.casefold())
        arrow, convert = _resolve(field.annotation, tuple(field.metadata), (model,))
        columns.append(Column(attribute, name, arrow, convert, field.description))
    return columns


def takes_json(model: type[BaseModel]) -> bool:
    """Whether a valid answer's JSON, as it stands, holds what the model's instance would: nothing is converted or replaced.

    Then Arrow reads the JSON itself, several times as fast as by way of instances.
    """
    return _takes_json(model, ())


def json_columns(answers: Sequence[Any], columns: Sequence[Column]) -> list[pa.Array]:
    """The columns of answers as their JSON was loaded; None is a row of nulls.

    Raises:
        pyarrow.ArrowException: A value does not fit its column. OverflowError, ValueError and TypeError mean the same.
    """
    struct = pa.struct([pa.field(column.attribute, column.type) for column in columns])
    return list(pa.array(answers, type=struct).flatten())


_HARMLESS_CONFIG = {
    "title",
    "extra",
    "frozen",
    "use_enum_values",
    "json_schema_extra",
    "use_attribute_docstrings",
}
_HARMLESS_CONSTRAINTS = {"pattern", "strict"}


def _takes_json(annotation: Any, parents: tuple[Any, ...]) -> bool:
    annotation, constraints = _unwrap(annotation, ())
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not all(_only_restricts(constraint) for constraint in constraints):
        return False
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not types.NoneType]
        return len(members) == 1 and _takes_json(members[0], parents)
    if origin is Literal:
        return _choices(arguments, annotation)[1] is _value_of
    if origin is list:
        return _takes_json(arguments[0], parents)
    if not isinstance(annotation, type) or annotation in parents:
        return False
    if issubclass(annotation, enum.Enum):
        return _choices([member.value for member in annotation], annotation)[1] is _value_of
    if annotation in (str, int, float, bool):
        return True
    if not issubclass(annotation, BaseModel) or issubclass(annotation, RootModel):
        return False
    return _has_no_code(annotation) and all(
        field.is_required()
        and field.validation_alias is None
        and all(_only_restricts(constraint) for constraint in field.metadata)
        and _takes_json(field.annotation, (*parents, annotation))
        for field in annotation.model_fields.values()
    )


def _has_no_code(model: type[BaseModel]) -> bool:
    """Whether a model is its fields and nothing else: no validators, no hooks, no settings that change values."""
    decorators = model.__pydantic_decorators__
    hooks = ("model_post_init", "__get_pydantic_core_schema__", "model_validate_json", "__init__", "__new__")
    return (
        not (decorators.validators or decorators.field_validators)
        and not (decorators.root_validators or decorators.model_validators)
        and set(model.model_config) <= _HARMLESS_CONFIG
        and model.model_config.get("extra") != "allow"
        and bool(model.model_fields)
        and not any(
            hook in vars(kind) for kind in model.__mro__ if kind not in BaseModel.__mro__ for hook in hooks
        )
    )


def _only_restricts(constraint: Any) -> bool:
    """Whether a constraint refuses values, and never changes one."""
    kind = type(constraint)
    if kind.__module__.partition(".")[0] == "annotated_types":
        return True
    return (
        kind.__name__.endswith("PydanticGeneralMetadata") and set(vars(constraint)) <= _HARMLESS_CONSTRAINTS
    )


_UNFITTING = (pa.ArrowException, ArithmeticError, ValueError, TypeError)


def _converted(convert: Callable[[Any], Any], value: Any) -> Any:
    """The value as Arrow takes it; None where it has no such form, such as an integer beyond what a float holds."""
    try:
        return convert(value)
    except _UNFITTING:
        return None


def to_array(values: Sequence[Any], arrow: pa.DataType) -> pa.Array:
    """Arrow's own conversion of the whole column; value by value only if one of them does not fit."""
    try:
        return pa.array(values, type=arrow)
    except _UNFITTING:
        return pa.array([_fitting(value, arrow) for value in values], type=arrow)


def _fitting(value: Any, arrow: pa.DataType) -> Any:
    if isinstance(value, str):  # a lone surrogate has no UTF-8
        value = value.encode("utf-8", "replace").decode()
    try:
        pa.array([value], type=arrow)
    except _UNFITTING:
        return None
    return value


def _resolve(
    annotation: Any, constraints: tuple[Any, ...], parents: tuple[Any, ...]
) -> tuple[pa.DataType, Convert]:
    """The Arrow type of an annotation. ``parents`` are the structs it lies in, to find recursion."""
    annotation, constraints = _unwrap(annotation, constraints)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _union(annotation, constraints, parents)
    if origin is Literal:
        return _choices(arguments, annotation)
    if origin in (list, set, frozenset, Sequence) and arguments:
        return _list(arguments[0], parents)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _list(arguments[0], parents)
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _PLAIN[annotation], None
    if not isinstance(annotation, type):
        return _json(annotation)
    if issubclass(annotation, enum.Enum):
        return _choices([member.value for member in annotation], annotation)
    if issubclass(annotation, decimal.Decimal):
        return _decimal(constraints)
    if issubclass(annotation, _SPELLED):
        return pa.string(), str
    if issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) or is_typeddict(annotation):
        return _struct(annotation, parents)
    for python in (str, int, float):  # subclasses such as EmailStr
        if issubclass(annotation, python):
            return _PLAIN[python], python
    return _json(annotation)


def _unwrap(annotation: Any, constraints: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Look through Annotated, type aliases and NewType."""
    while True:
        if get_origin(annotation) is typing.Annotated:
            annotation, *more = get_args(annotation)
            constraints = (*constraints, *more)
        elif isinstance(annotation, TypeAliasType):
            annotation = annotation.__value__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation, constraints


def _union(
    annotation: Any, constraints: tuple[Any, ...], parents: tuple[Any, ...]
) -> tuple[pa.DataType, Convert]:
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    if len(members) == 1:
        return _resolve(members[0], constraints, parents)
    if set(members) == {int, float}:
        return pa.float64(), float
    return _json(annotation)


def _choices(values: Sequence[Any], annotation: Any) -> tuple[pa.DataType, Convert]:
    plain = [value.value if isinstance(value, enum.Enum) else value for value in values]
    kinds = {type(value) for value in plain if value is not None}
    if len(kinds) != 1 or not kinds <= {str, int, float, bool}:
        return _json(annotation)
    return _PLAIN[kinds.pop()], _value_of


def _value_of(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _list(element: Any, parents: tuple[Any, ...]) -> tuple[pa.DataType, Convert]:
    arrow, convert = _resolve(element, (), parents)
    if convert is None:
        return pa.list_(arrow), list
    return pa.list_(arrow), lambda values: [None if value is None else convert(value) for value in values]


def _decimal(constraints: tuple[Any, ...]) -> tuple[pa.DataType, Convert]:
    digits, places = _constraint(constraints, "max_digits"), _constraint(constraints, "decimal_places")
    if digits is None or places is None or not 0 <= places <= digits <= 38:
        digits, places = _UNCONSTRAINED_DECIMAL
    step = decimal.Decimal(1).scaleb(-places)

    def rounded(value: decimal.Decimal) -> decimal.Decimal | None:
        return (
            value.quantize(step, context=_ROUNDING) if value.is_finite() and value.adjusted() < 38 else None
        )

    return pa.decimal128(digits, places), rounded


def _constraint(constraints: tuple[Any, ...], name: str) -> int | None:
    for constraint in constraints:
        for holder in (
            constraint,
            *getattr(constraint, "metadata", ()),
        ):  # a FieldInfo inside Annotated nests them
            value = getattr(holder, name, None)
            if isinstance(value, int):
                return value
    return None


def _struct(kind: Any, parents: tuple[Any, ...]) -> tuple[pa.DataType, Convert]:
    if kind in parents:
        return _json(kind)  # Arrow has no recursive types
    if issubclass(kind, RootModel):
        inner, convert_inner = _resolve(kind.model_fields["root"].annotation, (), (*parents, kind))
        return inner, (lambda value: _through(convert_inner, value.root))
    if issubclass(kind, BaseModel) and kind.model_config.get("extra") == "allow":
        return _json(kind)
    annotations = _field_annotations(kind)
    if not annotations:
        return _json(kind)  # Parquet has no empty structs
    fields = {
        name: _resolve(hint, metadata, (*parents, kind)) for name, (hint, metadata) in annotations.items()
    }
    arrow = pa.struct([pa.field(name, arrow) for name, (arrow, _) in fields.items()])
    converts = {name: convert for name, (_, convert) in fields.items()}
    get: Callable[[Any, str], Any] = _member if is_typeddict(kind) else getattr
    return arrow, lambda value: {
        name: _through(convert, get(value, name)) for name, convert in converts.items()
    }


def _field_annotations(kind: Any) -> Mapping[str, tuple[Any, tuple[Any, ...]]]:
    if issubclass(kind, BaseModel):
        return {name: (field.annotation, tuple(field.metadata)) for name, field in kind.model_fields.items()}
    hints = typing.get_type_hints(kind, include_extras=True)
    names = (
        [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else list(hints)
    )
    return {name: (_required(hints[name]), ()) for name in names}


def _required(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in (typing.NotRequired, typing.Required) else hint


def _member(value: Mapping[str, Any], name: str) -> Any:
    return value.get(name)


def _through(convert: Convert, value: Any) -> Any:
    return value if value is None or convert is None else convert(value)


def _json(annotation: Any) -> tuple[pa.DataType, Convert]:
    adapter = TypeAdapter(Any if isinstance(annotation, typing.TypeVar) else annotation)
    return pa.string(), lambda value: adapter.dump_json(value, warnings=False).decode()
