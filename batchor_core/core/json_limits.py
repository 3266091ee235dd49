"""What a JSON document for a provider can't contain: integers beyond 64 bits, NaN, half a surrogate pair, Python
objects.

Checked where a schema or a setting is given; otherwise the error would name the first item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1
MAX_DEPTH = 200

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_SIZES = (("minLength", "maxLength", "string"), ("minItems", "maxItems", "list"))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a value, and where.

    Attributes:
        where: The path below the value that was checked, such as ``.enum[2]``; empty for the value itself.
        problem: What is wrong, as the rest of a sentence: ``has ...`` or ``is ...``.
        fix: What to do.
    """

    where: str
    problem: str
    fix: str


def json_fault(value: Any, where: str = "", *, depth: int = MAX_DEPTH) -> Fault | None:
    """The first thing in a value that JSON can't hold; None if there is none."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        if MIN_INTEGER <= value <= MAX_INTEGER:
            return None
        return Fault(where, f"is {shown(value)}, which is beyond 64 bits", "use a number within 64 bits")
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return Fault(where, f"is {value}, which JSON does not have", "use a finite number")
    if isinstance(value, str):
        if is_text(value):
            return None
        return Fault(
            where, f"is {value[:40]!r}, which holds half of a surrogate pair", "remove that character"
        )
    if depth == 0:
        return Fault("", "is nested too deeply", f"at most {MAX_DEPTH} levels are possible")
    if isinstance(value, list | tuple):
        parts = ((f"{where}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not is_text(key):
                return Fault(
                    where, f"has the key {key!r}, which is not a JSON string", "use text for its keys"
                )
        parts = ((f"{where}.{key}", item) for key, item in value.items())
    else:
        return Fault(
            where,
            f"is a {type(value).__name__}, which JSON does not have",
            "use text, numbers, lists and objects",
        )
    return next((fault for at, item in parts if (fault := json_fault(item, at, depth=depth - 1))), None)


def is_text(value: str) -> bool:
    """Whether a string has a UTF-8 form. Half a surrogate pair has none."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def limits_fault(node: Mapping[str, Any]) -> Fault | None:
    """The first fault in the limits of a JSON Schema: numbers that can't be sent, limits that no value satisfies."""
    for keyword in _BOUNDS:
        if keyword in node and (fault := _bound_fault(keyword, node[keyword], node)):
            return fault
    if "multipleOf" in node and (fault := _bound_fault("multipleOf", node["multipleOf"], node)):
        return fault
    if node.get("multipleOf", 1) <= 0:
        return Fault(
            "",
            f"has multipleOf {shown(node['multipleOf'])}, of which nothing is a multiple",
            "use a number above 0",
        )
    for smallest, largest, what in _SIZES:
        for keyword in (smallest, largest):
            if keyword in node and (fault := _size_fault(keyword, node[keyword])):
                return fault
        if node.get(smallest, 0) > node.get(largest, MAX_INTEGER):
            problem = (
                f"has {smallest} {node[smallest]} above {largest} {node[largest]}, so that no {what} fits"
            )
            return Fault("", problem, "correct one of them")
    return _empty_range(node)


def _bound_fault(keyword: str, bound: Any, node: Mapping[str, Any]) -> Fault | None:
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        return Fault("", f"has {keyword} {shown(bound)}, which is not a number", "give a number")
    fault = json_fault(bound)
    if fault is None:
        return None
    if isinstance(bound, float):
        return Fault("", f"has {keyword} {bound}, which JSON does not have", "remove the bound")
    kinds = node.get("type")
    fix = "give a bound within 64 bits, or check it in a Pydantic validator instead"
    if (kinds == "number" or (isinstance(kinds, list) and "number" in kinds)) and abs(bound) < 10**300:
        fix = f"write it as a float, {float(bound)!r}"
    return Fault("", f"has {keyword} {shown(bound)}, which is beyond 64 bits", fix)


def _size_fault(keyword: str, size: Any) -> Fault | None:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        return Fault("", f"has {keyword} {shown(size)}", "use a whole number of at least 0, within 64 bits")
    return None


def _empty_range(node: Mapping[str, Any]) -> Fault | None:
    for low, is_low_open in (("minimum", False), ("exclusiveMinimum", True)):
        for high, is_high_open in (("maximum", False), ("exclusiveMaximum", True)):
            if low not in node or high not in node:
                continue
            if node[low] > node[high] or (node[low] == node[high] and (is_low_open or is_high_open)):
                return _no_number(low, high, node)
            if node.get("type") == "integer":
                smallest = math.floor(node[low]) + 1 if is_low_open else math.ceil(node[low])
                largest = math.ceil(node[high]) - 1 if is_high_open else math.floor(node[high])
                if smallest > largest:
                    return _no_number(low, high, node)
    return None


def _no_number(low: str, high: str, node: Mapping[str, Any]) -> Fault:
    kind = "integer" if node.get("type") == "integer" else "number"
    return Fault(
        "", f"has {low} {node[low]} and {high} {node[high]}, so that no {kind} fits", "correct one of them"
    )


def shown(value: Any) -> str:
    """A value for a message; integers of thousands of digits, which Python does not print, by their size."""
    if isinstance(value, int) and value.bit_length() > 512:
        return f"an integer of {value.bit_length():,} bits"
    return repr(value)[:80]
