"""How long a line of an output file may be: what it takes in memory, until it is stored and read again, has to fit the budget.

Measured in a process of its own, on SQLite: besides some 70 MiB for everything else, three times the line's length for ASCII
(the text, and two copies that SQLite makes of it), and once more where the answer stored before is as long, since SQLite
compares with the whole of it. Python keeps a text as wide as its widest character: a single one beyond Latin-1 doubles the
text, one beyond the basic plane takes four times as much.
"""

from __future__ import annotations

import re

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Longer lines are not decoded; their rows count as missing."""

LONG_LINE_BYTES = 8 * 1024 * 1024
"""Answers are stored as soon as so much has been collected. A line as long is read by the fast parser alone, and kept raw
only in the artifact."""

_MEMORY = 3 * MAX_LINE_BYTES
_ASCII, _WIDE, _WIDEST = 3, 5, 11
_ASTRAL_BYTE = re.compile(rb"[\xf0-\xff]")
_ESCAPE = re.compile(rb"\\u")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def fits_memory(line: bytes) -> bool:
    """Whether a line can be decoded, stored and read again within the budget."""
    return len(line) * _WIDEST <= _MEMORY or len(line) * _copies(line) <= _MEMORY


def _copies(line: bytes) -> int:
    """How many times its length a line takes in memory."""
    if _SURROGATE.search(line) or _ASTRAL_BYTE.search(line):
        return _WIDEST
    if not line.isascii() or _ESCAPE.search(line):
        return _WIDE
    return _ASCII
