"""Digests of a job's rendered items. A run that is started again recognises its own job by them.

They are kept for each chunk of items, in the transaction that stores the chunk. Digests of single items would take more
room than some prompts; comparing with the stored items shows which item of a chunk differs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, Self

import orjson

from batchor_core.core.types import JSONObject

_DIGEST_BYTES = 16


class RenderedChunk(NamedTuple):
    """Items that were stored together.

    Attributes:
        first_index: Index of the first one.
        item_count: How many.
        item_ids: Digest of their ids.
        prompts: Digest of their prompts.
        system_prompts: Digest of their system prompts.
        messages: Digest of their conversations.
        options: Digest of their own request options.
        metadata: Digest of their metadata.
    """

    first_index: int
    item_count: int
    item_ids: bytes
    prompts: bytes
    system_prompts: bytes
    messages: bytes
    options: bytes
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
        messages: Sequence[Sequence[JSONObject] | None] | None = None,
        options: Sequence[JSONObject | None] | None = None,
    ) -> Self:
        """Digest a chunk; ``metadata`` is JSON text. Without ``messages`` or ``options``, no item has any."""
        return cls(
            first_index,
            len(item_ids),
            _digest(item_ids),
            _digest(prompts),
            _digest(system_prompts),
            _digest_of_none(len(item_ids)) if messages is None else _digest(messages),
            _digest_of_none(len(item_ids)) if options is None else _digest(options),
            _digest(metadata),
        )

    @property
    def end(self) -> int:
        """The index after the last one."""
        return self.first_index + self.item_count

    @property
    def has_options(self) -> bool:
        """Whether some items have request options of their own."""
        return are_options(self.item_count, self.options)

    def differs_in(self, other: RenderedChunk) -> list[str]:
        """Which parts of the items differ between both chunks."""
        pairs = zip(RENDERED_FIELDS, self[2:], other[2:], strict=True)
        return [name for name, mine, theirs in pairs if mine != theirs]


def are_options(count: int, digest: bytes) -> bool:
    """Whether the digest of the options of so many items says that some of them have any."""
    return digest != _digest_of_none(count)


PROMPT_FIELDS = ("prompt", "system_prompt", "messages", "options")
RENDERED_FIELDS = ("item_id", *PROMPT_FIELDS, "metadata")
"""In the order of the digests."""


def _digest(values: Sequence[object]) -> bytes:
    # JSON keeps values apart, and orjson makes it as fast as they can be joined
    try:
        text = orjson.dumps(values)
    except TypeError:  # half of a surrogate pair, which an id may have
        text = json.dumps(values).encode()
    return sha256(text).digest()[:_DIGEST_BYTES]


@lru_cache(maxsize=64)  # chunks have one size, but for the last one
def _digest_of_none(count: int) -> bytes:
    """The digest of values that no item has."""
    return _digest([None] * count)
