"""Anthropic's words over an account of a local server."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchor_core.testing.anthropic_server.errors import error_response
from batchor_core.testing.anthropic_server.lines import write_row
from batchor_core.testing.anthropic_server.responder import forces_call
from batchor_core.testing.anthropic_server.usage import PromptCache
from batchor_core.testing.local_server.errors import ApiError
from batchor_core.testing.local_server.protocol import Protocol, Report, WrittenRow
from batchor_core.testing.local_server.records import Batch
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.settings import Limits

_REQUIRED = ("model", "messages", "max_tokens")


class AnthropicProtocol(Protocol):
    """Anthropic's Message Batches API. A bad request is an errored row; its batch runs."""

    name = "anthropic"
    fails_whole_batches = False

    def __init__(self) -> None:
        self._cache = PromptCache()

    def error_body(self, error: ApiError) -> dict[str, Any]:
        """``{"type": "error", "error": {"type", "message"}, "request_id"}``."""
        return error_response(error.status, code=error.code, message=error.message)

    def key_error(self, headers: Mapping[str, str], accepted: frozenset[str] | None) -> ApiError | None:
        """Keys are in ``x-api-key``, or bearer tokens as the client of 2026 sends them."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = headers.get("x-api-key", token if scheme.lower() == "bearer" else "").strip()
        if not key:
            return ApiError(401, "x-api-key header is required")
        return None if accepted is None or key in accepted else ApiError(401)

    def headers(self) -> dict[str, str]:
        """The request's id, and what is left of the rate limit."""
        return {
            "request-id": f"req_{uuid.uuid4().hex}",
            "anthropic-organization-id": "org-local",
            "anthropic-ratelimit-requests-limit": "4000",
            "anthropic-ratelimit-requests-remaining": "3999",
            "anthropic-ratelimit-requests-reset": "2030-01-01T00:00:00Z",
        }

    def new_batch_id(self) -> str:
        """An id for a new batch."""
        return f"msgbatch_{uuid.uuid4().hex}"

    def check(self, path: Path, endpoint: str, limits: Limits) -> Report:
        """Nothing is checked any more: what fails a batch, its create has refused."""
        return Report()

    def refusal(self, body: dict[str, Any], endpoint: str) -> Reply | None:
        """Parameters are checked when a row is run."""
        for name in _REQUIRED:
            if body.get(name) is None:
                return Reply.http_error(400, message=f"{name}: Field required")
        if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
            return Reply.http_error(400, message="max_tokens: Input should be greater than or equal to 1")
        if (body.get("thinking") or {}).get("type") == "enabled" and forces_call(body):
            return Reply.http_error(
                400, message="Thinking may not be enabled when tool_choice forces tool use."
            )
        if body.get("stream"):
            return Reply.http_error(400, message="stream: Streaming is not supported in batches")
        return None

    def write_row(
        self, reply: Reply, *, request: dict[str, Any], batch: Batch, custom_id: str, now: float
    ) -> WrittenRow:
        """One file has results of all kinds."""
        return write_row(reply, request=request, batch=batch, custom_id=custom_id, cache=self._cache)
