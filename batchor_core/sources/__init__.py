"""Where items come from: files, frames, queries, several sources as one, and what a source of your own is made of."""

from typing import TYPE_CHECKING

from batchor_core.core.lazy_imports import lazy_imports
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

if TYPE_CHECKING:
    from batchor_core.sources.frames import FrameItemSource
    from batchor_core.sources.mappings import RowItemSource
    from batchor_core.sources.snapshot import RowStream, TableItemSource
    from batchor_core.sources.sql import SqlItemSource

__all__ = [
    "CheckpointedBatchItem",
    "CheckpointedItemSource",
    "CompositeItemSource",
    "CsvItemSource",
    "FrameItemSource",
    "IndexedBatchItem",
    "ItemSource",
    "JsonlItemSource",
    "ParquetItemSource",
    "ResumableItemSource",
    "RowItemSource",
    "RowStream",
    "SourceIdentity",
    "SqlItemSource",
    "TableItemSource",
    "json_safe",
]

# these need pyarrow or SQLAlchemy, each of which takes as long to import as all the rest
if not TYPE_CHECKING:
    __getattr__ = lazy_imports(
        __name__,
        {
            "FrameItemSource": "batchor_core.sources.frames",
            "RowItemSource": "batchor_core.sources.mappings",
            "RowStream": "batchor_core.sources.snapshot",
            "SqlItemSource": "batchor_core.sources.sql",
            "TableItemSource": "batchor_core.sources.snapshot",
        },
    )
