"""What one endpoint is for the rest of the provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from batchor_core.core.outputs import OutputKind
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import JSONObject


class Endpoint(ABC):
    """The words of one endpoint: what a prompt, a schema and the config's settings are in the body of its requests.

    Attributes:
        outputs: Kinds of answers that it gives.
        prompts: What it takes of a prompt besides the two texts.
        schema_field: The body's field that a schema lies in.
    """

    outputs: ClassVar[frozenset[OutputKind]] = frozenset({OutputKind.TEXT, OutputKind.MODEL, OutputKind.BODY})
    prompts: ClassVar[frozenset[PromptFeature]] = frozenset(PromptFeature)
    schema_field: ClassVar[str] = ""

    @abstractmethod
    def asked(self, prompt: PromptParts) -> JSONObject:
        """The fields that hold a prompt.

        Raises:
            InvalidInputError: The endpoint can't take it.
        """

    @abstractmethod
    def settings(
        self, *, schema: StructuredOutputSchema | None, effort: str | None, max_tokens: int | None
    ) -> JSONObject:
        """The fields that hold a schema and the config's own settings; what is None is left out."""

    def option(self, name: str, value: Any) -> tuple[str, Any]:
        """A row's option under its name in the body: those named as in the config mean what they mean there."""
        return name, value
