"""OpenAI's words over an account of a local server."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchor_core.testing.local_server.errors import ApiError
from batchor_core.testing.local_server.faults import HttpFault
from batchor_core.testing.local_server.protocol import Protocol, Report, WrittenRow
from batchor_core.testing.local_server.records import Batch
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.settings import Limits
from batchor_core.testing.openai_server import embeddings
from batchor_core.testing.openai_server.errors import error_object, usual_code
from batchor_core.testing.openai_server.lines import write_row
from batchor_core.testing.openai_server.validation import validate_input


class OpenAIProtocol(Protocol):
    """OpenAI's Files and Batches API."""

    name = "openai"

    def error_body(self, error: ApiError) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        return {
            "error": error_object(error.status, code=error.code, message=error.message, param=error.param)
        }

    def on_fault(self, fault: HttpFault) -> ApiError:
        """With the code that such errors mostly bear."""
        return ApiError(fault.status, fault.message, code=fault.code or usual_code(fault.status))

    def key_error(self, headers: Mapping[str, str], accepted: frozenset[str] | None) -> ApiError | None:
        """Keys are bearer tokens."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return ApiError(
                401,
                "You didn't provide an API key. You need to provide your API key in an Authorization header"
                " using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            )
        if accepted is not None and key.strip() not in accepted:
            return ApiError(
                401, f"Incorrect API key provided: {key.strip()[:4]}****.", code="invalid_api_key"
            )
        return None

    def headers(self) -> dict[str, str]:
        """The request's id, and what else the live service says of itself."""
        return {
            "x-request-id": f"req_{uuid.uuid4().hex}",
            "openai-organization": "org-local",
            "openai-version": "2020-10-01",
        }

    def check(self, path: Path, endpoint: str, limits: Limits) -> Report:
        """A batch with one bad line fails as a whole."""
        return validate_input(path, endpoint, limits)

    def refusal(self, body: dict[str, Any], endpoint: str) -> Reply | None:
        """Texts that can't be embedded."""
        if endpoint == embeddings.ENDPOINT and (problem := embeddings.problem(body)):
            return Reply.http_error(400, message=problem)
        return None

    def write_row(
        self, reply: Reply, *, request: dict[str, Any], batch: Batch, custom_id: str, now: float
    ) -> WrittenRow:
        """Answers go to the output file, the rest to the error file."""
        return write_row(reply, request=request, batch=batch, custom_id=custom_id, now=now)
