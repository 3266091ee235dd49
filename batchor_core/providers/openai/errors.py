"""OpenAI's errors in our own words.

Code outside this file does not read a vendor's message. What counts most is whether a request may have had an effect: sending a
batch a second time costs its price again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchor_core.core.exceptions import FILE_NOT_READY, ProviderError, ProviderErrorKind
from batchor_core.providers.error_body import ErrorBody, is_page, read_error_body
from batchor_core.providers.http_errors import location_of, one_line, retry_after, transport_error, url_of
from batchor_core.providers.http_errors import redact as redact
from batchor_core.providers.http_errors import timestamp as timestamp
from batchor_core.providers.openai.answers import is_quota_code
from batchor_core.providers.openai.input_file import is_file_not_ready

NOT_PERFORMED_STATUSES = frozenset({400, 401, 403, 404, 405, 413, 422, 429})
"""Answers that certainly did nothing. 408, 409 and 5xx may come from a gateway in front of a server that did."""

NO_ROUTE = "no_such_route"

WEB_PAGE = "<html>"
"""Stands for a web page whose text is not at hand."""

_NOT_READY_STATUSES = frozenset(
    {400, 404, 412, 422, 423}
)  # 409 and 425 may mean that the first try is being worked on
_MISSING_RESOURCE_CODES = frozenset({"model_not_found", "DeploymentNotFound", "deployment_not_found"})

_QUEUE_FULL = re.compile(r"enqueued (token|request)s? limit", re.IGNORECASE)
_QUEUE_FULL_CODES = frozenset({"token_limit_exceeded", "request_limit_exceeded"})


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: ProviderErrorKind
    error_class: str


def translate(
    error: BaseException,
    *,
    action: str,
    secrets: Sequence[str] = (),
    is_route: bool = False,
    input_file: str | None = None,
) -> ProviderError:
    """Turn whatever an SDK call raised into a :class:`ProviderError` that says what to do about it.

    ``action`` names the call, for the message. ``secrets`` are removed from the text, as are pieces that look like keys.
    ``is_route`` says that the call's path names a route alone and no file or batch: nothing else can be missing there.
    ``input_file`` is the file of which a batch was to be made, if that was the call.
    Raise the result outside the ``except`` block, so that it does not carry the original and its text along.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return transport_error(error, action, secrets)
    said = read_error_body(getattr(error, "body", None))
    verdict = _verdict(status, said, error, is_route=is_route, input_file=input_file)
    message = "" if status == 401 else said.message  # a 401 quotes the key
    if verdict.kind is ProviderErrorKind.NO_ROUTE:
        message = ". ".join(part for part in (message, no_route(url_of(error), location_of(error))) if part)
    elif 300 <= status < 400:
        message = _redirect(message, location_of(error))
    return ProviderError(
        _describe(action, status, said.code or said.type, message, secrets),
        kind=verdict.kind,
        error_class=verdict.error_class,
        status_code=status,
        retry_after=retry_after(error),
        # a server that names the file and says that it is not ready yet has made no batch of it
        not_performed=status in NOT_PERFORMED_STATUSES or verdict.kind is ProviderErrorKind.NOT_READY,
    )


def no_route(url: str, location: str = "") -> str:
    """Why a request reached no API, and what to do."""
    where = f"{url} responds, but" if url else "the address responds, but"
    moved = f"; it points to {location}" if location else ""
    return (
        f"{where} not like the API{moved}: check base_url, which should look like https://api.openai.com/v1, with the "
        "version and without the route"
    )


def _redirect(message: str, location: str) -> str:
    """What a redirect says; it is not followed, since the key would go there too."""
    where = f" to {location}" if location else ""
    return f"{message}{'. ' if message else ''}the server redirects{where}, where requests are not sent: is base_url behind a login?"


def unreadable(action: str, answer: Any = None, *, url: str = "") -> ProviderError:
    """A success whose body is not what was asked for. It may well have had its effect.

    ``answer`` is given where nothing is paid for: a web page then says that the address is not the API's.
    """
    if is_page(answer):
        return ProviderError(
            one_line(f"{action}: HTTP 200: {read_error_body(answer).message[:100]}. {no_route(url)}"),
            kind=ProviderErrorKind.NO_ROUTE,
            error_class=NO_ROUTE,
            status_code=200,
        )
    return ProviderError(
        f"{action}: the server's answer can't be read", error_class="unreadable_answer", status_code=200
    )


def _verdict(
    status: int, said: ErrorBody, error: BaseException, *, is_route: bool, input_file: str | None
) -> _Verdict:
    code, kind, message = said.code, said.type, said.message
    if is_quota_code(code) or is_quota_code(kind):
        return _Verdict(ProviderErrorKind.QUOTA, _class_name(code if is_quota_code(code) else kind, "quota"))
    if code in _QUEUE_FULL_CODES or _QUEUE_FULL.search(message):
        return _Verdict(ProviderErrorKind.CAPACITY, "enqueue_token_limit")
    if status in (401, 403):
        return _Verdict(ProviderErrorKind.CREDENTIALS, "credentials")
    if input_file is not None and status in _NOT_READY_STATUSES and not said.is_page:
        named = status == 404 and input_file in message
        if named or is_file_not_ready(code=code, param=said.param, message=message):
            return _Verdict(ProviderErrorKind.NOT_READY, FILE_NOT_READY)
    if is_route and _is_no_route(status, said, error, is_create=input_file is not None):
        return _Verdict(ProviderErrorKind.NO_ROUTE, NO_ROUTE)
    if status == 404 and not is_route:
        return _Verdict(ProviderErrorKind.NOT_FOUND, "not_found")
    if status == 429:
        return _Verdict(ProviderErrorKind.RETRY, "rate_limit")
    if status in (408, 409, 425):
        return _Verdict(ProviderErrorKind.RETRY, "timeout" if status == 408 else "conflict")
    if 400 <= status < 500:
        return _Verdict(ProviderErrorKind.BAD_REQUEST, _class_name(code, "bad_request"))
    # redirects are not followed, and may be a proxy's doing that ends
    return _Verdict(ProviderErrorKind.RETRY, "server_error" if status >= 500 else "redirect")


def _is_no_route(status: int, said: ErrorBody, error: BaseException, *, is_create: bool) -> bool:
    """Whether a request that names nothing but a route found none."""
    if status == 404:
        return said.code not in _MISSING_RESOURCE_CODES
    if status == 405 or is_create:  # what a create came to must be certain
        return status == 405
    return status in (410, 501) or (status in (301, 308) and bool(location_of(error)))  # moved for good


def _class_name(code: str, default: str) -> str:
    """A vendor's code where it can serve as a name; it ends up in logs, tables and events."""
    return code if code.isidentifier() and len(code) <= 64 else default


def _describe(action: str, status: int, name: str, message: str, secrets: Sequence[str]) -> str:
    said = f"{action}: HTTP {status}" + (f" {name}" if name else "")
    if status == 401:
        return f"{one_line(redact(said, secrets))}: the API key was refused"
    return one_line(redact(f"{said}: {message}" if message else said, secrets))
