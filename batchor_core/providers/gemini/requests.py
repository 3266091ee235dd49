"""Lines of a request file: as the engine knows them, and as they are uploaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import msgspec

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import VectorOutput
from batchor_core.core.prompts import PromptParts
from batchor_core.core.tools import ToolSchema, WantedTools
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.api import WantedOutput
from batchor_core.providers.gemini.config import GeminiEndpoint, GeminiProviderConfig
from batchor_core.providers.gemini.contents import asked, one_text
from batchor_core.providers.gemini.spelling import BUILT_FIELDS, SCHEMA_FIELDS, TOOL_FIELDS, camel, worded

IMAGE_TOKENS = 1_120
"""Of an image at the default resolution of the newest models; older ones take 258."""

MEDIA_CHARS_PER_TOKEN = 1_000
"""Of other media: a second of sound takes some 20 KB of base64 and 32 tokens, a page of a document 100 KB and 560."""


class RequestLines:
    """Builds request lines of one config.

    What is the same in every line is made once per output and shared by the lines, so treat a line as read-only.
    """

    def __init__(self, config: GeminiProviderConfig) -> None:
        self._config = config
        self._embeds = config.endpoint is GeminiEndpoint.EMBED_CONTENT
        # what was made for the output last asked for; replaced as one, so that threads agree
        self._tail: tuple[WantedOutput | None, JSONObject] = (None, self._make_tail(None))

    def build(self, custom_id: str, prompt: PromptParts, wanted: WantedOutput | None) -> BatchRequestLine:
        """The line of one item. Its keys always come in the same order."""
        made_for, tail = self._tail
        if wanted is not made_for:
            tail = self._make_tail(wanted)
            self._tail = (wanted, tail)
        options = prompt.options
        if options and "model" in options:
            options = {name: value for name, value in options.items() if name != "model"}
        if options:
            tail = self._with_options(tail, options, wanted)
        said = {"content": {"parts": [{"text": one_text(prompt)}]}} if self._embeds else asked(prompt)
        # the body has no model, so that the address tells equal requests to different models apart
        address = f"{prompt.model or self._config.model}:{self._config.endpoint}"
        return {"custom_id": custom_id, "url": address, "body": {**said, **tail}}

    def continued(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """The line with an answer to it, and a reply to that, as further turns."""
        turns = [
            {"role": "model", "parts": [{"text": answer}]},
            {"role": "user", "parts": [{"text": reply}]},
        ]
        body = line["body"]
        return {**line, "body": {**body, "contents": [*body["contents"], *turns]}}

    def _make_tail(self, wanted: WantedOutput | None) -> JSONObject:
        config = self._config
        if self._embeds:
            options = {camel(name): value for name, value in config.request_options.items()}
            asks = {"outputDimensionality": wanted.dimensions} if isinstance(wanted, VectorOutput) else {}
            return options | asks
        tail = worded(config.request_options)
        ours: JSONObject = {}
        if config.max_output_tokens is not None:
            ours["maxOutputTokens"] = config.max_output_tokens
        if config.reasoning_effort is not None:
            ours["thinkingConfig"] = {"thinkingLevel": config.reasoning_effort}
        if isinstance(wanted, WantedTools):
            tail["tools"] = [{"functionDeclarations": [_function(tool) for tool in wanted.tools]}]
            tail["toolConfig"] = {"functionCallingConfig": {"mode": "ANY"}}
        elif wanted is not None and not isinstance(wanted, VectorOutput):
            ours |= {"responseMimeType": "application/json", "responseJsonSchema": wanted.schema}
        if ours:
            tail["generationConfig"] = _joined(tail.get("generationConfig", {}), ours)
        return tail

    def _with_options(self, tail: JSONObject, options: JSONObject, wanted: WantedOutput | None) -> JSONObject:
        for name in options:
            if camel(name) in BUILT_FIELDS:
                raise InvalidInputError(f"options must not set {name}: the provider fills this field")
        if self._embeds:
            given = {camel(name): value for name, value in options.items()}
            if "outputDimensionality" in given:
                raise InvalidInputError("options must not set the dimensions of a single row's vector")
            return tail | given
        given = worded(options)
        config: Any = given.get("generationConfig", {})
        if isinstance(level := config.get("thinkingLevel", config.get("reasoningEffort")), str):
            # as the API calls it, and as the config does
            config = {
                key: value for key, value in config.items() if key not in ("thinkingLevel", "reasoningEffort")
            }
            given["generationConfig"] = _joined(config, {"thinkingConfig": {"thinkingLevel": level}})
        ours: frozenset[str] = frozenset()
        if isinstance(wanted, WantedTools):
            ours = TOOL_FIELDS
        elif wanted is not None:
            ours = SCHEMA_FIELDS
        if taken := ours & {*given, *config}:
            raise InvalidInputError(
                f"options must not set {min(taken)}: what the job's output asks for is there"
            )
        return _joined(tail, given)


def _function(tool: ToolSchema) -> JSONObject:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parametersJsonSchema": tool.schema}


def _joined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings over others; objects are joined."""
    made = dict(below)
    for name, value in above.items():
        before = made.get(name)
        is_both = isinstance(before, Mapping) and isinstance(value, Mapping)
        made[name] = _joined(before, value) if is_both and before and name != "responseJsonSchema" else value
    return made


class _Line(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw
    url: str = ""


class _UploadedLine(msgspec.Struct):
    key: str
    request: msgspec.Raw


_read = msgspec.json.Decoder(_Line).decode
_write = msgspec.json.Encoder().encode


def model_of(request_file: Path) -> str:
    """The model that all lines of a request file are for; empty if they don't say."""
    with request_file.open("rb") as lines:
        first = next(lines, b"")
    return _read(first).url.rpartition(":")[0] if first else ""


@contextmanager
def uploaded_form(request_file: Path) -> Iterator[IO[bytes]]:
    """A request file in the form in which it is uploaded, at its beginning: ``{"key", "request"}`` on each line.

    Bodies stay byte for byte what they are.
    """
    with request_file.open("rb") as lines, TemporaryFile(dir=request_file.parent) as renamed:
        for line in lines:
            read = _read(line)
            renamed.write(_write(_UploadedLine(read.custom_id, read.body)) + b"\n")
        renamed.seek(0)
        yield renamed


def estimated_tokens(lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
    """Prompt tokens of lines, by their characters: Gemini's vocabulary is not public."""
    counted = _Counter(max(1, chars_per_token))
    return [counted.of(line["body"]) for line in lines]


class _Counter:
    """Counts what lines share once."""

    def __init__(self, chars_per_token: int) -> None:
        self._per_token = chars_per_token
        self._shared: dict[int, tuple[Any, int]] = {}

    def of(self, body: JSONObject) -> int:
        config: Any = body.get("generationConfig") or {}
        tokens = self._once(config.get("responseJsonSchema")) + self._once(body.get("tools"))
        for content in [body.get("content"), body.get("systemInstruction"), *(body.get("contents") or ())]:
            for part in (content or {}).get("parts") or ():
                tokens += self._of_part(part)
        return tokens + 1

    def _of_part(self, part: Any) -> int:
        if isinstance(text := part.get("text"), str):
            return -(-len(text) // self._per_token)
        if (inline := part.get("inlineData")) is None:
            return IMAGE_TOKENS
        is_image = str(inline.get("mimeType")).startswith("image/")
        return IMAGE_TOKENS if is_image else len(str(inline.get("data"))) // MEDIA_CHARS_PER_TOKEN + 1

    def _once(self, shared: Any) -> int:
        if not shared:
            return 0
        known = self._shared.get(id(shared))
        if known is None or known[0] is not shared:
            known = (shared, len(json.dumps(shared, separators=(",", ":"))) // self._per_token)
            self._shared[id(shared)] = known
        return known[1]
