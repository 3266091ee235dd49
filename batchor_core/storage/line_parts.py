"""Request lines without what they have in common.

The lines of a run differ in their custom_id and in what their prompts say. The rest, instructions and the schema of the
answer above all, is often longer than both. So it is stored once for many lines: what follows the custom_id, and what the
lines end with. Lines come here without a custom_id, or, from earlier builds, with one: see ``core.request_lines``.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from typing import NamedTuple

import orjson

_BEGINNING = b'{"custom_id":"'
_WORTH_BYTES = 32
_LOOKED_AT = 1 << 16
"""Bytes at either end of a line that are compared."""


class LineParts(NamedTuple):
    """What lines have in common.

    Attributes:
        head: What follows the custom_id, with which a line has to begin.
        tail: How it ends.
    """

    head: bytes
    tail: bytes

    @property
    def size(self) -> int:
        """Bytes that are left out of each line."""
        return len(self.head) + len(self.tail)

    def cut(self, line: bytes) -> bytes | None:
        """The line without these parts; None if it does not have them."""
        head, tail = self
        at = 0 if line.startswith(b",") else _head_at(line)
        start, end = at + len(head), len(line) - len(tail)
        if start > end or not line.startswith(head, at) or not line.endswith(tail):
            return None
        if at:
            return line[:at] + line[start:end]
        # what is left must not look like a line with a custom_id, and what has none and is none has nothing to be cut
        if line.startswith(_BEGINNING, start) or not line.startswith(b","):
            return None
        return line[start:end]

    def named(self, stored: bytes, custom_id: str) -> bytes | None:
        """The line under a custom_id, all at once; None if there is one in what is stored of it."""
        if stored.startswith(_BEGINNING):
            return None
        return b"".join((_BEGINNING[:-1], orjson.dumps(custom_id), self.head, stored, self.tail))

    def restored(self, stored: bytes) -> bytes:
        """The line that :meth:`cut` was given."""
        at = _head_at(stored)
        return b"".join((stored[:at], self.head, stored[at:], self.tail))


def custom_id_in(line: bytes) -> str | None:
    """The custom_id that a line begins with, if it begins with one."""
    at = _head_at(line)
    return line[len(_BEGINNING) : at - 1].decode() if at else None


def common_parts(lines: Sequence[bytes], known: LineParts | None) -> LineParts | None:
    """What these lines have in common, and with what is ``known`` of earlier ones; None if it is not worth it.

    Where the prompts of a thousand rows happen to begin alike, the next thousand may not: what both have in common will
    do for the third.
    """
    named = [line for line in lines if _head_at(line) or line.startswith(b",")]
    if len(named) < 2:
        return None  # a whole line is not what lines have in common
    # piece by piece: lines may be long, and copies of a whole chunk would not be small
    head, tail = named[0][_head_at(named[0]) :][:_LOOKED_AT], named[0][-_LOOKED_AT:]
    for line in named:
        at = _head_at(line)
        head = _common(head, line[at : at + len(head)])
    for line in named:
        rest_at = _head_at(line) + len(head)
        tail = _common_end(tail, line[max(rest_at, len(line) - len(tail)) :])
    found = LineParts(head, tail)
    if known is not None:
        both = LineParts(_common(head, known.head), _common_end(tail, known.tail))
        if both.size * 2 > found.size:
            found = both
    return found if found.size >= _WORTH_BYTES else None


def _head_at(line: bytes) -> int:
    """The end of the custom_id; 0 for a line that does not begin with one. The same before and after a cut."""
    return line.find(b'"', len(_BEGINNING)) + 1 if line.startswith(_BEGINNING) else 0


def _common(one: bytes, other: bytes) -> bytes:
    """The longest common prefix."""
    if other.startswith(one):
        return one
    return one[: bisect(range(len(one)), False, key=lambda last: not other.startswith(one[: last + 1]))]


def _common_end(one: bytes, other: bytes) -> bytes:
    """The longest common suffix."""
    return _common(one[::-1], other[::-1])[::-1]
