"""Keys as names: readable ones unchanged, all others with safe characters and a digest of the original.

A name with a digest has a form that no readable key has, so two different keys never get one name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

MAX_SEGMENT = 120  # leaves room for ".parquet" and a temporary suffix within the usual 255 bytes
SEPARATOR = "--"

_DIGEST_CHARACTERS = 16  # 64 bits
_DIMENSIONS = "|"  # between the two keys of a multi-partition
_DIGEST = re.compile(f"[0-9a-f]{{{_DIGEST_CHARACTERS}}}")
_NAMELESS = "key"  # in place of a key without a single safe character
_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_]*(?:[.-][a-z0-9_]+)*")
_EARLIER_SEGMENT = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
}
"""Windows takes these names for devices, whatever follows a dot after them."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")


def safe_path_segment(key: str) -> str:
    """A partition key, or a part of an asset key, as the name of a file or folder on every file system and object store.

    ``2026-01-01`` stays as it is. Any other key becomes a readable name and a digest, if its name would

    - begin with ``_`` or ``.``, which pyarrow, pandas and Spark skip when they read a folder,
    - contain a capital, so that it might differ from another name only in case, which macOS and Windows ignore,
    - be a device on Windows, be empty or very long, or hold any other character than ``a-z``, ``0-9``, ``_``, ``-`` and ``.``.
    """
    if _SEGMENT.fullmatch(key) and _fits(key):
        return key
    return with_digest([slug(key) or _NAMELESS], [key], limit=MAX_SEGMENT)


def partition_name(asset_key: Sequence[str], partition_key: str) -> str:
    """A partition key as the name of its file, by the same rules, and with two differences.

    A key of several dimensions is readable if each of its parts is: ``2026-01-01|eu`` becomes ``2026-01-01--eu``. And a digest
    is the one that the partition's run id has, if that needs one too.
    """
    parts = partition_key.split(_DIMENSIONS)
    name = SEPARATOR.join(parts)
    looks_digested = len(parts) > 1 and _DIGEST.fullmatch(parts[-1])
    if all(map(_SEGMENT.fullmatch, parts)) and _fits(name) and not looks_digested:
        return name
    readable = slug(partition_key) or _NAMELESS
    return with_digest([readable], partition_identity(asset_key, partition_key), limit=MAX_SEGMENT)


def partition_identity(asset_key: Sequence[str], partition_key: str | None) -> list[object]:
    """What the digest in the names of a partition is made of."""
    return [list(asset_key), partition_key]


def _fits(name: str) -> bool:
    return len(name) <= MAX_SEGMENT and name.partition(".")[0] not in _DEVICES


def earlier_path_segment(key: str) -> str:
    """The name that earlier builds gave the file or folder; it may still be there."""
    if len(key) <= MAX_SEGMENT and _EARLIER_SEGMENT.fullmatch(key):
        return key
    return with_digest([slug(key)], [key], limit=MAX_SEGMENT)


def slug(text: str) -> str:
    """The readable characters of a text."""
    return _UNSAFE.sub("_", text).strip("_")


def with_digest(readable: list[str], original: object, *, limit: int) -> str:
    """``asset--partition--digest``: readable parts share the room; no readable name holds as many separators."""
    canonical = json.dumps(original, ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    room = (limit - len(digest)) // len(readable) - len(SEPARATOR)
    return SEPARATOR.join([*(part[:room] or "_" for part in readable), digest])
