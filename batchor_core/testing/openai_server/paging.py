"""Lists, as the API pages them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from batchor_core.testing.local_server.errors import bad_request
from batchor_core.testing.local_server.paging import Page, T


def list_object(page: Page[T], shown: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """The ``list`` object of the API."""
    return {
        "object": "list",
        "data": [shown(entry) for entry in page.entries],
        "first_id": page.entries[0].id if page.entries else None,
        "last_id": page.entries[-1].id if page.entries else None,
        "has_more": page.has_more,
    }


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
