"""Stores of runs: SQLite, PostgreSQL, memory, and the base classes for your own store.

``lifecycle`` has the rules for an item's status: a store selects items, applies a rule and saves the result. The
methods of a ``StateStore`` take and return the records.
"""

from typing import TYPE_CHECKING

from batchor_core.core import lifecycle
from batchor_core.core.lazy_imports import lazy_imports
from batchor_core.storage.registry import StorageRegistry, build_default_storage_registry
from batchor_core.storage.state import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    ClaimedItem,
    CompletedItemRecord,
    DriverIdentity,
    DriverSession,
    IngestCheckpoint,
    ItemFailureRecord,
    LeaseRecord,
    MaterializedItem,
    PersistedItemRecord,
    PersistedRunConfig,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
    ResultRow,
    RetryBackoffState,
    RunArtifactInventory,
    RunListing,
    StateStore,
    StoredItem,
    SubmissionRecord,
)

if TYPE_CHECKING:
    from batchor_core.storage.memory import MemoryStateStore
    from batchor_core.storage.postgres import PostgresStorage
    from batchor_core.storage.sqlite import SQLiteStorage

__all__ = [
    "ActiveBatchRecord",
    "BatchArtifactPointer",
    "ClaimedItem",
    "CompletedItemRecord",
    "DriverIdentity",
    "DriverSession",
    "IngestCheckpoint",
    "ItemFailureRecord",
    "LeaseRecord",
    "MaterializedItem",
    "MemoryStateStore",
    "PersistedItemRecord",
    "PersistedRunConfig",
    "PostgresStorage",
    "PreparedSubmission",
    "QueuedItemFailureRecord",
    "RequestArtifactPointer",
    "ResultRow",
    "RetryBackoffState",
    "RunArtifactInventory",
    "RunListing",
    "SQLiteStorage",
    "StateStore",
    "StorageRegistry",
    "StoredItem",
    "SubmissionRecord",
    "build_default_storage_registry",
    "lifecycle",
]

if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late
    __getattr__ = lazy_imports(
        __name__,
        {  # SQLAlchemy takes as long to import as all the rest
            "MemoryStateStore": "batchor_core.storage.memory",
            "PostgresStorage": "batchor_core.storage.postgres",
            "SQLiteStorage": "batchor_core.storage.sqlite",
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
