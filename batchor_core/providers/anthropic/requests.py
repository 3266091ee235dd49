"""Requests of a batch: how they are built, and how they are sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from batchor_core.core.prompts import PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import ToolSchema, WantedTools
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.providers.anthropic.config import AnthropicProviderConfig
from batchor_core.providers.anthropic.messages import asked, with_options

LEAST_CACHED_CHARS = 4 * 1_024
"""A shorter prefix is not marked: no model caches fewer than 1,024 tokens."""

Wanted: TypeAlias = StructuredOutputSchema | WantedTools | None
"""What a request asks for besides a text."""

_ONE_CALL: JSONObject = {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}

_TOKENS_OF_IMAGE = 1_600
_CHARS_OF_FILE_TOKEN = 100
"""A guess for base64 of a PDF: a page of some 1,500 tokens in 150 kB."""


class Requests:
    """Builds the requests of one config. What is the same in all of them is made once per output: treat it as read-only."""

    def __init__(self, config: AnthropicProviderConfig) -> None:
        self._config = config
        # what was made for the output last asked for; replaced as one, so that threads agree
        self._settings: tuple[Wanted, JSONObject] = (None, self._made(None))

    def line(self, custom_id: str, prompt: PromptParts, output: Wanted) -> BatchRequestLine:
        """The line of one item. Its keys always come in the same order."""
        made_for, settings = self._settings
        if output is not made_for:
            settings = self._made(output)
            self._settings = (output, settings)
        options = prompt.options
        if options and "model" in options:
            options = {name: value for name, value in options.items() if name != "model"}
        if options:
            settings = with_options(settings, options, has_tools=isinstance(output, WantedTools))
        fields = asked(prompt)
        if self._config.cache_prefix is not None:
            fields = self._marked(fields, settings)
        return {
            "custom_id": custom_id,
            "body": {"model": prompt.model or self._config.model, **settings, **fields},
        }

    def continued(self, line: BatchRequestLine, *, answer: str, reply: str) -> BatchRequestLine:
        """The line with an answer to it, and a reply to that, as further turns."""
        turns = [{"role": "assistant", "content": answer}, {"role": "user", "content": reply}]
        body = line["body"]
        return {**line, "body": {**body, "messages": [*body["messages"], *turns]}}

    def _made(self, output: Wanted) -> JSONObject:
        config = self._config
        settings: JSONObject = {"max_tokens": config.max_output_tokens}
        shape: JSONObject = {}
        if config.reasoning_effort is not None:
            shape["effort"] = config.reasoning_effort
        if isinstance(output, WantedTools):
            settings |= {"tools": [_tool(tool) for tool in output.tools], **_ONE_CALL}
        elif output is not None:
            shape["format"] = {"type": "json_schema", "schema": output.schema}
        for name, value in config.request_options.items():
            if name == "output_config" and isinstance(value, dict):
                shape = {**value, **shape}  # what the config says itself wins
            else:
                settings[name] = value
        return {**settings, "output_config": shape} if shape else settings

    def _marked(self, fields: JSONObject, settings: JSONObject) -> JSONObject:
        """The fields with the system prompt, which follows the tools, marked as the end of the prefix to cache."""
        system = fields.get("system")
        if not isinstance(system, str):
            return fields
        tools = orjson.dumps(settings["tools"]) if settings.get("tools") else b""
        if len(system) + len(tools) < LEAST_CACHED_CHARS:
            return fields
        control = {"type": "ephemeral", "ttl": self._config.cache_prefix}
        return {**fields, "system": [{"type": "text", "text": system, "cache_control": control}]}


def _tool(tool: ToolSchema) -> JSONObject:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": tool.schema, "strict": True}


def estimated_tokens(body: JSONObject, *, chars_per_token: int) -> int:
    """About how many tokens the prompt of a request has. What base64 holds is not counted by its length."""
    beside = [0]

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        if not isinstance(value, dict):
            return value
        if value.get("type") == "base64" and isinstance(value.get("data"), str):
            is_image = str(value.get("media_type", "")).startswith("image/")
            beside[0] += _TOKENS_OF_IMAGE if is_image else len(value["data"]) // _CHARS_OF_FILE_TOKEN
            return None
        return {key: plain(one) for key, one in value.items()}

    read = {
        name: plain(body[name]) for name in ("system", "messages", "tools", "output_config") if name in body
    }
    return len(orjson.dumps(read)) // chars_per_token + 1 + beside[0]


# --- sending ---------------------------------------------------------------------------------------------------------

_BEGINNING, _END = b'{"requests":[', b"]}"
_PIECE_BYTES = 1 << 18
_LINE = re.compile(rb'\{"custom_id":"[A-Za-z0-9_-]{1,64}",(?="body":)')
"""How the engine writes the beginning of a line."""


def size_of(request_file: Path) -> int:
    """Bytes of the create that carries a request file."""
    return sum(map(len, content_of(request_file)))


def content_of(request_file: Path) -> Iterator[bytes]:
    """The JSON of the create that carries a request file, in pieces, so that memory stays flat."""
    piece, before = bytearray(_BEGINNING), b""
    with request_file.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            piece += before + _request(line.rstrip())
            before = b","
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    yield bytes(piece) + _END


def _request(line: bytes) -> bytes:
    """A line as a request of the create: its body is called ``params`` there."""
    found = _LINE.match(line)
    if found is not None:
        return b'%b"params"%b' % (found[0], line[found.end() + len(b'"body"') :])
    record = orjson.loads(line)
    return orjson.dumps({"custom_id": record["custom_id"], "params": record["body"]})
