"""Digests of what a job's items were rendered to, by which a run that is started again knows its own job.

They are kept for each chunk of items, in the transaction that stores the chunk. Digests of single items would take up more
room than some prompts; which item of a chunk differs is found by comparing with what is stored of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, Self

import orjson

_DIGEST_BYTES = 16


class RenderedChunk(NamedTuple):
    """Items that were stored together.

    Attributes:
        first_index: Index of the first one.
        item_count: How many.
        item_ids: Digest of their ids.
        prompts: Digest of their prompts.
        system_prompts: Digest of their system prompts.
        metadata: Digest of their metadata.
    """

    first_index: int
    item_count: int
    item_ids: bytes
    prompts: bytes
    system_prompts: bytes
    metadata: bytes

    @classmethod
    def of(
        cls,
        first_index: int,
        *,
        item_ids: Sequence[str],
        prompts: Sequence[str],
        system_prompts: Sequence[str | None],
        metadata: Sequence[str],
    ) -> Self:
        """Digest a chunk; ``metadata`` is JSON text."""
        return cls(
            first_index,
            len(item_ids),
            _digest(item_ids),
            _digest(prompts),
            _digest(system_prompts),
            _digest(metadata),
        )

    @property
    def end(self) -> int:
        """The index after the last one."""
        return self.first_index + self.item_count

    def differs_in(self, other: RenderedChunk) -> list[str]:
        """What of the items is not the same in both chunks."""
        pairs = zip(RENDERED_FIELDS, self[2:], other[2:], strict=True)
        return [name for name, mine, theirs in pairs if mine != theirs]


RENDERED_FIELDS = ("item_id", "prompt", "system_prompt", "metadata")
"""In the order of the digests."""


def _digest(values: Sequence[str | None]) -> bytes:
    # JSON keeps values apart, and orjson makes it as fast as they can be joined
    try:
        text = orjson.dumps(values)
    except TypeError:  # half of a surrogate pair, which an id may have
        text = json.dumps(values).encode()
    return sha256(text).digest()[:_DIGEST_BYTES]
