"""Rows with an image each, with a provider in this process: ``python -m benchmarks.images [ROWS] [BYTES]``.

Prints rows a second, peak memory, how the rows were split into batches, and what they take up on disk: 2.7 times their bytes.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIProviderConfig, PromptParts, SQLiteStorage
from benchmarks.providers import Desk, InstantProvider

CONFIG = OpenAIProviderConfig(model="gpt-5-mini", api_key="none")
_DISTINCT = 50
"""Image files; rows share them, since what is measured are the requests."""

_BODY = {
    "object": "response",
    "status": "completed",
    "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a cat"}]}
    ],
    "usage": {"input_tokens": 800, "output_tokens": 2},
}


def write_answers(requests: Path, answers: Path) -> None:
    """The output file of a batch. A request is long, and its name comes first."""
    with requests.open("rb") as lines, answers.open("wb") as file:
        for line in lines:
            name = line[: line.index(b",")].partition(b":")[2].strip(b'"').decode()
            answer = {"custom_id": name, "response": {"status_code": 200, "body": _BODY}, "error": None}
            file.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))


def write_images(folder: Path, size: int) -> list[Path]:
    """Files that look like PNG and can't be compressed."""
    folder.mkdir()
    rng = random.Random(0)
    paths = [folder / f"{number}.png" for number in range(_DISTINCT)]
    for path in paths:
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + rng.randbytes(size - 8))
    return paths


def look(item: BatchItem[Path]) -> PromptParts:
    """What is in the image?"""
    parts = [
        {"type": "text", "text": f"What is in image {item.item_id}?"},
        {"type": "image", "path": item.payload},
    ]
    return PromptParts.of_messages([{"role": "user", "content": parts}])


def drive(home: Path, rows: int, size: int) -> dict[str, Any]:
    """From the files to the results in the database."""
    paths = write_images(home / "images", size)
    inputs: list[int] = []

    def answered(requests: Path, answers: Path) -> None:
        inputs.append(requests.stat().st_size)
        write_answers(requests, answers)

    desk = Desk(home / "desk", answered)
    started = time.perf_counter()

    def items() -> Iterator[BatchItem[Path]]:
        for number in range(rows):
            yield BatchItem(str(number), paths[number % _DISTINCT])

    job: BatchJob[Any, Any] = BatchJob(items=items(), build_prompt=look, provider_config=CONFIG)
    with closing(SQLiteStorage(path=home / "runs.sqlite3")) as store:
        runner = BatchRunner(
            storage=store,
            provider_factory=lambda _: InstantProvider(CONFIG, desk),
            temp_root=home / "artifacts",
        )
        run = runner.start(job, run_id="images").wait(poll_interval=0)
        assert run.summary().completed_items == rows
    seconds = time.perf_counter() - started - desk.own.wall
    return {
        "rows_per_sec": round(rows / seconds),
        "seconds": round(seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
        "batches": len(inputs),
        "largest_batch_mb": round(max(inputs) / 1e6, 1),
        "sent_mb": round(sum(inputs) / 1e6, 1),
        "database_mb": round(sum(path.stat().st_size for path in home.glob("runs.sqlite3*")) / 1e6, 1),
    }


def main(rows: int = 10_000, size: int = 200_000) -> None:
    """Measure, and print a line."""
    with tempfile.TemporaryDirectory(prefix="batchor-images-") as folder:
        print(json.dumps({"rows": rows, "image_bytes": size, **drive(Path(folder), rows, size)}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
