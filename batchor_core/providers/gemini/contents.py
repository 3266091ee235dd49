"""A prompt's messages as the contents of a request: roles and parts as Gemini names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.media_types import media_type_of
from batchor_core.core.prompts import Message, PromptParts
from batchor_core.core.types import JSONObject
from batchor_core.providers.gemini.credentials import OWN_URL

_ROLES = {"user": "user", "assistant": "model", "model": "model"}
_INSTRUCTIONS = frozenset({"system", "developer"})


def asked(prompt: PromptParts) -> JSONObject:
    """The fields of a request that hold a prompt.

    Raises:
        InvalidInputError: A message has a role or a part that Gemini does not know.
    """
    instructions = [] if prompt.system_prompt is None else [prompt.system_prompt]
    if prompt.messages is None:
        contents = [{"role": "user", "parts": [{"text": prompt.prompt}]}]
    else:
        contents = []
        for at, message in enumerate(prompt.messages):
            where = f"messages[{at}]"
            if message["role"] in _INSTRUCTIONS:
                instructions += _texts(where, message)
            else:
                contents.append(_content(where, message))
    if not contents:
        raise InvalidInputError("messages holds instructions alone; Gemini needs a message of the user")
    if not instructions:
        return {"contents": contents}
    return {"contents": contents, "systemInstruction": {"parts": [{"text": text} for text in instructions]}}


def one_text(prompt: PromptParts) -> str:
    """The prompt of a request that takes a text and nothing else.

    Raises:
        InvalidInputError: It has more than a text.
    """
    if prompt.system_prompt:
        raise InvalidInputError(
            "its prompt has a system prompt, and embedContent reads one text alone; leave the system prompt out, or put its words "
            "into the text"
        )
    return prompt.prompt


def _content(where: str, message: Message) -> JSONObject:
    role = _ROLES.get(message["role"])
    if role is None:
        known = ", ".join([*_ROLES, *sorted(_INSTRUCTIONS)])
        raise InvalidInputError(
            f"{where} has the role {message['role']!r}, which Gemini does not know; it has {known}"
        )
    if "content" not in message or message["content"] is None:
        # a turn in Gemini's own words, such as calls and what came of them
        return {**{key: value for key, value in message.items() if key != "content"}, "role": role}
    return {"role": role, "parts": _parts(where, message["content"])}


def _texts(where: str, message: Message) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    texts = [part.get("text") for part in content or () if part.get("type") == "text"]
    if len(texts) != len(content or ()) or not texts:
        raise InvalidInputError(f"{where} has the role {message['role']!r} and may have texts alone")
    return texts


def _parts(where: str, content: str | Sequence[JSONObject]) -> list[JSONObject]:
    if isinstance(content, str):
        return [{"text": content}]
    return [_part(f"{where}.content[{at}]", part) for at, part in enumerate(content)]


def _part(where: str, part: JSONObject) -> JSONObject:
    match part["type"]:
        case "text":
            return {"text": part["text"]}
        case "image" | "file":
            return _media(part, part.get("media_type"))
        case "audio" if "data" in part:
            return {"inlineData": {"mimeType": f"audio/{part['format']}", "data": part["data"]}}
        case "audio":
            return _media(part, f"audio/{part['format']}" if "format" in part else None)
        case "part":  # one of Gemini's own, such as a functionResponse
            return {key: value for key, value in part.items() if key != "type"}
        case kind:
            raise InvalidInputError(
                f"{where} has the type {kind!r}, which Gemini does not know; it has text, image, file, audio and, for a part in the "
                "API's own words, part"
            )


def _media(part: JSONObject, kind: Any) -> JSONObject:
    if "data" in part:
        return {"inlineData": {"mimeType": kind, "data": part["data"]}}
    address: Any = part.get("url") or part["file_id"]
    kind = kind or media_type_of(b"", address.partition("?")[0])
    if address.startswith("files/"):
        address = f"{OWN_URL}/v1beta/{address}"
    # of a file that was uploaded to it, Google knows the type
    return {"fileData": {"fileUri": address} | ({"mimeType": kind} if kind else {})}
