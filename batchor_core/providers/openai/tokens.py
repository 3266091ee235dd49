"""Estimates of prompt tokens.

tiktoken downloads its vocabularies when they are first used. Where it can't, that is found out once per process, within
a few seconds, and characters are counted instead.
"""

from __future__ import annotations

import json
import logging
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

IMAGE_TOKENS = 765
LOW_IMAGE_TOKENS = 85
"""Of an image of a megapixel, and of one that is looked at in low detail."""

FILE_CHARS_PER_TOKEN = 64
AUDIO_CHARS_PER_TOKEN = 2_000
"""Characters of base64: a page of a document takes some 100 KB and 1,500 tokens, a second of compressed audio 15 KB and 10."""

SLICE_CHARS = 100_000
"""Longer texts are counted in slices: tiktoken's time on one unbroken word grows faster than its length."""

UNBILLED_KEYWORDS = ("required", "additionalProperties", "$schema")
AROUND_SCHEMA = 9
"""What OpenAI leaves out of a schema before it bills it, and adds to it (measured: openai-cookbook, issue 2140)."""

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
    """Estimates the prompt tokens of request lines for one model.

    What lines share, the system prompt and the schema, is counted once. Texts are encoded one after the other: handing
    them to tiktoken's thread pool took twice as long when measured, at 500 characters a text as at 40,000.

    Args:
        model: Decides the encoding.
        has_turns: Whether texts are turns, with tokens around each.
    """

    def __init__(self, model: str, *, has_turns: bool = True) -> None:
        self._model = model
        self._has_turns = has_turns
        # what was counted last, and its tokens; each replaced as one, so that threads agree
        self._schema: tuple[Any, int] = (None, 0)
        self._system: tuple[str, int] = ("", 0)
        self._counted_tools: tuple[Any, int] = (None, 0)

    def count(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        """Return one estimate per line: its texts, its schema, and what surrounds messages."""
        measure = self._measure(chars_per_token)
        return [self._count_line(line["body"], measure) for line in lines]

    def unbilled(self, line: BatchRequestLine, *, chars_per_token: int) -> int:
        """How many tokens of a line's schema are counted and not billed."""
        form = _answer_form(line["body"])
        if form is None or not self._has_turns:
            return 0
        measure = self._measure(chars_per_token)
        holder = form.get("json_schema")
        schema = form.get("schema") or (holder.get("schema") if isinstance(holder, dict) else None)
        if schema is None:
            return 0
        billed = AROUND_SCHEMA + measure(_compact(_without_keywords(schema)))
        return max(0, self._count_schema(line["body"], measure) - billed)

    def _measure(self, chars_per_token: int) -> Callable[[str], int]:
        encoding = encoding_for(self._model)

        def measure(text: str) -> int:
            if encoding is None:
                return -(-len(text) // max(1, chars_per_token))
            if len(text) <= SLICE_CHARS:
                return len(encoding.encode_ordinary(text))
            slices = range(0, len(text), SLICE_CHARS)
            return sum(len(encoding.encode_ordinary(text[start : start + SLICE_CHARS])) for start in slices)

        return measure

    def _count_tools(self, body: dict[str, Any], measure: Callable[[str], int]) -> int:
        tools = body.get("tools")
        if not tools:
            return 0
        counted, tokens = self._counted_tools
        if tools is not counted:
            tokens = measure(json.dumps(tools, separators=(",", ":")))
            self._counted_tools = (tools, tokens)
        return tokens

    def _count_line(self, body: dict[str, Any], measure: Callable[[str], int]) -> int:
        texts = _prompt_texts(body)
        if not self._has_turns:
            return sum(map(measure, texts))
        tokens = PROMPT_OVERHEAD + MESSAGE_OVERHEAD * len(texts) + self._count_schema(body, measure)
        tokens += self._count_tools(body, measure) + _media_tokens(body)
        if len(texts) > 1:
            tokens += self._count_system(texts.pop(0), measure)
        return tokens + sum(map(measure, texts))

    def _count_system(self, text: str, measure: Callable[[str], int]) -> int:
        counted, tokens = self._system
        if text != counted:
            tokens = measure(text)
            self._system = (text, tokens)
        return tokens

    def _count_schema(self, body: dict[str, Any], measure: Callable[[str], int]) -> int:
        schema = _answer_form(body)
        if schema is None:
            return 0
        counted, tokens = self._schema
        if schema is not counted:
            tokens = measure(_compact(schema))
            self._schema = (schema, tokens)
        return tokens


def _answer_form(body: dict[str, Any]) -> dict[str, Any] | None:
    """What a body says of the form of its answer."""
    options = body.get("text")
    return body.get("response_format") or (options.get("format") if isinstance(options, dict) else None)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _without_keywords(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_keywords(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_keywords(part) for name, part in schema.items() if name not in UNBILLED_KEYWORDS}


def _prompt_texts(body: dict[str, Any]) -> list[str]:
    """The texts of a body: instructions, then the input or the messages; of other parts only what is text."""
    texts: list[str] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        texts.append(instructions)
    prompt = body.get("input", body.get("messages", body.get("prompt")))
    if isinstance(prompt, str):
        texts.append(prompt)
    elif isinstance(prompt, list):
        texts.extend(_message_text(message) for message in prompt)
    return texts


def _media_tokens(body: dict[str, Any]) -> int:
    """A rough estimate for images, files and audio, which are not text."""
    turns = body.get("input", body.get("messages"))
    if not isinstance(turns, list):
        return 0
    contents = (turn.get("content") for turn in turns if isinstance(turn, dict))
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return sum(_part_tokens(part) for part in parts if isinstance(part, dict))


def _part_tokens(part: dict[str, Any]) -> int:
    kind = part.get("type")
    if kind in ("input_image", "image_url"):
        holder = part["image_url"] if isinstance(part.get("image_url"), dict) else part
        return LOW_IMAGE_TOKENS if holder.get("detail") == "low" else IMAGE_TOKENS
    if kind in ("input_file", "file"):
        holder = part["file"] if isinstance(part.get("file"), dict) else part
        return max(IMAGE_TOKENS, len(str(holder.get("file_data", ""))) // FILE_CHARS_PER_TOKEN)
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return len(str(part["input_audio"].get("data", ""))) // AUDIO_CHARS_PER_TOKEN + 1
    return 0


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
