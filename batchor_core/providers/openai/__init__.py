"""The OpenAI Batch API, and servers that speak it.

Everything that knows OpenAI is in this package: its settings, its client, the words of its errors, the shape of its
request lines and its tokenizer. The SDK is imported when the first request is made, not before.
"""

from batchor_core.providers.openai.config import (
    OpenAIEnqueueLimitConfig,
    OpenAIModelName,
    OpenAIProviderConfig,
    OpenAIReasoningLevel,
)
from batchor_core.providers.openai.credentials import resolve_openai_api_key
from batchor_core.providers.openai.provider import OpenAIBatchProvider
from batchor_core.providers.openai.strict_schema import model_output_schema

__all__ = [
    "OpenAIBatchProvider",
    "OpenAIEnqueueLimitConfig",
    "OpenAIModelName",
    "OpenAIProviderConfig",
    "OpenAIReasoningLevel",
    "model_output_schema",
    "resolve_openai_api_key",
]
