"""A provider of your own: eight methods, one registration. This one asks nobody and answers in capitals.

``python examples/custom_provider.py``
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _arguments

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchProvider,
    BatchRemoteRecord,
    BatchRequestLine,
    BatchRunner,
    PromptParts,
    ProviderConfig,
    SQLiteStorage,
    StructuredOutputSchema,
    build_default_provider_registry,
)


@dataclass(frozen=True)
class ShoutConfig(ProviderConfig):
    """Settings: what is put behind every answer."""

    mark: str = "!"
    poll_interval_sec: float = 0.0

    @property
    def provider_kind(self) -> str:
        """The name it is registered under."""
        return "shout"

    def to_payload(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {"mark": self.mark}


class ShoutProvider(BatchProvider):
    """Keeps uploaded files in memory, and finishes a batch as soon as it is created."""

    def __init__(self, config: ShoutConfig) -> None:
        self._mark = config.mark
        self._files: dict[str, str] = {}
        self._batches: dict[str, BatchRemoteRecord] = {}
        self._numbers = itertools.count(1)

    def build_request_line(
        self,
        *,
        custom_id: str,
        prompt_parts: PromptParts,
        structured_output: StructuredOutputSchema | None = None,
    ) -> BatchRequestLine:
        """A line as the engine stores it; the body is ours to choose."""
        return {"custom_id": custom_id, "body": {"prompt": prompt_parts.prompt}}

    def upload_input_file(self, input_path: str | Path) -> str:
        """Keep the file."""
        return self._keep(Path(input_path).read_text(encoding="utf-8"))

    def delete_input_file(self, file_id: str) -> None:
        """Forget the file."""
        self._files.pop(file_id, None)

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        """Answer every line at once."""
        lines = [json.loads(line) for line in self._files[input_file_id].split("\n") if line]
        batch: BatchRemoteRecord = {
            "id": f"batch-{next(self._numbers)}",
            "status": "completed",
            "output_file_id": self._keep("".join(self._answer(line) for line in lines)),
        }
        self._batches[batch["id"]] = batch
        return batch

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        """Where the batch stands."""
        return self._batches[batch_id]

    def download_file_content(self, file_id: str) -> str:
        """The text of a file."""
        return self._files[file_id]

    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
        """Every line is a success here."""
        records = [json.loads(line) for line in (output_content or "").split("\n") if line]
        return {record["custom_id"]: record for record in records}, {}, records

    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        """Characters by tokens."""
        return len(request_line["body"]["prompt"]) // chars_per_token

    def _answer(self, line: dict[str, Any]) -> str:
        text = line["body"]["prompt"].upper() + self._mark
        body = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": text}}]}
        record = {
            "custom_id": line["custom_id"],
            "response": {"status_code": 200, "body": body},
            "error": None,
        }
        return json.dumps(record) + "\n"

    def _keep(self, content: str) -> str:
        file_id = f"file-{next(self._numbers)}"
        self._files[file_id] = content
        return file_id


def main() -> None:
    """Register it and run three rows."""
    options = _arguments.parse(__doc__)
    registry = build_default_provider_registry()
    registry.register(kind="shout", factory=ShoutProvider, loader=lambda payload: ShoutConfig(**payload))
    storage = SQLiteStorage(path=options.folder / "custom.sqlite3", provider_registry=registry)
    job = BatchJob(
        items=[
            BatchItem(item_id=str(number), payload=word)
            for number, word in enumerate(["hey", "you", "there"])
        ],
        build_prompt=lambda item: item.payload,
        provider_config=ShoutConfig(mark="!!"),
    )
    with BatchRunner(storage=storage, provider_registry=registry) as runner:
        for result in runner.run_and_wait(job).results():
            print(result.item_id, result.output_text)


if __name__ == "__main__":
    main()
