"""A power cut: what a process had written and not synced is gone, and what it had deleted without syncing is back.

The driver writes down each of its syncs, and once it is dead its folders are made anew from these notes alone. That is
stricter than most file systems, which keep more. SQLite syncs by itself, so of its log only what follows the last commit
can be taken away; that a commit is synced is what ``synchronous = FULL`` says, and a test looks that up.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

_WAL_HEADER, _FRAME_HEADER = 32, 24


def noting(sync: Callable[[int], None], notes: Path) -> Callable[[int], None]:
    """``os.fsync``, with a note of what a file or a folder held at that moment."""
    log = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def noted(descriptor: Any) -> None:
        sync(descriptor)
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        os.write(log, _note(Path(f"/proc/self/fd/{number}")))

    return noted


def forget_unsynced(notes: Path, roots: Sequence[Path]) -> None:
    """Make folders what they were when they were last synced. The folders themselves are taken to be durable."""
    names: dict[int, dict[str, tuple[int, bool]]] = {}
    data: dict[int, bytes] = {}
    for line in notes.read_bytes().splitlines() if notes.exists() else []:
        note = orjson.loads(line)
        if "names" in note:
            names[note["inode"]] = note["names"]
        else:
            data[note["inode"]] = base64.b64decode(note["data"])

    def build(folder: Path, inode: int) -> None:
        folder.mkdir(mode=0o700)
        for name, (below, is_folder) in names.get(inode, {}).items():
            if is_folder:
                build(folder / name, below)
            else:
                (folder / name).write_bytes(data.get(below, b""))

    for root in roots:
        if root.exists():
            survivor = root.with_name(f"{root.name}.survivor")
            build(survivor, root.stat().st_ino)
            shutil.rmtree(root)
            survivor.rename(root)
    # what is left is on the disk, if another power cut follows
    notes.write_bytes(
        b"".join(_note(path) for root in roots for path in (root, *root.rglob("*")) if path.exists())
    )


def _note(path: Path) -> bytes:
    """What a file or a folder holds, by its inode: its names may change."""
    note: dict[str, Any] = {"inode": path.stat().st_ino}
    if path.is_dir():
        note["names"] = {entry.name: [entry.inode(), entry.is_dir()] for entry in os.scandir(path)}
    else:
        note["data"] = base64.b64encode(path.read_bytes()).decode()
    return orjson.dumps(note) + b"\n"


def tear_log(database: Path) -> None:
    """Leave of SQLite's write-ahead log what was committed, followed by half a frame of nonsense."""
    Path(f"{database}-shm").unlink(missing_ok=True)
    log = Path(f"{database}-wal")
    content = log.read_bytes() if log.exists() else b""
    if len(content) > _WAL_HEADER:
        page_size = int.from_bytes(content[8:12], "big")
        log.write_bytes(content[: _end_of_commits(content, page_size)] + b"\xa5" * (page_size // 2))


def _end_of_commits(log: bytes, page_size: int) -> int:
    """Where the last commit of the log's present round ends."""
    salt, end = log[16:24], _WAL_HEADER
    size = _FRAME_HEADER + page_size
    for start in range(_WAL_HEADER, len(log) - size + 1, size):
        if log[start + 8 : start + 16] != salt:
            break
        if log[start + 4 : start + 8] != b"\0\0\0\0":  # the database's size, in a commit's last frame only
            end = start + size
    return end
