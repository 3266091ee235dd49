"""Batch APIs: OpenAI's, and the base classes for your own provider.

``BatchProvider`` has eight methods around files; ``BatchApi`` is the protocol of the engine itself, for every kind of
API. Everything about one vendor is in that vendor's package, such as ``batchor_core.providers.openai``.
"""

from batchor_core.core.answers import Answer
from batchor_core.core.enqueue_budget import EnqueueBudget
from batchor_core.core.failures import ItemFailure
from batchor_core.core.models import ProviderConfig
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import ToolCall, WantedTools
from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.api import (
    BatchApi,
    BatchFailure,
    BatchLimits,
    BatchState,
    FoundBy,
    ResultFile,
    WantedOutput,
)
from batchor_core.providers.base import BatchProvider, OptionalMethods
from batchor_core.providers.command.config import CommandProviderConfig
from batchor_core.providers.error_body import read_error_body
from batchor_core.providers.registry import (
    ProviderPlugin,
    ProviderRegistry,
    build_default_provider_registry,
)

__all__ = [
    "Answer",
    "BatchApi",
    "BatchFailure",
    "BatchLimits",
    "BatchProvider",
    "BatchRemoteRecord",
    "BatchRequestLine",
    "BatchState",
    "CommandProviderConfig",
    "EnqueueBudget",
    "FoundBy",
    "ItemFailure",
    "OptionalMethods",
    "PromptFeature",
    "ProviderConfig",
    "ProviderPlugin",
    "ProviderRegistry",
    "ResultFile",
    "StructuredOutputSchema",
    "TokenUsage",
    "ToolCall",
    "WantedOutput",
    "WantedTools",
    "build_default_provider_registry",
    "read_error_body",
]
