"""Artifacts in S3, GCS, Azure or anything else that fsspec supports."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from batchor_core.artifacts.base import (
    TEMPORARY_PREFIX,
    ArtifactStore,
    check_key,
    copy_stream,
    file_ranges,
)
from batchor_core.artifacts.tree import Tree
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.url_errors import url_errors

_WITH_FOLDERS = {"file", "local", "sftp", "ssh", "smb", "ftp", "hdfs", "arrow_hdfs"}
"""Protocols whose unfinished uploads are visible; there a file is uploaded under another name and renamed."""


class ObjectStoreArtifactStore(ArtifactStore):
    """Artifacts below a URL such as ``s3://bucket/prefix``, ``gs://``, ``az://`` or ``memory://``.

    It uses fsspec, so URLs and credentials are the same as for pandas, Polars, DuckDB and Dagster. An upload to an
    object store appears completely or not at all. For a folder on this machine, :class:`LocalArtifactStore` is faster
    and survives power cuts.

    Args:
        url: Where the artifacts go; the bucket must exist.
        options: For fsspec's file system of that protocol, such as ``key``, ``secret``, ``endpoint_url``. They are never
            stored or shown.

    Raises:
        ImportError: fsspec or the package for the protocol is missing; says what to install.
        InvalidInputError: fsspec does not know the protocol.
    """

    def __init__(self, url: str, **options: Any) -> None:
        with url_errors(f"no artifacts at {url!r}"):
            import fsspec

            # a listing from before another process's write would hide it
            self._files, root = fsspec.core.url_to_fs(url, **{"use_listings_cache": False, **options})
        self.url = url
        self._root = str(root).rstrip("/")
        protocols = (
            {self._files.protocol} if isinstance(self._files.protocol, str) else set(self._files.protocol)
        )
        self._has_folders = bool(protocols & _WITH_FOLDERS)

    def write_text(self, key: str, content: str, *, encoding: str = "utf-8") -> None:
        """Upload the text."""
        data = content.encode(encoding)
        self._put(key, lambda path: self._files.pipe_file(path, data))

    def read_text(self, key: str, *, encoding: str = "utf-8") -> str:
        """Download the text."""
        data: bytes = self._files.cat_file(self._existing(key))
        return data.decode(encoding)

    def delete(self, key: str) -> bool:
        """Delete the object; False if there was none."""
        try:
            self._files.rm_file(self._existing(key))
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def stage_local_copy(self, key: str) -> Iterator[Path]:
        """A download in a private temporary folder, removed when the block ends."""
        path = self._existing(key)
        with tempfile.TemporaryDirectory(prefix="batchor-") as folder:
            local = Path(folder, key.rpartition("/")[2])
            self._files.get_file(path, str(local))
            yield local

    def export_to_directory(self, key: str, destination_root: str | Path) -> Path:
        """Download the artifact to ``destination_root / key``, completely or not at all."""
        parts = check_key(key)
        with self._files.open(self._existing(key), "rb") as source:
            destination = Tree(destination_root)
            with destination.writer(parts) as target:
                copy_stream(source, target)
        return destination.path(parts)

    def put_file(self, key: str, path: str | Path) -> None:
        """Upload a local file, which stays."""
        local = Path(path)
        if local.is_symlink() or not local.is_file():
            raise InvalidInputError(f"{path} is not a regular file")
        self._put(key, lambda remote: self._files.put_file(str(local), remote))

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        try:
            self._existing(key)
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of each ``(offset, length)``. fsspec reads ahead, so neighbouring ranges cost one request."""
        file: BinaryIO
        with self._files.open(self._existing(key), "rb") as file:
            yield from file_ranges(file, key, ranges)

    def sweep(self, prefix: str) -> None:
        """Delete unfinished uploads below the prefix, where the protocol shows them at all."""
        if not self._has_folders:
            return
        folder = f"{self._root}/{'/'.join(check_key(prefix.rstrip('/')))}" if prefix else self._root
        for path in self._files.find(folder):
            if path.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                self._files.rm_file(path)

    def _path(self, key: str) -> str:
        return f"{self._root}/{'/'.join(check_key(key))}"

    def _existing(self, key: str) -> str:
        path = self._path(key)
        if self._files.info(path)["type"] == "directory":
            raise IsADirectoryError(f"{key} is a folder of artifacts")
        return path

    def _put(self, key: str, upload: Callable[[str], object]) -> None:
        path = self._path(key)
        if not self._has_folders:
            upload(path)
            return
        folder = path.rpartition("/")[0]
        temporary = f"{folder}/{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        self._files.makedirs(folder, exist_ok=True)
        try:
            upload(temporary)
            self._files.mv(temporary, path)
        except BaseException:
            if self._files.exists(temporary):
                self._files.rm_file(temporary)
            raise
