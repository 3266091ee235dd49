"""A run whose output file is large, in a process of its own: prints its peak memory before and after, in MiB.

Usage: ``python big_files.py FOLDER ROWS BYTES_PER_ROW GIANT_LINE_BYTES``. With a giant line, the
first row's line of the first batch is as long.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from batchor_core import BatchItem, BatchJob, BatchRunner, SQLiteStorage
from batchor_core.testing.fake_provider import (
    FakeBatch,
    FakeProvider,
    FakeProviderConfig,
    register_fake_provider,
)


def peak_mib() -> float:
    """The most memory that this process ever had."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class BigFiles(FakeProvider):
    """Keeps its output file on the disk."""

    def __init__(self, path: Path, row_bytes: int, giant_bytes: int) -> None:
        super().__init__(FakeProviderConfig())
        self.path, self.row_bytes, self.giant_bytes = path, row_bytes, giant_bytes

    def _finish(self, batch: FakeBatch) -> None:
        head = b'{"custom_id": "%s", "response": {"status_code": 200, "body": {"output": [%s'
        head %= b"%s", b'{"type": "message", "content": [{"type": "output_text", "text": "'
        tail = b'"}]}]}}}\n'
        with self.path.open("wb") as file:
            for number, line in enumerate(batch.lines):
                length = self.giant_bytes if number == 0 and len(self.batches) == 1 else 0
                length = length or self.row_bytes
                begin = head % line["custom_id"].encode()
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


def main(folder: Path, rows: int, row_bytes: int, giant_bytes: int) -> None:
    provider = BigFiles(folder / "output.jsonl", row_bytes, giant_bytes)
    registry = register_fake_provider(provider=provider)
    store = SQLiteStorage(path=folder / "runs.sqlite3", provider_registry=registry)
    job: BatchJob[Any, Any] = BatchJob(
        items=[BatchItem(f"item-{n}", n) for n in range(rows)],
        build_prompt=lambda item: "question",
        provider_config=FakeProviderConfig(),
    )
    with BatchRunner(storage=store, provider_registry=registry) as runner:
        run = runner.start(job, run_id="big")
        before = peak_mib()
        run.wait(poll_interval=0.05)
        summary = run.summary()
        for page in run.iter_record_pages():
            del page
    print(
        f"{before:.0f} {peak_mib():.0f} {provider.path.stat().st_size} {summary.completed_items} {summary.failed_items}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
