"""Request lines, in two parts: the body, which is the request, and the frame, which names the attempt and the endpoint.

A line is ``{"custom_id":"<name>"`` and a *rest* that is the same for every attempt of an item. The rest is what is stored; the
name is put before it when the file is written. Whole lines are stored too: by earlier builds, and for providers whose requests
depend on the custom_id. A rest begins with a comma, and a whole line with a brace.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from batchor_core.core.custom_ids import MAX_CHARS
from batchor_core.core.types import BatchRequestLine

_NAME, _BODY, _ENDPOINT = "custom_id", "body", "url"
_BEGINNING = b'{"custom_id":'
_ADDRESS_BYTES = 20

PLACEHOLDERS = ("ZQXJ-ZQXJ-ZQXJ-ZQXJ-ZQXJ", "QZJX-QZJX-QZJX-Q")
"""Placeholder names that show which parts of a line depend on the name; rare letters are quick to search for."""


def content_address(provider_kind: str, endpoint: str, body: bytes) -> bytes:
    """A digest of provider, endpoint and body: equal for equal requests, whatever their item, run and attempt.

    Args:
        provider_kind: The name the provider is registered under.
        endpoint: The path that the body is for; "" where lines don't say.
        body: The body as JSON, as it is sent.
    """
    return Frame(b"", b"", 0, _asked(provider_kind, endpoint)).address(body)


def _asked(provider_kind: str, endpoint: str) -> bytes:
    return b"%b\0%b\0" % (provider_kind.encode(), endpoint.encode())


class Frame(NamedTuple):
    """What a line has around its body, besides the custom_id.

    Attributes:
        before: Between custom_id and body.
        after: Behind the body.
        skipped: Bytes of the body that the frame has already.
        asked: What the content address is of, but for the body.
    """

    before: bytes
    after: bytes
    skipped: int
    asked: bytes

    def around(self, body: bytes) -> bytes:
        """What follows the custom_id in the line of a body, which is JSON."""
        return b"".join((self.before, body[self.skipped :], self.after))

    def address(self, body: bytes) -> bytes:
        """The content address of the same."""
        return sha256(self.asked + body).digest()[:_ADDRESS_BYTES]


class Frames:
    """Takes the lines that a provider builds apart.

    Args:
        provider_kind: The name the provider is registered under.
    """

    def __init__(self, provider_kind: str) -> None:
        self._kind = provider_kind
        # most lines have the frame of the one before
        self._last: dict[str, Any] = {}
        self._frame = self._make(self._last)

    def apart(self, line: BatchRequestLine) -> tuple[Frame, Any] | None:
        """Frame and body of a line; None if it does not have a custom_id at its top."""
        around: dict[str, Any] = dict(line)
        if around.pop(_NAME, None) is None:
            return None
        body = around.pop(_BODY, None)
        if body is None:  # lines of another layout: all but the name is the body
            return (_BARE._replace(asked=_asked(self._kind, "")), around) if around else None
        if around != self._last:
            try:
                self._frame, self._last = self._make(around), around
            except TypeError:  # not JSON; encoding the whole line gives a better error
                return None
        return self._frame, body

    def _make(self, around: dict[str, Any]) -> Frame:
        others = b"," + orjson.dumps(around)[1:-1] if around else b""
        endpoint = around.get(_ENDPOINT)
        asked = _asked(self._kind, endpoint if isinstance(endpoint, str) else "")
        return Frame(others + b',"body":', b"}", 0, asked)


_BARE = Frame(b",", b"", 1, b"")


def is_whole(stored: bytes) -> bool:
    """Whether a stored line has a custom_id in it."""
    return stored.startswith(b"{")


def named_line(stored: bytes, custom_id: str, *, is_first: bool) -> bytes:
    """The line as it is sent under a custom_id.

    Args:
        stored: What is stored of it.
        custom_id: The name of the attempt.
        is_first: It is the first attempt, the one that a whole line is named after.
    """
    if not is_whole(stored):
        return b"%b%b%b" % (_BEGINNING, orjson.dumps(custom_id), stored)
    if is_first:
        return stored
    return renamed(stored, "", custom_id)


def renamed(line: bytes, custom_id: str, new_id: str) -> bytes:
    """A whole line under another custom_id."""
    beginning = _BEGINNING + orjson.dumps(custom_id)
    if line.startswith(beginning):
        return b"%b%b%b" % (_BEGINNING, orjson.dumps(new_id), line[len(beginning) :])
    decoded = orjson.loads(line)
    decoded[_NAME] = new_id
    return orjson.dumps(decoded)


def longest_line(stored: bytes, name_chars: int = MAX_CHARS) -> int:
    """The most bytes that the line may have, with the end of the line, under a name of so many characters."""
    return len(stored) + (1 if is_whole(stored) else _AROUND_NAME + name_chars)


_AROUND_NAME = len(_BEGINNING) + len('""') + len("\n")
