"""Files of this machine that appear complete or not at all."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchor_core.artifacts.locks import SUFFIX, lock_of, locked, remove_if_free
from batchor_core.artifacts.targets import check_replaceable


@contextmanager
def replacing(target: Path) -> Iterator[tuple[Path, Path]]:
    """A path to write to, and the path that it has to be renamed to at the end of the block.

    The latter is the target, or the file that the target is a link to. The new file has the mode of the file that it
    replaces. What a killed process has left beside the target is removed.

    Raises:
        OSError: The target is no file, or nothing can be written beside it.
    """
    check_replaceable(target)
    target = Path(os.path.realpath(target)) if target.is_symlink() else target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    # hidden and without the suffix, so that a reader's *.parquet never finds it
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    lock = lock_of(temporary)
    try:
        with locked(lock):
            temporary.touch()
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o777)
            yield temporary, target
    finally:
        temporary.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def _remove_leftovers(target: Path) -> None:
    name = re.compile(rf"(\.{re.escape(target.name)}\.[0-9a-f]{{32}}\.tmp)(?:{re.escape(SUFFIX)})?")
    found = {match[1] for entry in os.scandir(target.parent) if (match := name.fullmatch(entry.name))}
    for temporary in map(target.with_name, found):
        if remove_if_free(lock_of(temporary)):
            temporary.unlink(missing_ok=True)
