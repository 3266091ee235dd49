"""A line of a JSONL file as a row, or what is wrong with the line and how to fix it."""

from __future__ import annotations

import json
import re
from typing import Any

from batchor_core.core.jsontext import loads_exactly
from batchor_core.sources.opening import not_encoded
from batchor_core.sources.rows import Row

_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_KINDS = {list: "list", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
_ONE_OBJECT_A_LINE = "JSONL has one object on each line"


class BadLineError(ValueError):
    """What is wrong with a line, to follow the file and the line's number."""


def parsed_row(line: bytes, *, number: int) -> Row:
    """The row of a line in UTF-8.

    Args:
        line: With its line end, if it has one.
        number: 1-based number of the line.

    Raises:
        BadLineError: It holds no JSON object.
    """
    try:
        row = loads_exactly(line)
    except ValueError as error:
        raise BadLineError(json_problem(line, error, number=number)) from error
    if not isinstance(row, dict):
        kind = _KINDS.get(type(row), "number")
        hint = f". {_array_hint()}" if isinstance(row, list) and number == 1 else ""
        raise BadLineError(f"holds a JSON {kind}, and must hold an object{hint}")
    return row


def json_problem(line: bytes, error: ValueError, *, number: int) -> str:
    """Why a line is not JSON, and what to do about it."""
    text = line.strip()
    try:
        line.decode()
    except UnicodeDecodeError as undecodable:
        return not_encoded(line, undecodable.start, "utf-8")
    if not text.strip(b"\0"):
        return "holds nothing but zero bytes, as a file does whose writing was interrupted by a crash. Write it again"
    if number == 1 and text.startswith(b"["):
        return f"is not JSON by itself. {_array_hint()}"
    if number == 1 and text == b"{":
        return f"is not JSON by itself: the file spreads an object over several lines. {_ONE_OBJECT_A_LINE}: jq -c . rows.json > rows.jsonl"
    if text.startswith((b"{'", b"{ '")):
        return "is a Python dict and not JSON. Write rows with json.dumps(row) instead of str(row)"
    lenient = _leniently_read(text)
    if isinstance(lenient, _Lenient):
        if lenient.constants:
            return (
                f"is not JSON: it holds {lenient.constants[0]}, which JSON does not know. Python's json.dumps writes it for a "
                "float without a value; write null instead, for example with orjson.dumps or pandas' to_json"
            )
        return _half_pair_problem(text)
    if rest := _after_a_value(text):
        if not rest.strip(b"\0"):
            return (
                "ends in zero bytes, as a file does whose writing was interrupted by a crash. Write it again"
            )
        return f"is not JSON by itself, but more than one value: after the first comes {_shown(rest)}. {_ONE_OBJECT_A_LINE}"
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(text.decode()):
            return _cut_off_problem(line)
        if number == 1 and not text.startswith(b"{"):
            return f"is not JSON: it begins with {_shown(text)}. {_ONE_OBJECT_A_LINE}"
        return f"is not JSON: {error.msg} at position {error.colno}{_fix(text.decode(), error)}"
    if "integer string conversion" in str(error):
        return "can't be read: a number has more than 4,300 digits. Write it as a string"
    return f"can't be read: {error}"


def _fix(text: str, error: json.JSONDecodeError) -> str:
    """What to do about a mistake that is often made."""
    if "control character" in error.msg:
        return ". Tabs and other control characters within a string are escaped (\\t); json.dumps does so"
    if "depth limit" in error.msg:
        return ". Values may nest about 1,000 deep: store the inner ones as a string of JSON"
    word = next((word for word in ("None", "True", "False") if text.startswith(word, error.pos)), None)
    return f". {word} is Python's: write rows with json.dumps(row) instead of str(row)" if word else ""


def _after_a_value(text: bytes) -> bytes:
    """What follows on the first value of a line that holds more."""
    try:
        decoded = text.decode()
        _, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        return b""
    return decoded[end:].encode().strip()


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace")) + ("..." if len(text) > 40 else "")


def _cut_off_problem(line: bytes) -> str:
    if line.endswith(b"\n"):
        return (
            f"is not JSON by itself: it ends in the middle of an object. {_ONE_OBJECT_A_LINE}, and a line end within a string "
            "is written \\n"
        )
    return "is cut off: the file ends in the middle of a row. Write or copy it again"


def _array_hint() -> str:
    return f"The file is a JSON array. {_ONE_OBJECT_A_LINE}: jq -c '.[]' rows.json > rows.jsonl"


def _half_pair_problem(text: bytes) -> str:
    found = _HALF_PAIR.search(text)
    which = f" ({found[0].decode()} at position {found.start() + 1})" if found else ""
    return (
        f"is not JSON: a string holds half of a surrogate pair{which}, which is no character. Text that was cut in the "
        'middle of an emoji has one at its end; write it with text.encode("utf-16", "surrogatepass").decode("utf-16", '
        '"replace")'
    )


class _Lenient:
    """A line that Python's parser takes: what it holds beyond JSON is either constants or halves of surrogate pairs."""

    def __init__(self, constants: list[str]) -> None:
        self.constants = constants


def _leniently_read(text: bytes) -> _Lenient | None:
    constants: list[str] = []

    def note(constant: str) -> Any:
        constants.append(constant)

    try:
        json.loads(text.decode(), parse_constant=note)
    except (ValueError, RecursionError):
        return None
    return _Lenient(constants) if constants or _HALF_PAIR.search(text) else None
