"""The default answers of the server: plausible, valid and always the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batchor_core.testing.local_server.made_up import json_answer, seed_of, spoken_answer
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server.prompts import spoken_text
from batchor_core.testing.openai_server.strict_schema import strict_problem

_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: a call where the request demands one, a valid object where it has a JSON schema, else a text.

    Depends on the request's text and schemas alone, so the same request is always answered alike. A schema
    that the live service would refuse, or that this one can't follow, is answered with its error 400.
    """
    text = spoken_text(body)
    wanted = _demanded_tool(body, seed_of(text)) or answer_format(body)
    if wanted is None:
        return Reply.answer(spoken_answer(text))
    try:
        problem = strict_problem if wanted.strict else None
        answer = json_answer(text, wanted.schema, problem=problem)
    except (KeyError, TypeError, ValueError) as refused:
        message = f"Invalid schema for {'function' if wanted.is_tool else 'response_format'} '{wanted.name}': {refused}"
        return Reply.http_error(400, "invalid_json_schema", message)
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
