"""The jobs of the stored databases: the program of a user who wrote them with one version and goes on with another.

Frozen: their models are named in the databases, and a run is only resumed by the same job.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from batchor_core import (
    ArtifactPolicy,
    BatchItem,
    BatchJob,
    ChunkPolicy,
    CompositeItemSource,
    CsvItemSource,
    JsonlItemSource,
    OpenAIEndpoint,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    ParquetItemSource,
    PromptParts,
)
from batchor_core.core.models import BatchItems

FILE_ROWS = 40
"""Rows of each input file."""

Prompt = Callable[[BatchItem[Any]], PromptParts | str]


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Passage(BaseModel):
    text: str
    weight: float | None


class Review(BaseModel):
    """What the structured runs ask for."""

    mood: Mood
    score: int
    passages: list[Passage]


def question(item: BatchItem[Any]) -> PromptParts:
    return PromptParts(f"Review this: {item.payload}", system_prompt="You judge texts.")


def plain_question(item: BatchItem[Any]) -> str:
    return f"Say something of: {item.payload}"


def rows(name: str, count: int) -> list[BatchItem[Any]]:
    return [
        BatchItem(f"{name}/{n}", f"text {n} of {name}", {"n": n, "word": "Käse\u2028☕"})
        for n in range(count)
    ]


def structured(name: str, count: int = 6, **changes: Any) -> BatchJob[Any, Any]:
    return _job(rows(name, count), structured_output=Review, **changes)


def plain(name: str, count: int = 4, **changes: Any) -> BatchJob[Any, Any]:
    return _job(rows(name, count), build_prompt=plain_question, **changes)


def chat(name: str, count: int = 3, **changes: Any) -> BatchJob[Any, Any]:
    config = OpenAIProviderConfig(
        model="gpt-4o-mini",
        endpoint=OpenAIEndpoint.CHAT_COMPLETIONS,
        request_options={"temperature": 0.5},
        enqueue_limits=OpenAIEnqueueLimitConfig(enqueued_token_limit=1_000_000),
    )
    return _job(rows(name, count), provider_config=config, batch_metadata={"team": "reviews"}, **changes)


def without_raw_files(name: str) -> BatchJob[Any, Any]:
    return structured(name, 3, artifact_policy=ArtifactPolicy(persist_raw_output_artifacts=False))


def generated(name: str, count: int = 25) -> BatchJob[Any, Any]:
    """Rows that can be read once."""
    return _job(_once(rows(name, count)), build_prompt=plain_question)


def _once(items: list[BatchItem[Any]]) -> Iterator[BatchItem[Any]]:
    yield from items


def from_file(kind: str, folder: Path) -> BatchJob[Any, Any]:
    return _job(SOURCES[kind](folder), build_prompt=plain_question, chunk_policy=ChunkPolicy(max_requests=10))


def _job(items: BatchItems, *, build_prompt: Prompt = question, **changes: Any) -> BatchJob[Any, Any]:
    changes.setdefault("provider_config", OpenAIProviderConfig(model="gpt-5-mini"))
    return BatchJob(items=items, build_prompt=build_prompt, **changes)


# --- files -----------------------------------------------------------------------------------------------------------


def write_files(folder: Path) -> None:
    """Write the input files of the runs that read files."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"id": f"row-{n}", "text": f"text {n}, in a file\nof two lines", "n": n} for n in range(FILE_ROWS)
    ]
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "n"])
        writer.writeheader()
        writer.writerows(lines)
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(lines), folder / "rows.parquet", row_group_size=15)
    day = folder / "day=2026-01-01"
    day.mkdir(exist_ok=True)
    (day / "part.jsonl").write_text(
        "".join(json.dumps({**line, "id": f"part-{line['n']}"}) + "\n" for line in lines), encoding="utf-8"
    )


def _text(row: Any) -> str:
    return str(row["text"])


def _id(row: Any) -> str:
    return str(row["id"])


def _number(row: Any) -> dict[str, Any]:
    return {"n": int(row["n"])}


def _csv(folder: Path) -> CsvItemSource[Any]:
    return CsvItemSource(
        folder / "rows.csv", item_id_from_row=_id, payload_from_row=_text, metadata_from_row=_number
    )


def _jsonl(path: Path) -> JsonlItemSource[Any]:
    return JsonlItemSource(path, item_id_from_row=_id, payload_from_row=_text, primary_key="id")


def _parquet(folder: Path) -> ParquetItemSource[Any]:
    return ParquetItemSource(
        folder / "rows.parquet", item_id_from_row=_id, payload_from_row=_text, columns=["id", "text"]
    )


def _composite(folder: Path) -> CompositeItemSource[Any]:
    return CompositeItemSource(
        [_jsonl(folder / "rows.jsonl"), _jsonl(folder / "day=2026-01-01" / "part.jsonl")]
    )


SOURCES: dict[str, Callable[[Path], BatchItems]] = {
    "csv": _csv,
    "jsonl": lambda folder: _jsonl(folder / "rows.jsonl"),
    "parquet": _parquet,
    "composite": _composite,
}
