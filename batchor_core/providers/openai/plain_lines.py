"""Result lines of the usual shape, read from their bytes: of a good answer only what the engine needs is decoded.

To decode a line into a dict and to walk through that takes several times as long. The types below are the usual shape: status 200,
no error, and one message with text in it, one choice that stopped by itself, or one vector in base64. Whatever does not fit, or may not be kept as it
is, is left to :func:`~batchor_core.providers.openai.answers.read_record`, with which :func:`read_plain_line` agrees on the rest.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from batchor_core.core.answers import Answer
from batchor_core.core.usage import TokenUsage

_Count: TypeAlias = Annotated[int, Meta(ge=0, lt=2**62)]
_Nothing: TypeAlias = Annotated[list[Any], Meta(max_length=0)] | None
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _InputDetails(Struct, gc=False):
    cached_tokens: _Count = 0
    cache_write_tokens: _Count = 0


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: _Count = 0


class _Usage(Struct, gc=False):
    input_tokens: _Count | None = None
    prompt_tokens: _Count | None = None
    output_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    input_tokens_details: _InputDetails | None = None
    prompt_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Text(Struct, gc=False, tag="output_text"):
    text: str


class _Message(Struct, gc=False, tag="message"):
    role: Literal["assistant"]
    content: list[_Text]
    refusal: None = None
    tool_calls: _Nothing = None
    function_call: None = None
    audio: None = None


class _Reasoning(Struct, gc=False, tag="reasoning"):
    pass


class _ChatMessage(Struct, gc=False):
    content: str
    refusal: None = None
    tool_calls: _Nothing = None
    function_call: None = None
    audio: None = None
    images: _Nothing = None


class _Choice(Struct, gc=False):
    message: _ChatMessage
    finish_reason: Literal["stop"]
    error: None = None
    tool_calls: _Nothing = None


class _Embedding(Struct, gc=False):
    embedding: str


class _Body(Struct, gc=False):
    status: Literal["completed"] | None = None
    output: list[_Message | _Reasoning] | None = None
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)] | None = None
    data: Annotated[list[_Embedding], Meta(min_length=1, max_length=1)] | None = None
    usage: _Usage | None = None
    error: None = None


class _Response(Struct, gc=False):
    status_code: Literal[200]
    body: _Body


class _Line(Struct, gc=False):
    custom_id: str
    response: _Response


_decode = Decoder(_Line).decode
_NO_INPUT_DETAILS, _NO_OUTPUT_DETAILS = _InputDetails(), _OutputDetails()


def read_plain_line(line: bytes) -> Answer | None:
    """The good answer in a line of an output file; None where the line has to be looked at as a whole.

    A line that is read is JSON, in UTF-8 and without halves of surrogate pairs.
    """
    try:
        if not line.isascii():
            line.decode()  # what the decoder skips it does not check to be UTF-8
        if _SURROGATE.search(line) is not None:  # nor for halves of pairs
            return None
        read = _decode(line)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    body = read.response.body
    text = vector = None
    if body.data is not None and body.output is None and body.choices is None:
        vector = body.data[0].embedding
    else:
        text = _chosen(body) if body.output is None else _said(body.output)
        if not text or text.isspace():
            return None
    if (used := body.usage) is None:
        return Answer(read.custom_id, text, value=vector)
    usage = _usage(used)
    return None if usage is None else Answer(read.custom_id, text, usage, value=vector)


def _said(output: list[_Message | _Reasoning]) -> str | None:
    """The text of the only message."""
    messages = [item for item in output if type(item) is _Message]
    if len(messages) != 1:
        return None
    content = messages[0].content
    return content[0].text if len(content) == 1 else "".join([part.text for part in content])


def _chosen(body: _Body) -> str | None:
    """The text of the only choice."""
    return None if body.choices is None else body.choices[0].message.content


def _usage(used: _Usage) -> TokenUsage | None:
    """The tokens under either spelling; None where there are details under both."""
    came, went = used.input_tokens_details, used.output_tokens_details
    if came is None:
        came = used.prompt_tokens_details or _NO_INPUT_DETAILS
    elif used.prompt_tokens_details is not None:
        return None
    if went is None:
        went = used.completion_tokens_details or _NO_OUTPUT_DETAILS
    elif used.completion_tokens_details is not None:
        return None
    taken = used.prompt_tokens if used.input_tokens is None else used.input_tokens
    given = used.completion_tokens if used.output_tokens is None else used.output_tokens
    return TokenUsage(
        taken or 0, came.cached_tokens, given or 0, went.reasoning_tokens, came.cache_write_tokens
    )
