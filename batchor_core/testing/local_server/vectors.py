"""Made-up vectors: texts that share words are near each other.

A vector is a bag of words: each word of the text, and with less weight each three letters of it, is a direction of the space that
its hash names. Long words count more, since short ones are mostly articles and such. So the cosine of two texts grows with the words
that they share, and the same text always has the same vector.
"""

from __future__ import annotations

import math
import re
import struct
from hashlib import shake_128
from zlib import crc32

_WORD = re.compile(r"\w+")
_LETTERS = 3
_LETTERS_WEIGHT = 0.25
_LONG_WORD = 6
_ELEMENTS = 16


def made_up_vector(text: str, size: int) -> list[float]:
    """A unit vector."""
    vector = [0.0] * size
    for word in _WORD.findall(text.lower()):
        padded, share = f" {word} ", min(len(word), _LONG_WORD) / _LONG_WORD
        _add(vector, word, share)
        for at in range(len(padded) - _LETTERS + 1):
            _add(vector, padded[at : at + _LETTERS], share * _LETTERS_WEIGHT)
    if not any(vector):  # no words, or their directions cancel each other out
        vector[crc32(text.encode(errors="replace")) % size] = 1.0
    length = math.hypot(*vector)
    return [number / length for number in vector]


def _add(vector: list[float], piece: str, weight: float) -> None:
    """Add the direction of a piece of text: a few of the vector's elements, up or down."""
    for mark in struct.unpack(
        f"<{_ELEMENTS}H", shake_128(piece.encode(errors="replace")).digest(2 * _ELEMENTS)
    ):
        vector[(mark >> 1) % len(vector)] += weight if mark & 1 else -weight
