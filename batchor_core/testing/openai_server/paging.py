"""Lists by cursor, as the API pages them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from batchor_core.testing.openai_server.errors import bad_request


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Identified)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list."""

    entries: list[T]
    has_more: bool

    def as_json(self, shown: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
        """The ``list`` object of the API."""
        return {
            "object": "list",
            "data": [shown(entry) for entry in self.entries],
            "first_id": self.entries[0].id if self.entries else None,
            "last_id": self.entries[-1].id if self.entries else None,
            "has_more": self.has_more,
        }


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


def read_limit(query: Mapping[str, str], *, default: int, most: int) -> int:
    """The ``limit`` of a query.

    Raises:
        ApiError: It is not a number between 1 and ``most``.
    """
    given = query.get("limit", str(default))
    if not given.isdecimal() or not 1 <= int(given) <= most:
        message = f"Invalid 'limit': expected an integer between 1 and {most}, but got '{given}'."
        raise bad_request(message, param="limit", code="invalid_value")
    return int(given)
