"""The Completions endpoint, which is older than chat: for models that continue a text."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import OutputKind
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import JSONObject
from batchor_core.providers.openai.endpoints.base import GENERATING_FIELDS, Endpoint

_OWN = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_output_tokens",
        "max_tokens",
        "n",
        "presence_penalty",
        "seed",
        "stop",
        "temperature",
        "top_p",
    }
)


class Completions(Endpoint):
    """Bodies with one text as ``prompt``; the answer is how it goes on."""

    name = OpenAIEndpoint.COMPLETIONS
    outputs = frozenset({OutputKind.TEXT, OutputKind.BODY})
    prompts = frozenset({PromptFeature.OPTIONS})
    lacks = (GENERATING_FIELDS - _OWN) | {"prompt"}
    has_turns = False

    def asked(self, prompt: PromptParts) -> JSONObject:
        """The text."""
        return {"prompt": self.one_text(prompt)}

    def settings(
        self, *, schema: StructuredOutputSchema | None, effort: str | None, max_tokens: int | None
    ) -> JSONObject:
        """The most tokens of an answer."""
        return {} if max_tokens is None else {"max_tokens": max_tokens}

    def check_settings(self, given: Set[str]) -> None:
        """Refuse to leave the length of answers to the API, which ends them after sixteen tokens: they would count as cut off."""
        super().check_settings(given)
        if given.isdisjoint({"max_output_tokens", "max_tokens"}):
            raise InvalidInputError(
                f"the endpoint {self.name.value} ends answers after 16 tokens unless it is told otherwise, and an answer that is cut "
                "off fails; set max_output_tokens"
            )

    def option(self, name: str, value: Any) -> tuple[str, Any]:
        """``max_output_tokens`` has another name here."""
        name, value = super().option(name, value)
        return ("max_tokens" if name == "max_output_tokens" else name), value
