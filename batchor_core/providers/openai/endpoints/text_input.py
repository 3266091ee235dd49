"""What the endpoints have in common that read one text as ``input`` and generate nothing."""

from __future__ import annotations

from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import JSONObject
from batchor_core.providers.openai.endpoints.base import GENERATING_FIELDS, Endpoint


class TextInput(Endpoint):
    """Bodies with one text as ``input``."""

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
