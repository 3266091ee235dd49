"""The default answers of the server: plausible, valid and always the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batchor_core.testing.local_server.made_up import json_answer, spoken_answer
from batchor_core.testing.local_server.replies import Reply

_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: JSON where the request has a schema, else a short text."""
    text, schema = spoken_text(body), wanted_schema(body)
    if schema is None:
        return Reply.answer(spoken_answer(text))
    try:
        return Reply.answer(json_answer(text, schema))
    except (KeyError, TypeError, ValueError) as refused:
        return Reply.http_error(400, message=f"response_json_schema: {refused}")


def wanted_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the JSON that a request wants; None if it wants none."""
    config = body.get("generationConfig")
    if not isinstance(config, dict) or config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema")
    return schema if isinstance(schema, dict) else _ANY_OBJECT


def spoken_text(body: dict[str, Any]) -> str:
    """What the user said last, or the text to embed."""
    if isinstance(body.get("content"), dict):
        return "\n".join(_texts(body["content"]))
    turns = [turn for turn in body.get("contents") or [] if isinstance(turn, dict)]
    spoken = ["\n".join(_texts(turn)) for turn in turns if turn.get("role", "user") == "user"]
    return spoken[-1] if spoken else ""


def all_texts(body: dict[str, Any]) -> Iterator[str]:
    """All text that the model would read."""
    turns = [body.get("systemInstruction"), body.get("content"), *(body.get("contents") or [])]
    for turn in turns:
        if isinstance(turn, dict):
            yield from _texts(turn)


def _texts(turn: dict[str, Any]) -> Iterator[str]:
    for part in turn.get("parts") or []:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]
