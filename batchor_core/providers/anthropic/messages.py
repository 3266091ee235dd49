"""Prompts in Anthropic's words."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from typing import Any

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.prompts import Message, PromptParts
from batchor_core.core.types import JSONObject

BUILT_FIELDS = frozenset({"model", "system", "messages", "stream"})
"""Fields that the provider fills itself, or that a batch can't have."""

TOOL_FIELDS = frozenset({"tools", "tool_choice"})
"""Fields that hold the tools of the job's output."""

_NEUTRAL = ("text", "image", "file", "audio")
_OWN_PARTS = (
    "container_upload",
    "document",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "thinking",
    "tool_result",
    "tool_use",
    "web_fetch_tool_result",
    "web_search_tool_result",
)
"""Types of parts that the API has besides the neutral ones; they are sent as they are."""

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_DOCUMENTS = ("application/pdf", "text/plain")
"""Types of content that the API reads."""

_SYSTEM_ROLES = ("system", "developer")


def asked(prompt: PromptParts) -> JSONObject:
    """The fields of a request that say what is asked: ``system``, if there is one, and ``messages``.

    Raises:
        InvalidInputError: The API has no such role or part.
    """
    system = [] if prompt.system_prompt is None else [prompt.system_prompt]
    if prompt.messages is None:
        messages: list[Message] = [{"role": "user", "content": prompt.prompt}]
    else:
        before, turns = _apart(prompt.messages)
        system += before
        messages = [_message(f"messages[{at}]", turn) for at, turn in enumerate(turns, start=len(before))]
    fields: JSONObject = {"system": "\n\n".join(system)} if system else {}
    return {**fields, "messages": messages}


def _apart(messages: Sequence[Message]) -> tuple[list[str], Sequence[Message]]:
    """The instructions that a conversation begins with, and its turns."""
    texts: list[str] = []
    for at, message in enumerate(messages):
        content = message.get("content")
        if message["role"] not in _SYSTEM_ROLES:
            return texts, messages[at:]
        parts: Sequence[JSONObject] = [{"type": "text", "text": content}]
        if isinstance(content, list | tuple):
            parts = content
        if content is None or any(part.get("type") != "text" for part in parts):
            raise InvalidInputError(f"messages[{at}]: instructions for Anthropic are texts")
        texts += [part["text"] for part in parts]
    raise InvalidInputError("the conversation has instructions alone; add a message with the role 'user'")


def _message(where: str, message: Message) -> Message:
    role, content = message["role"], message.get("content")
    if role not in ("user", "assistant"):
        raise InvalidInputError(
            f"{where} has the role {role!r}, which Anthropic does not know; it has user and assistant, and system at the "
            "beginning. Results of tools are parts of the type tool_result in a message of the user"
        )
    if not isinstance(content, list | tuple):
        return message
    return {**message, "content": [_part(f"{where}.content[{at}]", part) for at, part in enumerate(content)]}


def _part(where: str, part: JSONObject) -> JSONObject:
    kind = part["type"]
    if kind in _OWN_PARTS or kind == "text":
        return part
    match kind:
        case "image":
            return {"type": "image", "source": _source(where, part, _IMAGES)}
        case "file":
            title = {"title": part["name"]} if "name" in part else {}
            return {"type": "document", "source": _document(where, part), **title}
        case "audio":
            raise InvalidInputError(f"{where}: Anthropic takes no audio")
        case _:
            known = ", ".join((*_NEUTRAL[:-1], *_OWN_PARTS))
            raise InvalidInputError(
                f"{where} has the type {kind!r}, which Anthropic does not know; it has {known}"
            )


def _source(where: str, part: JSONObject, taken: Collection[str]) -> JSONObject:
    if "url" in part:
        return {"type": "url", "url": part["url"]}
    if "file_id" in part:
        return {"type": "file", "file_id": part["file_id"]}
    if part["media_type"] not in taken:
        raise InvalidInputError(
            f"{where}, of type {part['type']}, is {part['media_type']}; Anthropic takes {', '.join(taken)}"
        )
    return {"type": "base64", "media_type": part["media_type"], "data": part["data"]}


def _document(where: str, part: JSONObject) -> JSONObject:
    """A PDF is sent as it is, and text as text."""
    if "data" not in part or not str(part.get("media_type", "")).startswith("text/"):
        return _source(where, part, _DOCUMENTS)
    try:
        text = base64.b64decode(part["data"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidInputError(f"{where}.data must be base64 of text in UTF-8") from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def with_options(settings: JSONObject, options: JSONObject, *, has_tools: bool = False) -> JSONObject:
    """The settings of a job with those of one row over them; objects are joined.

    ``max_output_tokens`` and ``reasoning_effort`` mean what they mean in the config; all others are fields of the request.

    Args:
        settings: The job's, which are not changed.
        options: The row's.
        has_tools: Whether the tools are those of the job's output, which no row may replace.

    Raises:
        InvalidInputError: A row sets what is not its own to set.
    """
    made = dict(settings)
    for given, wanted in options.items():
        if given in BUILT_FIELDS:
            raise InvalidInputError(f"options must not set {given}: the provider fills this field")
        if has_tools and given in TOOL_FIELDS:
            raise InvalidInputError(f"options must not set {given}: the tools of the job's output are there")
        name, value = _worded(given, wanted)
        before = made.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if "format" in value and "format" in before:
                raise InvalidInputError(
                    f"options must not set {given} to {shown(wanted)}: the schema of the job's model is there"
                )
            value = {**before, **value}
        elif isinstance(before, dict) and "format" in before:
            raise InvalidInputError(
                f"options must not set {given} to {shown(wanted)}: the schema of the job's model is there"
            )
        made[name] = value
    return made


def _worded(name: str, value: Any) -> tuple[str, Any]:
    if name == "max_output_tokens":
        return "max_tokens", value
    return ("output_config", {"effort": value}) if name == "reasoning_effort" else (name, value)
