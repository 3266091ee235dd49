"""Text from a database on a terminal: ids and messages were made by others, and a terminal obeys what it is sent."""

from __future__ import annotations


def printable(text: object) -> str:
    """The text with everything escaped that is no plain character: control sequences, line ends, marks that reverse it."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(text)
    )
