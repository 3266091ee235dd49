"""Resuming a source at its last row, which must not depend on how far that is."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import orjson

from batchor_core import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.sources.base import CheckpointedItemSource
from benchmarks.clock import Lap, Stopwatch
from benchmarks.place import Place
from benchmarks.workload import csv_source, rows


def resume(place: Place) -> dict[str, Lap]:
    """The last row of each kind of file, from the checkpoint before it, and the file's fingerprint."""
    laps: dict[str, Lap] = {}
    for kind, source in _sources(place).items():
        *_, before_last, _ = deque((row.next_checkpoint for row in _all(source)), maxlen=2)
        watch = Stopwatch(laps)
        rest = list(source.iter_from_checkpoint(before_last))
        watch.lap(f"resume {kind}")
        assert [row.item.item_id for row in rest] == [f"row-{place.rows - 1:09d}"]
    watch = Stopwatch(laps)
    csv_source(place.source).source_identity()
    watch.lap("fingerprint")
    return laps


def _all(source: CheckpointedItemSource[Any]) -> Any:
    return source.iter_from_checkpoint(source.initial_checkpoint())


def _sources(place: Place) -> dict[str, CheckpointedItemSource[Any]]:
    jsonl, parquet = place.home / "rows.jsonl", place.home / "rows.parquet"
    _write_jsonl(jsonl, place.rows)
    _write_parquet(parquet, place.rows)
    how: Any = {
        "item_id_from_row": lambda row: row["id"],
        "payload_from_row": lambda row: {"text": row["text"]},
    }
    return {
        "csv": CsvItemSource(place.source, **how),
        "jsonl": JsonlItemSource(jsonl, **how),
        "parquet": ParquetItemSource(parquet, **how),
    }


def _write_jsonl(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for item_id, text in rows(count):
            file.write(orjson.dumps({"id": item_id, "text": text}, option=orjson.OPT_APPEND_NEWLINE))


def _write_parquet(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    pairs = rows(count)
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := [pair for pair, _ in zip(pairs, range(100_000), strict=False)]:
            writer.write_table(pa.table(list(zip(*chunk, strict=True)), schema=schema))
