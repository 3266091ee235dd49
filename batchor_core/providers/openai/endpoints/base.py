"""What one endpoint is for the rest of the provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from typing import Any, ClassVar

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import OutputKind, VectorOutput
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import WantedTools
from batchor_core.core.types import JSONObject

GENERATING_FIELDS = frozenset(
    {
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "max_tool_calls",
        "modalities",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "verbosity",
    }
)
"""Settings and fields that only models that write have a use for."""


class Endpoint(ABC):
    """The words of one endpoint: what a prompt, a schema and the config's settings are in the body of its requests.

    Attributes:
        name: Which it is.
        outputs: Kinds of answers that it gives.
        prompts: What it takes of a prompt besides the two texts.
        schema_field: The body's field that a schema lies in.
        lacks: Settings of the config, and fields of requests, that can't be set here.
        has_turns: Whether the model reads turns of a conversation, which take tokens of their own, and not a bare text.
    """

    name: ClassVar[OpenAIEndpoint]
    outputs: ClassVar[frozenset[OutputKind]] = frozenset(OutputKind) - {OutputKind.VECTOR}
    prompts: ClassVar[frozenset[PromptFeature]] = frozenset(PromptFeature)
    schema_field: ClassVar[str] = ""
    lacks: ClassVar[frozenset[str]] = frozenset()
    has_turns: ClassVar[bool] = True

    @abstractmethod
    def asked(self, prompt: PromptParts) -> JSONObject:
        """The fields that hold a prompt.

        Raises:
            InvalidInputError: The endpoint can't take it.
        """

    def continued(self, body: JSONObject, *, answer: str, reply: str) -> JSONObject:
        """The body with the answer that it got, and a reply to that, as further turns; where the endpoint has turns.

        Raises:
            InvalidInputError: It has none.
        """
        raise InvalidInputError(
            f"{self.name.value} has no turns of a conversation, so that a request can't go on"
        )

    @abstractmethod
    def settings(
        self, *, schema: StructuredOutputSchema | None, effort: str | None, max_tokens: int | None
    ) -> JSONObject:
        """The fields that hold a schema and the config's own settings; what is None is left out."""

    def tools(self, wanted: WantedTools) -> JSONObject:
        """The fields that ask for a call of one of these tools; only asked where :attr:`outputs` has them."""
        raise NotImplementedError(f"{type(self).__name__} has no tools")

    def one_text(self, prompt: PromptParts) -> str:
        """The prompt of an endpoint that reads a text and nothing else.

        Raises:
            InvalidInputError: It has more than a text.
        """
        if prompt.system_prompt:
            raise InvalidInputError(
                f"its prompt has a system prompt, and {self.name.value} reads one text alone; leave the system prompt out, or put "
                "its words into the text"
            )
        return prompt.prompt

    def check_settings(self, given: Set[str]) -> None:
        """Refuse settings of a config, by the names of those that were given.

        Raises:
            InvalidInputError: The endpoint can't have one of them, or needs another one.
        """
        if lacking := sorted(self.lacks & given):
            raise InvalidInputError(
                f"{', '.join(lacking)} can't be set for the endpoint {self.name.value}; leave it out"
            )

    def check_vectors(self, output: VectorOutput, *, model: str, options: Mapping[str, Any]) -> None:
        """Refuse an output of vectors that the config's model and options contradict.

        Raises:
            InvalidInputError: They do.
        """

    def vectors(self, output: VectorOutput, *, model: str, options: Mapping[str, Any]) -> JSONObject:
        """The settings of requests for vectors, with the config's options; only asked where :attr:`outputs` has them."""
        raise NotImplementedError(f"{type(self).__name__} has no vectors")

    def option(self, name: str, value: Any) -> tuple[str, Any]:
        """A row's option under its name in the body: those named as in the config mean what they mean there.

        Raises:
            InvalidInputError: It can't be set at this endpoint, or not for a single row.
        """
        if name in self.lacks:
            raise InvalidInputError(
                f"options must not set {name} for the endpoint {self.name.value}; leave it out"
            )
        return name, value
