"""The default answers of the server: plausible, valid and always the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batchor_core.testing.local_server.made_up import json_answer, seed_of, spoken_answer
from batchor_core.testing.local_server.replies import Reply

_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: a call where the request demands one, JSON where it has a schema, else a short text."""
    text = spoken_text(body)
    function = _demanded_function(body, seed_of(text))
    schema = wanted_schema(body) if function is None else function["parametersJsonSchema"]
    if schema is None:
        return Reply.answer(spoken_answer(text))
    try:
        answer = json_answer(text, schema)
    except (KeyError, TypeError, ValueError) as refused:
        where = "response_json_schema" if function is None else "parameters_json_schema"
        return Reply.http_error(400, message=f"{where}: {refused}")
    return Reply.answer(answer) if function is None else Reply.call(str(function.get("name")), answer)


def wanted_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the JSON that a request wants; None if it wants none."""
    config = body.get("generationConfig")
    if not isinstance(config, dict) or config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema")
    return schema if isinstance(schema, dict) else _ANY_OBJECT


def _demanded_function(body: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """One of the functions that the model must call, among those with a JSON schema; None if it may answer otherwise."""
    calling = _member(_member(body, "toolConfig"), "functionCallingConfig")
    if calling.get("mode") != "ANY":
        return None
    allowed = calling.get("allowedFunctionNames")
    functions = [
        function
        for tool in body.get("tools") or []
        for function in (tool.get("functionDeclarations") or [] if isinstance(tool, dict) else [])
        if isinstance(function, dict)
        and "parametersJsonSchema" in function
        and (not allowed or function.get("name") in allowed)
    ]
    return functions[seed % len(functions)] if functions else None


def _member(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


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
