"""custom_ids: how the attempts of items are named in batch files. Names are built and parsed here, and nowhere else.

A name is at most 64 characters of ``[A-Za-z0-9_-]``. It is deterministic, so that a restored backup recognises batches
that are missing from it; different in each generation, so that a late answer to an earlier attempt is never mistaken
for this one; and different in each run, by a digest of run id and item id::

    5-0-a1b2c3d4e5f6               format 1: index, generation, digest
    review_17-5-0-a1b2c3d4e5f6     format 2: a readable piece of the item id before them

A run keeps the format that it was started with.

The engine's own names leave the last 17 of the 64 characters free. If batches carry no tags, only the rows can show
which submission a batch belongs to. Each name is then sent with ``_`` and the 16 characters of its submission's mark
appended, so that a single result line identifies the submission. ``_`` never follows a digest otherwise, so such names
differ from all others.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple, assert_never

MAX_CHARS = 64
SUBMISSION_CHARS = 17
"""Left free at the end of a name."""

MAX_INDEX_DIGITS = 18
"""Digits of an integer that every database accepts."""


class CustomIdFormat(IntEnum):
    """Every format that stored runs may have."""

    INDEX_FIRST = 1
    READABLE = 2


NEWEST = CustomIdFormat.READABLE


_READABLE: Final = CustomIdFormat.READABLE
_INDEX_FIRST: Final = CustomIdFormat.INDEX_FIRST
_ROOM = MAX_CHARS - SUBMISSION_CHARS - 1


class Attempt(NamedTuple):
    """What a name contains. Only building it again shows whether it belongs to a run.

    Attributes:
        item_index: Index of the item.
        generation: Which of its attempts.
    """

    item_index: int
    generation: int


class CustomIds(NamedTuple):
    """The names of one run.

    Attributes:
        run_id: The run.
        format: Its format.
    """

    run_id: str
    format: CustomIdFormat = NEWEST

    def of(self, item_id: str, item_index: int, generation: int) -> str:
        """The name of one attempt of one item."""
        run_id, known = self
        digest = _begun(run_id).copy()
        digest.update(item_id.encode("utf-8", "surrogatepass"))
        name = f"{item_index}-{generation}-{digest.hexdigest()}"
        # each item's name is made several times, and a match over an enum takes as long as all that
        if known is _READABLE:
            room = _ROOM - len(name)
            piece = item_id if _is_readable(item_id) else _cleaned(item_id)
            return f"{piece[: room if room > 1 else 1]}-{name}"
        if known is _INDEX_FIRST:
            return name
        assert_never(known)


def most_chars(item_id: str, item_index: int) -> int:
    """The most characters of the names of an item's first hundred attempts."""
    longest = MAX_CHARS - SUBMISSION_CHARS
    if not item_id.isascii():
        return longest  # without its accents an id may be longer
    piece = max(len(item_id), len(_NOTHING_READABLE))
    return min(longest, piece + len(str(item_index)) + _FIXED_CHARS)


_FIXED_CHARS = len("---99") + 12


def parse(custom_id: str) -> Attempt | None:
    """The item and the attempt that a name of either format is for; None for anybody else's name."""
    found = _NAME.fullmatch(custom_id) if len(custom_id) <= MAX_CHARS else None
    return Attempt(int(found[1]), int(found[2])) if found else None


_NAME = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9_-]*-)?([0-9]{{1,{MAX_INDEX_DIGITS}}})-([0-9]{{1,18}})-[0-9a-f]{{12}}"
)
_is_readable = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*").fullmatch
_UNREADABLE = re.compile(r"[^A-Za-z0-9_-]+")
_LOOKED_AT = 256
_NOTHING_READABLE = "item"


def _cleaned(item_id: str) -> str:
    """What can be read of an id: letters without their accents, and one ``_`` for whatever else there is.

    It begins with a letter or a digit, since a spreadsheet takes ``-`` and ``=`` for the beginning of a formula.
    """
    apart = unicodedata.normalize("NFKD", item_id[:_LOOKED_AT])
    plain = "".join(character for character in apart if not unicodedata.combining(character))
    return _UNREADABLE.sub("_", plain).strip("_-") or _NOTHING_READABLE


# --- marks of submissions --------------------------------------------------------------------------------------------

_RUN_MARK = 8
_MARKED = re.compile(r"(.+)_([0-9a-f]{16})")


def mark_of(local_batch_id: str) -> str:
    """The mark of a submission: that of its run, and the beginning of its own name."""
    _, run_mark, own = local_batch_id.split("-", 2)
    return f"{run_mark}{own[: SUBMISSION_CHARS - 1 - _RUN_MARK]}"


def submission_of(mark: str) -> str:
    """A name for a submission that the store has forgotten: :func:`mark_of` gives its mark back."""
    return f"batch-{mark[:_RUN_MARK]}-{mark[_RUN_MARK:]}"


def marked(custom_id: str, *, mark: str) -> str:
    """The name under which a row is sent in a batch without tags."""
    return f"{custom_id}_{mark}"


def without_mark(sent_as: str, *, mark: str) -> str:
    """The custom_id of a row that was sent with this mark; any other name unchanged."""
    return sent_as.removesuffix(f"_{mark}")


def unmarked(sent_as: str) -> tuple[str, str] | None:
    """The custom_id and the mark of a row that was sent with one; None for any other."""
    found = _MARKED.fullmatch(sent_as)
    return (found[1], found[2]) if found else None


@lru_cache(maxsize=128)
def _begun(run_id: str) -> hashlib.blake2b:
    """The digest of what a run's names have in common, to continue from: each item's name is made several times."""
    return hashlib.blake2b(f"{run_id}\0".encode("utf-8", "surrogatepass"), digest_size=6)
