"""The lines of results."""

from __future__ import annotations

import hashlib
from typing import Any, assert_never

import orjson

from batchor_core.testing.anthropic_server.errors import error_response
from batchor_core.testing.anthropic_server.usage import PromptCache, tokens_of, usage_object
from batchor_core.testing.local_server.protocol import WrittenRow
from batchor_core.testing.local_server.records import Batch, Tokens
from batchor_core.testing.local_server.replies import BATCH_CANCELLED, BATCH_EXPIRED, Reply, ReplyKind
from batchor_core.testing.local_server.words import count_tokens

_THINKING_TOKENS = 64
_FAILED = {ReplyKind.HTTP_ERROR, ReplyKind.NOT_RUN, ReplyKind.BLANK}
_ENDS = {BATCH_CANCELLED.code: "canceled", BATCH_EXPIRED.code: "expired"}


def write_row(
    reply: Reply, *, request: dict[str, Any], batch: Batch, custom_id: str, cache: PromptCache
) -> WrittenRow:
    """Turn what became of a row into its line of the results, which are one file."""
    key = hashlib.blake2b(f"{batch.id}/{custom_id}".encode(), digest_size=12).hexdigest()
    result, tokens = _result(reply, request, key, cache)
    failed = reply.kind in _FAILED or reply.status >= 400
    if reply.kind is ReplyKind.MISSING:
        line = b""
    elif reply.kind is ReplyKind.GARBLED:
        line = reply.content.encode() + b"\n"
    else:
        row = {"custom_id": custom_id if reply.custom_id is None else reply.custom_id, "result": result}
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    return WrittenRow(line * reply.copies, in_error_file=False, failed=failed, tokens=tokens)


def _result(
    reply: Reply, request: dict[str, Any], key: str, cache: PromptCache
) -> tuple[dict[str, Any], Tokens]:
    match reply.kind:
        case ReplyKind.NOT_RUN if reply.code in _ENDS:
            return {"type": _ENDS[reply.code]}, Tokens()
        case ReplyKind.NOT_RUN | ReplyKind.BLANK:
            return _errored(500, None, reply.message), Tokens()
        case ReplyKind.HTTP_ERROR:
            return _errored(reply.status, reply.code, reply.message), Tokens()
        case ReplyKind.BODY if reply.status >= 400:
            return {"type": "errored", "error": reply.body or {}}, Tokens()
        case ReplyKind.BODY:
            return {"type": "succeeded", "message": reply.body or {}}, Tokens()
        case (
            ReplyKind.ANSWER
            | ReplyKind.REFUSAL
            | ReplyKind.INCOMPLETE
            | ReplyKind.CALL
            | ReplyKind.MISSING
            | ReplyKind.GARBLED
        ):
            return _message(reply, request, key, cache)
        case _:
            assert_never(reply.kind)


def _errored(status: int, code: str | None, message: str | None) -> dict[str, Any]:
    return {"type": "errored", "error": error_response(status, code=code, message=message)}


def _message(
    reply: Reply, request: dict[str, Any], key: str, cache: PromptCache
) -> tuple[dict[str, Any], Tokens]:
    thinks = (request.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    thinking = _THINKING_TOKENS if thinks else 0
    read, output = cache.read(request), count_tokens(reply.content) + thinking
    reason, details = _end(reply)
    message = {
        "id": f"msg_{key}",
        "type": "message",
        "role": "assistant",
        "model": request.get("model"),
        "content": _content(reply, key, thinks=thinks),
        "stop_reason": reason,
        "stop_sequence": None,
        "stop_details": details,
        "usage": usage_object(read, output=output, thinking=thinking),
    }
    return {"type": "succeeded", "message": message}, tokens_of(read, output=output, thinking=thinking)


def _end(reply: Reply) -> tuple[str, dict[str, Any] | None]:
    """Why the model stopped, and details of a refusal."""
    if reply.kind is ReplyKind.REFUSAL or reply.reason == "content_filter":
        return "refusal", {
            "type": "refusal",
            "category": "general_harms",
            "explanation": reply.content or None,
        }
    if reply.kind is ReplyKind.INCOMPLETE:
        return ("max_tokens" if reply.reason == "max_output_tokens" else str(reply.reason)), None
    return ("tool_use" if reply.kind is ReplyKind.CALL else "end_turn"), None


def _content(reply: Reply, key: str, *, thinks: bool) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if thinks:
        blocks.append({"type": "thinking", "thinking": "Let me see.", "signature": key})
    if reply.kind is ReplyKind.REFUSAL or not reply.content:
        return blocks
    if reply.kind is not ReplyKind.CALL:
        return [*blocks, {"type": "text", "text": reply.content, "citations": None}]
    try:
        given = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        given = {"text": reply.content}
    return [
        *blocks,
        {
            "type": "tool_use",
            "id": f"toolu_{key}",
            "name": reply.tool,
            "input": given,
            "caller": {"type": "direct"},
        },
    ]
