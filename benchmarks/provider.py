"""A provider that answers at once from files, and knows how much time it took for itself."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchor_core import BatchRemoteRecord, OpenAIBatchProvider, OpenAIProviderConfig
from benchmarks.workload import write_answers


class InstantProvider(OpenAIBatchProvider):
    """OpenAI's provider with files in place of the network: same lines, same parsing, no waiting.

    Attributes:
        own_seconds: Time spent making answers, which a measurement leaves out.
    """

    def __init__(self, config: OpenAIProviderConfig, folder: Path) -> None:
        super().__init__(config)
        self.own_seconds = 0.0
        self._folder = folder
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @contextmanager
    def _own_time(self) -> Iterator[None]:
        with self._lock:
            began = time.perf_counter()
            yield
            self.own_seconds += time.perf_counter() - began

    def upload_input_file(self, input_path: str | Path) -> str:
        """Copy the file."""
        file_id = f"file-{next(self._numbers)}"
        shutil.copyfile(input_path, self._folder / file_id)
        return file_id

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Answer every row."""
        with self._own_time():
            write_answers(self._folder / input_file_id, self._folder / f"{input_file_id}-output")
        return {"id": f"batch_{input_file_id}", "status": "in_progress", "input_file_id": input_file_id}

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Every batch has ended."""
        file_id = batch_id.removeprefix("batch_")
        return {"id": batch_id, "status": "completed", "output_file_id": f"{file_id}-output"}

    def download_to_path(self, file_id: str, path: Any) -> int:
        """Copy the file."""
        shutil.copyfile(self._folder / file_id, path)
        return Path(path).stat().st_size

    def delete_input_file(self, file_id: str) -> None:
        """Delete the file and its answers."""
        for name in (file_id, f"{file_id}-output"):
            (self._folder / name).unlink(missing_ok=True)
