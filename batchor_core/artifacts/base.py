"""The interface of an artifact store."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.core.validation import check_artifact_key

TEMPORARY_PREFIX = ".batchor-tmp-"
"""File names that begin like this are unfinished files, not artifacts."""

_MAX_GAP = 16 * 1024  # bytes that are cheaper to read than to jump over
_MAX_RUN = 1024 * 1024


class ArtifactStore(ABC):
    """Files under relative keys, such as ``<run id>/requests/<batch>.jsonl``.

    A key is written completely or not at all. A store implements the five abstract methods; the others have defaults
    that go through a local file, and can be overridden where there is a faster way. Keys are checked by
    :func:`check_key`.
    """

    @abstractmethod
    def write_text(self, key: str, content: str, *, encoding: str = "utf-8") -> None:
        """Store ``content`` under the key, replacing an earlier artifact.

        Raises:
            ValueError: The key is not usable.
        """

    @abstractmethod
    def read_text(self, key: str, *, encoding: str = "utf-8") -> str:
        """The text under the key, as it was written: line ends are not translated.

        Raises:
            FileNotFoundError: Nothing is there.
            ValueError: The key is not usable.
        """

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Remove the artifact; False if there was none.

        Raises:
            IsADirectoryError: The key names a folder of artifacts.
            ValueError: The key is not usable.
        """

    @abstractmethod
    def stage_local_copy(self, key: str) -> AbstractContextManager[Path]:
        """A local file with the artifact's content and base name, during the block. Don't change it.

        Raises:
            FileNotFoundError: Nothing is there.
        """

    @abstractmethod
    def export_to_directory(self, key: str, destination_root: str | Path) -> Path:
        """Copy the artifact to ``destination_root / key``, creating folders as needed.

        Returns:
            The absolute path of the copy.

        Raises:
            FileNotFoundError: Nothing is there.
        """

    def open_writer(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Write the artifact piece by piece.

        It appears, complete and synced, when the block ends. If the block raises or the process dies, an earlier
        artifact under the key stays.
        """
        return self._write_through_file(key)

    @contextmanager
    def _write_through_file(self, key: str) -> Iterator[BinaryIO]:
        check_key(key)
        with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
            path = Path(folder, "artifact")
            with path.open("wb") as file:
                yield file
            self.put_file(key, path)

    def put_file(self, key: str, path: str | Path) -> None:
        """Make a local file the artifact, atomically. The file may be gone afterwards."""
        # Latin-1 maps every byte to a character and back, so that any content survives a store that knows text alone
        self.write_text(key, Path(path).read_bytes().decode("latin-1"), encoding="latin-1")

    def exists(self, key: str) -> bool:
        """Whether there is an artifact under the key."""
        try:
            with self.stage_local_copy(key):
                return True
        except (FileNotFoundError, IsADirectoryError):
            return False

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of each ``(offset, length)``, in the given order; the artifact is opened once.

        Raises:
            FileNotFoundError: Nothing is there.
            StorageError: A range reaches beyond the end.
        """
        with self.stage_local_copy(key) as path, path.open("rb") as file:
            yield from file_ranges(file, key, ranges)

    def sweep(self, prefix: str) -> None:
        """Remove unfinished files of crashed writers from the folder ``prefix``; ``""`` is the whole store.

        Only for a folder that no other process is writing to.
        """


def check_key(key: str) -> tuple[str, ...]:
    """The parts of a usable key.

    Raises:
        InvalidInputError: It is empty, absolute, leads out of the store, can't be a file name, or looks unfinished.
    """
    parts = check_artifact_key(key)
    if any(part.startswith(TEMPORARY_PREFIX) for part in parts):
        raise InvalidInputError(
            f"artifact key {key!r}: names beginning with {TEMPORARY_PREFIX} are reserved for the store"
        )
    return parts


def file_ranges(file: BinaryIO, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of each ``(offset, length)`` of an open file; StorageError where it is too short.

    Ranges that follow each other closely, as the lines of a page mostly do, are read at once.
    """
    for run in _runs(ranges):
        start = run[0][0]
        file.seek(start)
        data = file.read(sum(run[-1]) - start)
        for offset, length in run:
            found = data[offset - start : offset - start + length]
            if len(found) != length:
                raise StorageError(
                    f"artifact {key} ends before byte {offset + length:,}: it is not the file that was recorded. "
                    "Restore it from a backup, or read the results without their raw responses."
                )
            yield found


def _runs(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    run: list[tuple[int, int]] = []
    for offset, length in ranges:
        if run and not (0 <= offset - sum(run[-1]) <= _MAX_GAP and offset + length - run[0][0] <= _MAX_RUN):
            yield run
            run = []
        run.append((offset, length))
    if run:
        yield run


def copy_stream(source: BinaryIO, target: BinaryIO) -> None:
    """Copy the rest of a file, 1 MiB at a time."""
    shutil.copyfileobj(source, target, 1024 * 1024)


def synced(file: BinaryIO) -> None:
    """Flush to the disk itself."""
    file.flush()
    os.fsync(file.fileno())
