"""Pydantic types as Arrow columns: the type of the column, and how a value gets there.

| Python | Arrow |
|---|---|
| str, int, float, bool, bytes | string, int64, float64, bool, binary |
| Literal and Enum of one of these | the same |
| datetime (NaiveDatetime), date, time, timedelta | timestamp[us, UTC] (timestamp[us]), date32, time64[us], duration[us] |
| Decimal | decimal128 of its max_digits and decimal_places, (38, 18) where they are not given |
| int \\| float | float64 |
| UUID, paths, URLs, IP addresses | string |
| list, set, frozenset, tuple[T, ...] | list |
| model, dataclass, TypedDict | struct |
| Optional[T] | T; every column may be null |
| dict, Any, other unions, recursive models, models with open or no fields, all else | JSON as a string |

Computed fields have columns too, after the fields; one that raises is null. A column holds what the attribute of the model's
instance holds: aliases and custom serializers change neither its name nor its values, except within JSON strings, which
Pydantic writes.

A naive datetime in a UTC column is taken as UTC. A value that its column can't hold exactly becomes null; the row's
``output_text`` still has it. Such values are integers beyond 64 bits, infinities (``1e400`` is one as a float), integers that a float would round in a column of
``int | float``, Decimals beyond the column's digits on either side of the point, and times with a zone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import math
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

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


class _Kind(NamedTuple):
    """How a type becomes a column.

    Attributes:
        arrow: The column's type.
        convert: What prepares a value of a model's instance.
        is_plain: Whether the value comes out as text, a number, a bool, or lists and dicts of these, in JSON's own form.
    """

    arrow: pa.DataType
    convert: Convert
    is_plain: bool = False


_UNCONSTRAINED_DECIMAL = (38, 18)  # the most that one decimal128 holds, half of it after the point
_EXACT = decimal.Context(prec=100)

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
        is_plain: Whether the column holds text, numbers, bools, or lists and structs of these, in JSON's own form.
        is_computed: Whether the attribute is a computed field, whose code may raise.
    """

    attribute: str
    name: str
    type: pa.DataType
    convert: Convert
    description: str | None = None
    is_plain: bool = False
    is_computed: bool = False

    def array(self, values: Sequence[Any]) -> pa.Array:
        """One Arrow array of field values; None stays null."""
        return to_array(self.converted(values), self.type)

    def converted(self, values: Sequence[Any]) -> Sequence[Any]:
        """Field values as Arrow takes them; one that can't be converted becomes None."""
        convert = self.convert
        if convert is None:
            return values
        try:
            return [None if value is None else convert(value) for value in values]
        except Exception:  # the user's classes may raise anything; it costs their own values
            return [_or_none(_through, convert, value) for value in values]

    def values_of(self, answers: Sequence[Any]) -> list[Any]:
        """The field of each answer, which may be None."""
        name = self.attribute
        if self.is_computed:
            return [None if answer is None else _or_none(getattr, answer, name) for answer in answers]
        return [None if answer is None else getattr(answer, name) for answer in answers]


def model_columns(model: type[BaseModel], *, taken: Sequence[str] = ()) -> list[Column]:
    """The columns of a model, in the order of its fields, and then of its computed fields.

    A name in ``taken`` (letter case aside, as SQL engines see it) is prefixed with ``output_``. A root model has one
    column, ``root``.
    """
    used = {name.casefold() for name in taken}
    columns = []

    def add(attribute: str, kind: _Kind, description: str | None, *, is_computed: bool) -> None:
        name = attribute
        while name.casefold() in used:
            name = f"output_{name}"
        used.add(name.casefold())
        is_plain = kind.is_plain and not is_computed
        columns.append(Column(attribute, name, kind.arrow, kind.convert, description, is_plain, is_computed))

    for attribute, field in model.model_fields.items():
        kind = _resolve(field.annotation, tuple(field.metadata), (model,))
        add(attribute, kind, field.description, is_computed=False)
    for attribute, computed in model.model_computed_fields.items():
        add(attribute, _resolve(computed.return_type, (), (model,)), computed.description, is_computed=True)
    return columns


def plain_columns(answers: Sequence[Any], columns: Sequence[Column]) -> list[pa.Array]:
    """The columns of answers that are dicts of what the columns take; None is a row of nulls."""
    struct = pa.struct([pa.field(column.attribute, column.type) for column in columns])
    try:
        return list(pa.array(answers, type=struct).flatten())
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        # a value does not fit its column, such as an integer beyond 64 bits
        return [
            to_array(
                [None if answer is None else answer[column.attribute] for answer in answers], column.type
            )
            for column in columns
        ]


_UNFITTING = (pa.ArrowException, ArithmeticError, ValueError, TypeError)


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


def _resolve(annotation: Any, constraints: tuple[Any, ...], parents: tuple[Any, ...]) -> _Kind:
    """The column of an annotation. ``parents`` are the structs it lies in, to find recursion."""
    annotation, constraints = _unwrap(annotation, constraints)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _union(annotation, constraints, parents)
    if origin is Literal:
        return _choices(arguments, annotation)
    if origin in (list, set, frozenset, Sequence) and arguments:
        return _list(arguments[0], parents, is_list=origin is list)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _list(arguments[0], parents)
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _Kind(
            _PLAIN[annotation], _EXACTLY.get(annotation), is_plain=annotation in (str, int, float, bool)
        )
    if not isinstance(annotation, type):
        return _json(annotation)
    if issubclass(annotation, enum.Enum):
        return _choices([member.value for member in annotation], annotation)
    if issubclass(annotation, decimal.Decimal):
        return _decimal(constraints)
    if issubclass(annotation, _SPELLED):
        return _Kind(pa.string(), str)
    if issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) or is_typeddict(annotation):
        return _struct(annotation, parents)
    for python in (str, int, float):  # subclasses such as EmailStr
        if issubclass(annotation, python):
            return _Kind(_PLAIN[python], python)
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


def _union(annotation: Any, constraints: tuple[Any, ...], parents: tuple[Any, ...]) -> _Kind:
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    if len(members) == 1:
        return _resolve(members[0], constraints, parents)
    if set(members) == {int, float}:
        return _Kind(pa.float64(), _number)
    return _json(annotation)


def _choices(values: Sequence[Any], annotation: Any) -> _Kind:
    plain = [value.value if isinstance(value, enum.Enum) else value for value in values]
    kinds = {type(value) for value in plain if value is not None}
    if len(kinds) != 1 or not kinds <= {str, int, float, bool}:
        return _json(annotation)
    return _Kind(_PLAIN[kinds.pop()], _value_of, is_plain=True)


def _value_of(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _integer(value: Any) -> int | None:
    """An integer and nothing else: a validator may give a float, which Arrow would cut off without a word."""
    return value if isinstance(value, int) else None


def _number(value: Any) -> float | None:
    """A number as a float, unless that would round it."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return None if isinstance(value, int) and number != value else _finite(number)


def _local_time(value: Any) -> dt.time | None:
    """A time without a zone: Arrow's times have none, and it would leave the offset out without a word."""
    return value if isinstance(value, dt.time) and value.tzinfo is None else None


def _finite(value: Any) -> Any:
    """A float, and null for an infinity: JSON has none, so the answer's number was beyond a float's range (``1e400``)."""
    return None if isinstance(value, float) and math.isinf(value) else value


_EXACTLY: dict[Any, Convert] = {int: _integer, float: _finite, dt.time: _local_time}


def _list(element: Any, parents: tuple[Any, ...], *, is_list: bool = False) -> _Kind:
    arrow, convert, is_plain = _resolve(element, (), parents)
    if convert is None:
        return _Kind(pa.list_(arrow), list, is_list and is_plain)

    def converted(values: Any) -> list[Any]:
        return [None if value is None else convert(value) for value in values]

    return _Kind(pa.list_(arrow), converted, is_list and is_plain)


def _decimal(constraints: tuple[Any, ...]) -> _Kind:
    digits, places = _constraint(constraints, "max_digits"), _constraint(constraints, "decimal_places")
    if digits is None or places is None or not 0 <= places <= digits <= 38:
        digits, places = _UNCONSTRAINED_DECIMAL
    step = decimal.Decimal(1).scaleb(-places)

    def exact(value: decimal.Decimal) -> decimal.Decimal | None:
        if not value.is_finite() or (value and value.adjusted() >= digits - places):
            return None
        scaled = value.quantize(step, context=_EXACT)
        return scaled if scaled == value else None

    return _Kind(pa.decimal128(digits, places), exact)


def _constraint(constraints: tuple[Any, ...], name: str) -> int | None:
    for constraint in constraints:
        # a FieldInfo inside Annotated nests them
        for holder in (constraint, *getattr(constraint, "metadata", ())):
            value = getattr(holder, name, None)
            if isinstance(value, int):
                return value
    return None


def _struct(kind: Any, parents: tuple[Any, ...]) -> _Kind:
    if kind in parents:
        return _json(kind)  # Arrow has no recursive types
    if issubclass(kind, RootModel):
        root = _resolve(kind.model_fields["root"].annotation, (), (*parents, kind))
        return _Kind(root.arrow, lambda value: _through(root.convert, value.root))
    if issubclass(kind, BaseModel) and kind.model_config.get("extra") == "allow":
        return _json(kind)
    annotations = _field_annotations(kind)
    if not annotations:
        return _json(kind)  # Parquet has no empty structs
    fields = {
        name: _resolve(hint, metadata, (*parents, kind)) for name, (hint, metadata) in annotations.items()
    }
    computed = kind.model_computed_fields if issubclass(kind, BaseModel) else {}
    of_code = {name: _resolve(field.return_type, (), (*parents, kind)) for name, field in computed.items()}
    arrow = pa.struct([pa.field(name, one.arrow) for name, one in (fields | of_code).items()])
    converts = {name: one.convert for name, one in fields.items()}
    get: Callable[[Any, str], Any] = _member if is_typeddict(kind) else getattr

    def members(value: Any) -> dict[str, Any]:
        held = {name: _through(convert, get(value, name)) for name, convert in converts.items()}
        for name, one in of_code.items():
            held[name] = _or_none(_through, one.convert, _or_none(getattr, value, name))
        return held

    is_plain = issubclass(kind, BaseModel) and not of_code and all(one.is_plain for one in fields.values())
    return _Kind(arrow, members, is_plain)


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


def _or_none(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives; None if code of the user's raises in it."""
    try:
        return function(*arguments)
    except Exception:
        return None


def _json(annotation: Any) -> _Kind:
    adapter = TypeAdapter(Any if isinstance(annotation, typing.TypeVar) else annotation)
    return _Kind(pa.string(), lambda value: adapter.dump_json(value, warnings=False).decode())
