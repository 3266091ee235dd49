"""Google's errors in our own words.

Code outside this file does not read a vendor's message. What counts most is whether a request may have had an effect: creating a
batch a second time costs its price again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from batchor_core.core.exceptions import FILE_NOT_READY, ProviderError, ProviderErrorKind
from batchor_core.providers.error_body import ErrorBody, read_error_body
from batchor_core.providers.gemini.codes import reasons, status_name
from batchor_core.providers.http_errors import (
    MAX_RETRY_AFTER_SEC,
    one_line,
    redact,
    retry_after,
    transport_error,
)

NOT_PERFORMED_STATUSES = frozenset({400, 401, 403, 404, 405, 413, 422, 429})
"""Answers that certainly did nothing. 408, 409 and 5xx may come from a gateway in front of a server that did."""

CAPACITY_RETRY_SEC = 60.0
"""Least wait after a create that met a full queue: batches leave it in minutes, not in seconds."""

_KEY = re.compile(r"\bAIza[\w-]{10,}|(?<=key=)[\w-]{8,}")
_BILLING = re.compile(r"\benable billing\b|\bbilling (account|is)\b|\bprepay", re.IGNORECASE)
_NOT_ACTIVE = re.compile(r"\bnot (in an? )?(active|ready|processed)\b|\bprocessing\b", re.IGNORECASE)
_FILE = re.compile(r"\bfiles?\b", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


def translate(
    error: BaseException, *, action: str, secrets: Sequence[str] = (), input_file: str | None = None
) -> ProviderError:
    """Turn whatever an SDK call raised into a :class:`ProviderError` that says what to do about it.

    ``action`` names the call, for the message. ``secrets`` are removed from the text. ``input_file`` is the file of which a batch
    was to be made, if that was the call. Raise the result outside the ``except`` block, so that it does not carry the
    original and its text along.
    """
    status = getattr(error, "code", None)
    if not isinstance(status, int) or isinstance(status, bool) or not hasattr(error, "details"):
        return transport_error(error, action, secrets)
    body: Any = getattr(error, "details", None)
    said = read_error_body(body)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    name = status_name(inner) or status_name({"code": status})
    kind, error_class = _verdict(status, name, reasons(inner), said, input_file)
    asked = _delay(error, inner)
    if kind is ProviderErrorKind.CAPACITY:
        asked = max(asked or 0.0, CAPACITY_RETRY_SEC)
    message = (
        "the API key was refused" if kind is ProviderErrorKind.CREDENTIALS and status != 403 else said.message
    )
    return ProviderError(
        one_line(redact(f"{action}: HTTP {status} {name}: {_KEY.sub('[redacted]', message)}", secrets)),
        kind=kind,
        error_class=error_class,
        status_code=status,
        retry_after=asked,
        not_performed=status in NOT_PERFORMED_STATUSES,
    )


def unreadable(action: str) -> ProviderError:
    """A success whose body is not what was asked for. It may well have had its effect."""
    return ProviderError(
        f"{action}: the server's answer can't be read", error_class="unreadable_answer", status_code=200
    )


def _verdict(
    status: int, name: str, reasons_given: set[str], said: ErrorBody, input_file: str | None
) -> tuple[ProviderErrorKind, str]:
    if status == 401 or "API_KEY_INVALID" in reasons_given:
        return ProviderErrorKind.CREDENTIALS, "credentials"
    if input_file is not None and _is_about_file(status, said.message, input_file):
        return ProviderErrorKind.NOT_READY, FILE_NOT_READY
    if status == 429 or name == "RESOURCE_EXHAUSTED":
        # Google says the same of a full queue, of requests that come too fast and of a used-up day: all of it passes
        return (
            (ProviderErrorKind.CAPACITY, "resource_exhausted")
            if input_file is not None
            else (ProviderErrorKind.RETRY, "rate_limit")
        )
    if status in (400, 403) and _BILLING.search(said.message):
        return ProviderErrorKind.QUOTA, "billing"
    if said.is_page and status in (404, 405):
        return ProviderErrorKind.NO_ROUTE, "no_such_route"
    if status == 403:
        return ProviderErrorKind.CREDENTIALS, "credentials"
    if status == 404 and input_file is None:
        return ProviderErrorKind.NOT_FOUND, "not_found"
    if status in (408, 409, 425):
        return ProviderErrorKind.RETRY, "timeout" if status == 408 else "conflict"
    if 400 <= status < 500:
        return ProviderErrorKind.BAD_REQUEST, name.lower() if name.isidentifier() else "bad_request"
    # redirects are not followed, and may be a proxy's doing that ends
    return ProviderErrorKind.RETRY, "server_error" if status >= 500 else "redirect"


def _is_about_file(status: int, message: str, input_file: str) -> bool:
    """Whether a refused create only came too early for its file, of which Google also says that one may not see it."""
    if status in (403, 404):
        return input_file in message or input_file.rpartition("/")[2] in message
    return status == 400 and bool(_FILE.search(message) and _NOT_ACTIVE.search(message))


def _delay(error: BaseException, inner: Any) -> float | None:
    """Seconds to wait, from ``Retry-After`` or from the delay in the error's details, which is such as ``38s``."""
    asked = retry_after(error)
    details = inner.get("details") if isinstance(inner, dict) else None
    for detail in details or () if asked is None else ():
        given = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(given, str) and (found := _DURATION.fullmatch(given)) is not None:
            return min(float(found.group(1)), MAX_RETRY_AFTER_SEC)
    return asked
