"""The Moderations endpoint."""

from __future__ import annotations

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.outputs import OutputKind
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import JSONObject
from batchor_core.providers.openai.endpoints.base import GENERATING_FIELDS, Endpoint


class Moderations(Endpoint):
    """Bodies with one text as ``input``; the answer is the whole body, with categories and scores."""

    name = OpenAIEndpoint.MODERATIONS
    outputs = frozenset({OutputKind.BODY})
    prompts = frozenset({PromptFeature.OPTIONS})
    lacks = GENERATING_FIELDS
    has_turns = False

    def asked(self, prompt: PromptParts) -> JSONObject:
        """The text."""
        return {"input": self.one_text(prompt)}

    def settings(
        self, *, schema: StructuredOutputSchema | None, effort: str | None, max_tokens: int | None
    ) -> JSONObject:
        """None: nothing is generated."""
        return {}
