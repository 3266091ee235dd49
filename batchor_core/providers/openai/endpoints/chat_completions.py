"""The Chat Completions endpoint."""

from __future__ import annotations

from typing import Any

from batchor_core.core.enums import OpenAIEndpoint
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.prompts import Message, PromptParts
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


class ChatCompletions(Endpoint):
    """Bodies with ``messages``."""

    name = OpenAIEndpoint.CHAT_COMPLETIONS
    schema_field = "response_format"

    def asked(self, prompt: PromptParts) -> JSONObject:
        """The system prompt is the first message."""
        messages: list[Message] = [{"role": "user", "content": prompt.prompt}]
        if prompt.messages is not None:
            messages = _DIALECT.messages(prompt.messages)
        if prompt.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": prompt.system_prompt})
        return {"messages": messages}

    def continued(self, body: JSONObject, *, answer: str, reply: str) -> JSONObject:
        """Two more messages."""
        return {**body, "messages": [*body["messages"], *further_turns(answer, reply)]}

    def settings(
        self, *, schema: StructuredOutputSchema | None, effort: str | None, max_tokens: int | None
    ) -> JSONObject:
        """The schema is the format of the response."""
        fields: JSONObject = {}
        if schema is not None:
            fields["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": schema.name, "schema": schema.schema, "strict": True},
            }
        if effort is not None:
            fields["reasoning_effort"] = effort
        if max_tokens is not None:
            fields["max_completion_tokens"] = max_tokens
        return fields

    def tools(self, wanted: WantedTools) -> JSONObject:
        """Functions, of which the model has to call one."""
        return {
            "tools": [{"type": "function", "function": function(tool)} for tool in wanted.tools],
            **ONE_CALL,
        }

    def option(self, name: str, value: Any) -> tuple[str, Any]:
        """``max_output_tokens`` has another name here."""
        return ("max_completion_tokens" if name == "max_output_tokens" else name), value


def _part(where: str, kind: str, part: JSONObject, is_answer: bool) -> JSONObject:
    match kind:
        case "text":
            return part
        case "image":
            if "file_id" in part:
                raise InvalidInputError(
                    f"{where}: Chat Completions takes an image by url, data or path, not by file_id"
                )
            image = {"url": part.get("url") or data_url(part)}
            if "detail" in part:
                image["detail"] = part["detail"]
            return {"type": "image_url", "image_url": image}
        case "file":
            if "url" in part:
                raise InvalidInputError(
                    f"{where}: Chat Completions takes a file by data, path or file_id, not by url"
                )
            return {"type": "file", "file": {**file_name(part), **file_content(part)}}
        case _:
            if "data" not in part:
                raise InvalidInputError(
                    f"{where}: Chat Completions takes audio by data or path, not by url or file_id"
                )
            return {"type": "input_audio", "input_audio": {"data": part["data"], "format": part["format"]}}


_DIALECT = Dialect(
    endpoint=OpenAIEndpoint.CHAT_COMPLETIONS.value,
    roles=("user", "assistant", "system", "developer", "tool", "function"),
    own_parts=("image_url", "input_audio", "refusal", "video_url", "input_file"),
    part=_part,
)
