"""Ways in which a provider's output and error files can be wrong, each a function of a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

OTHER_RUN = "0-0-0123456789ab"


@dataclass
class Files:
    """The lines of a batch's two files, without line ends, and how they are put together."""

    output: list[bytes]
    errors: list[bytes]
    line_end: bytes = b"\n"
    head: bytes = b""
    tail: bytes | None = None

    def joined(self) -> tuple[bytes, bytes]:
        """Both files as they are sent."""
        end = self.line_end if self.tail is None else self.tail
        output = self.head + self.line_end.join(self.output) + (end if self.output else b"")
        return output, b"".join(line + self.line_end for line in self.errors)

    def pick(self, rng: random.Random) -> int:
        return rng.randrange(len(self.output))

    def change(self, rng: random.Random, edit: Callable[[dict[str, Any]], Any]) -> None:
        """Edit the object of one line."""
        at = self.pick(rng)
        record = json.loads(self.output[at])
        edited = edit(record)
        self.output[at] = json.dumps(record if edited is None else edited).encode()


Mutation: TypeAlias = Callable[[Files, random.Random], None]


def _id(record: dict[str, Any]) -> str:
    return str(record["custom_id"])


def _text(record: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = record["response"]["body"]["output"][0]["content"][0]
    return found


def duplicate_line(files: Files, rng: random.Random) -> None:
    files.output.insert(files.pick(rng), files.output[files.pick(rng)])


def missing_lines(files: Files, rng: random.Random) -> None:
    for _ in range(rng.randint(1, len(files.output))):
        files.output.pop(files.pick(rng))


def other_order(files: Files, rng: random.Random) -> None:
    rng.shuffle(files.output)


def unknown_custom_id(files: Files, rng: random.Random) -> None:
    ids = [
        "nobody",
        "",
        "x" * 5_000,
        "../../etc/passwd",
        "9" * 40 + "-0-aa",
        "\u0000",
        "' OR 1=1 --",
        "-1-0-ab",
    ]
    files.change(rng, lambda record: record | {"custom_id": rng.choice(ids)})


def custom_id_of_another_run(files: Files, rng: random.Random) -> None:
    files.change(rng, lambda record: record | {"custom_id": OTHER_RUN})


def custom_id_of_another_attempt(files: Files, rng: random.Random) -> None:
    def edit(record: dict[str, Any]) -> None:
        begin, generation, digest = _id(record).rsplit("-", 2)
        record["custom_id"] = f"{begin}-{int(generation) + rng.choice([-1, 1, 7])}-{digest}"

    files.change(rng, edit)


def custom_id_of_another_type(files: Files, rng: random.Random) -> None:
    wrong: list[Any] = [None, 7, 1.5, True, [], {}, ["0-0-aa"], {"a": 1}]
    files.change(rng, lambda record: record | {"custom_id": rng.choice(wrong)})


def no_custom_id(files: Files, rng: random.Random) -> None:
    files.change(rng, lambda record: {key: value for key, value in record.items() if key != "custom_id"})


def custom_id_twice(files: Files, rng: random.Random) -> None:
    """A line that names two rows: parsers take the last, and would give one row's answer to the other."""
    at, other = files.pick(rng), json.loads(files.output[files.pick(rng)])
    files.output[at] = b'{"custom_id": "%s", ' % _id(other).encode() + files.output[at][1:]
    if rng.random() < 0.5:
        files.output[at] = files.output[at][:-1] + b', "custom_id": "%s"}' % _id(other).encode()


def in_both_files(files: Files, rng: random.Random) -> None:
    record = json.loads(files.output[files.pick(rng)])
    error: dict[str, Any] = {
        "custom_id": _id(record),
        "response": None,
        "error": {"code": "boom", "message": "no"},
    }
    files.errors.append(json.dumps(error).encode())


def blank_lines(files: Files, rng: random.Random) -> None:
    for _ in range(5):
        files.output.insert(files.pick(rng), rng.choice([b"", b" ", b"\t", b"\r"]))


def windows_line_ends(files: Files, rng: random.Random) -> None:
    files.line_end = b"\r\n"


def byte_order_mark(files: Files, rng: random.Random) -> None:
    files.head = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])


def unicode_line_ends(files: Files, rng: random.Random) -> None:
    at = files.pick(rng)
    record = json.loads(files.output[at])
    _text(record)["text"] += "\u2028more\u0085and\u2029more\x0b\x0c\x1c"
    files.output[at] = json.dumps(record, ensure_ascii=False).encode()


def not_a_number(files: Files, rng: random.Random) -> None:
    value = rng.choice([float("nan"), float("inf"), float("-inf")])
    files.change(rng, lambda record: record["response"]["body"].update(weight=value))


def huge_number(files: Files, rng: random.Random) -> None:
    at, digits = files.pick(rng), rng.choice([20, 400, 5_000])
    number = b"9" * digits if rng.random() < 0.7 else b"1e" + b"9" * 6
    where = rng.choice([b'{"n": %s, ', b'{"usage": {"input_tokens": %s}, '])
    files.output[at] = where % number + files.output[at][1:]


def huge_usage(files: Files, rng: random.Random) -> None:
    values: list[Any] = [10**19, 2**63, -5, 1.5, "12", None, [1], True, 1e300]
    files.change(
        rng, lambda record: record["response"]["body"]["usage"].update(input_tokens=rng.choice(values))
    )


def deep_nesting(files: Files, rng: random.Random) -> None:
    at, depth = files.pick(rng), rng.choice([500, 2_000, 100_000])
    start, end = (b"[", b"]") if rng.random() < 0.5 else (b'{"a":', b"}")
    nested = start * depth + b"1" + end * depth
    files.output[at] = b'{"deep": ' + nested + b", " + files.output[at][1:]


def lone_surrogate(files: Files, rng: random.Random) -> None:
    at = files.pick(rng)
    escape = rng.choice([b"\\ud800", b"\\udfff", b"\\ud83d", b"\\udc00\\ud800"])
    files.output[at] = files.output[at].replace(b"answer", escape + b"answer", 1)


def control_characters(files: Files, rng: random.Random) -> None:
    at = files.pick(rng)
    escape = rng.choice([b"\\u0000", b"\\u0001\\u001f", b"\\u0000\\u0000", b"\\u007f"])
    files.output[at] = files.output[at].replace(b"answer", escape + b"answer", 1)


def broken_utf8(files: Files, rng: random.Random) -> None:
    at = files.pick(rng)
    bad = rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82"])
    files.output[at] = files.output[at].replace(b"answer", bad + b"answer", 1)


def cut_off(files: Files, rng: random.Random) -> None:
    files.output[-1] = files.output[-1][: rng.randrange(1, len(files.output[-1]))]
    files.tail = b""


def no_last_line_end(files: Files, rng: random.Random) -> None:
    files.tail = b""


def not_json(files: Files, rng: random.Random) -> None:
    garbage = [
        b"<html>502</html>",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{",
        b"}{",
        bytes(range(256)),
        b"\x00" * 64,
    ]
    files.output[files.pick(rng)] = rng.choice(garbage).replace(b"\n", b"")


def two_on_a_line(files: Files, rng: random.Random) -> None:
    at = files.pick(rng)
    files.output[at] = files.output[at] + rng.choice([b"", b" ", b","]) + files.output[files.pick(rng)]


def other_shape(files: Files, rng: random.Random) -> None:
    shapes: list[Any] = [
        {"response": None, "error": None},
        {"response": "done", "error": None},
        {"response": [], "error": []},
        {"response": {"status_code": 0, "request_id": "", "body": {}}, "error": None},
        {"response": {"status_code": "200", "body": "{"}, "error": None},
        {"response": {"status_code": 200, "body": None}, "error": None},
        {"response": {"status_code": 200, "body": {"output": [None, 3, {"type": "message"}]}}},
        {"response": {"status_code": 200, "body": {"choices": [{}]}}},
        {"response": {"status_code": -1, "body": []}},
        {"error": {"code": ["x"], "message": {"a": 1}}},
        {"error": "what"},
        {},
    ]
    files.change(rng, lambda record: {"custom_id": _id(record)} | rng.choice(shapes))


def giant_line(files: Files, rng: random.Random) -> None:
    files.change(rng, lambda record: record | {"padding": "x" * rng.choice([100_000, 1_000_000])})


def empty_files(files: Files, rng: random.Random) -> None:
    files.output.clear()
    files.tail = rng.choice([b"", b"\n", b"\n\n\n"])


MUTATIONS: list[Mutation] = [
    duplicate_line,
    missing_lines,
    other_order,
    unknown_custom_id,
    custom_id_of_another_run,
    custom_id_of_another_attempt,
    custom_id_of_another_type,
    no_custom_id,
    custom_id_twice,
    in_both_files,
    blank_lines,
    windows_line_ends,
    byte_order_mark,
    unicode_line_ends,
    not_a_number,
    huge_number,
    huge_usage,
    deep_nesting,
    lone_surrogate,
    control_characters,
    broken_utf8,
    cut_off,
    no_last_line_end,
    not_json,
    two_on_a_line,
    other_shape,
    giant_line,
    empty_files,
]
