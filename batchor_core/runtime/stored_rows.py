"""Single rows as they are stored, with their requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batchor_core.runtime.drive import Drive
from batchor_core.storage.records import StoredItem

_GAP = 50
"""Rows that are read beside those that are wanted, rather than in a query of their own."""


def stored_rows(drive: Drive, indexes: Sequence[int]) -> Iterator[StoredItem]:
    """Items at sorted indexes, read in spans."""
    wanted, start = set(indexes), 0
    for end in range(1, len(indexes) + 1):
        if end < len(indexes) and indexes[end] - indexes[end - 1] <= _GAP:
            continue
        first, count = indexes[start], indexes[end - 1] - indexes[start] + 1
        for item in drive.store.iter_stored_items(run_id=drive.run_id, first_index=first, count=count):
            if item.item_index in wanted:
                yield item
        start = end
