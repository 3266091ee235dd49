"""The errors of the API, in its own shape."""

from __future__ import annotations

from typing import Any

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MESSAGES = {
    400: "Request contains an invalid argument.",
    401: "Request had invalid authentication credentials.",
    403: "The caller does not have permission",
    404: "Requested entity was not found.",
    429: "You exceeded your current quota, please check your plan and billing details.",
    500: "An internal error has occurred. Please retry or report it.",
    503: "The model is overloaded. Please try again later.",
}
_RPC_CODES = {
    "CANCELLED": 1,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "ABORTED": 10,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}


def error_object(status: int, *, code: str | None = None, message: str | None = None) -> dict[str, Any]:
    """The ``error`` object of an HTTP answer; ``code`` is its status where the API has one of that name."""
    name = (
        code
        if code in _RPC_CODES
        else STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    )
    said = message or _MESSAGES.get(status, "The request could not be processed.")
    shown: dict[str, Any] = {"code": status, "message": said, "status": name}
    if code == "API_KEY_INVALID":
        shown["details"] = [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": code,
                "domain": "googleapis.com",
            }
        ]
    return shown


def rpc_status(name: str, message: str) -> dict[str, Any]:
    """The status of a row or of a whole job, which has a number of its own."""
    return {"code": _RPC_CODES.get(name, 2), "message": message}
