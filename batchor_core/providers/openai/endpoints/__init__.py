"""OpenAI's endpoints, a file each. Answers are told apart by their shape, not by their endpoint: see ``answers``."""

from __future__ import annotations

from typing import assert_never

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.providers.openai.endpoints.base import Endpoint
from batchor_core.providers.openai.endpoints.chat_completions import ChatCompletions
from batchor_core.providers.openai.endpoints.completions import Completions
from batchor_core.providers.openai.endpoints.embeddings import Embeddings
from batchor_core.providers.openai.endpoints.images import Images
from batchor_core.providers.openai.endpoints.moderations import Moderations
from batchor_core.providers.openai.endpoints.responses import Responses


def endpoint_of(name: OpenAIEndpoint) -> Endpoint:
    """The endpoint of that name."""
    match name:
        case OpenAIEndpoint.RESPONSES:
            return Responses()
        case OpenAIEndpoint.CHAT_COMPLETIONS:
            return ChatCompletions()
        case OpenAIEndpoint.EMBEDDINGS:
            return Embeddings()
        case OpenAIEndpoint.COMPLETIONS:
            return Completions()
        case OpenAIEndpoint.MODERATIONS:
            return Moderations()
        case OpenAIEndpoint.IMAGES:
            return Images()
        case _:
            assert_never(name)
