"""A field of a frozen record that is decoded on first access.

Most readers of results never access ``raw_response``, and decoding it takes longer than the rest of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

RecordT = TypeVar("RecordT", bound="Late")


class Late:
    """Base of dataclasses with slots, one field of which may be filled later: see :func:`decode_later`."""

    __slots__ = ("_late",)

    if not TYPE_CHECKING:  # a type checker would take every misspelled attribute for a late one

        def __getattr__(self, name: str) -> Any:
            """Fill an empty slot; Python calls this only if the attribute is missing."""
            late = None if name == "_late" else getattr(self, "_late", None)
            if late is None or late[0] != name:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            _, decode, source = late
            value = decode(source)
            object.__setattr__(self, name, value)
            return value


def decode_later(record: RecordT, field: str, decode: Callable[[Any], Any], source: Any) -> RecordT:
    """Set ``field`` to ``decode(source)`` on first access. To be called on a new record only."""
    object.__delattr__(record, field)
    object.__setattr__(record, "_late", (field, decode, source))
    return record
