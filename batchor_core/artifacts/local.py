"""Artifacts as files in a local folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from batchor_core.artifacts.base import ArtifactStore, check_key, copy_stream, file_ranges
from batchor_core.artifacts.tree import Tree


class LocalArtifactStore(ArtifactStore):
    """Artifacts as files below one folder: folders 0700, files 0600, symbolic links never followed.

    Files are written under a temporary name, synced and renamed, and their folder is synced, so that after a crash or a
    power cut the artifact is either complete or absent.

    Attributes:
        root: Absolute path of the folder.

    Args:
        root: The folder; ``~`` is expanded, and it is created if it is not there.

    Raises:
        StorageError: The folder can't be created, or is not a folder.
    """

    def __init__(self, root: str | Path) -> None:
        self._tree = Tree(root)
        self.root = self._tree.root

    def write_text(self, key: str, content: str, *, encoding: str = "utf-8") -> None:
        """Write the file at ``root / key``, completely or not at all."""
        data = content.encode(encoding)
        with self.open_writer(key) as file:
            file.write(data)

    def read_text(self, key: str, *, encoding: str = "utf-8") -> str:
        """The text of the file at ``root / key``."""
        with self._tree.reader(check_key(key)) as file:
            return file.read().decode(encoding)

    def delete(self, key: str) -> bool:
        """Delete the file at ``root / key`` and the parent folders that it leaves empty, up to the root."""
        return self._tree.remove(check_key(key))

    @contextmanager
    def stage_local_copy(self, key: str) -> Iterator[Path]:
        """The artifact's own path: nothing is copied."""
        with self._tree.reader(check_key(key)):
            yield self.root / key

    def export_to_directory(self, key: str, destination_root: str | Path) -> Path:
        """Copy the artifact to ``destination_root / key``, with the same modes and as carefully as in the store."""
        parts = check_key(key)
        with self._tree.reader(parts) as source:
            destination = Tree(destination_root)
            with destination.writer(parts) as target:
                copy_stream(source, target)
        return destination.path(parts)

    def resolve_path(self, key: str) -> Path:
        """The absolute path of ``root / key``, which need not exist.

        Raises:
            ValueError: The key is not usable, or leads through a symbolic link.
        """
        return self._tree.path(check_key(key))

    def open_writer(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Write the file at ``root / key`` piece by piece."""
        return self._tree.writer(check_key(key))

    def put_file(self, key: str, path: str | Path) -> None:
        """Rename a local file to ``root / key``, or copy it if it is on another file system."""
        self._tree.take(check_key(key), path)

    def exists(self, key: str) -> bool:
        """Whether there is a file at ``root / key``."""
        return self._tree.is_file(check_key(key))

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of each ``(offset, length)`` of the file."""
        with self._tree.reader(check_key(key)) as file:
            yield from file_ranges(file, key, ranges)

    def sweep(self, prefix: str) -> None:
        """Delete unfinished files below ``root / prefix``, or below ``root`` for ``""``."""
        self._tree.sweep(check_key(prefix.rstrip("/")) if prefix else ())
