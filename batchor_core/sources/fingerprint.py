"""A file's identity from its content and how it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from batchor_core.core.exceptions import SourceRowError
from batchor_core.sources.base import SourceIdentity
from batchor_core.sources.opening import open_file, os_problem

BLOCK = 1024 * 1024
WHOLE_FILE = 64 * BLOCK
"""Files up to here are hashed whole (about 0.1 s); of larger ones, as many bytes in blocks spread over the file."""


def content_fingerprint(path: Path) -> str:
    """BLAKE2b over the size and the content, independent of name, times and owner.

    Up to 64 MiB every byte counts. Of a larger file 64 blocks of 1 MiB count: its head, its tail and 62 at even
    distances. Appended, removed or inserted bytes change the size and are always noticed there; rows that are edited in
    place without changing the size of a large file are noticed only if they lie in one of the blocks.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=20)
    with path.open("rb") as file:
        for offset in _block_offsets(size):
            _add_block(digest, file, offset)
    return f"blake2b:{size}:{digest.hexdigest()}"


_OPTIONS = ";"


def with_options(fingerprint: str, options: Mapping[str, Any]) -> str:
    """A content's fingerprint with the options of its reading that make other rows of it; none where they are the usual."""
    if not options:
        return fingerprint
    return fingerprint + _OPTIONS + ", ".join(f"{name}={value!r}" for name, value in sorted(options.items()))


def split_options(fingerprint: str) -> tuple[str, str]:
    """The content's part of a fingerprint, and the options in words; empty for the usual ones."""
    content, _, options = fingerprint.partition(_OPTIONS)
    return content, options


def file_identity(kind: str, path: Path, encoding: str | None, options: dict[str, Any]) -> SourceIdentity:
    """The identity of a source of one file.

    Raises:
        SourceRowError: The file can't be read, or is none of the source's kind.
    """
    open_file(path, encoding=encoding).close()
    try:
        content = content_fingerprint(path)
    except OSError as error:
        raise SourceRowError(f"can't be read: {os_problem(path, error)}", path=str(path)) from error
    return SourceIdentity(
        source_kind=kind, source_ref=str(path), source_fingerprint=with_options(content, options)
    )


def _block_offsets(size: int) -> list[int]:
    if size <= WHOLE_FILE:
        return list(range(0, size, BLOCK))
    blocks = WHOLE_FILE // BLOCK
    return [(size - BLOCK) * block // (blocks - 1) for block in range(blocks)]


def _add_block(digest: hashlib.blake2b, file: BinaryIO, offset: int) -> None:
    file.seek(offset)
    digest.update(file.read(BLOCK))
