"""The default answers of the server: plausible, valid and always the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from batchor_core.testing.openai_server.prompts import spoken_text, words_of
from batchor_core.testing.openai_server.replies import Reply
from batchor_core.testing.openai_server.schema_answers import SchemaAnswers
from batchor_core.testing.openai_server.strict_schema import strict_problem

_SPOKEN_WORDS = 12
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: a call where the request demands one, a valid object where it has a JSON schema, else a text.

    Depends on the request's text and schemas alone, so the same request is always answered alike. A schema
    that the live service would refuse, or that this one can't follow, is answered with its error 400.
    """
    text = spoken_text(body)
    words = words_of(text)
    seed = _seed(text)
    wanted = _demanded_tool(body, seed) or answer_format(body)
    if wanted is None:
        spoken = " ".join(words[:_SPOKEN_WORDS]) or "nothing in particular"
        return Reply.answer(f"You asked about: {spoken}.")
    try:
        answers = _compiled(orjson.dumps(wanted.schema), wanted.strict)
    except (KeyError, TypeError, ValueError) as refused:
        message = f"Invalid schema for {'function' if wanted.is_tool else 'response_format'} '{wanted.name}': {refused}"
        return Reply.http_error(400, "invalid_json_schema", message)
    answer = orjson.dumps(answers.value(words, seed)).decode()
    return Reply.call(wanted.name, answer) if wanted.is_tool else Reply.answer(answer)


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The JSON that a request wants for an answer."""

    name: str
    schema: dict[str, Any]
    strict: bool
    is_tool: bool = False


def answer_format(body: dict[str, Any]) -> AnswerFormat | None:
    """What shape of JSON the request wants, in either endpoint's way of saying so; None if it wants none."""
    chat_format = _member(body, "response_format")
    for wanted in (
        _member(_member(body, "text"), "format"),
        _member(chat_format, "json_schema"),
        chat_format,
    ):
        schema = wanted.get("schema")
        if isinstance(schema, dict):
            return AnswerFormat(str(wanted.get("name", "")), schema, wanted.get("strict") is True)
        if wanted.get("type") == "json_object":
            return AnswerFormat("", _ANY_OBJECT, strict=False)
    return None


def _demanded_tool(body: dict[str, Any], seed: int) -> AnswerFormat | None:
    """The tool that is called if the model has to call one, in either endpoint's way of listing them."""
    tools = [_member(tool, "function") or tool for tool in body.get("tools") or ()]
    if body.get("tool_choice") != "required" or not tools:
        return None
    tool = tools[seed % len(tools)]
    return AnswerFormat(tool["name"], tool["parameters"], tool.get("strict") is True, is_tool=True)


def _member(holder: dict[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest())


@lru_cache(maxsize=64)
def _compiled(schema: bytes, strict: bool) -> SchemaAnswers:
    parsed = orjson.loads(schema)
    problem = strict_problem(parsed) if strict else None
    if problem is not None:
        raise ValueError(problem)
    return SchemaAnswers(parsed)
