"""The Images endpoint, which makes images from a text."""

from __future__ import annotations

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.outputs import OutputKind
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import JSONObject
from batchor_core.providers.openai.endpoints.base import GENERATING_FIELDS, Endpoint


class Images(Endpoint):
    """Bodies with one text as ``prompt``; the answer is the whole body, with images in base64 or at addresses that expire."""

    name = OpenAIEndpoint.IMAGES
    outputs = frozenset({OutputKind.BODY})
    prompts = frozenset({PromptFeature.OPTIONS})
    lacks = (GENERATING_FIELDS - {"n"}) | {"prompt"}
    has_turns = False

    def asked(self, prompt: PromptParts) -> JSONObject:
        """The text."""
        return {"prompt": self.one_text(prompt)}

    def settings(
        self, *, schema: StructuredOutputSchema | None, effort: str | None, max_tokens: int | None
    ) -> JSONObject:
        """None: what an image is like, such as its size, is said in request_options."""
        return {}
