"""Values that satisfy a JSON schema, made from the words of a prompt.

Meant for the schemas of structured outputs: objects, arrays, scalars, enums, constants, unions, ``$defs`` and
recursion, formats, bounds and simple patterns. The same schema, words and seed always give the same value. A
schema is compiled once into nested functions, so that tens of thousands of rows share the work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

from batchor_core.testing.local_server.patterns import UnsupportedPatternError, pattern_writer

_DEEP = 5
"""Levels below the root after which unions, optional fields and arrays take their shortest form."""

_ENDLESS = 10_000
_FALLBACK_WORDS = ("sample", "answer", "text")


@dataclass(slots=True)
class _Draw:
    """What one answer is drawn from."""

    random: Random
    words: Sequence[str]

    def text(self, least: int = 1, most: int = 5) -> str:
        """A run of neighbouring words of the prompt."""
        count = self.random.randint(least, most)
        start = self.random.randrange(len(self.words))
        return " ".join(self.words[(start + step) % len(self.words)] for step in range(count))


_Maker: TypeAlias = Callable[[_Draw, int], Any]


class SchemaAnswers:
    """Writes answers for one schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._makers: dict[str, _Maker] = {}
        self._make = self._compile(schema)

    def value(self, words: Sequence[str], seed: int) -> Any:
        """A value that satisfies the schema; its texts are drawn from ``words``."""
        return self._make(_Draw(Random(seed), words or _FALLBACK_WORDS), 0)  # noqa: S311

    # -- compiling ---------------------------------------------------------------------------------

    def _compile(self, schema: Any) -> _Maker:
        if not isinstance(schema, Mapping):
            return lambda draw, depth: draw.text()
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "const" in schema:
            constant = schema["const"]
            return lambda draw, depth: constant
        if "enum" in schema:
            options = list(schema["enum"])
            return lambda draw, depth: draw.random.choice(options)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self._union(schema[union])
        return self._typed(schema)

    def _typed(self, schema: Mapping[str, Any]) -> _Maker:
        kind = schema.get("type", _implied_type(schema))
        if isinstance(kind, list):
            return self._union([{**schema, "type": each} for each in kind])
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return _string(schema)
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return lambda draw, depth: draw.random.random() < 0.5
            case "null":
                return lambda draw, depth: None
            case _:
                raise ValueError(f"unknown JSON schema type {kind!r}")

    def _reference(self, ref: str) -> _Maker:
        # The maker is looked up when it runs, so that a schema may name itself.
        if ref not in self._makers:
            self._makers[ref] = lambda draw, depth: ""
            self._makers[ref] = self._compile(self._resolve(ref))
        return lambda draw, depth: self._makers[ref](draw, depth)

    def _union(self, options: Sequence[Any]) -> _Maker:
        makers = [self._compile(option) for option in options]
        heights = [self._height(option) for option in options]
        shortest = makers[heights.index(min(heights))]
        filled = [
            maker for maker, option in zip(makers, options, strict=True) if not _is_null(option)
        ] or makers

        def make(draw: _Draw, depth: int) -> Any:
            if depth >= _DEEP:
                return shortest(draw, depth)
            # An optional field is filled three times out of four, so that a demo shows more than nulls.
            pool = filled if draw.random.random() < 0.75 else makers
            return draw.random.choice(pool)(draw, depth)

        return make

    def _object(self, schema: Mapping[str, Any]) -> _Maker:
        properties = schema.get("properties") or {}
        required = set(schema.get("required") or ())
        members = [(name, self._compile(member), name in required) for name, member in properties.items()]
        members += [
            (name, self._compile({}), True) for name in schema.get("required") or () if name not in properties
        ]

        def make(draw: _Draw, depth: int) -> dict[str, Any]:
            return {
                name: member(draw, depth + 1) for name, member, needed in members if needed or depth < _DEEP
            }

        return make

    def _array(self, schema: Mapping[str, Any]) -> _Maker:
        item = self._compile(schema.get("items", {}))
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 3)))
        usual = min(max(least, 1), most)
        distinct = bool(schema.get("uniqueItems"))

        def make(draw: _Draw, depth: int) -> list[Any]:
            count = least if depth >= _DEEP else draw.random.randint(usual, min(most, usual + 2))
            items: list[Any] = []
            for _ in range(count * 20 if distinct else count):
                made = item(draw, depth + 1)
                if not distinct or made not in items:
                    items.append(made)
                if len(items) == count:
                    break
            return items

        return make

    # -- finding the shortest way out of a recursion -----------------------------------------------

    def _height(self, schema: Any, seen: frozenset[str] = frozenset()) -> int:
        """How many levels the smallest value of ``schema`` has; huge where it can't end."""
        if not isinstance(schema, Mapping):
            return 0
        ref = schema.get("$ref")
        if ref is not None:
            return _ENDLESS if ref in seen else self._height(self._resolve(ref), seen | {ref})
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return min(self._height(option, seen) for option in schema[union])
        kinds = schema.get("type")
        if isinstance(kinds, list) and set(kinds) - {"object", "array"}:
            return 0
        if "properties" in schema:
            required = schema.get("required") or ()
            members = [self._height(schema["properties"].get(name, {}), seen) for name in required]
            return 1 + max(members, default=0)
        if schema.get("minItems", 0) and "items" in schema:
            return 1 + self._height(schema["items"], seen)
        return 0

    def _resolve(self, ref: str) -> Any:
        if not ref.startswith("#"):
            raise ValueError(f"only references within the schema are supported, not {ref!r}")
        found: Any = self._root
        for step in ref[1:].split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return found


def _implied_type(schema: Mapping[str, Any]) -> str:
    if "properties" in schema:
        return "object"
    if "items" in schema:
        return "array"
    return "string"


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


# -- strings ---------------------------------------------------------------------------------------


def _format_maker(write: Callable[[Random], str]) -> _Maker:
    return lambda draw, depth: write(draw.random)


def _digits(random: Random, low: int, high: int) -> str:
    return f"{random.randint(low, high):02d}"


def _date(random: Random) -> str:
    return f"{random.randint(2020, 2026)}-{_digits(random, 1, 12)}-{_digits(random, 1, 28)}"


def _time(random: Random) -> str:
    return f"{_digits(random, 0, 23)}:{_digits(random, 0, 59)}:{_digits(random, 0, 59)}Z"


def _uuid(random: Random) -> str:
    raw = f"{random.getrandbits(128):032x}"
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"


def _ipv6(random: Random) -> str:
    return "2001:db8:" + ":".join(f"{random.getrandbits(16):x}" for _ in range(6))


_FORMATS: dict[str, Callable[[Random], str]] = {
    "date-time": lambda random: f"{_date(random)}T{_time(random)}",
    "date": _date,
    "time": _time,
    "duration": lambda random: f"P{random.randint(1, 9)}DT{random.randint(1, 23)}H",
    "email": lambda random: f"person{random.randint(1, 999)}@example.com",
    "hostname": lambda random: f"host{random.randint(1, 999)}.example.com",
    "ipv4": lambda random: "192.0.2." + str(random.randint(1, 254)),
    "ipv6": _ipv6,
    "uuid": _uuid,
    "uri": lambda random: f"https://example.com/{random.randint(1, 999)}",
}


def _string(schema: Mapping[str, Any]) -> _Maker:
    written = _FORMATS.get(schema.get("format", ""))
    if written is not None:
        return _format_maker(written)
    if "pattern" in schema:
        return _patterned(schema["pattern"])
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if not least and most is None:
        return lambda draw, depth: draw.text()
    return lambda draw, depth: _fit(draw, least, most)


def _patterned(pattern: str) -> _Maker:
    try:
        write = pattern_writer(pattern)
    except UnsupportedPatternError:
        return lambda draw, depth: draw.text()
    check = re.compile(pattern)

    def make(draw: _Draw, depth: int) -> str:
        # A prompt's own word is the better answer where the pattern allows it.
        words = draw.text(1, 1)
        return words if check.search(words) else write(draw.random)

    return make


def _fit(draw: _Draw, least: int, most: int | None) -> str:
    text = draw.text()
    while len(text) < least:
        text += " " + draw.text()
    if most is not None and len(text) > most:
        text = text[:most].rstrip()
        text += "." * (least - len(text))
    return text


# -- numbers ---------------------------------------------------------------------------------------


def _number(schema: Mapping[str, Any], *, whole: bool) -> _Maker:
    low, high = _bounds(schema)
    step = schema.get("multipleOf")
    if step is None and whole:
        step = 1
    if step is None:
        return lambda draw, depth: _within(draw.random.uniform(low, high), schema, low, high)
    first, last = _steps(schema, low, high, step, whole=whole)
    return lambda draw, depth: _multiple(draw.random.randint(first, last), step, whole=whole)


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
    highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
    if lows and not highs:
        return max(lows), max(lows) + 100
    if highs and not lows:
        return min(highs) - 100, min(highs)
    return max(lows, default=0), min(highs, default=100)


def _steps(
    schema: Mapping[str, Any], low: float, high: float, step: float, *, whole: bool
) -> tuple[int, int]:
    """The first and last multiple of ``step`` between the bounds."""
    first, last = math.ceil(low / step), math.floor(high / step)
    if last < first and not ("minimum" in schema or "exclusiveMinimum" in schema):
        first = last
    if last < first:
        last = first
    if "exclusiveMinimum" in schema and first * step <= schema["exclusiveMinimum"]:
        first += 1
    if "exclusiveMaximum" in schema and last * step >= schema["exclusiveMaximum"]:
        last -= 1
    return first, max(first, last)


def _multiple(count: int, step: float, *, whole: bool) -> float | int:
    made = count * step
    return int(made) if whole else made


def _within(number: float, schema: Mapping[str, Any], low: float, high: float) -> float:
    """Two decimals where they keep the number inside its bounds."""
    rounded = round(number, 2)
    inside = low < rounded < high
    return rounded if inside else (low + high) / 2 if low < high else low
