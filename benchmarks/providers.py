"""Providers that answer at once from files, and know how much time they took for themselves."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchor_core import (
    BatchProvider,
    BatchRemoteRecord,
    BatchRequestLine,
    OpenAIBatchProvider,
    OpenAIProviderConfig,
    PromptParts,
    StructuredOutputSchema,
)
from batchor_core.core.types import JSONObject
from benchmarks.clock import Lap, Stopwatch
from benchmarks.workload import write_answers


class Desk:
    """A provider's files in a folder: an input file comes in, its answers lie there as soon as the batch exists.

    Args:
        folder: Where the files lie.
        write: Makes the output file of an input file.

    Attributes:
        own: Time spent on making answers, which a measurement leaves out.
    """

    def __init__(self, folder: Path, write: Callable[[Path, Path], None] = write_answers) -> None:
        folder.mkdir()
        self._write = write
        self.own = Lap()
        self._folder = folder
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @contextmanager
    def _own_time(self) -> Iterator[None]:
        with self._lock:
            watch = Stopwatch()
            yield
            watch.lap("own")
            self.own.add(watch.laps["own"].wall, watch.laps["own"].cpu)

    def take(self, input_path: str | Path) -> str:
        """An upload: the file under another name, nothing is copied."""
        file_id = f"file-{next(self._numbers)}"
        os.link(input_path, self._folder / file_id)
        return file_id

    def answer(self, file_id: str) -> BatchRemoteRecord:
        """A new batch, whose answers are made here and now."""
        with self._own_time():
            self._write(self._folder / file_id, self._folder / f"{file_id}-output")
        return {"id": f"batch_{file_id}", "status": "in_progress", "input_file_id": file_id}

    @staticmethod
    def look_up(batch_id: str) -> BatchRemoteRecord:
        """Every batch has ended."""
        file_id = batch_id.removeprefix("batch_")
        return {"id": batch_id, "status": "completed", "output_file_id": f"{file_id}-output"}

    def give(self, file_id: str, path: Path) -> int:
        """A download: the file under another name."""
        os.link(self._folder / file_id, path)
        return path.stat().st_size

    def text(self, file_id: str) -> str:
        """A download as text."""
        return (self._folder / file_id).read_text(encoding="utf-8")

    def throw_away(self, file_id: str) -> None:
        """An input file, and the answers to it."""
        for name in (file_id, f"{file_id}-output"):
            (self._folder / name).unlink(missing_ok=True)


class InstantProvider(OpenAIBatchProvider):
    """OpenAI's provider with a desk in place of the network: same lines, same parsing, no waiting."""

    def __init__(self, config: OpenAIProviderConfig, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk

    def upload_input_file(self, input_path: str | Path) -> str:
        """Hand the file in."""
        return self.desk.take(input_path)

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Have every row answered."""
        return self.desk.answer(input_file_id)

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Look the batch up."""
        return self.desk.look_up(batch_id)

    def download_to_path(self, file_id: str, path: Any) -> int:
        """Fetch the file."""
        return self.desk.give(file_id, Path(path))

    def delete_input_file(self, file_id: str) -> None:
        """Delete the file."""
        self.desk.throw_away(file_id)


class DocumentedProvider(BatchProvider):
    """What a user writes: the eight documented methods, with the standard library, and no hook besides."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def build_request_line(
        self,
        *,
        custom_id: str,
        prompt_parts: PromptParts,
        structured_output: StructuredOutputSchema | None = None,
    ) -> BatchRequestLine:
        """A line of the Responses endpoint."""
        body: dict[str, Any] = {"model": "gpt-5-mini", "input": prompt_parts.prompt}
        if structured_output is not None:
            body["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": structured_output.name,
                    "schema": structured_output.schema,
                    "strict": True,
                }
            }
        return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}

    def upload_input_file(self, input_path: str | Path) -> str:
        """Hand the file in."""
        return self.desk.take(input_path)

    def delete_input_file(self, file_id: str) -> None:
        """Delete the file."""
        self.desk.throw_away(file_id)

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Have every row answered."""
        return self.desk.answer(input_file_id)

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Look the batch up."""
        return self.desk.look_up(batch_id)

    def download_file_content(self, file_id: str) -> str:
        """Fetch the file."""
        return self.desk.text(file_id)

    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, JSONObject], dict[str, JSONObject], list[JSONObject]]:
        """Every line of the output file is a success."""
        lines = (output_content or "").splitlines()
        records = [json.loads(line) for line in lines]
        return {record["custom_id"]: record for record in records}, {}, records

    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        """By length."""
        return len(json.dumps(request_line)) // chars_per_token
