"""The errors of the API, in its own shape."""

from __future__ import annotations

import uuid
from typing import Any

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_MESSAGES = {
    401: "invalid x-api-key",
    403: "Your API key does not have permission to use the specified resource.",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your organization's rate limit.",
    500: "Internal server error",
    529: "Overloaded",
}


def error_response(status: int, *, code: str | None = None, message: str | None = None) -> dict[str, Any]:
    """``{"type": "error", "error": {"type", "message"}, "request_id"}``, with the usual message by default.

    ``code`` is the type, if the API has one of that name; else the type follows from the status.
    """
    kind = code if code in _TYPES.values() else _TYPES.get(status, "api_error")
    if kind == "api_error" and 400 <= status < 500:
        kind = "invalid_request_error"
    said = message or _MESSAGES.get(status, "The request could not be processed.")
    return {
        "type": "error",
        "error": {"type": kind, "message": said},
        "request_id": f"req_{uuid.uuid4().hex}",
    }
