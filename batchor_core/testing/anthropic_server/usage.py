"""What a request weighs, and how much of it a prompt cache holds.

The cache is simple: what a request marks as its prefix, the first request writes and every later one reads.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

import orjson

from batchor_core.testing.anthropic_server.responder import all_texts
from batchor_core.testing.local_server.records import Tokens
from batchor_core.testing.local_server.words import count_tokens

LEAST_CACHED = 1_024
"""Tokens that a prefix needs to be cached; some models need more."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a request's prompt was billed as, in tokens.

    Attributes:
        plain: Neither read from the cache nor written to it.
        cached: Read from it.
        written: Written to it.
        is_hour: Whether it is written for an hour instead of five minutes.
    """

    plain: int
    cached: int = 0
    written: int = 0
    is_hour: bool = False


class PromptCache:
    """The prefixes that requests have written."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._lock = threading.Lock()

    def read(self, body: dict[str, Any]) -> Read:
        """What a request's prompt is billed as. Writes its prefix."""
        total = sum(map(count_tokens, all_texts(body))) + count_tokens(_tools(body))
        prefix = marked_prefix(body)
        tokens = 0 if prefix is None else min(total, count_tokens(prefix[0]))
        if prefix is None or tokens < LEAST_CACHED:
            return Read(total)
        key = hashlib.sha256(f"{body.get('model')}\0{prefix[0]}".encode(errors="replace")).digest()
        with self._lock:
            is_known = key in self._known
            self._known.add(key)
        if is_known:
            return Read(total - tokens, cached=tokens)
        return Read(total - tokens, written=tokens, is_hour=prefix[1] == "1h")


def usage_object(read: Read, *, output: int, thinking: int) -> dict[str, Any]:
    """The ``usage`` of a message: cached input stands beside ``input_tokens``."""
    return {
        "input_tokens": read.plain,
        "cache_creation_input_tokens": read.written,
        "cache_read_input_tokens": read.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": 0 if read.is_hour else read.written,
            "ephemeral_1h_input_tokens": read.written if read.is_hour else 0,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": thinking},
        "server_tool_use": None,
        "service_tier": "batch",
        "inference_geo": "global",
    }


def tokens_of(read: Read, *, output: int, thinking: int) -> Tokens:
    """The same for the books."""
    return Tokens(
        input=read.plain + read.cached + read.written,
        cached=read.cached,
        output=output,
        reasoning=thinking,
        cache_written=read.written,
    )


def marked_prefix(body: dict[str, Any]) -> tuple[str, str] | None:
    """The text up to the last block with ``cache_control``, and how long it is kept; None if there is none."""
    so_far, found = "", None
    for block in _blocks(body):
        so_far += str(block.get("text") or orjson.dumps(block).decode())
        control = block.get("cache_control")
        if isinstance(control, dict):
            found = (so_far, str(control.get("ttl", "5m")))
    return found


def _blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    parts: list[Any] = []
    for name in ("tools", "system"):
        value = body.get(name)
        parts += value if isinstance(value, list) else [{"text": value}] if isinstance(value, str) else []
    for turn in body.get("messages") or []:
        content = turn.get("content") if isinstance(turn, dict) else None
        parts += content if isinstance(content, list) else [{"text": content}]
    return [part for part in parts if isinstance(part, dict)]


def _tools(body: dict[str, Any]) -> str:
    return orjson.dumps(body["tools"]).decode() if body.get("tools") else ""
