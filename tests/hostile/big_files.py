"""A run whose output file is large, in a process of its own: prints its peak memory before and after, in MiB.

Usage: ``python big_files.py FOLDER ROWS BYTES_PER_ROW [GIANT_LINE_BYTES [GIANTS [FIRST [typed|mistyped]]]]``. So many lines at the
beginning of the first batch are giant; their texts begin with ``FIRST``, of which one wide character makes the whole text
wide. Prints peak memory before the collect, after it, and after the results were read, in MiB, the bytes of the file, rows
completed and failed, the longest text, and how many batches it took.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from batchor_core import BatchItem, BatchJob, BatchRunner, RetryPolicy, SQLiteStorage
from batchor_core.core.lateness import Patience
from batchor_core.runtime.engine import EngineSettings
from batchor_core.testing.fake_batch import FakeBatch
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.fake_provider import FakeProvider, register_fake_provider


def peak_mib() -> float:
    """The most memory that this process ever had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@dataclass
class Shape:
    """What the first batch answers with."""

    row_bytes: int
    giant_bytes: int = 0
    giants: int = 1
    first: str = ""
    typed: str = ""
    """``typed`` answers as the job asks, ``mistyped`` with a text that is none; otherwise the job asks for text."""


class Essay(BaseModel):
    words: str


class BigFiles(FakeProvider):
    """Keeps its output file on the disk."""

    def __init__(self, path: Path, shape: Shape) -> None:
        super().__init__(FakeProviderConfig())
        self.path, self.shape = path, shape

    def _finish(self, batch: FakeBatch) -> None:
        head = b'{"custom_id": "%s", "response": {"status_code": 200, "body": {"output": [%s'
        head %= b"%s", b'{"type": "message", "content": [{"type": "output_text", "text": "%s'
        tail = b'"}]}]}}}\n'
        if self.shape.typed == "typed":
            head, tail = head.replace(b'"text": "%s', rb'"text": "{\"words\": \"%s'), rb"\"}" + tail
        with self.path.open("wb") as file:
            for number, line in enumerate(batch.lines):
                giant = number < self.shape.giants and len(self.batches) == 1
                length = (self.shape.giant_bytes if giant else 0) or self.shape.row_bytes
                begin = head % (line["custom_id"].encode(), self.shape.first.encode() if giant else b"")
                file.write(begin)
                left = length - len(begin) - len(tail)
                while left > 0:
                    file.write(b"x" * min(left, 1 << 16))
                    left -= 1 << 16
                file.write(tail)
        batch.output_file_id = "big"

    def download_to_path(self, file_id: str, path: str | Path) -> int:
        shutil.copyfile(self.path, path)
        return Path(path).stat().st_size


def main(folder: Path, rows: int, shape: Shape) -> None:
    provider = BigFiles(folder / "output.jsonl", shape)
    registry = register_fake_provider(provider=provider)
    store = SQLiteStorage(path=folder / "runs.sqlite3", provider_registry=registry)
    job: BatchJob[Any, Any] = BatchJob(
        items=[BatchItem(f"item-{n}", n) for n in range(rows)],
        build_prompt=lambda item: "question",
        provider_config=FakeProviderConfig(),
        structured_output=Essay if shape.typed else None,
        retry_policy=RetryPolicy(max_attempts=1 if shape.typed == "mistyped" else 3),
    )
    # a line that can not be read is looked at again before its row is bought again
    settings = EngineSettings(patience=Patience(unconfirmed_sec=0.2))
    with BatchRunner(storage=store, provider_registry=registry, settings=settings) as runner:
        run = runner.start(job, run_id="big")
        before = peak_mib()
        run.wait(poll_interval=0.05)
        collected = peak_mib()
        summary = run.summary()
        with store.engine.connect() as connection:
            longest = connection.exec_driver_sql("SELECT max(length(output_text)) FROM item_results").scalar()
        for page in run.iter_record_pages(page_size=1_000 if shape.giants == 1 else 1):
            del page
    figures = (before, collected, peak_mib(), provider.path.stat().st_size)
    print(*map(int, figures), summary.completed_items, summary.failed_items, longest, len(provider.batches))


if __name__ == "__main__":
    folder, rows, row_bytes, *rest = sys.argv[1:]
    shape = Shape(int(row_bytes))
    for name, kind in (("giant_bytes", int), ("giants", int), ("first", str), ("typed", str)):
        if rest:
            setattr(shape, name, kind(rest.pop(0)))
    main(Path(folder), int(rows), shape)
