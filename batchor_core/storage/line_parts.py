"""Request lines without what they have in common.

The lines of a run differ in their custom_id and in what their prompts say. The rest, instructions and the schema of the
answer above all, is often longer than both. So it is stored once for many lines: what follows the custom_id, and what the
lines end with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_BEGINNING = b'{"custom_id":"'
_WORTH_BYTES = 32
_LOOKED_AT = 1 << 16
"""Bytes at either end of a line that are compared: comparing takes a step of Python for each."""


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
        at = _head_at(line)
        start, end = at + len(self.head), len(line) - len(self.tail)
        if 0 < at <= start <= end and line.startswith(self.head, at) and line.endswith(self.tail):
            return line[:at] + line[start:end]
        return None

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
    rests = [line[at:] for line in lines if (at := _head_at(line))]
    if len(rests) < 2:
        return None  # a whole line is not what lines have in common
    head = _common([rest[:_LOOKED_AT] for rest in rests])
    tail = _common([rest[len(head) :][-_LOOKED_AT:][::-1] for rest in rests])[::-1]
    found = LineParts(head, tail)
    if known is not None:
        both = LineParts(_common([head, known.head]), _common([tail[::-1], known.tail[::-1]])[::-1])
        if both.size * 2 > found.size:
            found = both
    return found if found.size >= _WORTH_BYTES else None


def _head_at(line: bytes) -> int:
    """Where the custom_id is over; 0 for a line that does not begin with one. The same before and after a cut."""
    return line.find(b'"', len(_BEGINNING)) + 1 if line.startswith(_BEGINNING) else 0


def _common(texts: list[bytes]) -> bytes:
    # what the first and the last in order have in common, all between them have
    first, last = min(texts), max(texts)
    differ = (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(differ, len(first))]
