"""The default answers come from the words of the request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchor_core.testing.local_server.words import count_tokens, words_of
from batchor_core.testing.openai_server import ReplyKind, default_responder
from batchor_core.testing.openai_server.prompts import prompt_text, spoken_text
from batchor_core.testing.openai_server.responder import AnswerFormat, answer_format
from batchor_core.testing.openai_server.strict_schema import strict_problem

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
    assert words_of(spoken_text(body)) == words


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2)])
def test_four_characters_are_a_token(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


NAMED = {"type": "json_schema", "name": "tea", "strict": True, "schema": SCHEMA}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({}, None),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"format": NAMED}}, AnswerFormat("tea", SCHEMA, strict=True)),
        (
            {"response_format": {"type": "json_schema", "json_schema": NAMED}},
            AnswerFormat("tea", SCHEMA, strict=True),
        ),
        ({"text": {"format": {"schema": SCHEMA}}}, AnswerFormat("", SCHEMA, strict=False)),
    ],
)
def test_the_wanted_format_is_found_in_either_endpoints_place(body: dict[str, Any], wanted: Any) -> None:
    assert answer_format(body) == wanted


def test_a_plain_request_is_answered_with_a_sentence() -> None:
    reply = default_responder({"input": "Which tea?"}, "/v1/responses", "a")
    assert reply.content == "You asked about: Which tea."


def test_texts_that_differ_late_are_answered_differently() -> None:
    wanted = {
        "format": {
            "type": "json_schema",
            "schema": {"type": "object", "properties": {"n": {"type": "number"}}},
        }
    }
    answers = {
        default_responder({"input": "word " * 500 + end, "text": wanted}, "/v1/responses", "a").content
        for end in ("one", "two", "three")
    }
    assert len(answers) == 3


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


def test_a_schema_that_strict_mode_refuses_fails_the_row() -> None:
    wanted = {"name": "tea", "schema": {**SCHEMA, "additionalProperties": True}}
    strict = default_responder(
        {"input": "Hi", "text": {"format": {**wanted, "strict": True}}}, "/v1/responses", "a"
    )
    assert (strict.status, strict.code) == (400, "invalid_json_schema")
    assert "'tea': In context=(), 'additionalProperties'" in str(strict.message)
    loose = default_responder({"input": "Hi", "text": {"format": wanted}}, "/v1/responses", "a")
    assert loose.kind is ReplyKind.ANSWER


def _object(**changes: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    return {**schema, **changes}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (_object(), None),
        (_object(properties={}, required=[]), None),
        (_object(properties={"a": {"anyOf": [{"type": "null"}, _object()]}}), None),
        (_object(**{"$defs": {"x": _object(properties={"a": {"$ref": "#/$defs/x"}})}}), None),
        ({"type": "array", "items": {"type": "string"}}, "the root must be an object"),
        ({"anyOf": [_object()]}, "the root must be an object"),
        (_object(additionalProperties=True), "'additionalProperties' is required"),
        (_object(required=[]), "Missing: a"),
        (_object(properties={"a": _object(required=[])}), "('properties', 'a'), 'required'"),
        (_object(properties={"a": {"type": "array", "items": _object(required=[])}}), "'items'), 'required'"),
        (_object(properties={"a": {"anyOf": [_object(required=[])]}}), "'anyOf', '0'), 'required'"),
        (_object(**{"$defs": {"x": _object(required=[])}}), "('$defs', 'x'), 'required'"),
        (_object(properties={"a": {"type": "string", "default": "x"}}), "'default' is not permitted"),
        (_object(properties={"a": {"oneOf": []}}), "'oneOf' is not permitted"),
        (_object(properties={"a": {"enum": list(range(1_001))}}), "1,001 enum values"),
        (
            _object(
                properties={str(n): {"type": "null"} for n in range(5_001)},
                required=[str(n) for n in range(5_001)],
            ),
            "5,001 properties",
        ),
    ],
)
def test_strict_mode_takes_closed_objects_alone(schema: dict[str, Any], problem: str | None) -> None:
    found = strict_problem(schema)
    assert (found is None) if problem is None else (found is not None and problem in found)
