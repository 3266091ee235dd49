"""A string that matches a simple regular expression.

Covers what JSON schemas use in practice: literals, classes, ``. \\d \\w \\s``, groups, alternatives,
quantifiers and anchors. Look-around, back-references and the rest raise :class:`UnsupportedPatternError`.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random
from typing import TypeAlias

_WORD = string.ascii_letters + string.digits + "_"
_PRINTABLE = string.ascii_letters + string.digits + " !#$%&()*+,-./:;<=>?@[]^_{|}~"
_CLASSES = {
    "d": string.digits,
    "w": _WORD,
    "s": " ",
    "D": string.ascii_letters,
    "W": " -.",
    "S": string.ascii_letters,
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}
_SPREAD = 4

Writer: TypeAlias = Callable[[Random], str]


class UnsupportedPatternError(ValueError):
    """The expression uses something beyond the simple forms."""


def pattern_writer(pattern: str) -> Writer:
    """A function that writes strings matching ``pattern``, drawing from the given randomness."""
    reader = _Reader(pattern)
    writer = reader.alternatives()
    if not reader.at_end():
        raise UnsupportedPatternError(pattern)
    return writer


class _Reader:
    """Recursive descent over the expression."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def at_end(self) -> bool:
        return self._at >= len(self._pattern)

    def alternatives(self) -> Writer:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else lambda random: random.choice(options)(random)

    def _sequence(self) -> Writer:
        parts: list[Writer] = []
        while not self.at_end() and self._peek() not in "|)":
            atom = self._atom()
            if atom is not None:
                parts.append(self._repeated(atom))
        return lambda random: "".join(part(random) for part in parts)

    def _atom(self) -> Writer | None:
        char = self._next()
        match char:
            case "^" | "$":
                return None
            case ".":
                return _one_of(_PRINTABLE)
            case "[":
                return _one_of(self._members())
            case "(":
                return self._group()
            case "\\":
                escaped = self._next()
                if escaped in "bBAZ":
                    return None
                return _one_of(self._escaped(escaped))
            case "*" | "+" | "?":
                raise UnsupportedPatternError(self._pattern)
            case _:
                return _one_of(char)

    def _group(self) -> Writer:
        if self._take("?") and not self._take(":"):
            raise UnsupportedPatternError(self._pattern)
        inner = self.alternatives()
        self._expect(")")
        return inner

    def _members(self) -> str:
        negated = self._take("^")
        members = ""
        while not self._take("]"):
            start = self._member()
            if len(start) == 1 and self._peek() == "-" and self._peek(1) != "]":
                self._next()
                start = "".join(map(chr, range(ord(start), ord(self._member()) + 1)))
            members += start
        if negated:
            members = "".join(char for char in _PRINTABLE if char not in members)
        if not members:
            raise UnsupportedPatternError(self._pattern)
        return members

    def _member(self) -> str:
        char = self._next()
        return self._escaped(self._next()) if char == "\\" else char

    def _escaped(self, char: str) -> str:
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isalnum():
            raise UnsupportedPatternError(self._pattern)
        return char

    def _repeated(self, atom: Writer) -> Writer:
        if self._take("*"):
            low, high = 0, _SPREAD
        elif self._take("+"):
            low, high = 1, _SPREAD
        elif self._take("?"):
            low, high = 0, 1
        elif self._take("{"):
            low, high = self._bounds()
        else:
            return atom
        self._take("?")
        return lambda random: "".join(atom(random) for _ in range(random.randint(low, high)))

    def _bounds(self) -> tuple[int, int]:
        text = ""
        while not self._take("}"):
            text += self._next()
        low, comma, high = text.partition(",")
        try:
            least = int(low or 0)
            return least, int(high) if high else (least + _SPREAD if comma else least)
        except ValueError:
            raise UnsupportedPatternError(self._pattern) from None

    def _peek(self, ahead: int = 0) -> str:
        return self._pattern[self._at + ahead : self._at + ahead + 1]

    def _next(self) -> str:
        if self.at_end():
            raise UnsupportedPatternError(self._pattern)
        self._at += 1
        return self._pattern[self._at - 1]

    def _take(self, char: str) -> bool:
        if self._peek() != char:
            return False
        self._at += 1
        return True

    def _expect(self, char: str) -> None:
        if not self._take(char):
            raise UnsupportedPatternError(self._pattern)


def _one_of(characters: str) -> Writer:
    if len(characters) == 1:
        return lambda random: characters
    return lambda random: random.choice(characters)
