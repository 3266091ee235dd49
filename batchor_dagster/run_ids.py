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
_GENERATION_ROOM = len("--g9999")
_DIGEST_CHARACTERS = 16  # 64 bits
_KEY_PART = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")
_PARTITION = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_LIKE_A_GENERATION = re.compile(r"g[0-9]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")


def batch_run_id(asset_key: Sequence[str], partition_key: str | None = None, *, generation: int = 1) -> str:
    """The run id of one partition of one asset: at most 63 characters of ``[A-Za-z0-9_.-]``.

    ``("shop", "reviews")`` and ``"2026-01-01"`` give ``shop.reviews--2026-01-01``, and ``shop.reviews--2026-01-01--g2`` when
    they are run anew. The same arguments give the same id for ever, which is what makes a repeated materialization resume
    its run instead of paying again.

    Args:
        asset_key: The path of the asset key.
        partition_key: The partition, None for an unpartitioned asset.
        generation: Counts, from 1, how often the partition has been run anew.
    """
    path = list(asset_key)
    if not path:
        raise ValueError("an asset key has at least one part")
    if not 1 <= generation <= 9999:
        raise ValueError(f"a generation is a number from 1 to 9999, not {generation}")
    suffix = f"{_SEPARATOR}g{generation}" if generation > 1 else ""
    return _partition_run(path, partition_key) + suffix


def _partition_run(path: list[str], partition_key: str | None) -> str:
    limit = MAX_RUN_ID - _GENERATION_ROOM
    if all(_KEY_PART.fullmatch(part) for part in path) and _is_readable(partition_key):
        plain = ".".join(path) + (_SEPARATOR + partition_key if partition_key is not None else "")
        if len(plain) <= limit:
            return plain
    readable = [_slug("_".join(path)), _slug(partition_key or "")]
    return _with_digest(readable, _digest([path, partition_key]), limit=limit)


def _is_readable(partition_key: str | None) -> bool:
    """Whether a run id may hold the key as it is; one that looks like a generation would be taken for one."""
    if partition_key is None:
        return True
    return bool(_PARTITION.fullmatch(partition_key)) and not _LIKE_A_GENERATION.fullmatch(partition_key)


def safe_path_segment(key: str) -> str:
    """A partition key as one path segment that every file system and object store takes.

    ``2026-01-01`` stays as it is; ``a/b``, ``..``, an empty or a very long key become a readable name and a digest.
    """
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
