"""A prompt's conversation, and a row's own settings, in the words of OpenAI's endpoints."""

from __future__ import annotations

from typing import Any, assert_never

from batchor_core.core.arguments import shown
from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.prompts import Message
from batchor_core.core.types import JSONObject

_ROLES = {
    OpenAIEndpoint.RESPONSES: ("user", "assistant", "system", "developer"),
    OpenAIEndpoint.CHAT_COMPLETIONS: ("user", "assistant", "system", "developer", "tool", "function"),
}
_OWN_PARTS = {
    OpenAIEndpoint.RESPONSES: (
        "input_text",
        "input_image",
        "input_file",
        "input_audio",
        "output_text",
        "refusal",
    ),
    OpenAIEndpoint.CHAT_COMPLETIONS: ("image_url", "input_audio", "refusal", "video_url", "input_file"),
}
"""Types of parts that an endpoint has besides the neutral ones; they are sent as they are."""

_NEUTRAL = ("text", "image", "file", "audio")

BUILT_FIELDS = frozenset({"model", "input", "instructions", "messages", "stream"})
"""Body fields that the provider fills itself, or that a batch can't have."""


def endpoint_messages(messages: Any, endpoint: OpenAIEndpoint) -> list[Message]:
    """The messages of a prompt as an endpoint takes them.

    Raises:
        InvalidInputError: The endpoint has no such role or part.
    """
    return [_message(f"messages[{at}]", message, endpoint) for at, message in enumerate(messages)]


def _message(where: str, message: Message, endpoint: OpenAIEndpoint) -> Message:
    role, content = message["role"], message.get("content")
    if role not in _ROLES[endpoint]:
        raise InvalidInputError(
            f"{where} has the role {role!r}, which {endpoint.value} does not know; it has {', '.join(_ROLES[endpoint])}"
        )
    if not isinstance(content, list | tuple):
        return message
    parts = [
        _part(f"{where}.content[{at}]", part, endpoint, is_answer=role == "assistant")
        for at, part in enumerate(content)
    ]
    return {**message, "content": parts}


def _part(where: str, part: JSONObject, endpoint: OpenAIEndpoint, *, is_answer: bool) -> JSONObject:
    kind = part["type"]
    if kind in _OWN_PARTS[endpoint]:
        return part
    if kind not in _NEUTRAL:
        known = ", ".join((*_NEUTRAL, *_OWN_PARTS[endpoint]))
        raise InvalidInputError(
            f"{where} has the type {kind!r}, which {endpoint.value} does not know; it has {known}"
        )
    match endpoint:
        case OpenAIEndpoint.RESPONSES:
            return _responses_part(kind, part, is_answer=is_answer)
        case OpenAIEndpoint.CHAT_COMPLETIONS:
            return _chat_part(where, kind, part)
        case _:
            assert_never(endpoint)


def _responses_part(kind: str, part: JSONObject, *, is_answer: bool) -> JSONObject:
    match kind:
        case "text":
            return {"type": "output_text" if is_answer else "input_text", "text": part["text"]}
        case "image":
            image: JSONObject = {"type": "input_image", "detail": part.get("detail", "auto")}
            if "file_id" in part:
                return {**image, "file_id": part["file_id"]}
            return {**image, "image_url": part.get("url") or _data_url(part)}
        case "file":
            file = {"type": "input_file", **_named(part)}
            if "url" in part:
                return {**file, "file_url": part["url"]}
            return {**file, **_file_content(part)}
        case _:
            return {"type": "input_audio", "input_audio": {"data": part["data"], "format": part["format"]}}


def _chat_part(where: str, kind: str, part: JSONObject) -> JSONObject:
    match kind:
        case "text":
            return part
        case "image":
            if "file_id" in part:
                raise InvalidInputError(
                    f"{where}: Chat Completions takes an image by url or data, not by file_id"
                )
            image = {"url": part.get("url") or _data_url(part)}
            if "detail" in part:
                image["detail"] = part["detail"]
            return {"type": "image_url", "image_url": image}
        case "file":
            if "url" in part:
                raise InvalidInputError(
                    f"{where}: Chat Completions takes a file by data or file_id, not by url"
                )
            return {"type": "file", "file": {**_named(part), **_file_content(part)}}
        case _:
            return {"type": "input_audio", "input_audio": {"data": part["data"], "format": part["format"]}}


def _data_url(part: JSONObject) -> str:
    return f"data:{part['media_type']};base64,{part['data']}"


def _named(part: JSONObject) -> JSONObject:
    if "file_id" in part or "url" in part:
        return {}
    return {"filename": part.get("name", "file")}  # the API wants one beside the content


def _file_content(part: JSONObject) -> JSONObject:
    return {"file_id": part["file_id"]} if "file_id" in part else {"file_data": _data_url(part)}


def with_options(
    tail: JSONObject, options: JSONObject, endpoint: OpenAIEndpoint, *, schema_field: str | None
) -> JSONObject:
    """The settings of a job with those of one row over them.

    Objects are joined, so that a row's ``{"text": {"verbosity": "low"}}`` keeps the schema that is in the same object.
    ``max_output_tokens`` and ``reasoning_effort`` mean what they mean in the config; all others are fields of the body.

    Args:
        tail: The job's, which is not changed.
        options: The row's.
        endpoint: Where it is sent.
        schema_field: The field that holds the job's schema; None where it has none.

    Raises:
        InvalidInputError: A row sets what is not its own to set.
    """
    made = dict(tail)
    for given, value in options.items():
        if given in BUILT_FIELDS:
            raise InvalidInputError(f"options must not set {given}: the provider fills this field")
        name, value = _as_field(given, value, endpoint)
        before = made.get(name)
        if name == schema_field and not _keeps_schema(name, value):
            raise InvalidInputError(
                f"options must not set {given} to {shown(value)}: the schema of the job's model is there"
            )
        made[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return made


def _as_field(name: str, value: Any, endpoint: OpenAIEndpoint) -> tuple[str, Any]:
    """A setting that has the config's name, under the body's."""
    is_chat = endpoint is OpenAIEndpoint.CHAT_COMPLETIONS
    if name == "max_output_tokens" and is_chat:
        return "max_completion_tokens", value
    if name == "reasoning_effort" and not is_chat:
        return "reasoning", {"effort": value}
    return name, value


def _keeps_schema(name: str, value: Any) -> bool:
    return name == "text" and isinstance(value, dict) and "format" not in value
