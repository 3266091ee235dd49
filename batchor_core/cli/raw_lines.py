"""The lines about one item in a run's stored files: requests and responses, by attempt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from batchor_core.artifacts import ArtifactStore
from batchor_core.core.custom_ids import CustomIds
from batchor_core.storage.state import StateStore

_DIGEST_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line of a request, output or error file.

    Attributes:
        attempt: Which attempt of the item, from 1 on; those count too that were never answered.
        kind: ``request``, ``output`` or ``error``.
        custom_id: The attempt's name in the files.
        provider_batch_id: The batch; None if none was registered.
        artifact: The file's key.
        line: The line as JSON; as a text where it is none.
    """

    attempt: int
    kind: str
    custom_id: str
    provider_batch_id: str | None
    artifact: str
    line: Any


def raw_lines(
    store: StateStore, artifacts: ArtifactStore, run_id: str, *, item_id: str, item_index: int
) -> list[RawLine]:
    """Every stored line of an item, by attempt. Reads all files of the run completely, except pruned ones."""
    # every format of names has this digest, of run and item, behind index and attempt
    digest = CustomIds(run_id).of(item_id, item_index, 0)[-_DIGEST_CHARACTERS:]
    name = re.compile(rf"[A-Za-z0-9_-]*?(?<![0-9]){item_index}-([0-9]+)-{digest}".encode())
    batches = {batch.local_batch_id: batch.provider_batch_id for batch in store.get_batches(run_id=run_id)}
    inventory = store.get_artifact_inventory(run_id=run_id)
    found = [
        RawLine(
            int(match[1]) + 1,
            kind,
            match[0].decode(),
            batches.get(PurePath(key).name.partition(".")[0]),
            key,
            _json(line),
        )
        for kind, keys in (
            ("request", inventory.request_artifact_paths),
            ("output", inventory.output_artifact_paths),
            ("error", inventory.error_artifact_paths),
        )
        for key in keys
        for line in _lines_with(artifacts, key, digest.encode())
        if (match := name.search(line)) is not None
    ]
    kinds = ("request", "output", "error")
    return sorted(found, key=lambda one: (one.attempt, kinds.index(one.kind)))


def _lines_with(artifacts: ArtifactStore, key: str, wanted: bytes) -> Iterator[bytes]:
    try:
        with artifacts.stage_local_copy(key) as path, path.open("rb") as lines:
            yield from (line for line in lines if wanted in line)
    except FileNotFoundError:
        return


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line.decode("utf-8", "replace").rstrip("\n")
