"""Lists by cursor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Identified)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list."""

    entries: list[T]
    has_more: bool


def page_of(entries: Iterable[T], *, after: str | None, limit: int) -> Page[T]:
    """Up to ``limit`` entries that follow the one with id ``after``; an unknown id gives an empty page."""
    taken: list[T] = []
    begun = after is None
    for entry in entries:
        if not begun:
            begun = entry.id == after
        elif len(taken) == limit:
            return Page(taken, has_more=True)
        else:
            taken.append(entry)
    return Page(taken, has_more=False)
