"""Reading a list page by page, at servers that say whether there is more and at those that don't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from batchor_core.providers.openai.errors import unreadable
from batchor_core.providers.openai.records import has_more, read

LEAST_PAGE = 20
"""Entries of a page at servers that take no limit: the API's default. A list that is shorter has one page."""


def pages(
    action: str, call: Callable[[Callable[[], Any]], Any], fetch: Callable[..., Any]
) -> Iterator[list[Any]]:
    """Yield pages until the last. A list that can't be read to its end is an error: it proves nothing absent.

    Where the server does not say whether there is more, only an empty page is the end, however many entries it gives at a
    time; so is a page that comes again, if it is too short to be one of several.

    Args:
        action: What is done, for errors.
        call: Makes a request.
        fetch: The request of a page; ``after`` names the last entry of the one before.

    Raises:
        ProviderError: A page can't be read, or there is more and no way to it.
    """
    seen: set[str] = set()
    cursor: dict[str, str] = {}
    while True:
        page = call(partial(fetch, **cursor))
        entries, more = read(page, "data"), has_more(page)
        if not isinstance(entries, list):
            raise unreadable(action, page)
        if not entries:
            if more:
                raise unreadable(action)
            return
        last = read(entries[-1], "id")
        is_repeated = isinstance(last, str) and last in seen  # the server ignores the cursor
        if is_repeated and more is None and len(entries) < LEAST_PAGE:
            return
        if not is_repeated:
            yield entries
        if more is False:
            return
        if not isinstance(last, str) or not last or is_repeated:
            raise unreadable(action)
        seen.add(last)
        cursor = {"after": last}
