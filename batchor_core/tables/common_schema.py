"""One schema for result files that different versions of a model have written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa

from batchor_core.core.exceptions import InvalidInputError

_NAMED = 3  # partitions that an error names for each type
_EXACT = 2**53  # a double holds every integer up to here

Ranges: TypeAlias = Callable[[str], Mapping[str, tuple[int, int]]]
"""The smallest and the largest integer of each leaf column of a partition's file, as far as the file says."""


def unified_schema(schemas: Mapping[str, pa.Schema], ranges: Ranges) -> pa.Schema:
    """A schema that fits all files: all columns of all files, with types promoted to one that holds all values.

    If a file lacks a column, it is null there. The same holds for nested columns. No promotion changes a value:
    integers become floats only if a float holds each of them exactly, and decimals never do.

    Args:
        schemas: By partition.
        ranges: Used if integers would become floats.

    Raises:
        InvalidInputError: There is no such schema; names the columns, their types and the partitions.
    """
    fields: dict[str, pa.Field] = {}
    found: dict[str, dict[pa.DataType, list[str]]] = {}
    for partition, schema in schemas.items():
        for field in schema:
            fields.setdefault(field.name, field)
            found.setdefault(field.name, {}).setdefault(field.type, []).append(partition)
    problems, unified = [], []
    for name, types in found.items():
        common = _common_type(name, list(types))
        problem = "" if common is not None else "no type holds both"
        if common is not None:
            problem = _loss(name, types, common, ranges)
            unified.append(fields[name].with_type(common))
        if problem:
            told = ", ".join(f"{kind} in {_listed(partitions)}" for kind, partitions in types.items())
            problems.append(f"column {name} is {told} ({problem})")
    if problems:
        raise InvalidInputError(
            f"these partitions can't be read together: {'; '.join(problems)}. Load them one at a time, or materialize again "
            "those written with an older version of the model"
        )
    return pa.schema(unified)


def _common_type(name: str, types: Sequence[pa.DataType]) -> pa.DataType | None:
    try:
        schemas = [pa.schema([pa.field(name, kind)]) for kind in types]
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None
    becomes = dict(_leaves(name, common))
    least: dict[str, int] = {}
    for kind in types:
        for path, leaf in _leaves(name, kind):
            if pa.types.is_integer(leaf) and pa.types.is_decimal(becomes.get(path, leaf)):
                least[path] = _digits_for(leaf) + becomes[path].scale
    return _with_digits(name, common, least)


def _digits_for(integer: pa.DataType) -> int:
    """The digits before the point that Arrow's cast of such integers asks of a decimal, which its promotion does not give."""
    probe = pa.array([1], type=integer)
    for digits in range(1, 39):
        try:
            probe.cast(pa.decimal128(digits, 0))
        except pa.ArrowInvalid:
            continue
        return digits
    raise AssertionError(f"no decimal takes {integer}")


def _with_digits(path: str, kind: pa.DataType, least: Mapping[str, int]) -> pa.DataType:
    """The type with at least so many digits in its decimals, by the paths of :func:`_leaves`."""
    if pa.types.is_struct(kind):
        return pa.struct(
            [field.with_type(_with_digits(f"{path}.{field.name}", field.type, least)) for field in kind]
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.list_ if pa.types.is_list(kind) else pa.large_list
        element = kind.value_field
        return made(element.with_type(_with_digits(f"{path}.list.element", element.type, least)))
    if pa.types.is_decimal(kind) and least.get(path, 0) > kind.precision:
        digits = least[path]
        return pa.decimal128(digits, kind.scale) if digits <= 38 else pa.decimal256(digits, kind.scale)
    return kind


def _loss(name: str, types: Mapping[pa.DataType, Sequence[str]], common: pa.DataType, ranges: Ranges) -> str:
    """What would be lost if the column had this type; empty if nothing."""
    becomes = dict(_leaves(name, common))
    if any(pa.types.is_decimal256(leaf) for leaf in becomes.values()):
        return "no decimal of 38 digits holds both"
    for kind, partitions in types.items():
        for path, leaf in _leaves(name, kind):
            target = becomes.get(path)
            if target is not None and (problem := _unheld(leaf, target)):
                return problem
            if target is not None and pa.types.is_int64(target) and pa.types.is_uint64(leaf):
                for partition in partitions:
                    high = ranges(partition).get(path, (0, 0))[1]
                    if high >= 2**63:
                        return f"64 bits with a sign don't hold integers of {partition}, up to {high}"
            # none where the file has nothing but nulls for a list or struct
            if target is None or not pa.types.is_floating(target) or pa.types.is_floating(leaf):
                continue
            if pa.types.is_decimal(leaf):
                return "a float would round the decimals"
            if not pa.types.is_integer(leaf):
                continue  # of nulls
            for partition in partitions:
                low, high = ranges(partition).get(path, (0, 0))
                if low < -_EXACT or high > _EXACT:
                    return f"a float would round integers of {partition}, from {low} to {high}"
    return ""


def _unheld(leaf: pa.DataType, target: pa.DataType) -> str:
    """What Arrow promotes although readers can't follow; empty if nothing."""
    if pa.types.is_binary(target) or pa.types.is_large_binary(target):
        is_text = pa.types.is_string(leaf) or pa.types.is_large_string(leaf) or pa.types.is_string_view(leaf)
        return "text would become bytes" if is_text else ""
    if pa.types.is_timestamp(target) and pa.types.is_timestamp(leaf):
        is_finer = target.unit == "ns" and leaf.unit != "ns"
        return "nanoseconds don't hold every date of the coarser unit" if is_finer else ""
    return ""


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The leaf columns of a column, by the paths that Parquet files give them."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
