"""Where the files of an asset's partitions are, those that an earlier build wrote under other names included."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from batchor_core.tables.places import place_of
from batchor_core.tables.safe_names import earlier_path_segment, partition_name, safe_path_segment


def partition_path(base: str, asset_key: Sequence[str], partition_key: str | None = None) -> str:
    """``<base>/<asset key path>/<partition>.parquet``, or ``<base>/<asset key path>.parquet`` without partitions.

    ``base`` is a folder or any URL that fsspec knows. Key parts that can't be file names are spelled safely.
    """
    segments = [safe_path_segment(part) for part in asset_key]
    if partition_key is not None:
        segments.append(partition_name(asset_key, partition_key))
    return _file(base, segments)


def _file(base: str, segments: Sequence[str]) -> str:
    return "/".join([base.rstrip("/") or "/", *segments]) + ".parquet"


class PartitionFiles:
    """The result files of one asset, as they are named when it is first asked.

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
        for path in (self.path(partition_key), *self._earlier_paths(partition_key)):
            if self._exists(path, partition_key):
                return path
        return None

    def adopt(self, partition_key: str | None) -> None:
        """Give a file of an earlier build the name it has now, so that the next write replaces it.

        Of two files the one with the earlier name is stale: a crash came between the copy and its removal, which an object
        store can't do in one. It is removed, so that who reads the folder does not read the partition twice.
        """
        for earlier in self._earlier_paths(partition_key):
            if self._exists(earlier, partition_key):
                self._rename(earlier, partition_key)
                self._names.clear()

    def _rename(self, earlier: str, partition_key: str | None) -> None:
        path = self.path(partition_key)
        (files, source), target = place_of(earlier), place_of(path).path
        with contextlib.suppress(FileNotFoundError):  # another step has just done the same
            if self._exists(path, partition_key):
                Path(source).unlink() if files is None else files.rm_file(source)
            elif files is None:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(source).replace(target)
            else:
                files.makedirs(target.rpartition("/")[0], exist_ok=True)
                files.mv(source, target)

    def _earlier_paths(self, partition_key: str | None) -> list[str]:
        """Where earlier builds put the file, the latest of them first; without the path that it has now."""
        keys = [*self._asset_key, *([] if partition_key is None else [partition_key])]
        spellings: list[Callable[[str], str]] = [safe_path_segment, earlier_path_segment]
        paths = (_file(self._base, [spell(key) for key in keys]) for spell in spellings)
        return [path for path in dict.fromkeys(paths) if path != self.path(partition_key)]

    def _exists(self, path: str, partition_key: str | None) -> bool:
        files, target = place_of(path)
        if files is not None:
            return bool(files.exists(target))
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
