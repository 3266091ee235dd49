"""Anthropic's Message Batches API.

Everything that knows Anthropic is in this package. Its SDK is the extra ``batchor-core[anthropic]``, and is imported when
the first request is made.
"""

from batchor_core.providers.anthropic.api import AnthropicBatchApi
from batchor_core.providers.anthropic.config import AnthropicProviderConfig

__all__ = ["AnthropicBatchApi", "AnthropicProviderConfig"]
