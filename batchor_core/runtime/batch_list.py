"""Reading a provider's list of batches back to a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.providers.api import BatchState

LIST_MARGIN_SEC = 600.0
"""How much older than expected a listed batch may seem: clocks differ, and listings carry no order by contract."""


NOT_IMPLEMENTED = 501


def is_passing(error: ProviderError) -> bool:
    """Whether a list that could not be read may be readable later. A gateway that has none may say so with 501."""
    kinds = (ProviderErrorKind.RETRY, ProviderErrorKind.CAPACITY)
    return error.kind in kinds and error.status_code != NOT_IMPLEMENTED


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list showed.

    Attributes:
        found: The batches that were looked for, oldest first.
        is_complete: Whether every batch since the moment was seen. An incomplete list proves nothing absent.
    """

    found: list[BatchState]
    is_complete: bool


def read_list(
    pages: Iterator[list[BatchState]],
    *,
    wanted: Callable[[BatchState], bool],
    oldest: float,
    page_cap: int,
) -> Listing:
    """Look for batches that were created after ``oldest``, in at most ``page_cap`` pages.

    Reading stops early only where the list has shown itself to run from new to old: some compatible servers list the
    other way round, and there the first page would seem to prove that nothing new exists.
    """
    found: list[BatchState] = []
    order = _Order()
    for number, page in enumerate(pages, 1):
        found += filter(wanted, page)
        order.see(page)
        if order.is_newest_first and order.last < oldest:
            return _listing(found, is_complete=True)
        if number >= page_cap:
            return _listing(found, is_complete=False)
    return _listing(found, is_complete=True)


@dataclass(slots=True)
class _Order:
    """What the creation times in a list show about its order."""

    last: float = float("inf")
    falls: bool = False
    rises: bool = False

    def see(self, page: list[BatchState]) -> None:
        for batch in page:
            if batch.created_at is None:
                self.rises = True  # nothing to tell by
                continue
            self.falls = self.falls or (self.last != float("inf") and batch.created_at < self.last)
            self.rises = self.rises or batch.created_at > self.last
            self.last = batch.created_at

    @property
    def is_newest_first(self) -> bool:
        return self.falls and not self.rises


def _listing(found: list[BatchState], *, is_complete: bool) -> Listing:
    # of those of one second, which a list mostly gives newest first, the last is the oldest
    oldest_first = list(reversed(found))
    oldest_first.sort(key=lambda batch: batch.created_at or 0.0)
    return Listing(oldest_first, is_complete)
