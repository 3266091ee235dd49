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

Begin with ``BatchJob``, what to run, and ``BatchRunner``, who runs it and hands out a ``Run``. All names are here; what belongs together,
and what only extensions need, is in a package of its own:

- ``batchor_core.sources``: where items come from
- ``batchor_core.storage``: where runs live
- ``batchor_core.artifacts``: where their files live
- ``batchor_core.providers``: whom to ask
- ``batchor_core.errors``: what can go wrong
- ``batchor_core.testing``: stand-ins for your own tests

These and ``docs/reference/api.md`` are the public interface; what is not listed there may change.
"""

from typing import TYPE_CHECKING

from batchor_core import errors
from batchor_core.artifacts import ArtifactStore, LocalArtifactStore
from batchor_core.core.caps import Cap
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
from batchor_core.core.lateness import Patience
from batchor_core.core.lazy_imports import lazy_imports
from batchor_core.core.models import (
    ArtifactExportResult,
    ArtifactPolicy,
    ArtifactPruneResult,
    BatchItem,
    BatchJob,
    ChunkPolicy,
    ItemFailure,
    PromptParts,
    ProviderConfig,
    RetryPolicy,
    RunEvent,
    RunSnapshot,
    RunSummary,
    TerminalResultsExportResult,
    TerminalResultsPage,
)
from batchor_core.core.outputs import (
    BodyOutput,
    ModelOutput,
    OutputKind,
    OutputSpec,
    TextOutput,
    VectorOutput,
)
from batchor_core.core.price_book import PriceBook
from batchor_core.core.pricing import Cost, Unpriced
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.results import (
    BatchResultItem,
    BodyItemResult,
    ItemResult,
    ReusedFrom,
    StructuredItemResult,
    TextItemResult,
    VectorItemResult,
)
from batchor_core.core.spending import Spending
from batchor_core.core.structured import StructuredOutputSchema, default_schema_name
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine, JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.errors import *  # noqa: F403 - all of them, as they are listed there
from batchor_core.providers import (
    BatchProvider,
    ProviderPlugin,
    ProviderRegistry,
    build_default_provider_registry,
)
from batchor_core.providers.anthropic import AnthropicProviderConfig
from batchor_core.providers.gemini import GeminiEndpoint, GeminiProviderConfig
from batchor_core.providers.openai import (
    OpenAIBatchProvider,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    model_output_schema,
    resolve_openai_api_key,
)
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
from batchor_core.sources import (
    CheckpointedBatchItem,
    CheckpointedItemSource,
    CompositeItemSource,
    CsvItemSource,
    IndexedBatchItem,
    ItemSource,
    JsonlItemSource,
    ParquetItemSource,
    ResumableItemSource,
    SourceIdentity,
)
from batchor_core.storage import (
    RunListing,
    StateStore,
    StorageRegistry,
    build_default_storage_registry,
)

if TYPE_CHECKING:
    from batchor_core.sources import FrameItemSource, RowItemSource, SqlItemSource
    from batchor_core.storage import MemoryStateStore, PostgresStorage, SQLiteStorage

# in the order in which a newcomer meets them
__all__ = [
    # a job: what to run
    "BatchJob",
    "BatchItem",
    "PromptParts",
    "OpenAIProviderConfig",
    "AnthropicProviderConfig",
    "GeminiProviderConfig",
    "GeminiEndpoint",
    "OpenAIEnqueueLimitConfig",
    "OpenAIEndpoint",
    "OpenAIModel",
    "OpenAIReasoningEffort",
    "ChunkPolicy",
    "RetryPolicy",
    "ArtifactPolicy",
    # its output: what the answers are
    "TextOutput",
    "ModelOutput",
    "VectorOutput",
    "BodyOutput",
    "OutputSpec",
    "OutputKind",
    "StructuredOutputSchema",
    "model_output_schema",
    "default_schema_name",
    # a runner and its runs
    "BatchRunner",
    "Run",
    "RunSummary",
    "RunLifecycleStatus",
    "RunControlState",
    "RunListing",
    "RunEvent",
    "EngineSettings",
    "Patience",
    # what they cost
    "PriceBook",
    "Cost",
    "Unpriced",
    "Spending",
    "Cap",
    # results
    "ItemResult",
    "TextItemResult",
    "StructuredItemResult",
    "VectorItemResult",
    "BodyItemResult",
    "ReusedFrom",
    "BatchResultItem",
    "ItemStatus",
    "ItemFailure",
    "TokenUsage",
    "RunSnapshot",
    "TerminalResultsPage",
    "TerminalResultsExportResult",
    "ArtifactExportResult",
    "ArtifactPruneResult",
    # sources of items
    "CsvItemSource",
    "JsonlItemSource",
    "ParquetItemSource",
    "FrameItemSource",
    "SqlItemSource",
    "RowItemSource",
    "CompositeItemSource",
    "ItemSource",
    "CheckpointedItemSource",
    "CheckpointedBatchItem",
    "ResumableItemSource",
    "IndexedBatchItem",
    "SourceIdentity",
    # where runs and their files live
    "SQLiteStorage",
    "PostgresStorage",
    "MemoryStateStore",
    "StateStore",
    "StorageKind",
    "StorageRegistry",
    "build_default_storage_registry",
    "LocalArtifactStore",
    "ArtifactStore",
    # providers
    "OpenAIBatchProvider",
    "resolve_openai_api_key",
    "ProviderConfig",
    "BatchProvider",
    "BatchRequestLine",
    "BatchRemoteRecord",
    "PromptFeature",
    "ProviderKind",
    "ProviderPlugin",
    "ProviderRegistry",
    "build_default_provider_registry",
    "JSONObject",
    "JSONValue",
    *errors.__all__,
]


if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late
    __getattr__ = lazy_imports(
        __name__,
        {
            "FrameItemSource": "batchor_core.sources",
            "MemoryStateStore": "batchor_core.storage",
            "PostgresStorage": "batchor_core.storage",
            "RowItemSource": "batchor_core.sources",
            "SQLiteStorage": "batchor_core.storage",
            "SqlItemSource": "batchor_core.sources",
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
