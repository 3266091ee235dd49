"""A file's identity from its content and how it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from batchor_core.sources.base import SourceIdentity
from batchor_core.sources.locations import Location, is_web, shown
from batchor_core.sources.opening import buffered, open_file, readable, skip

BLOCK = 1024 * 1024
WHOLE_FILE = 64 * BLOCK
"""Files up to here are hashed whole (about 0.1 s); of larger ones, as many bytes in blocks spread over the file."""


def content_fingerprint(path: Location) -> str:
    """BLAKE2b over the size and the content, independent of name, times and owner.

    Up to 64 MiB every byte counts. Of a larger file 64 blocks of 1 MiB count: its head, its tail and 62 at even
    distances. Appended, removed or inserted bytes change the size and are always noticed there; rows that are edited in
    place without changing the size of a large file are noticed only if they lie in one of the blocks. A file on a web
    server is read completely, since the server may not be able to send parts.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=20)
    if is_web(path):
        _add_stream(digest, path, size)
    else:
        with path.open("rb") as file:
            for offset in _block_offsets(size):
                file.seek(offset)
                digest.update(file.read(BLOCK))
    return f"blake2b:{size}:{digest.hexdigest()}"


_OPTIONS = ";"


def with_options(fingerprint: str, options: Mapping[str, Any]) -> str:
    """A content's fingerprint with the options that change its rows; without options if they are the defaults."""
    if not options:
        return fingerprint
    return fingerprint + _OPTIONS + ", ".join(f"{name}={value!r}" for name, value in sorted(options.items()))


def split_options(fingerprint: str) -> tuple[str, str]:
    """The content's part of a fingerprint, and the options in words; empty for the usual ones."""
    content, _, options = fingerprint.partition(_OPTIONS)
    return content, options


def file_identity(kind: str, path: Location, encoding: str | None, options: dict[str, Any]) -> SourceIdentity:
    """The identity of a source of one file.

    Raises:
        SourceRowError: The file can't be read, or is none of the source's kind.
    """
    open_file(path, encoding=encoding).close()
    with readable(path):
        content = content_fingerprint(path)
    return SourceIdentity(
        source_kind=kind, source_ref=shown(path), source_fingerprint=with_options(content, options)
    )


def _block_offsets(size: int) -> list[int]:
    if size <= WHOLE_FILE:
        return list(range(0, size, BLOCK))
    blocks = WHOLE_FILE // BLOCK
    return [(size - BLOCK) * block // (blocks - 1) for block in range(blocks)]


def _add_stream(digest: hashlib.blake2b, path: Location, size: int) -> None:
    """The same blocks of what can only be read from its beginning."""
    position = 0
    with buffered(path) as stream:
        for offset in _block_offsets(size):
            skip(stream, offset - position)
            digest.update(stream.read(BLOCK))
            position = offset + BLOCK
