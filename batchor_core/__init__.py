"""Durable runs of the OpenAI Batch API with typed Pydantic results.

::

    import batchor_core as batchor

    job = batchor.BatchJob(
        items=[batchor.BatchItem(item_id="1", payload="hello")],
        build_prompt=lambda item: f"Translate into French: {item.payload}",
        provider_config=batchor.OpenAIProviderConfig(model="gpt-5-mini"),
    )
    with batchor.BatchRunner() as runner:
        for result in runner.run_and_wait(job, run_id="hello").iter_results():
            print(result.item_id, result.output_text)

Everything below is the public interface; what is not listed here or in the reference may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchor_core.artifacts.base import ArtifactStore
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.enums import (
    ItemStatus,
    OpenAIEndpoint,
    OpenAIModel,
    OpenAIReasoningEffort,
    ProviderKind,
    RunControlState,
    RunLifecycleStatus,
    StorageKind,
)
from batchor_core.core.exceptions import (
    BatchorError,
    DatabaseVersionError,
    DuplicateItemError,
    InvalidInputError,
    LeaseLostError,
    MissingCredentialsError,
    ModelResolutionError,
    ProviderError,
    ProviderErrorKind,
    QuarantinedBatchError,
    RunConfigMismatchError,
    RunIngestionSourceRequiredError,
    RunItemsMismatchError,
    RunNotFinishedError,
    RunNotFoundError,
    RunPausedError,
    RunStateError,
    SourceMismatchError,
    SourceRowError,
    StorageError,
    StructuredOutputError,
    StructuredOutputSchemaError,
)
from batchor_core.core.models import (
    ArtifactExportResult,
    ArtifactPolicy,
    ArtifactPruneResult,
    BatchItem,
    BatchJob,
    BatchResultItem,
    ChunkPolicy,
    ItemFailure,
    PromptParts,
    ProviderConfig,
    RetryPolicy,
    RunEvent,
    RunSnapshot,
    RunSummary,
    StructuredItemResult,
    TerminalResultsExportResult,
    TerminalResultsPage,
    TextItemResult,
)
from batchor_core.core.outputs import (
    BodyOutput,
    ModelOutput,
    OutputKind,
    OutputSpec,
    TextOutput,
    VectorOutput,
)
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.results import BodyItemResult, ItemResult, VectorItemResult
from batchor_core.core.structured import StructuredOutputSchema, default_schema_name
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.base import BatchProvider
from batchor_core.providers.openai import (
    OpenAIBatchProvider,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    resolve_openai_api_key,
)
from batchor_core.providers.openai.strict_schema import model_output_schema
from batchor_core.providers.registry import (
    ProviderPlugin,
    ProviderRegistry,
    build_default_provider_registry,
)
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
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
from batchor_core.storage.registry import StorageRegistry, build_default_storage_registry
from batchor_core.storage.state import RunListing, StateStore

if TYPE_CHECKING:
    from batchor_core.storage.memory import MemoryStateStore
    from batchor_core.storage.postgres import PostgresStorage
    from batchor_core.storage.sqlite import SQLiteStorage

__all__ = [
    "ArtifactExportResult",
    "ArtifactPolicy",
    "ArtifactPruneResult",
    "ArtifactStore",
    "BatchItem",
    "BatchJob",
    "BatchProvider",
    "BatchRemoteRecord",
    "BatchRequestLine",
    "BatchResultItem",
    "BatchRunner",
    "BatchorError",
    "BodyItemResult",
    "BodyOutput",
    "CheckpointedBatchItem",
    "CheckpointedItemSource",
    "ChunkPolicy",
    "CompositeItemSource",
    "CsvItemSource",
    "DatabaseVersionError",
    "DuplicateItemError",
    "EngineSettings",
    "IndexedBatchItem",
    "InvalidInputError",
    "ItemFailure",
    "ItemResult",
    "ItemSource",
    "ItemStatus",
    "JSONObject",
    "JSONValue",
    "JsonlItemSource",
    "LeaseLostError",
    "LocalArtifactStore",
    "MemoryStateStore",
    "MissingCredentialsError",
    "ModelOutput",
    "ModelResolutionError",
    "OpenAIBatchProvider",
    "OpenAIEndpoint",
    "OpenAIEnqueueLimitConfig",
    "OpenAIModel",
    "OpenAIProviderConfig",
    "OpenAIReasoningEffort",
    "OutputKind",
    "OutputSpec",
    "ParquetItemSource",
    "PostgresStorage",
    "PromptFeature",
    "PromptParts",
    "ProviderConfig",
    "ProviderError",
    "ProviderErrorKind",
    "ProviderKind",
    "ProviderPlugin",
    "ProviderRegistry",
    "QuarantinedBatchError",
    "ResumableItemSource",
    "RetryPolicy",
    "Run",
    "RunConfigMismatchError",
    "RunControlState",
    "RunEvent",
    "RunIngestionSourceRequiredError",
    "RunItemsMismatchError",
    "RunLifecycleStatus",
    "RunListing",
    "RunNotFinishedError",
    "RunNotFoundError",
    "RunPausedError",
    "RunSnapshot",
    "RunStateError",
    "RunSummary",
    "SQLiteStorage",
    "SourceIdentity",
    "SourceMismatchError",
    "SourceRowError",
    "StateStore",
    "StorageError",
    "StorageKind",
    "StorageRegistry",
    "StructuredItemResult",
    "StructuredOutputError",
    "StructuredOutputSchema",
    "StructuredOutputSchemaError",
    "TerminalResultsExportResult",
    "TerminalResultsPage",
    "TextItemResult",
    "TextOutput",
    "TokenUsage",
    "VectorItemResult",
    "VectorOutput",
    "build_default_provider_registry",
    "build_default_storage_registry",
    "default_schema_name",
    "model_output_schema",
    "resolve_openai_api_key",
]

_IMPORTED_LATE = {
    "MemoryStateStore": "batchor_core.storage.memory",
    "PostgresStorage": "batchor_core.storage.postgres",
    "SQLiteStorage": "batchor_core.storage.sqlite",
}


if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late

    def __getattr__(name: str) -> Any:
        """Import a store when it is first asked for: SQLAlchemy takes as long to import as all the rest."""
        if name not in _IMPORTED_LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_IMPORTED_LATE[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
