"""The error answers of the API, in its own shape."""

from __future__ import annotations

from typing import Any

_KINDS = {403: "permission_error", 429: "requests"}
_CODES = {401: "invalid_api_key", 403: "permission_denied", 408: "timeout", 429: "rate_limit_exceeded"}
_MESSAGES = {
    401: "Incorrect API key provided.",
    403: "You do not have access to this resource.",
    408: "The request took too long.",
    429: "Rate limit reached. Please slow down.",
    500: "The server had an error while processing your request. Sorry about that!",
    502: "Bad gateway.",
    503: "The engine is currently overloaded, please try again later.",
}


def error_object(
    status: int, *, code: str | None = None, message: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The ``error`` object that goes with an HTTP status; the message is the usual one by default."""
    return {
        "message": message or _MESSAGES.get(status, "The request could not be processed."),
        "type": _kind(status, code),
        "param": param,
        "code": code,
    }


def usual_code(status: int) -> str | None:
    """The code that errors of an HTTP status mostly bear."""
    return _CODES.get(status) or ("server_error" if status >= 500 else None)


def _kind(status: int, code: str | None) -> str:
    if code == "insufficient_quota":
        return "insufficient_quota"
    if status >= 500:
        return "server_error"
    return _KINDS.get(status, "invalid_request_error")
