"""Estimates of prompt tokens.

tiktoken downloads its vocabularies when they are first used. Where it can't, that is found out once per process, within
a few seconds, and characters are counted instead.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from batchor_core.core.types import BatchRequestLine

if TYPE_CHECKING:
    from tiktoken import Encoding

LOAD_TIMEOUT_SEC = 10.0
"""How long to wait for a vocabulary, once per process and vocabulary."""

DEFAULT_ENCODING = "o200k_base"
"""What models too new for the installed tiktoken have, so far."""

PROMPT_OVERHEAD = 3
MESSAGE_OVERHEAD = 4
"""Tokens around a prompt and around each message in it (OpenAI cookbook: how to count tokens)."""

SLICE_CHARS = 100_000
"""Longer texts are counted in slices: tiktoken's time on one unbroken word grows faster than its length."""

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_encodings: dict[str, Encoding | None] = {}


def encoding_for(model: str) -> Encoding | None:
    """Return the model's encoding, or None if it can't be had in this process."""
    try:
        import tiktoken
    except ImportError:
        return _remember("tiktoken", None, "it is not installed")
    try:
        name = tiktoken.encoding_name_for_model(model)
    except KeyError:
        name = DEFAULT_ENCODING
    if name in _encodings:
        return _encodings[name]
    with _lock:  # one download, however many threads ask
        if name in _encodings:
            return _encodings[name]
        encoding, reason = _load(name, tiktoken.get_encoding)
        return _remember(name, encoding, reason)


def _remember(name: str, encoding: Encoding | None, reason: str) -> Encoding | None:
    if encoding is None and name not in _encodings:
        logger.warning(
            "tokens are estimated from characters, since tiktoken's %s can't be loaded: %s", name, reason
        )
    _encodings[name] = encoding
    return encoding


def _load(name: str, get_encoding: Callable[[str], Encoding]) -> tuple[Encoding | None, str]:
    """Load in a thread of its own: tiktoken's download has no timeout."""
    loaded: list[Encoding] = []
    failed: list[str] = []

    def load() -> None:
        try:
            loaded.append(get_encoding(name))
        except Exception as error:  # no network, no disk, a broken cache: all the same to an estimate
            failed.append(f"{type(error).__name__}: {error}"[:200])

    thread = threading.Thread(target=load, name="batchor-tiktoken", daemon=True)
    thread.start()
    thread.join(LOAD_TIMEOUT_SEC)
    if loaded:
        return loaded[0], ""
    return None, failed[0] if failed else f"no answer within {LOAD_TIMEOUT_SEC:g} seconds"


class TokenCounter:
    """Estimates the prompt tokens of request lines for one model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._threads = min(4, os.cpu_count() or 1)
        self._schema: tuple[Any, int] = (None, 0)

    def count(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """Return one estimate per line: its texts, its schema, and what surrounds messages."""
        encoding = encoding_for(self._model)
        prompts = [_prompt_texts(line["body"]) for line in lines]
        if encoding is None:
            sizes = [sum(_by_chars(text, chars_per_token) for text in texts) for texts in prompts]
        else:
            sizes = self._encode(encoding, prompts)
        return [
            size
            + PROMPT_OVERHEAD
            + MESSAGE_OVERHEAD * len(texts)
            + self._count_schema(line["body"], encoding, chars_per_token)
            for line, texts, size in zip(lines, prompts, sizes, strict=True)
        ]

    def _encode(self, encoding: Encoding, prompts: Sequence[Sequence[str]]) -> list[int]:
        pieces: list[str] = []
        owners: list[int] = []
        for index, texts in enumerate(prompts):
            for text in texts:
                for start in range(0, len(text), SLICE_CHARS):
                    pieces.append(text[start : start + SLICE_CHARS])
                    owners.append(index)
        sizes = [0] * len(prompts)
        tokens = encoding.encode_ordinary_batch(pieces, num_threads=self._threads)
        for index, encoded in zip(owners, tokens, strict=True):
            sizes[index] += len(encoded)
        return sizes

    def _count_schema(self, body: dict[str, Any], encoding: Encoding | None, chars_per_token: int) -> int:
        schema = body.get("response_format") or (body.get("text") or {}).get("format")
        if schema is None:
            return 0
        counted, tokens = self._schema
        if schema is not counted:  # lines of one run share theirs
            text = json.dumps(schema, separators=(",", ":"))
            tokens = (
                _by_chars(text, chars_per_token) if encoding is None else len(encoding.encode_ordinary(text))
            )
            self._schema = (schema, tokens)
        return tokens


def _by_chars(text: str, chars_per_token: int) -> int:
    return -(-len(text) // max(1, chars_per_token))


def _prompt_texts(body: dict[str, Any]) -> list[str]:
    """The texts of a body: instructions, then the input or the messages; of other parts only what is text."""
    texts: list[str] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        texts.append(instructions)
    prompt = body.get("input", body.get("messages"))
    if isinstance(prompt, str):
        texts.append(prompt)
    elif isinstance(prompt, list):
        texts.extend(_message_text(message) for message in prompt)
    return texts


def _message_text(message: Any) -> str:
    if isinstance(message, str):
        return message
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)
    )
