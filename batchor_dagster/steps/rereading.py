"""Turns any items into a resumable source, so that a retried step continues where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem
from batchor_core.runtime.ingest import is_read_once
from batchor_core.sources.base import (
    CheckpointedItemSource,
    IndexedBatchItem,
    ResumableItemSource,
    SourceIdentity,
)
from batchor_core.storage.columns import decode_json, encode_strictly


class _IndexedItems(ResumableItemSource[Any]):
    """Items that can be read again, identified by their content."""

    def __init__(self, read: Callable[[], Iterable[BatchItem[Any]]], fingerprint: str) -> None:
        self._read = read
        self._fingerprint = fingerprint

    def source_identity(self) -> SourceIdentity:
        return SourceIdentity("rows", "the rows of a Dagster asset", self._fingerprint)

    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[Any]]:
        for index, item in enumerate(islice(self._read(), item_index, None), item_index):
            yield IndexedBatchItem(index, item)


def resumable(items: Iterable[BatchItem[Any]], folder: Path) -> CheckpointedItemSource[Any]:
    """The same items in the same order as a source that resumes after a crash.

    A checkpointed source is returned unchanged. Items that can be iterated again are read once for their fingerprint. Items
    that can be read only once are written to ``folder``, so that they need not fit into memory.
    """
    if isinstance(items, CheckpointedItemSource) and not is_read_once(items):
        return items
    fingerprint = hashlib.blake2b(digest_size=20)
    if not is_read_once(items):
        for item in items:
            fingerprint.update(_line(item))
        return _IndexedItems(lambda: items, f"blake2b:{fingerprint.hexdigest()}")
    spool = folder / "items.jsonl"
    with spool.open("wb") as file:
        for item in items:
            line = _line(item)
            fingerprint.update(line)
            file.write(line)
    return _IndexedItems(lambda: _spooled(spool), f"blake2b:{fingerprint.hexdigest()}")


def _line(item: BatchItem[Any]) -> bytes:
    if not isinstance(item, BatchItem):
        raise InvalidInputError(
            f"a job's items must be BatchItem objects, and one is a {type(item).__name__}"
        )
    try:
        text = encode_strictly([item.item_id, item.payload, item.metadata])
    except TypeError as error:
        raise InvalidInputError(
            f"item {item.item_id!r}: its payload and metadata must be JSON, and are not ({error}). Convert them with "
            "batchor_core.sources.rows.json_safe"
        ) from error
    return f"{text}\n".encode()


def _spooled(path: Path) -> Iterator[BatchItem[Any]]:
    with path.open("rb") as file:
        for line in file:
            yield BatchItem(*decode_json(line.decode()))
