"""Anthropic's errors in our own words. What counts most is whether a request may have had an effect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.providers.error_body import read_error_body
from batchor_core.providers.http_errors import one_line, redact, retry_after, transport_error, url_of

NOT_PERFORMED_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 413, 422, 429})
"""Answers that certainly did nothing. 408, 409 and 5xx, 529 included, may come from a gateway before a server that did."""

_QUOTA_CODES = frozenset(
    {
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "linked_organization_spend_limit_reached",
    }
)
_ON_HOLD = frozenset({"organization_on_hold", "workspace_human_review_disabled"})
_NO_CREDIT = "credit balance is too low"


def translate(
    error: BaseException, *, action: str, secrets: Sequence[str] = (), is_route: bool = False
) -> ProviderError:
    """Turn whatever an SDK call raised into a :class:`ProviderError` that says what to do about it.

    ``is_route`` says that the call's path names no batch, so that none can be missing. Raise the result outside the
    ``except`` block, so that it does not carry the original and its text along.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return transport_error(error, action, secrets)
    body = getattr(error, "body", None)
    said = read_error_body(body)
    kind, error_class = _verdict(status, said.type, error_code(body), said.message, is_route=is_route)
    message = "" if status == 401 else said.message  # it may quote the key
    if kind is ProviderErrorKind.NO_ROUTE:
        message = f"{url_of(error)} responds, but not like the API: check base_url, which should look like https://api.anthropic.com"
    text = (
        f"{action}: HTTP {status}"
        + (f" {said.type}" if said.type else "")
        + (f": {message}" if message else "")
    )
    return ProviderError(
        one_line(redact(text, secrets)),
        kind=kind,
        error_class=error_class,
        status_code=status,
        retry_after=retry_after(error),
        not_performed=status in NOT_PERFORMED_STATUSES,
    )


def error_code(body: Any) -> str:
    """The code in the details of an error, which some errors have: ``{"error": {"details": {"error_code"}}}``."""
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    code = details.get("error_code") if isinstance(details, dict) else None
    return code if isinstance(code, str) else ""


def needs_money(kind: str, code: str, message: str) -> bool:
    """Whether somebody has to pay or raise a limit."""
    return kind == "billing_error" or code in _QUOTA_CODES or _NO_CREDIT in message.lower()


def needs_permission(kind: str, code: str) -> bool:
    """Whether somebody has to change the key, or talk to Anthropic."""
    return kind in ("authentication_error", "permission_error") or code in _ON_HOLD


def _verdict(
    status: int, kind: str, code: str, message: str, *, is_route: bool
) -> tuple[ProviderErrorKind, str]:
    if status == 402 or needs_money(kind, code, message):
        return ProviderErrorKind.QUOTA, code or "billing_error"
    if status in (401, 403) or needs_permission(kind, code):
        return ProviderErrorKind.CREDENTIALS, code or "credentials"
    if status in (404, 405) and is_route:
        return ProviderErrorKind.NO_ROUTE, "no_such_route"
    if status == 404:
        return ProviderErrorKind.NOT_FOUND, "not_found"
    if status == 429:
        return ProviderErrorKind.RETRY, "rate_limit"
    if status in (408, 409, 425):
        return ProviderErrorKind.RETRY, "timeout" if status == 408 else "conflict"
    if 400 <= status < 500:
        return ProviderErrorKind.BAD_REQUEST, kind if kind.isidentifier() else "bad_request"
    if status == 529:
        return ProviderErrorKind.RETRY, "overloaded"
    return ProviderErrorKind.RETRY, "server_error" if status >= 500 else "redirect"


def unreadable(action: str) -> ProviderError:
    """A success whose body is not what was asked for. It may well have had its effect."""
    return ProviderError(
        f"{action}: the server's answer can't be read", error_class="unreadable_answer", status_code=200
    )
