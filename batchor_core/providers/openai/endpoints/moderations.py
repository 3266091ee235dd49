"""The Moderations endpoint."""

from __future__ import annotations

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.outputs import OutputKind
from batchor_core.providers.openai.endpoints.text_input import TextInput


class Moderations(TextInput):
    """The answer is the whole body, with categories and scores."""

    name = OpenAIEndpoint.MODERATIONS
    outputs = frozenset({OutputKind.BODY})
