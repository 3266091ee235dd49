"""A provider of the eight documented methods that keeps its files and batches in a folder: several processes can share it.

It asks for a key of its own, and answers every prompt in capitals.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchor_core import (
    BatchRemoteRecord,
    BatchRequestLine,
    PromptParts,
    ProviderConfig,
    ProviderPlugin,
    StructuredOutputSchema,
)
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind

KEY = "open sesame"


@dataclass(frozen=True)
class ShelfConfig(ProviderConfig):
    """Where the shelf is, and the key to it."""

    folder: str
    mark: str = "!"
    api_key: str = field(default="", repr=False)
    poll_interval_sec: float = 0.01

    @property
    def provider_kind(self) -> str:
        return "shelf"

    def to_payload(self) -> dict[str, Any]:
        return {**self.to_public_payload(), "api_key": self.api_key}

    def to_public_payload(self) -> dict[str, Any]:
        return {"folder": self.folder, "mark": self.mark}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> ShelfConfig:
        return cls(**payload)


class ShelfProvider:
    """No subclass of anything: the eight methods are enough."""

    def __init__(self, config: ShelfConfig) -> None:
        self._config = config
        self._shelf = Path(config.folder)

    def build_request_line(
        self,
        *,
        custom_id: str,
        prompt_parts: PromptParts,
        structured_output: StructuredOutputSchema | None = None,
    ) -> BatchRequestLine:
        return {"custom_id": custom_id, "body": {"prompt": prompt_parts.prompt}}

    def upload_input_file(self, input_path: str | Path) -> str:
        return self._keep("file", Path(input_path).read_text(encoding="utf-8"))

    def delete_input_file(self, file_id: str) -> None:
        (self._shelf / file_id).unlink(missing_ok=True)

    def create_batch(
        self, *, input_file_id: str, metadata: dict[str, str] | None = None
    ) -> BatchRemoteRecord:
        if self._config.api_key != KEY:
            raise ProviderError("wrong key", kind=ProviderErrorKind.CREDENTIALS, not_performed=True)
        lines = [json.loads(line) for line in self._read(input_file_id).split("\n") if line]
        output = self._keep("file", "".join(self._answer(line) for line in lines))
        batch_id = self._keep("batch", output)
        return self.get_batch(batch_id)

    def get_batch(self, batch_id: str) -> BatchRemoteRecord:
        return {"id": batch_id, "status": "completed", "output_file_id": self._read(batch_id)}

    def download_file_content(self, file_id: str) -> str:
        return self._read(file_id)

    def parse_batch_output(
        self, *, output_content: str | None, error_content: str | None
    ) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
        records = [json.loads(line) for line in (output_content or "").split("\n") if line]
        return {record["custom_id"]: record for record in records}, {}, records

    def estimate_request_tokens(self, request_line: BatchRequestLine, *, chars_per_token: int) -> int:
        return len(request_line["body"]["prompt"]) // chars_per_token

    def _answer(self, line: dict[str, Any]) -> str:
        text = line["body"]["prompt"].upper() + self._config.mark
        body = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": text}}]}
        return (
            json.dumps({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}})
            + "\n"
        )

    def _keep(self, kind: str, content: str) -> str:
        self._shelf.mkdir(parents=True, exist_ok=True)
        name = f"{kind}-{uuid.uuid4().hex}"
        (self._shelf / name).write_text(content, encoding="utf-8")
        return name

    def _read(self, name: str) -> str:
        return (self._shelf / name).read_text(encoding="utf-8")


PLUGIN = ProviderPlugin(factory=ShelfProvider, loader=ShelfConfig.from_payload)  # type: ignore[arg-type]


def install_package(
    site: Path,
    *,
    name: str = "shelf-batchor",
    kind: str = "shelf",
    value: str = "shelf_batchor:PLUGIN",
    code: str = "",
) -> None:
    """Lay a package into a folder as pip would: a module, and the metadata that names its entry point."""
    site.mkdir(parents=True, exist_ok=True)
    module = value.partition(":")[0]
    (site / f"{module}.py").write_text(code or "from tests.support.shelf_provider import PLUGIN as PLUGIN\n")
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[batchor.providers]\n{kind} = {value}\n")
