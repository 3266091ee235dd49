"""Stable names: an asset and its partition become one run id, and a partition key becomes one path segment.

A readable key is kept as it is. Any other is spelled with safe characters and gets a digest of the original, in a form
that no readable key has, so two different keys never get one name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

MAX_RUN_ID = 63
MAX_SEGMENT = 120  # leaves room for ".parquet" and a temporary suffix within the usual 255 bytes

_SEPARATOR = "--"
_REVISION_ROOM = len("--g9999")
_DIGEST_CHARACTERS = 16  # 64 bits
_NAMELESS = "key"  # in place of a key without a single safe character
_KEY_PART = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")
_PARTITION = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_]*(?:[.-][a-z0-9_]+)*")
_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)),
}
"""Windows takes these names for devices, whatever follows a dot after them."""
_LIKE_A_REVISION = re.compile(r"g[0-9]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")


def batch_run_id(
    asset_key: Sequence[str],
    partition_key: str | None = None,
    *,
    revision: int = 1,
    generation: int | None = None,
) -> str:
    """The run id of one partition of one asset: at most 63 characters of ``[A-Za-z0-9_.-]``.

    ``("shop", "reviews")`` and ``"2026-01-01"`` give ``shop.reviews--2026-01-01``, and ``shop.reviews--2026-01-01--g2`` when
    they are run anew. The same arguments give the same id for ever, which is what makes a repeated materialization resume
    its run instead of paying again.

    Args:
        asset_key: The path of the asset key.
        partition_key: The partition, None for an unpartitioned asset.
        revision: Counts, from 1, how often the partition has been run anew.
        generation: The name of ``revision`` in earlier releases.
    """
    revision = revision if generation is None else generation
    path = list(asset_key)
    if not path:
        raise ValueError("an asset key has at least one part")
    if not 1 <= revision <= 9999:
        raise ValueError(f"a revision is a number from 1 to 9999, not {revision}")
    suffix = f"{_SEPARATOR}g{revision}" if revision > 1 else ""
    return _partition_run(path, partition_key) + suffix


def _partition_run(path: list[str], partition_key: str | None) -> str:
    limit = MAX_RUN_ID - _REVISION_ROOM
    if all(_KEY_PART.fullmatch(part) for part in path) and _is_readable(partition_key):
        plain = ".".join(path) + (_SEPARATOR + partition_key if partition_key is not None else "")
        if len(plain) <= limit:
            return plain
    readable = [_slug("_".join(path)), _slug(partition_key or "")]
    return _with_digest(readable, _digest([path, partition_key]), limit=limit)


def _is_readable(partition_key: str | None) -> bool:
    """Whether a run id may hold the key as it is; one that looks like a revision would be taken for one."""
    if partition_key is None:
        return True
    return bool(_PARTITION.fullmatch(partition_key)) and not _LIKE_A_REVISION.fullmatch(partition_key)


def safe_path_segment(key: str) -> str:
    """A partition key, or a part of an asset key, as the name of a file or folder on every file system and object store.

    ``2026-01-01`` stays as it is. Any other key becomes a readable name and a digest, if its name would

    - begin with ``_`` or ``.``, which pyarrow, pandas and Spark skip when they read a folder,
    - hold a capital, so that it might differ from another name in case alone, which macOS and Windows do not tell apart,
    - be a device on Windows, be empty or very long, or hold any other character than ``a-z``, ``0-9``, ``_``, ``-`` and ``.``.
    """
    if len(key) <= MAX_SEGMENT and _SEGMENT.fullmatch(key) and key.partition(".")[0] not in _DEVICES:
        return key
    return _with_digest([_slug(key) or _NAMELESS], _digest([key]), limit=MAX_SEGMENT)


def earlier_path_segment(key: str) -> str:
    """The name that earlier builds gave the file or folder; it may still be there."""
    if len(key) <= MAX_SEGMENT and _PARTITION.fullmatch(key):
        return key
    return _with_digest([_slug(key)], _digest([key]), limit=MAX_SEGMENT)


def _slug(text: str) -> str:
    return _UNSAFE.sub("_", text).strip("_")


def _with_digest(readable: list[str], digest: str, *, limit: int) -> str:
    """``asset--partition--digest``: readable parts share the room; no readable name holds as many separators."""
    room = (limit - len(digest)) // len(readable) - len(_SEPARATOR)
    return _SEPARATOR.join([*(part[:room] or "_" for part in readable), digest])


def _digest(value: object) -> str:
    canonical = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGEST_CHARACTERS]
