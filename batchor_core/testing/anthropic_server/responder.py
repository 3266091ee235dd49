"""The default answers of the server: plausible, valid and always the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from batchor_core.testing.local_server.made_up import json_answer, seed_of, spoken_answer
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.words import texts_of


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: a call where the request forces one, JSON where it has a schema, else a short text."""
    text = spoken_text(body)
    tool = forced_tool(body, seed_of(text))
    schema = wanted_schema(body) if tool is None else tool["input_schema"]
    if schema is None:
        return Reply.answer(spoken_answer(text))
    try:
        answer = json_answer(text, _with_told_rules(schema))
    except (KeyError, TypeError, ValueError) as refused:
        where = "output_config.format.schema" if tool is None else f"tools.{tool.get('name')}.input_schema"
        return Reply.http_error(400, message=f"{where}: {refused}")
    return Reply.answer(answer) if tool is None else Reply.call(str(tool.get("name")), answer)


def wanted_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the JSON that a request wants for an answer; None if it wants none."""
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        return wanted.get("schema")
    return None


def forces_call(body: dict[str, Any]) -> bool:
    """Whether the model must call a tool."""
    choice = body.get("tool_choice")
    return isinstance(choice, dict) and choice.get("type") in ("any", "tool")


def forced_tool(body: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """One of the tools that the model must call; None if it may answer otherwise."""
    if not forces_call(body):
        return None
    own = [tool for tool in _list(body, "tools") if isinstance(tool, dict) and "input_schema" in tool]
    named = [tool for tool in own if body["tool_choice"].get("name") in (None, tool.get("name"))]
    return named[seed % len(named)] if named else None


def _with_told_rules(node: Any) -> Any:
    """A schema with the rules that its descriptions tell a model, where the API takes no such keywords."""
    if isinstance(node, list):
        return [_with_told_rules(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: _with_told_rules(value) for key, value in node.items()}
    _, told, rules = str(node.get("description", "")).rpartition("JSON Schema: ")
    if told:
        made |= orjson.loads(rules)
    return made


def spoken_text(body: dict[str, Any]) -> str:
    """What the user said last."""
    spoken = [text for role, text in texts_of(_list(body, "messages")) if role == "user"]
    return spoken[-1] if spoken else ""


def all_texts(body: dict[str, Any]) -> Iterator[str]:
    """All text that the model would read."""
    system = body.get("system")
    if isinstance(system, str):
        yield system
    elif isinstance(system, list):
        yield from (text for _, text in texts_of([{"content": system}]))
    yield from (text for _, text in texts_of(_list(body, "messages")))


def _list(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else []
