"""Where in a file the rows of repeated item ids are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from batchor_core.core.exceptions import DuplicateItemError, InvalidInputError
from batchor_core.core.models import BatchItems
from batchor_core.sources.base import CheckpointedItemSource, RowPlaces

_NAMED = 5


@contextmanager
def naming_rows(items: BatchItems) -> Iterator[None]:
    """Add the file and line of both rows to an error about repeated ids, where the source can tell them.

    The file is read once more for it, up to the last of the rows, and nothing of it is kept.
    """
    try:
        yield
    except DuplicateItemError as error:
        indexes = dict(list(error.indexes.items())[:_NAMED])
        places = _places(items, {index for pair in indexes.values() for index in pair})
        if places is None:
            raise
        found = places.found
        named = {
            item_id: (found[first], found[second])
            for item_id, (first, second) in indexes.items()
            if first in found and second in found
        }
        raise DuplicateItemError(
            error.run_id, error.item_ids, indexes=error.indexes, places=named
        ) from error.__cause__


def _places(items: BatchItems, indexes: set[int]) -> RowPlaces | None:
    if not isinstance(items, CheckpointedItemSource) or not indexes:
        return None
    try:
        return items.places(indexes)
    except InvalidInputError:  # the file is gone or changed meanwhile; the ids alone are worth more than that
        return None
