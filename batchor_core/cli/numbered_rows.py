"""Ids for rows that have none: their numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from batchor_core.cli.profiles import near
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.types import JSONValue
from batchor_core.sources.base import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    RowPlaces,
    Snapshots,
    SourceIdentity,
    checkpoint_index,
)

ID_COLUMN = "id"
_NUMBER = "\0number"
"""Placeholder until the number is known; no source that is read here has it as an id."""


def own_id_or_number(row: Mapping[str, Any]) -> str:
    """The id of a row that has a column ``id``; of any other, what :class:`NumberedRows` replaces."""
    return column_id(row, ID_COLUMN) if ID_COLUMN in row else _NUMBER


def column_id(row: Mapping[str, Any], column: str) -> str:
    """The value of a column as an id. Whole numbers are accepted; a missing value stays missing, and the source refuses it."""
    value = named_column(row, column, option="--id")
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def named_column(row: Mapping[str, Any], column: str, *, option: str) -> Any:
    """The value of a column that an option names.

    Raises:
        InvalidInputError: There is no such column.
    """
    if column not in row:
        raise InvalidInputError(f"{option} {column!r}: the rows have no such column{near(column, row)}")
    return row[column]


class NumberedRows(CheckpointedItemSource[Any]):
    """The items of a source, with the number of their row, from 1 on, where they have no id.

    The number goes through all files of a source, so it is part of the checkpoint.
    """

    def __init__(self, source: CheckpointedItemSource[Any]) -> None:
        self._source = source

    def source_identity(self) -> SourceIdentity:
        """That of the source."""
        return self._source.source_identity()

    def initial_checkpoint(self) -> JSONValue:
        """Before the first row."""
        return {"row": 0, "checkpoint": self._source.initial_checkpoint()}

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[Any]]:
        """Items from a row on."""
        if not isinstance(checkpoint, dict) or not {"row", "checkpoint"} <= checkpoint.keys():
            raise InvalidInputError(f"{checkpoint!r} is not a checkpoint of rows without ids")
        first = checkpoint_index(checkpoint["row"]) + 1
        parts = self._source.iter_from_checkpoint(checkpoint["checkpoint"])
        for number, part in enumerate(parts, first):
            item = part.item
            if item.item_id == _NUMBER:
                item = replace(item, item_id=str(number))
            yield CheckpointedBatchItem({"row": number, "checkpoint": part.next_checkpoint}, item)

    def places(self, rows: Collection[int]) -> RowPlaces | None:
        """The place of these rows, as the source reports it."""
        return self._source.places(rows)

    def with_snapshots(self, snapshots: Snapshots) -> CheckpointedItemSource[Any]:
        """The same over the source with its snapshot."""
        return NumberedRows(self._source.with_snapshots(snapshots))
