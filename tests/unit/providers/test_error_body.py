"""What errors say, whatever the shape of their body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchor_core.providers.error_body import READ_CHARS, ErrorBody, is_page, read_error_body

FASTAPI = {
    "detail": [
        {"type": "missing", "loc": ["body", "input_file_id"], "msg": "Field required", "input": {"a": 1}},
        {"type": "extra", "loc": ["body", "x", 0], "msg": "Extra inputs are not permitted", "input": 1},
    ]
}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no", "type": "t", "code": "c", "param": "p"}}, "no"),
        ({"message": "no", "type": "t"}, "no"),
        ({"error": "text"}, "text"),
        ({"error": "invalid_grant", "error_description": "it has expired"}, "it has expired"),
        ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
        ({"error": {"errors": [{"reason": "quotaExceeded"}]}}, "quotaExceeded"),
        (FASTAPI, "body.input_file_id: Field required; body.x.0: Extra inputs are not permitted"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": {"error": {"message": "deep"}}}, "deep"),
        ({"title": "Bad Request", "status": 400}, "Bad Request"),
        ({"title": "Bad Request", "detail": "the tail"}, "the tail"),
        ({"fault": {"faultstring": "policy"}}, "policy"),
        ([{"message": "in a list"}], "in a list"),
        (["one", "two"], "one; two"),
        (list("abcdefg"), "a; b; c; d; e (and 2 more)"),
        ({"status": "KO", "number": 7}, '{"status": "KO", "number": 7}'),
        ({"error": {"message": None, "code": 42}}, ""),
        ("plain text\nin two lines", "plain text in two lines"),
        (b"bytes", "bytes"),
        ('{"detail": "as text"}', "as text"),
        (
            "<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>",
            "a web page: 502 Bad Gateway 502",
        ),
        (
            "<!DOCTYPE html><html><script>var secret = 1;</script><p>Sign&nbsp;in</p></html>",
            "a web page: Sign in",
        ),
        ({}, ""),
        ([], ""),
        (None, ""),
        ("", ""),
        (7, "7"),
        ({"error": {}}, ""),
        ({"error": None, "message": "said elsewhere"}, "said elsewhere"),
    ],
)
def test_every_shape_says_what_it_says(body: Any, message: str) -> None:
    assert read_error_body(body).message == message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}, ("c", "t", "p")),
        ({"message": "m", "type": "t", "code": "c", "param": "p"}, ("c", "t", "p")),
        ({"error": "text", "code": "c"}, ("c", "", "")),
        ({"error": {"message": "m", "code": 404, "type": None}}, ("404", "", "")),
        ({"errors": [{"message": "m", "code": "c"}]}, ("c", "", "")),
        (FASTAPI, ("", "missing", "")),
        ([{"code": "c", "message": "m"}], ("c", "", "")),
        ("text", ("", "", "")),
    ],
)
def test_code_type_and_parameter_are_found_wherever_they_are(body: Any, expected: Any) -> None:
    found = read_error_body(body)
    assert (found.code, found.type, found.param) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<html>", True),
        ("  \n<!DOCTYPE HTML>", True),
        ("<!-- x --><html lang='de'>", True),
        ('<?xml version="1.0"?><html>', True),
        ("<center>", True),
        ("<error>", False),
        ("a <html> page", False),
        ("", False),
        (None, False),
    ],
)
def test_a_web_page_is_recognized(text: Any, expected: bool) -> None:
    assert is_page(text) is expected


def test_giant_bodies_are_read_in_part() -> None:
    assert len(read_error_body("x" * 10_000_000).message) == READ_CHARS
    assert len(read_error_body({"detail": ["y" * 100_000] * 5}).message) <= READ_CHARS
    deep: Any = "deep"
    for _ in range(50):
        deep = {"error": deep}
    assert read_error_body(deep).message == ""
    assert read_error_body("[" * 100_000).message.startswith("[[[")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "detail", "msg", "message", "loc", "code", "x"]),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON | st.text() | st.binary())
def test_nothing_makes_the_reading_fail(body: Any) -> None:
    found = read_error_body(body)
    assert isinstance(found, ErrorBody)
    assert "\n" not in found.message


@given(st.text(alphabet="abc xyz", min_size=1).filter(lambda text: text.strip()))
def test_a_text_at_any_known_place_is_shown(text: str) -> None:
    said = " ".join(text.split())
    for body in (
        {"error": {"message": text}},
        {"detail": [{"msg": text}]},
        {"message": text},
        {"error": text},
        [text],
    ):
        assert read_error_body(body).message == said
        assert read_error_body(json.dumps(body)).message == said
