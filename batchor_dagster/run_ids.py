"""Stable run ids, made from an asset key and a partition key.

Readable keys are used unchanged. In other keys, unsafe characters are replaced and a digest of the original is appended, so
that two different keys never have the same id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from batchor_core.tables.safe_names import (
    MAX_SEGMENT,
    SEPARATOR,
    earlier_path_segment,
    partition_identity,
    safe_path_segment,
    slug,
    with_digest,
)

__all__ = ["MAX_RUN_ID", "MAX_SEGMENT", "batch_run_id", "earlier_path_segment", "safe_path_segment"]

MAX_RUN_ID = 63

_REVISION_ROOM = len("--g9999")
_KEY_PART = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")
_PARTITION = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_LIKE_A_REVISION = re.compile(r"g[0-9]+")


def batch_run_id(
    asset_key: Sequence[str],
    partition_key: str | None = None,
    *,
    revision: int = 1,
    generation: int | None = None,
) -> str:
    """The run id of one partition of one asset: at most 63 characters of ``[A-Za-z0-9_.-]``.

    ``("shop", "reviews")`` and ``"2026-01-01"`` give ``shop.reviews--2026-01-01``, and ``shop.reviews--2026-01-01--g2`` when
    they are run again. The same arguments always give the same id, so that a repeated materialization resumes its run
    instead of paying again.

    Args:
        asset_key: The path of the asset key.
        partition_key: The partition, None for an unpartitioned asset.
        revision: The number of the partition's run, from 1.
        generation: The name of ``revision`` in earlier releases.
    """
    revision = revision if generation is None else generation
    path = list(asset_key)
    if not path:
        raise ValueError("an asset key has at least one part")
    if not 1 <= revision <= 9999:
        raise ValueError(f"a revision is a number from 1 to 9999, not {revision}")
    suffix = f"{SEPARATOR}g{revision}" if revision > 1 else ""
    return _partition_run(path, partition_key) + suffix


def _partition_run(path: list[str], partition_key: str | None) -> str:
    limit = MAX_RUN_ID - _REVISION_ROOM
    if all(_KEY_PART.fullmatch(part) for part in path) and _is_readable(partition_key):
        plain = ".".join(path) + (SEPARATOR + partition_key if partition_key is not None else "")
        if len(plain) <= limit:
            return plain
    readable = [slug("_".join(path)), slug(partition_key or "")]
    return with_digest(readable, partition_identity(path, partition_key), limit=limit)


def _is_readable(partition_key: str | None) -> bool:
    """Whether the key can be part of a run id unchanged. A key that looks like a revision can't."""
    if partition_key is None:
        return True
    return bool(_PARTITION.fullmatch(partition_key)) and not _LIKE_A_REVISION.fullmatch(partition_key)
