"""The words of a request, whichever endpoint it is for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from batchor_core.testing.local_server.words import count_tokens, texts_of

_UNTOLD = ("required", "additionalProperties", "$schema")
_AROUND_SCHEMA = 9  # both as measured at OpenAI: openai-cookbook, issue 2140


def prompt_text(body: dict[str, Any]) -> str:
    """All text that the model would read, joined by newlines."""
    return "\n".join(text for _, text in _parts(body))


def spoken_text(body: dict[str, Any]) -> str:
    """What the user said last, or else the whole prompt."""
    parts = list(_parts(body))
    spoken = [text for role, text in parts if role == "user"]
    return spoken[-1] if spoken else "\n".join(text for _, text in parts)


def input_tokens(body: dict[str, Any]) -> int:
    """What the input of a request is billed: its text, and the schema of the answer without the keywords that OpenAI leaves out."""
    text = body.get("text")
    wanted = body.get("response_format") or (text.get("format") if isinstance(text, dict) else None)
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return count_tokens(prompt_text(body))
    schema = wanted.get("schema") or (wanted.get("json_schema") or {}).get("schema")
    told = json.dumps(_without_keywords(schema), separators=(",", ":"), ensure_ascii=False)
    return count_tokens(prompt_text(body)) + count_tokens(told) + _AROUND_SCHEMA


def _without_keywords(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_keywords(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_keywords(part) for name, part in schema.items() if name not in _UNTOLD}


def _parts(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """``(role, text)`` in the order of the prompt."""
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        yield "system", instructions
    for key in ("input", "messages", "prompt"):
        value = body.get(key)
        if isinstance(value, str):
            yield "user", value
        elif isinstance(value, list):
            yield from texts_of(value)
