"""The default answers come from the words of the request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchor_core.testing.openai_server import ReplyKind, default_responder
from batchor_core.testing.openai_server.prompts import count_tokens, prompt_text, prompt_words
from batchor_core.testing.openai_server.responder import answer_schema

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("body", "text", "words"),
    [
        ({}, "", []),
        ({"input": "Hello you"}, "Hello you", ["Hello", "you"]),
        ({"instructions": "Be kind", "input": "Hello"}, "Be kind\nHello", ["Hello"]),
        ({"prompt": "Once upon"}, "Once upon", ["Once", "upon"]),
        ({"input": ["one", "two"]}, "one\ntwo", ["two"]),
        (
            {"messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]},
            "Be kind\nHi",
            ["Hi"],
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Look"}, {"type": "x"}]}]},
            "Look",
            ["Look"],
        ),
        ({"messages": [{"role": "system", "content": "Only this"}]}, "Only this", ["Only", "this"]),
        (
            {"input": "It's a well-known caf\u00e9, n\u00b0 5!"},
            None,
            ["It's", "a", "well-known", "caf\u00e9", "n", "5"],
        ),
    ],
)
def test_the_words_are_those_of_the_user(body: dict[str, Any], text: str | None, words: list[str]) -> None:
    assert text is None or prompt_text(body) == text
    assert prompt_words(body) == words


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2)])
def test_four_characters_are_a_token(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


@pytest.mark.parametrize(
    ("body", "schema"),
    [
        ({}, None),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}, SCHEMA),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, SCHEMA),
    ],
)
def test_the_schema_is_found_in_either_endpoints_place(body: dict[str, Any], schema: Any) -> None:
    assert answer_schema(body) == schema


def test_a_plain_request_is_answered_with_a_sentence() -> None:
    reply = default_responder({"input": "Which tea?"}, "/v1/responses", "a")
    assert reply.content == "You asked about: Which tea."


def test_the_custom_id_changes_nothing() -> None:
    body = {"input": "Which tea?", "text": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    first = default_responder(body, "/v1/responses", "a")
    assert first == default_responder(body, "/v1/responses", "b")
    assert json.loads(first.content)["label"] in ("a", "b")


def test_json_mode_is_answered_with_an_object() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "response_format": {"type": "json_object"}}
    assert set(json.loads(default_responder(body, "/v1/chat/completions", "a").content)) == {"answer"}


def test_an_unusable_schema_fails_the_row() -> None:
    body = {"input": "Hi", "text": {"format": {"type": "json_schema", "schema": {"$ref": "#/$defs/nowhere"}}}}
    reply = default_responder(body, "/v1/responses", "a")
    assert (reply.kind, reply.status, reply.code) == (ReplyKind.HTTP_ERROR, 400, "invalid_json_schema")
