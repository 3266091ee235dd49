"""OpenAI's errors in our own words.

Past this file nobody reads a vendor's message. What counts most is whether a request may have had an effect: sending a
batch a second time costs its price again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.providers.openai.answers import is_quota_code

NOT_PERFORMED_STATUSES = frozenset({400, 401, 403, 404, 413, 422, 429})
"""Answers that certainly did nothing. 408, 409 and 5xx may come from a gateway in front of a server that did."""

NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""Names of transport errors before the first byte. By name, as the SDK changed its HTTP library (httpx, httpx2)."""

MAX_RETRY_AFTER_SEC = 86_400.0
MAX_MESSAGE = 500
READ_CHARS = 10_000
"""How much of a message is looked at: some gateways answer with whole pages."""

_QUEUE_FULL = re.compile(r"enqueued (token|request)s? limit", re.IGNORECASE)
_QUEUE_FULL_CODES = frozenset({"token_limit_exceeded", "request_limit_exceeded"})
_NO_SUCH_FILE = re.compile(r"cannot find file", re.IGNORECASE)
_SECRETS = re.compile(
    r"\bsk-[\w*.-]{4,}"  # OpenAI's keys, whole or masked
    r"|\b(?:bearer|basic)\s+[\w.~+/=-]{8,}"
    r"|(?<!\S)\S*?\*{3,}\S*",  # any other key that a server masked before it quoted it
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: ProviderErrorKind
    error_class: str


def translate(error: BaseException, *, action: str, secrets: Sequence[str] = ()) -> ProviderError:
    """Turn whatever an SDK call raised into a :class:`ProviderError` that says what to do about it.

    ``action`` names the call, for the message. ``secrets`` are removed from the text, as are pieces that look like keys.
    Raise the result outside the ``except`` block, so that it does not carry the original and its text along.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return _transport_error(error, action, secrets)
    code, kind, message = _error_fields(error)
    verdict = _verdict(status, code, kind, message)
    return ProviderError(
        _describe(
            action, status, code or kind, "" if status == 401 else message, secrets
        ),  # a 401 quotes the key
        kind=verdict.kind,
        error_class=verdict.error_class,
        status_code=status,
        retry_after=_retry_after(error),
        not_performed=status in NOT_PERFORMED_STATUSES,
    )


def unreadable(action: str) -> ProviderError:
    """A success whose body is not what was asked for. It may well have had its effect."""
    return ProviderError(
        f"{action}: the server's answer can't be read", error_class="unreadable_answer", status_code=200
    )


def _transport_error(error: BaseException, action: str, secrets: Sequence[str]) -> ProviderError:
    names = [type(cause).__name__ for cause in _causes(error)]
    never_sent = any(name in NEVER_SENT for name in names)
    if any("Timeout" in name for name in names):
        error_class = "timeout"
    elif never_sent or any(
        name.endswith(("ConnectionError", "ProtocolError", "ReadError", "WriteError")) for name in names
    ):
        error_class = "connection"
    else:
        error_class = "unreadable_answer"
    return ProviderError(
        f"{action}: {_short(redact(_text(f'{names[-1]}: {error}'), secrets))}",
        error_class=error_class,
        not_performed=never_sent,
    )


def _verdict(status: int, code: str, kind: str, message: str) -> _Verdict:
    if is_quota_code(code) or is_quota_code(kind):
        return _Verdict(ProviderErrorKind.QUOTA, _class_name(code if is_quota_code(code) else kind, "quota"))
    if code in _QUEUE_FULL_CODES or _QUEUE_FULL.search(message):
        return _Verdict(ProviderErrorKind.CAPACITY, "enqueue_token_limit")
    if status in (401, 403):
        return _Verdict(ProviderErrorKind.CREDENTIALS, "credentials")
    if status == 404:
        return _Verdict(ProviderErrorKind.NOT_FOUND, "not_found")
    if status == 400 and _NO_SUCH_FILE.search(message):
        # a file can be missing for a moment after its upload
        return _Verdict(ProviderErrorKind.RETRY, "file_not_found")
    if status == 429:
        return _Verdict(ProviderErrorKind.RETRY, "rate_limit")
    if status in (408, 409):
        return _Verdict(ProviderErrorKind.RETRY, "timeout" if status == 408 else "conflict")
    if 400 <= status < 500:
        return _Verdict(ProviderErrorKind.BAD_REQUEST, _class_name(code, "bad_request"))
    # redirects are not followed, and may be a proxy's doing that ends
    return _Verdict(ProviderErrorKind.RETRY, "server_error" if status >= 500 else "redirect")


def _class_name(code: str, default: str) -> str:
    """A vendor's code where it can serve as a name; it ends up in logs, tables and events."""
    return code if code.isidentifier() and len(code) <= 64 else default


def _error_fields(error: BaseException) -> tuple[str, str, str]:
    """Code, type and message of the error object in an answer, wherever the server put it."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("error"), dict | str):
        body = body["error"]
    if isinstance(body, dict):
        return _text(body.get("code")), _text(body.get("type")), _text(body.get("message"))
    return "", "", _text(body)


def _text(value: Any) -> str:
    return value[:READ_CHARS] if isinstance(value, str) else ""


def _describe(action: str, status: int, name: str, message: str, secrets: Sequence[str]) -> str:
    said = f"{action}: HTTP {status}" + (f" {name}" if name else "")
    if status == 401:
        return f"{_short(redact(said, secrets))}: the API key was refused"
    return _short(redact(f"{said}: {message}" if message else said, secrets))


def _short(text: str) -> str:
    """One line without control characters, since it goes to logs and terminals."""
    line = " ".join(text.split())
    return "".join(character for character in line if character.isprintable())[:MAX_MESSAGE]


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """Remove the given secrets, and whatever looks like a key or a masked piece of one. Linear in the text's length."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    return _SECRETS.sub("[redacted]", text)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, innermost last."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(seen) < 10:
        seen.append(cause)
        cause = cause.__cause__
    return iter(seen)


def _retry_after(error: BaseException) -> float | None:
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
