"""The Responses endpoint."""

from __future__ import annotations

from typing import Any

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.prompts import PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.tools import WantedTools
from batchor_core.core.types import JSONObject
from batchor_core.providers.openai.endpoints.base import Endpoint
from batchor_core.providers.openai.messages import (
    ONE_CALL,
    Dialect,
    data_url,
    file_content,
    file_name,
    function,
    further_turns,
)


class Responses(Endpoint):
    """Bodies with ``instructions`` and ``input``."""

    name = OpenAIEndpoint.RESPONSES
    schema_field = "text"

    def asked(self, prompt: PromptParts) -> JSONObject:
        """The prompt, and the system prompt as its instructions."""
        asked = prompt.prompt if prompt.messages is None else _DIALECT.messages(prompt.messages)
        if prompt.system_prompt is None:
            return {"input": asked}
        return {"instructions": prompt.system_prompt, "input": asked}

    def continued(self, body: JSONObject, *, answer: str, reply: str) -> JSONObject:
        """Two more messages; a text becomes the first one."""
        asked = body["input"]
        before = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        return {**body, "input": [*before, *further_turns(answer, reply)]}

    def settings(
        self, *, schema: StructuredOutputSchema | None, effort: str | None, max_tokens: int | None
    ) -> JSONObject:
        """The schema is the format of the text."""
        fields: JSONObject = {}
        if schema is not None:
            fields["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": schema.name,
                    "schema": schema.schema,
                    "strict": True,
                }
            }
        if effort is not None:
            fields["reasoning"] = {"effort": effort}
        if max_tokens is not None:
            fields["max_output_tokens"] = max_tokens
        return fields

    def tools(self, wanted: WantedTools) -> JSONObject:
        """Functions, of which the model has to call one."""
        return {"tools": [{"type": "function", **function(tool)} for tool in wanted.tools], **ONE_CALL}

    def option(self, name: str, value: Any) -> tuple[str, Any]:
        """``reasoning_effort`` lies in an object."""
        return ("reasoning", {"effort": value}) if name == "reasoning_effort" else (name, value)


def _part(where: str, kind: str, part: JSONObject, is_answer: bool) -> JSONObject:
    match kind:
        case "text":
            return {"type": "output_text" if is_answer else "input_text", "text": part["text"]}
        case "image":
            image: JSONObject = {"type": "input_image", "detail": part.get("detail", "auto")}
            if "file_id" in part:
                return {**image, "file_id": part["file_id"]}
            return {**image, "image_url": part.get("url") or data_url(part)}
        case "file":
            file = {"type": "input_file", **file_name(part)}
            if "url" in part:
                return {**file, "file_url": part["url"]}
            return {**file, **file_content(part)}
        case _:
            raise InvalidInputError(
                f"{where} has audio, which Responses does not take; set endpoint={OpenAIEndpoint.CHAT_COMPLETIONS.value!r}"
            )


_DIALECT = Dialect(
    endpoint=OpenAIEndpoint.RESPONSES.value,
    roles=("user", "assistant", "system", "developer"),
    own_parts=("input_text", "input_image", "input_file", "input_audio", "output_text", "refusal"),
    part=_part,
)
