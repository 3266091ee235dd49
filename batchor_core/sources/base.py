"""What a source of items is, in three levels.

:class:`ItemSource` is a plain iterable. :class:`CheckpointedItemSource` can resume in the middle, in another process.
:class:`ResumableItemSource` is one whose checkpoint is simply the index of the next item.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, Protocol

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem, PayloadT
from batchor_core.core.types import JSONValue


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Identifies a source, so that a run is never resumed with another one.

    Attributes:
        source_kind: Short name of the kind, such as ``csv``.
        source_ref: For people: the absolute path of a file.
        source_fingerprint: Derived from the content, so that a moved or touched file stays the same one.
    """

    source_kind: str
    source_ref: str
    source_fingerprint: str


@dataclass(frozen=True, slots=True)
class IndexedBatchItem(Generic[PayloadT]):
    """An item and its place.

    Attributes:
        item_index: 0-based position within the source.
        item: The item.
    """

    item_index: int
    item: BatchItem[PayloadT]


@dataclass(frozen=True, slots=True)
class CheckpointedBatchItem(Generic[PayloadT]):
    """An item and the checkpoint after it.

    Attributes:
        next_checkpoint: JSON for :meth:`CheckpointedItemSource.iter_from_checkpoint`; begins with the item after this.
        item: The item.
    """

    next_checkpoint: JSONValue
    item: BatchItem[PayloadT]


@dataclass(frozen=True, slots=True)
class RowPlaces:
    """Where some rows of a source are, for error messages.

    Attributes:
        found: 0-based row to words such as ``/data/rows.csv, line 7``.
        count: How many rows were counted: all of the source's.
    """

    found: dict[int, str]
    count: int


class SnapshotFile(Protocol):
    """A file in a run's artifacts, for the rows of one source."""

    def exists(self) -> bool:
        """Whether the file is there. It is either complete or absent."""

    def reading(self) -> AbstractContextManager[Path]:
        """A local file with its content, during the block."""

    def writing(self) -> AbstractContextManager[BinaryIO]:
        """Write it piece by piece; it appears, synced, when the block ends, and not if the block raises."""


class Snapshots(Protocol):
    """Where a run keeps the rows of sources that can't be read from the middle."""

    def file(self) -> SnapshotFile:
        """The file of the next source that needs one. Calls in the same order return the same files."""


class ItemSource(ABC, Generic[PayloadT]):
    """Items one after the other, without checkpoints."""

    @abstractmethod
    def __iter__(self) -> Iterator[BatchItem[PayloadT]]:
        """All items, from the first, in the same order each time."""


class CheckpointedItemSource(ItemSource[PayloadT]):
    """Items that another process can resume reading.

    The engine stores ``next_checkpoint`` in the transaction that stores the item, and passes the last stored one to
    :meth:`iter_from_checkpoint` after a crash. The same checkpoint must always give the same items.
    """

    @abstractmethod
    def source_identity(self) -> SourceIdentity:
        """The identity of this source; compared with the stored one when a run is resumed."""

    @abstractmethod
    def initial_checkpoint(self) -> JSONValue:
        """The checkpoint before the first item."""

    @abstractmethod
    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from a checkpoint on, each with the next one.

        Args:
            checkpoint: From :meth:`initial_checkpoint` or a :class:`CheckpointedBatchItem`.
        """

    def places(self, rows: Collection[int]) -> RowPlaces | None:
        """Where these 0-based rows are, in words for an error message; None where the source can't say."""
        return None

    def with_snapshots(self, snapshots: Snapshots) -> CheckpointedItemSource[PayloadT]:
        """The same items, with a copy of the rows kept in the run's artifacts where the rows can't be read twice."""
        return self

    def __iter__(self) -> Iterator[BatchItem[PayloadT]]:
        for checkpointed in self.iter_from_checkpoint(self.initial_checkpoint()):
            yield checkpointed.item


class ResumableItemSource(CheckpointedItemSource[PayloadT]):
    """Items whose checkpoint is the 0-based index of the next one.

    Implement :meth:`iter_from` and ``source_identity``; a source that can seek may override
    ``iter_from_checkpoint`` and put more into its checkpoints.
    """

    @abstractmethod
    def iter_from(self, item_index: int) -> Iterator[IndexedBatchItem[PayloadT]]:
        """Items from this 0-based index on."""

    def initial_checkpoint(self) -> JSONValue:
        """Index 0."""
        return 0

    def iter_from_checkpoint(self, checkpoint: JSONValue) -> Iterator[CheckpointedBatchItem[PayloadT]]:
        """Items from the index on, each with the index after it."""
        for indexed in self.iter_from(checkpoint_index(checkpoint)):
            yield CheckpointedBatchItem(indexed.item_index + 1, indexed.item)


def checkpoint_index(checkpoint: JSONValue) -> int:
    """The checkpoint as an index.

    Raises:
        InvalidInputError: It is not an integer of at least 0.
    """
    if isinstance(checkpoint, bool) or not isinstance(checkpoint, int) or checkpoint < 0:
        raise InvalidInputError(
            f"{checkpoint!r} is not a checkpoint of this source: an index of at least 0 is expected"
        )
    return checkpoint
