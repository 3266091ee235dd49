"""Where the result files of an asset are, those that an earlier build wrote under other names included."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec

from batchor_dagster.parquet import partition_path
from batchor_dagster.run_ids import earlier_path_segment


class ResultFiles:
    """The result files of one asset.

    Args:
        base: The folder or URL of all results.
        asset_key: The path of the asset key.
    """

    def __init__(self, base: str, asset_key: Sequence[str]) -> None:
        self._base = base
        self._asset_key = list(asset_key)
        self._names: dict[Path, frozenset[str]] = {}

    def path(self, partition_key: str | None) -> str:
        """Where a partition's file is written."""
        return partition_path(self._base, self._asset_key, partition_key)

    def existing(self, partition_key: str | None) -> str | None:
        """Where a partition's file is now; None if there is none."""
        for path in (self.path(partition_key), self._earlier_path(partition_key)):
            if self._exists(path, partition_key):
                return path
        return None

    def adopt(self, partition_key: str | None) -> None:
        """Give a file of an earlier build the name it has now, so that the next write replaces it.

        Of two files the one with the earlier name is stale: a crash came between the copy and its removal, which an object
        store can't do in one. It is removed, so that who reads the folder does not read the partition twice.
        """
        path, earlier = self.path(partition_key), self._earlier_path(partition_key)
        if path == earlier or not self._exists(earlier, partition_key):
            return
        filesystem, source = fsspec.core.url_to_fs(earlier)
        target = fsspec.core.url_to_fs(path)[1]
        with contextlib.suppress(FileNotFoundError):  # another step has just done the same
            if self._exists(path, partition_key):
                filesystem.rm_file(source)
            elif _is_local(filesystem):
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(source).replace(target)
            else:
                filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                filesystem.mv(source, target)
        self._names.clear()

    def _earlier_path(self, partition_key: str | None) -> str:
        keys = [*self._asset_key, *([] if partition_key is None else [partition_key])]
        return "/".join([self._base.rstrip("/") or "/", *map(earlier_path_segment, keys)]) + ".parquet"

    def _exists(self, path: str, partition_key: str | None) -> bool:
        filesystem, target = fsspec.core.url_to_fs(path)
        if not _is_local(filesystem):
            return bool(filesystem.exists(target))
        # by the names in the folders: a file system that ignores case would find the file of another partition
        place = Path(target)
        for _ in range(len(self._asset_key) + (partition_key is not None)):
            if place.name not in self._names_in(place.parent):
                return False
            place = place.parent
        return True

    def _names_in(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(path.name for path in folder.iterdir())
            except (FileNotFoundError, NotADirectoryError):
                self._names[folder] = frozenset()
        return self._names[folder]


def _is_local(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return "file" in ({protocol} if isinstance(protocol, str) else protocol)
