"""The lines of results."""

from __future__ import annotations

import hashlib
from typing import Any, assert_never

import orjson

from batchor_core.testing.gemini_server.errors import STATUSES, rpc_status
from batchor_core.testing.gemini_server.responder import all_texts, spoken_text
from batchor_core.testing.local_server.protocol import WrittenRow
from batchor_core.testing.local_server.records import Batch, Tokens
from batchor_core.testing.local_server.replies import BATCH_CANCELLED, BATCH_EXPIRED, Reply, ReplyKind
from batchor_core.testing.local_server.vectors import made_up_vector
from batchor_core.testing.local_server.words import count_tokens

EMBEDS = ":embedContent"
_DIMENSIONS = 3_072
_THOUGHTS = 64
_FAILED = {ReplyKind.HTTP_ERROR, ReplyKind.NOT_RUN, ReplyKind.BLANK}
_ENDS = {BATCH_CANCELLED.code: "CANCELLED", BATCH_EXPIRED.code: "DEADLINE_EXCEEDED"}


def write_row(reply: Reply, *, request: dict[str, Any], batch: Batch, custom_id: str) -> WrittenRow:
    """Turn what became of a row into its line of the results, which are one file."""
    key = hashlib.blake2b(f"{batch.id}/{custom_id}".encode(), digest_size=12).hexdigest()
    said, tokens = _said(reply, request, batch.endpoint, key)
    failed = reply.kind in _FAILED or reply.status >= 400
    if reply.kind is ReplyKind.MISSING:
        line = b""
    elif reply.kind is ReplyKind.GARBLED:
        line = reply.content.encode() + b"\n"
    else:
        row = {"key": custom_id if reply.custom_id is None else reply.custom_id, **said}
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    return WrittenRow(line * reply.copies, in_error_file=False, failed=failed, tokens=tokens)


def _said(reply: Reply, request: dict[str, Any], endpoint: str, key: str) -> tuple[dict[str, Any], Tokens]:
    match reply.kind:
        case ReplyKind.NOT_RUN:
            name = _ENDS.get(reply.code, "INTERNAL")
            return {"error": rpc_status(name, reply.message or name)}, Tokens()
        case ReplyKind.BLANK:
            return {"error": rpc_status("INTERNAL", "Internal error encountered.")}, Tokens()
        case ReplyKind.HTTP_ERROR:
            name = STATUSES.get(reply.status, "INTERNAL" if reply.status >= 500 else "INVALID_ARGUMENT")
            return {"error": rpc_status(name, reply.message or name)}, Tokens()
        case ReplyKind.BODY:
            return {"response": reply.body or {}}, Tokens()
        case (
            ReplyKind.ANSWER
            | ReplyKind.REFUSAL
            | ReplyKind.INCOMPLETE
            | ReplyKind.CALL
            | ReplyKind.MISSING
            | ReplyKind.GARBLED
        ):
            if endpoint.endswith(EMBEDS):
                return _embedded(request)
            return _generated(reply, request, endpoint, key)
        case _:
            assert_never(reply.kind)


def _embedded(request: dict[str, Any]) -> tuple[dict[str, Any], Tokens]:
    text = spoken_text(request)
    read = count_tokens(text)
    vector = made_up_vector(text, request.get("outputDimensionality") or _DIMENSIONS)
    return {"response": {"embedding": {"values": vector}, "tokenCount": str(read)}}, Tokens(input=read)


def _generated(
    reply: Reply, request: dict[str, Any], endpoint: str, key: str
) -> tuple[dict[str, Any], Tokens]:
    config: Any = request.get("generationConfig") or {}
    thoughts = _THOUGHTS if "thinkingConfig" in config else 0
    read, written = sum(map(count_tokens, all_texts(request))), count_tokens(reply.content)
    used = {
        "promptTokenCount": read,
        "candidatesTokenCount": written,
        "totalTokenCount": read + written + thoughts,
    }
    if thoughts:
        used["thoughtsTokenCount"] = thoughts
    response: dict[str, Any] = {
        "usageMetadata": {
            **used,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": read}],
        },
        "modelVersion": endpoint.partition(":")[0].removeprefix("models/"),
        "responseId": key,
    }
    if reply.kind is ReplyKind.REFUSAL:
        response["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
    else:
        response["candidates"] = [_candidate(reply)]
    return {"response": response}, Tokens(input=read, output=written + thoughts, reasoning=thoughts)


def _candidate(reply: Reply) -> dict[str, Any]:
    candidate: dict[str, Any] = {"finishReason": _finish_reason(reply), "index": 0}
    if reply.kind is ReplyKind.CALL:
        candidate["content"] = {"parts": [{"functionCall": _call(reply)}], "role": "model"}
    elif reply.content or reply.kind is not ReplyKind.INCOMPLETE:
        candidate["content"] = {"parts": [{"text": reply.content}], "role": "model"}
    return candidate


def _call(reply: Reply) -> dict[str, Any]:
    try:
        arguments = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        arguments = {"text": reply.content}
    return {"name": reply.tool} | ({"args": arguments} if arguments else {})


def _finish_reason(reply: Reply) -> str:
    if reply.kind is not ReplyKind.INCOMPLETE:
        return "STOP"
    return {"content_filter": "SAFETY", "max_output_tokens": "MAX_TOKENS"}.get(
        reply.reason or "", reply.reason or "OTHER"
    )
