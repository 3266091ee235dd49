"""Markdown made of texts that others wrote: item ids, answers, error messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

MOST_CHARS = 80
"""Of a cell; longer texts are cut."""

_SYNTAX = re.compile(r"[\\`*\[\]|]")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of cells that are Markdown already; see :func:`plain`."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def plain(value: Any, most_chars: int = MOST_CHARS) -> str:
    """A value as one line without any Markdown or HTML in it: lists and objects as JSON, None as nothing."""
    if value is None:
        return ""
    text = (
        json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    )
    if len(text) > most_chars:
        text = text[: most_chars - 1] + "…"
    return re.sub(r"\s*[\r\n]+\s*", " ", _SYNTAX.sub(r"\\\g<0>", text).replace("<", "&lt;"))
