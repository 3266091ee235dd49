"""A folder that is entered through real folders only.

Every step from the root is an ``openat`` that refuses symbolic links, so that no planted link leads a read or a write
out of the tree. Only POSIX systems support that; on others a tree is refused.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from batchor_core.artifacts.base import TEMPORARY_PREFIX, copy_stream, synced
from batchor_core.core.boundaries import Boundary, at
from batchor_core.core.exceptions import InvalidInputError, StorageError

FOLDER_MODE = 0o700
FILE_MODE = 0o600

_CAN_ENTER = hasattr(os, "O_DIRECTORY") and hasattr(os, "O_NOFOLLOW") and os.open in os.supports_dir_fd
if _CAN_ENTER:
    _FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    _READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a planted pipe must not hang us
    _CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 1_000

Parts = tuple[str, ...]
T = TypeVar("T")


class Tree:
    """Files below ``root`` by the parts of their relative path; folders are 0700, files 0600, whatever the umask."""

    def __init__(self, root: str | Path) -> None:
        if not _CAN_ENTER:
            raise StorageError(
                f"{root} can't be used as a folder of artifacts: that needs a POSIX system, such as Linux, macOS or WSL, and this "
                f"is {sys.platform}. Give the runner artifact_store=ObjectStoreArtifactStore(url) instead"
            )
        self.root = Path(root).expanduser().resolve()
        try:
            self._make_root()
        except OSError as error:
            raise StorageError(f"{self.root} can't be used as a folder: {error.strerror}") from error

    def path(self, parts: Parts) -> Path:
        """The absolute path, which need not exist; links on the way are refused."""
        self.is_file(parts)
        return self.root.joinpath(*parts)

    def is_file(self, parts: Parts) -> bool:
        """Whether there is a regular file."""
        try:
            with self._folder(parts[:-1]) as folder:
                return stat.S_ISREG(_mode(folder, parts[-1]))
        except (FileNotFoundError, NotADirectoryError):
            return False

    @contextmanager
    def reader(self, parts: Parts) -> Iterator[BinaryIO]:
        """The file, open for reading."""
        try:
            with self._folder(parts[:-1]) as folder:
                _check_file(folder, parts[-1])
                descriptor = os.open(parts[-1], _READ, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "there is no such artifact", "/".join(parts)) from None
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            yield file

    @contextmanager
    def writer(self, parts: Parts) -> Iterator[BinaryIO]:
        """A file that appears, synced, when the block ends; if the block raises, it is removed."""
        temporary = TEMPORARY_PREFIX + secrets.token_hex(8)
        descriptor, folder = self._in_made_folder(
            parts, lambda made: (os.open(temporary, _CREATE, FILE_MODE, dir_fd=made), os.dup(made))
        )
        try:
            with open(descriptor, "wb", buffering=1024 * 1024) as file:  # noqa: PTH123 - a descriptor, not a path
                os.fchmod(descriptor, FILE_MODE)
                yield file
                synced(file)
            with at(Boundary.RENAME_FILE):
                os.rename(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            self._remove_empty(parts[:-1])
            raise
        finally:
            os.close(folder)

    def take(self, parts: Parts, path: str | Path) -> None:
        """Move a local file in, by renaming where both are on one file system."""
        descriptor = os.open(path, _READ)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInputError(f"{path} is not a regular file")
            # a file that has another name as well could be changed through it later, so it is copied
            if found.st_nlink == 1 and self._rename_in(parts, path, descriptor):
                return
            with self.writer(parts) as target:
                copy_stream(file, target)

    def remove(self, parts: Parts) -> bool:
        """Delete the file, and the folders that it leaves empty; False if there was none."""
        try:
            with self._folder(parts[:-1]) as folder:
                _check_file(folder, parts[-1])
                os.unlink(parts[-1], dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        self._remove_empty(parts[:-1])
        return True

    def sweep(self, parts: Parts) -> None:
        """Delete the unfinished files in a folder and below it."""
        with suppress(FileNotFoundError, NotADirectoryError), self._folder(parts) as top:
            for _, _, names, folder in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                for name in names:
                    if name.startswith(TEMPORARY_PREFIX):
                        with suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder)

    def _make_root(self) -> None:
        if not self.root.is_dir():
            self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self.root.chmod(FOLDER_MODE)

    def _rename_in(self, parts: Parts, path: str | Path, descriptor: int) -> bool:
        os.fchmod(descriptor, FILE_MODE)
        os.fsync(descriptor)

        def rename(folder: int) -> None:
            with at(Boundary.RENAME_FILE):
                os.rename(path, parts[-1], dst_dir_fd=folder)
            os.fsync(folder)

        try:
            self._in_made_folder(parts, rename)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
        return True

    def _in_made_folder(self, parts: Parts, act: Callable[[int], T]) -> T:
        # another thread may remove an empty folder between its making and its first file: then once more
        for _ in range(_TRIES):
            try:
                with self._folder(parts[:-1], make=True) as folder:
                    _check_target(folder, parts[-1])
                    return act(folder)
            except FileNotFoundError:
                self._make_root()
        raise StorageError(f"the folder of {'/'.join(parts)} below {self.root} keeps disappearing")

    @contextmanager
    def _folder(self, parts: Parts, *, make: bool = False) -> Iterator[int]:
        descriptor = _open_folder(self.root, None)
        try:
            for part in parts:
                below = _make_folder(descriptor, part) if make else _open_folder(part, descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _remove_empty(self, parts: Parts) -> None:
        with suppress(OSError):  # not empty, or gone already
            for depth in reversed(range(len(parts))):
                with self._folder(parts[:depth]) as folder:
                    os.rmdir(parts[depth], dir_fd=folder)


def _make_folder(parent: int, name: str) -> int:
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=parent)
    except FileExistsError:
        return _open_folder(name, parent)
    os.fsync(parent)
    made = _open_folder(name, parent)
    os.fchmod(made, FOLDER_MODE)
    return made


def _open_folder(path: str | Path, parent: int | None) -> int:
    try:
        return os.open(path, _FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):  # of a link; which one, systems differ
            _mode(parent, path)
        raise


def _mode(folder: int | None, name: str | Path) -> int:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(found):
        raise InvalidInputError(f"{name} is a symbolic link; artifact paths must not contain links")
    return found


def _check_file(folder: int, name: str) -> None:
    found = _mode(folder, name)
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, "the key names a folder of artifacts", name)
    if not stat.S_ISREG(found):
        raise InvalidInputError(f"{name} is not a regular file")


def _check_target(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        _check_file(folder, name)
