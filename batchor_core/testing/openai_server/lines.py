"""The lines of output and error files."""

from __future__ import annotations

import hashlib
from typing import Any, assert_never

import orjson

from batchor_core.testing.local_server.protocol import WrittenRow
from batchor_core.testing.local_server.records import Batch, Tokens
from batchor_core.testing.local_server.replies import Reply, ReplyKind
from batchor_core.testing.openai_server.bodies import response_body, tokens_of_body
from batchor_core.testing.openai_server.errors import error_object, usual_code

_ERROR_FILE = {ReplyKind.HTTP_ERROR, ReplyKind.NOT_RUN, ReplyKind.BLANK}


def write_row(
    reply: Reply, *, request: dict[str, Any], batch: Batch, custom_id: str, now: float
) -> WrittenRow:
    """Turn a row's reply into the line, or lines, that its batch's files get.

    Blank and missing rows count as completed, as they do at the live service.
    """
    key = hashlib.blake2b(f"{batch.id}/{custom_id}".encode(), digest_size=20).hexdigest()
    response, error, tokens = _parts(reply, request, batch.endpoint, key, now)
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
