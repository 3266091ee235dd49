"""Lines that are read from their bytes say what the same lines say when they are decoded, and are JSON."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest

from batchor_core.core.usage import TokenUsage
from batchor_core.providers.openai.answers import read_record
from batchor_core.providers.openai.plain_lines import read_plain_line
from tests.unit.providers.test_openai_answers import (
    BAD,
    GOOD,
    USAGE,
    chat,
    embedding,
    message,
    output_text,
    responses,
    row,
)

PLAIN = {
    "responses": row(responses(message(output_text("yes")))),
    "responses in another script": row(responses(message(output_text("да"), output_text(" 是\u2028")))),
    "responses without usage": row(responses(message(output_text("yes")), usage=None)),
    "responses with fields that nobody knows": row(
        responses(message(output_text("yes")), later={"a": [1.5, None, {"b": "c"}]}), new=True
    ),
    "chat": row(chat("yes")),
    "chat with no calls": row(chat("yes", tool_calls=[], reasoning_content="so")),
    "a vector": row(embedding("AACAPw==")),
    "a vector without usage": row(embedding("AACAPw==", usage=None)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_usual_shape_is_read(name: str) -> None:
    line = orjson.dumps(PLAIN[name], option=orjson.OPT_APPEND_NEWLINE)
    answer = read_plain_line(line)
    assert answer is not None
    assert answer == read_record(orjson.loads(line))


@pytest.mark.parametrize("name", GOOD)
def test_any_other_good_answer_is_the_same_or_left_alone(name: str) -> None:
    record, _ = GOOD[name]
    assert read_plain_line(orjson.dumps(record)) in (None, read_record(record))


@pytest.mark.parametrize("name", BAD)
def test_no_bad_answer_is_read(name: str) -> None:
    assert read_plain_line(orjson.dumps(BAD[name][0])) is None


@pytest.mark.parametrize(
    "usage",
    [
        {**USAGE, "input_tokens": 11.0},
        {**USAGE, "input_tokens": -1},
        {**USAGE, "output_tokens": 2**62},
        {**USAGE, "input_tokens": True},
        {**USAGE, "input_tokens": None, "prompt_tokens": 4},
        {**USAGE, "input_tokens_details": {}, "prompt_tokens_details": {"cached_tokens": 2}},
        {**USAGE, "output_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": 2}},
        {**USAGE, "input_tokens_details": {"cache_write_tokens": 9}},
        {},
        [],
        "many",
    ],
)
def test_tokens_are_counted_alike(usage: Any) -> None:
    record = row(responses(message(output_text("yes")), usage=usage))
    assert read_plain_line(orjson.dumps(record)) in (None, read_record(record))


def test_both_spellings_of_tokens_are_known() -> None:
    found = [read_plain_line(orjson.dumps(PLAIN[name])) for name in ("responses", "chat")]
    assert [answer and answer.usage for answer in found] == [TokenUsage(11, 3, 7, 2), TokenUsage(5, 0, 6, 0)]


PIECES = [
    *(b"\0", b"\n", b"\x1f", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", "é😀".encode()),
    *(rb"\ud800", rb"\udc00", rb"\uD83D\uDE00", rb"\u12", rb"\u0041", rb"\x", b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":"),
    *(b"0", b"01", b"1.", b".5", b"-", b"-0", b"NaN", b"nul", b"true", b"null", b"1e", b"7" * 30, b" ", b"\t", b"[[[[", b"{}", b"[]"),
    *(b',"error":{"message":"no"}', b',"status":"failed"', b',"custom_id":"b"', b'"refusal":"no",', b"[" * 2000 + b"]" * 2000),
]  # fmt: skip


def test_a_spoiled_line_is_no_json_and_left_alone_or_says_the_same() -> None:
    chance = random.Random(7)
    lines = [orjson.dumps(record) for record in PLAIN.values()]
    read = 0
    for _ in range(4_000):
        line = bytearray(chance.choice(lines))
        for _ in range(chance.choice((1, 1, 1, 2))):
            start = chance.randrange(len(line))
            line[start : start + chance.choice((0, 0, 1, 2, 5))] = chance.choice(PIECES)
        answer = read_plain_line(bytes(line))
        if answer is not None:
            read += 1
            record = json.loads(line.decode(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
            record_text = json.dumps(
                record, ensure_ascii=False
            ).encode()  # raises for halves of surrogate pairs
            assert b"custom_id" in record_text
            assert answer == read_record(record)
    assert read > 400
