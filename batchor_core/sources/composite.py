"""Several sources, one after the other, as one."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterator, Sequence

import orjson

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import PayloadT
from batchor_core.core.types import JSONValue
from batchor_core.sources.base import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    RowPlaces,
    Snapshots,
    SourceIdentity,
    checkpoint_index,
)


class CompositeItemSource(CheckpointedItemSource[PayloadT]):
    """Sources read in the given order. Item ids must be unique across all of them.

    Its checkpoint is ``{"source": index, "checkpoint": the checkpoint within that source}``; its identity changes when
    a part's kind or content does, or their order.

    Raises:
        InvalidInputError: No sources, or one that can't be resumed.
    """

    def __init__(self, sources: Sequence[CheckpointedItemSource[PayloadT]]) -> None:
        self.sources = tuple(sources)
        if not self.sources:
            raise InvalidInputError("a CompositeItemSource needs at least one source")
        for source in self.sources:
            if not callable(getattr(source, "iter_from_checkpoint", None)):
                raise InvalidInputError(
                    f"{type(source).__name__} can't be part of a CompositeItemSource, since it has no checkpoints; "
                    "use a file source or a CheckpointedItemSource"
                )

    def source_identity(self) -> SourceIdentity:
        """The parts' identities, combined."""
        parts = [source.source_identity() for source in self.sources]
        described = orjson.dumps([[part.source_kind, part.source_fingerprint] for part in parts])
        return SourceIdentity(
            source_kind="composite",
            source_ref=" + ".join(part.source_ref for part in parts),
            source_fingerprint=f"blake2b:{hashlib.blake2b(described, digest_size=20).hexdigest()}",
        )

    def places(self, rows: Collection[int]) -> RowPlaces | None:
        """Where these 0-based rows, counted through all sources, are; None if a source before one of them can't say."""
        found: dict[int, str] = {}
        count = 0
        for source in self.sources:
            part = source.places({row - count for row in rows if row >= count})
            if part is None:
                return None
            found |= {row + count: place for row, place in part.found.items()}
            count += part.count
        return RowPlaces(found, count)

    def with_snapshots(self, snapshots: Snapshots) -> CheckpointedItemSource[PayloadT]:
        """The same, each part with its snapshot."""
        kept = copy.copy(self)
        kept.sources = tuple(
            source.with_snapshots(snapshots) if isinstance(source, CheckpointedItemSource) else source
            for source in self.sources
        )
        return kept

    def initial_checkpoint(self) -> JSONValue:
        """Before the first item of the first source."""
        return {"source": 0, "checkpoint": self.sources[0].initial_checkpoint()}

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from a checkpoint on, through all further sources."""
        if not isinstance(checkpoint, dict) or not {"source", "checkpoint"} <= checkpoint.keys():
            raise InvalidInputError(f"{checkpoint!r} is not a checkpoint of a CompositeItemSource")
        first = checkpoint_index(checkpoint["source"])
        if first >= len(self.sources):
            raise InvalidInputError(
                f"the checkpoint is in source {first} of a composite of {len(self.sources)}"
            )
        for index, source in enumerate(self.sources[first:], first):
            start = checkpoint["checkpoint"] if index == first else source.initial_checkpoint()
            for part in source.iter_from_checkpoint(start):
                yield CheckpointedBatchItem({"source": index, "checkpoint": part.next_checkpoint}, part.item)
