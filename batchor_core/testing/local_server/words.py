"""Words of prompts, and what they weigh."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BEGINNING = 400


def words_of(text: str) -> list[str]:
    """The words at the beginning of a text: enough to make an answer of, whatever its length."""
    return _WORD.findall(text[:_BEGINNING])


def count_tokens(text: str) -> int:
    """A rough count: four characters a token, as a rule of thumb for English."""
    return (len(text) + 3) // 4


def texts_of(items: list[Any]) -> Iterator[tuple[str, str]]:
    """``(role, text)`` of messages, or of whatever else stands in their place."""
    for item in items:
        if isinstance(item, str):
            yield "user", item
        elif isinstance(item, dict):
            role = str(item.get("role", "user"))
            content = item.get("content")
            if isinstance(content, str):
                yield role, content
            elif isinstance(content, list):
                yield from ((role, text) for text in map(_text_of, content) if text)


def _text_of(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""
