"""Reads the body of an HTTP error of any shape, for every provider.

OpenAI answers with ``{"error": {"message", "type", "param", "code"}}``. Servers with the same API, and the proxies in front
of them, answer with ``{"detail": [...]}``, ``{"message": ...}``, ``{"error": "text"}``, lists, plain text or web pages. All
of it comes out as one short line, so that "HTTP 422" never stands alone.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE = 500
READ_CHARS = 10_000
"""How much of a text is looked at: some gateways answer with whole pages."""

_DEPTH = 6
_PIECES = 5
"""Of a list of errors, so many are shown."""

_SAYING = (
    "message",
    "msg",
    "detail",
    "details",
    "error_description",
    "error",
    "errors",
    "title",
    "reason",
    "description",
    "fault",
    "faultstring",
    "exception",
    "status_message",
)
"""Fields that hold what an error says, the clearest first."""

_PAGE = re.compile(
    r"\s*(<!--.*?-->\s*)*(<\?xml[^>]*>\s*)?<(!doctype html|html|head|body|title|center)\b", re.I | re.S
)
_UNSEEN = re.compile(r"<(script|style|svg)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)", re.I | re.S)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.I | re.S)
_TITLE_ELEMENT = re.compile(r"<title[^>]*>.*?</title\s*>", re.I | re.S)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error body, read.

    Attributes:
        message: The message, on one line; empty if there is none.
        code: Its code.
        type: Its type.
        param: The parameter that it complains about.
        is_page: Whether it is a web page, which an API does not return.
    """

    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""
    is_page: bool = False


def read_error_body(body: Any) -> ErrorBody:
    """Read the body of an error: decoded JSON, or text. Never raises."""
    if isinstance(body, bytes):
        body = body[:READ_CHARS].decode("utf-8", "replace")
    if isinstance(body, str):
        decoded = _json(body)
        if decoded is None:
            return ErrorBody(_text(body), is_page=is_page(body))
        body = decoded
    inner = _error_object(body)
    return ErrorBody(
        message=_said(body, _DEPTH)[:READ_CHARS],
        code=_name(inner.get("code")),
        type=_name(inner.get("type")),
        param=_name(inner.get("param")),
    )


def is_page(text: Any) -> bool:
    """Whether a text is a web page."""
    return isinstance(text, str) and _PAGE.match(text[:READ_CHARS]) is not None


def _json(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _error_object(body: Any) -> Mapping[str, Any]:
    """The object with code and type, wherever the server put it."""
    if isinstance(body, list) and body:
        return _error_object(body[0])
    if not isinstance(body, Mapping):
        return {}
    for name in ("error", "errors", "detail"):
        inner = body.get(name)
        inner = inner[0] if isinstance(inner, list) and inner else inner
        if isinstance(inner, Mapping) and inner.keys() & {"code", "type", "message", "msg"}:
            return inner
    return body


def _said(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return _text(value)
    if depth == 0:
        return ""
    if isinstance(value, list):
        pieces = [piece for piece in (_said(one, depth - 1) for one in value[:_PIECES]) if piece]
        more = f" (and {len(value) - _PIECES} more)" if len(value) > _PIECES else ""
        return "; ".join(pieces) + more if pieces else ""
    if not isinstance(value, Mapping):
        return "" if value is None or isinstance(value, bool) else str(value)
    for name in _SAYING:
        said = _said(value.get(name), depth - 1)
        if said:
            return f"{place}: {said}" if (place := _place(value.get("loc"))) else said
    return _rest(value)


def _place(loc: Any) -> str:
    """FastAPI's ``["body", "input_file_id"]``."""
    if not isinstance(loc, list | tuple):
        return ""
    return ".".join(str(part) for part in loc[:10] if isinstance(part, str | int))


def _rest(value: Mapping[str, Any]) -> str:
    """An object without any field that is known to say something: as it is."""
    named = {
        "code",
        "type",
        "param",
        "loc",
        "input",
    }  # these say nothing by themselves, or are the request's own
    plain = {
        key: one
        for key, one in value.items()
        if key not in named and isinstance(one, str | int | float) and one != ""
    }
    if not plain:
        return ""
    try:
        return _text(json.dumps(plain, ensure_ascii=False))
    except (TypeError, ValueError):
        return ""


def _text(text: str) -> str:
    """Text on one line; of a web page its title and what a reader would see."""
    text = text[:READ_CHARS]
    if is_page(text):
        title = _TITLE.search(text)
        seen = _TAG.sub(" ", _UNSEEN.sub(" ", _TITLE_ELEMENT.sub(" ", text)))
        pieces = [html.unescape(part) for part in ((title.group(1) if title else ""), seen)]
        text = f"a web page: {' '.join(' '.join(pieces).split())}"
    return " ".join(text.split())


def _name(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value[:READ_CHARS] if isinstance(value, str) else ""
