"""The default answers of the server: plausible, valid and always the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batchor_core.testing.local_server.made_up import json_answer, spoken_answer
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server.prompts import spoken_text
from batchor_core.testing.openai_server.strict_schema import strict_problem

_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: a valid object where the request has a JSON schema, else a short text.

    Depends on the request's text and schema alone, so the same request is always answered alike. A schema
    that the live service would refuse, or that this one can't follow, is answered with its error 400.
    """
    text, wanted = spoken_text(body), answer_format(body)
    if wanted is None:
        return Reply.answer(spoken_answer(text))
    try:
        problem = strict_problem if wanted.strict else None
        return Reply.answer(json_answer(text, wanted.schema, problem=problem))
    except (KeyError, TypeError, ValueError) as refused:
        message = f"Invalid schema for response_format '{wanted.name}': {refused}"
        return Reply.http_error(400, "invalid_json_schema", message)


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The JSON that a request wants for an answer."""

    name: str
    schema: dict[str, Any]
    strict: bool


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


def _member(holder: dict[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}
