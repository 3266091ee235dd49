"""An artifact store whose operations are named boundaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.core.boundaries import Boundary, at, boundary


class ArtifactsAtBoundaries(ArtifactStore):
    """Passes every operation on to ``store``; those that change something pass a boundary.

    Args:
        store: Where the artifacts really are.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def write_text(self, key: str, content: str, *, encoding: str = "utf-8") -> None:
        with at(Boundary.WRITE_ARTIFACT):
            self._store.write_text(key, content, encoding=encoding)

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BinaryIO]:
        """*Before* is when all is written, and nothing there yet."""
        with self._store.open_writer(key) as file:
            yield file
            boundary(Boundary.WRITE_ARTIFACT, "before")
        boundary(Boundary.WRITE_ARTIFACT, "after")

    def put_file(self, key: str, path: str | Path) -> None:
        with at(Boundary.TAKE_ARTIFACT):
            self._store.put_file(key, path)

    def delete(self, key: str) -> bool:
        with at(Boundary.DELETE_ARTIFACT):
            return self._store.delete(key)

    def export_to_directory(self, key: str, destination_root: str | Path) -> Path:
        with at(Boundary.EXPORT_ARTIFACT):
            return self._store.export_to_directory(key, destination_root)

    def sweep(self, prefix: str) -> None:
        with at(Boundary.DELETE_ARTIFACT):
            self._store.sweep(prefix)

    # what only reads

    def read_text(self, key: str, *, encoding: str = "utf-8") -> str:
        return self._store.read_text(key, encoding=encoding)

    def stage_local_copy(self, key: str) -> AbstractContextManager[Path]:
        return self._store.stage_local_copy(key)

    def exists(self, key: str) -> bool:
        return self._store.exists(key)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        return self._store.read_ranges(key, ranges)
