"""Google's words over an account of a local server."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from batchor_core.testing.gemini_server.errors import error_object
from batchor_core.testing.gemini_server.lines import EMBEDS, write_row
from batchor_core.testing.gemini_server.responder import all_texts
from batchor_core.testing.local_server.errors import ApiError
from batchor_core.testing.local_server.protocol import Protocol, Report, WrittenRow
from batchor_core.testing.local_server.records import Batch, batch_error
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.settings import Limits
from batchor_core.testing.local_server.words import count_tokens

_PIECE = "x-goog-upload-offset"


class GeminiProtocol(Protocol):
    """The Gemini API's Files and Batches."""

    name = "gemini"

    def error_body(self, error: ApiError) -> dict[str, Any]:
        """``{"error": {"code", "message", "status"}}``."""
        return {"error": error_object(error.status, code=error.code, message=error.message)}

    def key_error(self, headers: Mapping[str, str], accepted: frozenset[str] | None) -> ApiError | None:
        """Keys have a header of their own. The address of an upload is a key itself."""
        if _PIECE in headers:
            return None
        key = headers.get("x-goog-api-key", "").strip()
        if not key:
            return ApiError(
                403, "Method doesn't allow unregistered callers (callers without established identity)."
            )
        if accepted is not None and key not in accepted:
            return ApiError(400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")
        return None

    def new_batch_id(self) -> str:
        """An id for a new batch, without the ``batches/`` before it."""
        return uuid.uuid4().hex

    def check(self, path: Path, endpoint: str, limits: Limits) -> Report:
        """Lines that are none, and keys that are there twice, fail the batch."""
        report = Report(model=endpoint.partition(":")[0])
        seen: set[str] = set()
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                report.total += 1
                if problem := _problem(line, seen):
                    message = f"Failed to parse line {number} of the input file: {problem}"
                    report.errors.append(batch_error("INVALID_ARGUMENT", message, line=number))
                    break
                report.tokens += sum(map(count_tokens, all_texts(orjson.loads(line)["body"])))
        if not report.total:
            report.errors.append(batch_error("INVALID_ARGUMENT", "The input file has no requests."))
        return report

    def refusal(self, body: dict[str, Any], endpoint: str) -> Reply | None:
        """Requests are checked when they are run: the batch succeeds, and the row has an error."""
        needed = "content" if endpoint.endswith(EMBEDS) else "contents"
        if not body.get(needed):
            return Reply.http_error(
                400, message=f"* GenerateContentRequest.{needed}: {needed} is not specified"
            )
        return None

    def write_row(
        self, reply: Reply, *, request: dict[str, Any], batch: Batch, custom_id: str, now: float
    ) -> WrittenRow:
        """One file has results of all kinds."""
        return write_row(reply, request=request, batch=batch, custom_id=custom_id)


def _problem(line: bytes, seen: set[str]) -> str | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "it is not JSON"
    key = row.get("custom_id") if isinstance(row, dict) else None
    if not isinstance(key, str) or not isinstance(row.get("body"), dict):
        return "it has no key, or no request"
    if key in seen:
        return f"the key {key!r} is there twice"
    seen.add(key)
    return None
