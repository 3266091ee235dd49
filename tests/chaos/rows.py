"""Where a scenario's rows come from: memory, or a frame or query that has other rows each time it is read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pyarrow as pa

from batchor_core.core.models import BatchItem
from batchor_core.sources.base import (
    CheckpointedItemSource,
    IndexedBatchItem,
    ResumableItemSource,
    SourceIdentity,
)
from batchor_core.sources.frames import FrameItemSource
from batchor_core.sources.sql import SqlItemSource
from tests.chaos.scenario import Place, Scenario, Source

_READ_AS = ", as it was in reading "


def source(place: Place, scenario: Scenario, *, breaks_after: int = 0) -> CheckpointedItemSource[Any]:
    """The scenario's rows, as a driver gives them to its run."""
    match scenario.source:
        case Source.MEMORY:
            return Rows(scenario.texts(), breaks_after=breaks_after)
        case Source.MEMORY_THAT_CHANGES:
            return Rows(_next_reading(place, scenario))
        case Source.FRAME:
            return FrameItemSource(_Frame(place, scenario), item_id_from_row=_item_id)
        case Source.QUERY:
            path = place.folder / "source.sqlite3"
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS rows (item_id TEXT PRIMARY KEY, text TEXT)")
                texts = _next_reading(place, scenario)
                connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", texts.items())
            query = "SELECT item_id, text FROM rows ORDER BY item_id"
            return SqlItemSource(f"sqlite:///{path}", query, item_id_from_row=_item_id)


def of_one_reading(texts: Mapping[str, str], answer: str) -> Mapping[str, str]:
    """What every item must ask if one of them was answered like this."""
    _, read_as, number = answer.partition(_READ_AS)
    return {item_id: f"{text}{read_as}{number}" for item_id, text in texts.items()}


def _next_reading(place: Place, scenario: Scenario) -> dict[str, str]:
    """The texts, with a number that no earlier reading has had."""
    with (place.folder / "readings").open("ab") as readings:
        readings.write(b".")
        readings.flush()
        number = readings.tell()
    return {item_id: f"{text}{_READ_AS}{number}" for item_id, text in scenario.texts().items()}


def _item_id(row: Mapping[str, Any]) -> str:
    return str(row["item_id"])


class Rows(ResumableItemSource[dict[str, str]]):
    """The scenario's items, from memory; may raise on the way, as a source does whose disk fails."""

    def __init__(self, texts: Mapping[str, str], *, breaks_after: int = 0) -> None:
        self._texts = texts
        self._breaks_after = breaks_after

    def source_identity(self) -> SourceIdentity:
        return SourceIdentity(source_kind="chaos", source_ref="rows", source_fingerprint="1")

    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[dict[str, str]]]:
        for index, (item_id, text) in enumerate(self._texts.items()):
            if index >= item_index:
                if self._breaks_after and index == self._breaks_after:
                    raise OSError("the source's disk has gone")
                yield IndexedBatchItem(index, BatchItem(item_id, {"text": text}, {"row": index}))


class _Frame:
    """A frame that makes its rows when it is read, as a lazy one does."""

    def __init__(self, place: Place, scenario: Scenario) -> None:
        self._place = place
        self._scenario = scenario

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        texts = _next_reading(self._place, self._scenario)
        table = pa.table({"item_id": list(texts), "text": list(texts.values())})
        return table.__arrow_c_stream__(requested_schema)
