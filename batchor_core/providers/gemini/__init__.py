"""The Gemini Batch API of the Gemini Developer API.

Everything that knows Google is in this package. The SDK, ``google-genai``, is imported when the first request is made, and
comes with the extra: ``pip install 'batchor-core[gemini]'``.
"""

from batchor_core.providers.gemini.api import GeminiBatchApi
from batchor_core.providers.gemini.config import GeminiEndpoint, GeminiProviderConfig

__all__ = ["GeminiBatchApi", "GeminiEndpoint", "GeminiProviderConfig"]
