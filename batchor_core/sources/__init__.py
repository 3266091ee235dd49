"""Where items come from: files, several sources as one, and what a source of your own is made of."""

from batchor_core.sources.base import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    IndexedBatchItem,
    ItemSource,
    ResumableItemSource,
    SourceIdentity,
)
from batchor_core.sources.composite import CompositeItemSource
from batchor_core.sources.files import CsvItemSource, JsonlItemSource, ParquetItemSource
from batchor_core.sources.rows import json_safe

__all__ = [
    "CheckpointedBatchItem",
    "CheckpointedItemSource",
    "CompositeItemSource",
    "CsvItemSource",
    "IndexedBatchItem",
    "ItemSource",
    "JsonlItemSource",
    "ParquetItemSource",
    "ResumableItemSource",
    "SourceIdentity",
    "json_safe",
]
