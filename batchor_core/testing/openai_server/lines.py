"""The lines of output and error files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, assert_never

import orjson

from batchor_core.testing.openai_server.bodies import Tokens, response_body, tokens_of_body
from batchor_core.testing.openai_server.errors import error_object, usual_code
from batchor_core.testing.openai_server.replies import Reply, ReplyKind

_ERROR_FILE = {ReplyKind.HTTP_ERROR, ReplyKind.NOT_RUN, ReplyKind.BLANK}


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """What one row adds to its batch.

    Attributes:
        line: The bytes to write, newline included; empty for a missing row.
        in_error_file: Whether they belong to the error file.
        failed: Whether the batch counts the row as failed. Blank and missing rows count as completed, as they
            do at the live service.
        tokens: What the row used.
    """

    line: bytes
    in_error_file: bool
    failed: bool
    tokens: Tokens


def write_row(
    reply: Reply, *, request: dict[str, Any], endpoint: str, custom_id: str, batch_id: str, now: float
) -> WrittenRow:
    """Turn a row's reply into the line, or lines, that its batch's files get.

    Args:
        reply: What became of the row.
        request: The body of its request.
        endpoint: The endpoint of the batch.
        custom_id: The row's id in the input.
        batch_id: Where it ran; with the custom_id it makes the ids of the answer.
        now: Epoch seconds for the answer's timestamps.
    """
    key = hashlib.blake2b(f"{batch_id}/{custom_id}".encode(), digest_size=20).hexdigest()
    response, error, tokens = _parts(reply, request, endpoint, key, now)
    failed = reply.kind in (ReplyKind.HTTP_ERROR, ReplyKind.NOT_RUN) or reply.status >= 400
    if reply.kind is ReplyKind.MISSING:
        line = b""
    elif reply.kind is ReplyKind.GARBLED:
        line = reply.content.encode() + b"\n"
    else:
        row = {
            "id": f"batch_req_{key}",
            "custom_id": custom_id if reply.custom_id is None else reply.custom_id,
            "response": response,
            "error": error,
        }
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    return WrittenRow(line * reply.copies, failed or reply.kind in _ERROR_FILE, failed, tokens)


def _parts(
    reply: Reply, request: dict[str, Any], endpoint: str, key: str, now: float
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, Tokens]:
    """``(response, error, tokens)`` of the line."""
    match reply.kind:
        case ReplyKind.NOT_RUN:
            return None, {"code": reply.code, "message": reply.message}, Tokens()
        case ReplyKind.BLANK:
            return {"status_code": 0, "request_id": "", "body": {}}, None, Tokens()
        case ReplyKind.HTTP_ERROR:
            code = reply.code or usual_code(reply.status)
            error = error_object(reply.status, code=code, message=reply.message)
            return _response(reply, key, {"error": error}), None, Tokens()
        case ReplyKind.BODY:
            body = reply.body or {}
            return _response(reply, key, body), None, tokens_of_body(body)
        case (
            ReplyKind.ANSWER
            | ReplyKind.CALL
            | ReplyKind.REFUSAL
            | ReplyKind.INCOMPLETE
            | ReplyKind.MISSING
            | ReplyKind.GARBLED
        ):
            answered = response_body(reply, request, endpoint, key, now)
            return _response(reply, key, answered.body), None, answered.tokens
        case _:
            assert_never(reply.kind)


def _response(reply: Reply, key: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": reply.status, "request_id": f"req_{key}", "body": body}
