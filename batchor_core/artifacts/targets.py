"""Which paths of this machine a finished file may be renamed to."""

from __future__ import annotations

import errno
import re
from pathlib import Path

_FLAT_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


def is_flat_url(where: str) -> bool:
    """Whether it is what ``Path`` makes of a URL, which would become folders of this machine."""
    return _FLAT_URL.match(where) is not None


def check_replaceable(target: Path) -> None:
    """Refuse to rename a file over a folder, pipe or device: as root, that would succeed for ``/dev/null``.

    Raises:
        OSError: There is something else than a file.
    """
    if not target.name or target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; add the name of a file", str(target))
    if target.exists() and not target.is_file():
        raise OSError(
            errno.EINVAL, "this is a pipe or device, which can't be replaced; give a file", str(target)
        )
