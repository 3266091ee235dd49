"""Where a source's files are: paths of this machine, and URLs that fsspec knows; one file, a folder, or a pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.url_errors import url_errors

Location: TypeAlias = Path
"""A path, or for a URL a ``upath.UPath``, which has the methods of a path that are used here."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_MAGIC = "*?["
_COMPRESSED = (".gz", ".zst", ".bz2", ".lz4")


def location(path: object, storage_options: Mapping[str, Any] | None = None) -> Location:
    """The absolute path or the URL of a source's file, which need not be there yet.

    Args:
        path: As the user gave it.
        storage_options: For fsspec's file system of a URL, such as ``key``, ``secret``, ``endpoint_url``.

    Raises:
        InvalidInputError: It is not a path, or is a URL that fsspec does not support.
        ImportError: A package for the URL is missing; says what to install.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(written := os.fspath(path), str):
        raise InvalidInputError(f"a source's path must be a str or a Path, and is {path!r}")
    if not written or "\0" in written:
        raise InvalidInputError(f"{written!r} is not the path of a file")
    try:
        found = Path(written).expanduser().absolute()
    except RuntimeError as error:
        raise InvalidInputError(
            f"the path {written!r} begins with the home folder of an unknown user"
        ) from error
    url = _URL.match(written)
    if url is None or found.exists():
        return found
    if "://" not in written:
        raise InvalidInputError(
            f"{written!r} is a URL without its second slash, as Path() makes it; give the URL as a str"
        )
    if url[1].lower() == "file":
        return Path(unquote(urlsplit(written).path))
    if not isinstance(storage_options, Mapping | None):
        raise InvalidInputError("storage_options must be a dict, such as {'key': ..., 'secret': ...}")
    return _remote(written, storage_options or {})


def _remote(url: str, options: Mapping[str, Any]) -> Location:
    with url_errors(shown_url(url)):
        import fsspec
        from upath import UPath

        fsspec.get_filesystem_class(urlsplit(url).scheme)
        return UPath(url, **options)  # type: ignore[no-any-return]


def is_remote(path: Location) -> bool:
    """Whether it is a URL."""
    return not isinstance(path, Path)


def is_web(path: Location) -> bool:
    """Whether it is a URL of HTTP, which has no folders, and may have no ranges."""
    return is_remote(path) and str(path).startswith(("http://", "https://"))


def shown(path: Location) -> str:
    """A location for people, and for what is stored: without the secrets that a URL may hold."""
    return shown_url(str(path)) if is_remote(path) else str(path)


def shown_url(url: str) -> str:
    """A URL without user, password, query and fragment: signed URLs have a key in their query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def files_of(path: Location, suffixes: Collection[str]) -> list[Location] | None:
    """The files of a folder or a pattern, in the order of their paths; None if the path is of one file.

    A folder gives its files with one of the suffixes, compressed or not, in all folders below it too; names that begin with a
    dot or an underscore are skipped, as in other tools. A pattern gives all matching files except hidden ones.

    Raises:
        OSError: It can't be looked at.
    """
    if is_web(path):
        return None
    if is_pattern(path) and not path.exists():
        fixed = list(takewhile(lambda part: not _has_magic(part), path.parts))
        root = path.parents[len(path.parts) - len(fixed) - 1]
        found = root.glob("/".join(path.parts[len(fixed) :]))
        return _sorted(one for one in found if not one.name.startswith("."))
    if not path.is_dir():
        return None
    depth = len(path.parts)
    return _sorted(
        one
        for one in path.rglob("*")
        if has_suffix(one.name, suffixes)
        and not any(part.startswith((".", "_")) for part in one.parts[depth:])
    )


def is_pattern(path: Location) -> bool:
    """Whether it looks like a pattern."""
    return any(map(_has_magic, path.parts))


def has_suffix(name: str, suffixes: Collection[str]) -> bool:
    """Whether a file's name ends with one of the suffixes, or with one and that of a compression."""
    lower = name.lower()
    for ending in _COMPRESSED:
        lower = lower.removesuffix(ending)
    return lower.endswith(tuple(suffixes))


def _has_magic(part: str) -> bool:
    return any(sign in part for sign in _MAGIC)


def _sorted(found: Any) -> list[Location]:
    return sorted((one for one in found if one.is_file()), key=str)
