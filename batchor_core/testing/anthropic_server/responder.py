"""The default answers of the server: plausible, valid and always the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from batchor_core.testing.local_server.made_up import json_answer, spoken_answer
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.words import texts_of


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: JSON where the request has a schema or must call a tool, else a short text."""
    text, schema = spoken_text(body), wanted_schema(body)
    if schema is None:
        return Reply.answer(spoken_answer(text))
    try:
        return Reply.answer(json_answer(text, _with_told_rules(schema)))
    except (KeyError, TypeError, ValueError) as refused:
        return Reply.http_error(400, message=f"output_config.format.schema: {refused}")


def wanted_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the JSON that a request wants, as an answer or as the input of a tool; None if it wants none."""
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        return wanted.get("schema")
    tool = forced_tool(body)
    return None if tool is None else tool.get("input_schema")


def forced_tool(body: dict[str, Any]) -> dict[str, Any] | None:
    """The tool that the model must call; None if it may answer otherwise."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    if (
        not isinstance(choice, dict)
        or not isinstance(tools, list)
        or choice.get("type") not in ("any", "tool")
    ):
        return None
    own = [tool for tool in tools if isinstance(tool, dict) and "input_schema" in tool]
    named = [tool for tool in own if choice.get("name") in (None, tool.get("name"))]
    return named[0] if named else None


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
