"""The status codes of Google's APIs, which stand for rows, jobs and HTTP answers alike."""

from __future__ import annotations

from typing import Any

_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_OF_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

NEVER_PASS = frozenset(
    {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"),
        *("FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    }
)
"""What the same request is answered with again."""


def status_name(error: Any) -> str:
    """The name of an error's code, from ``status`` or from a number of Google's or HTTP's; empty if it has none."""
    if not isinstance(error, dict):
        return ""
    if isinstance(name := error.get("status"), str) and name:
        return name
    code = error.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        return code if isinstance(code, str) else ""
    if 0 <= code < len(_NAMES):
        return _NAMES[code]
    return _OF_HTTP.get(code, "INVALID_ARGUMENT" if 400 <= code < 500 else "INTERNAL" if code >= 500 else "")


def reasons(error: Any) -> set[str]:
    """The reasons that the details of an error name, such as ``API_KEY_INVALID``."""
    details = error.get("details") if isinstance(error, dict) else None
    found = [detail.get("reason") for detail in details or () if isinstance(detail, dict)]
    return {reason for reason in found if isinstance(reason, str)}
