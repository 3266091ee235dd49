"""Lines of a batch input file."""

from __future__ import annotations

from typing import Any, assert_never

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.prompts import Message, PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRequestLine
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.messages import endpoint_messages, with_options


class RequestLines:
    """Builds request lines of one config.

    What is the same in every line is made once per schema and shared by the lines, so treat a line as read-only.
    """

    def __init__(self, config: OpenAIProviderConfig) -> None:
        self._config = config
        self._url = str(config.endpoint)
        self._model = str(config.model)
        # what was made for the schema last used; replaced as one, so that threads agree
        self._tail: tuple[StructuredOutputSchema | None, dict[str, Any]] = (None, self._make_tail(None))

    def build(
        self, custom_id: str, prompt: PromptParts, schema: StructuredOutputSchema | None
    ) -> BatchRequestLine:
        """Return the line of one item. Its keys always come in the same order."""
        made_for, tail = self._tail
        if schema is not made_for:
            tail = self._make_tail(schema)
            self._tail = (schema, tail)
        if prompt.options:
            field = None if schema is None else self._schema_field
            tail = with_options(tail, prompt.options, self._config.endpoint, schema_field=field)
        return {
            "custom_id": custom_id,
            "method": "POST",
            "url": self._url,
            "body": {"model": self._model, **self._input(prompt), **tail},
        }

    def _input(self, prompt: PromptParts) -> dict[str, Any]:
        system, turns = prompt.system_prompt, prompt.messages
        match self._config.endpoint:
            case OpenAIEndpoint.RESPONSES:
                asked = prompt.prompt if turns is None else endpoint_messages(turns, OpenAIEndpoint.RESPONSES)
                if system is None:
                    return {"input": asked}
                return {"instructions": system, "input": asked}
            case OpenAIEndpoint.CHAT_COMPLETIONS:
                messages: list[Message] = [{"role": "user", "content": prompt.prompt}]
                if turns is not None:
                    messages = endpoint_messages(turns, OpenAIEndpoint.CHAT_COMPLETIONS)
                if system is not None:
                    messages.insert(0, {"role": "system", "content": system})
                return {"messages": messages}
            case _:
                assert_never(self._config.endpoint)

    @property
    def _schema_field(self) -> str:
        """The body's field that a schema lies in."""
        return "text" if self._config.endpoint is OpenAIEndpoint.RESPONSES else "response_format"

    def _make_tail(self, schema: StructuredOutputSchema | None) -> dict[str, Any]:
        match self._config.endpoint:
            case OpenAIEndpoint.RESPONSES:
                tail = self._responses_tail(schema)
            case OpenAIEndpoint.CHAT_COMPLETIONS:
                tail = self._chat_tail(schema)
            case _:
                assert_never(self._config.endpoint)
        for name, value in self._config.request_options.items():
            ours = tail.get(name)
            # an option such as text.verbosity joins the schema in the same object; what the config says itself wins
            tail[name] = (
                {**value, **ours}
                if isinstance(ours, dict) and isinstance(value, dict)
                else tail.get(name, value)
            )
        return tail

    def _responses_tail(self, schema: StructuredOutputSchema | None) -> dict[str, Any]:
        tail: dict[str, Any] = {}
        if schema is not None:
            tail["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": schema.name,
                    "schema": schema.schema,
                    "strict": True,
                }
            }
        if self._config.reasoning_effort is not None:
            tail["reasoning"] = {"effort": str(self._config.reasoning_effort)}
        if self._config.max_output_tokens is not None:
            tail["max_output_tokens"] = self._config.max_output_tokens
        return tail

    def _chat_tail(self, schema: StructuredOutputSchema | None) -> dict[str, Any]:
        tail: dict[str, Any] = {}
        if schema is not None:
            tail["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": schema.name, "schema": schema.schema, "strict": True},
            }
        if self._config.reasoning_effort is not None:
            tail["reasoning_effort"] = str(self._config.reasoning_effort)
        if self._config.max_output_tokens is not None:
            tail["max_completion_tokens"] = self._config.max_output_tokens
        return tail
