"""What HTTP errors of every vendor have in common: errors of the transport, texts without keys, how long to wait."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from batchor_core.core.exceptions import ProviderError
from batchor_core.providers.error_body import MAX_MESSAGE, READ_CHARS

NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "InvalidURL", "PoolTimeout", "UnsupportedProtocol"})
"""Names of transport errors before the first byte. By name, as the SDK changed its HTTP library (httpx, httpx2)."""

MAX_RETRY_AFTER_SEC = 86_400.0
_SECRETS = re.compile(
    r"\bsk-[\w*.-]{4,}"  # keys of OpenAI and Anthropic, whole or masked
    r"|\b(?:bearer|basic)\s+[\w.~+/=-]{8,}"
    r"|(?<!\S)\S*?\*{3,}\S*",  # any other key that a server masked before it quoted it
    re.IGNORECASE,
)


def transport_error(error: BaseException, action: str, secrets: Sequence[str]) -> ProviderError:
    """An error that came without an HTTP status, so that mostly nobody knows whether the request had an effect."""
    names = [type(cause).__name__ for cause in causes(error)]
    never_sent = any(name in NEVER_SENT for name in names)
    if any("Timeout" in name for name in names):
        error_class = "timeout"
    elif never_sent or any(
        name.endswith(("ConnectionError", "ProtocolError", "ReadError", "WriteError")) for name in names
    ):
        error_class = "connection"
    else:
        error_class = "unreadable_answer"
    # what the SDK stumbles over was an answer, so it is not waited for as a server is that gives none
    answered = error_class == "unreadable_answer" and isinstance(
        error, AttributeError | TypeError | ValueError | LookupError
    )
    return ProviderError(
        f"{action}: {one_line(redact(read_part(f'{names[-1]}: {error}'), secrets))}",
        error_class=error_class,
        status_code=200 if answered else None,
        not_performed=never_sent,
    )


def url_of(error: BaseException) -> str:
    """Where the request went, without its query."""
    request = getattr(error, "request", None) or getattr(getattr(error, "response", None), "request", None)
    return str(getattr(request, "url", "")).partition("?")[0]


def location_of(error: BaseException) -> str:
    """Where a redirect points, without its query."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    found = headers.get("location")
    return found.partition("?")[0] if isinstance(found, str) else ""


def read_part(value: Any) -> str:
    """The beginning of a text; of anything else nothing."""
    return value[:READ_CHARS] if isinstance(value, str) else ""


def one_line(text: str) -> str:
    """One line without control characters, since it goes to logs and terminals."""
    line = " ".join(text.split())
    return "".join(character for character in line if character.isprintable())[:MAX_MESSAGE]


MIN_SECRET = 8
"""Shorter keys are no secrets: local servers are given words such as ``any``, which would be cut out of every message."""


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """Remove the given secrets, and whatever looks like a key or a masked piece of one. Linear in the text's length."""
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            text = text.replace(secret, "[redacted]")
    return _SECRETS.sub("[redacted]", text)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, innermost last."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(seen) < 10:
        seen.append(cause)
        cause = cause.__cause__
    return iter(seen)


def retry_after(error: BaseException) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` in either of its forms."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or not isinstance(value, str):
        return seconds
    until = timestamp(value)
    if until is None:
        return None
    # by the server's own clock where it sends one
    now = timestamp(headers.get("date"))
    return _seconds(until - (time.time() if now is None else now))


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return min(seconds, MAX_RETRY_AFTER_SEC) if seconds >= 0 else None  # None for NaN too


def timestamp(value: Any) -> float | None:
    """Seconds since 1970 of an HTTP date; None if it is none."""
    try:
        return parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
