"""What the endpoints have in common in wording a conversation, and a row's own settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from batchor_core.core.arguments import shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.parts import PART_TYPES
from batchor_core.core.prompts import Message
from batchor_core.core.tools import ToolSchema
from batchor_core.core.types import JSONObject

BUILT_FIELDS = frozenset({"model", "input", "instructions", "messages", "stream"})
"""Body fields that the provider fills itself, or that a batch can't have."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an endpoint words conversations.

    Attributes:
        endpoint: Its name, for errors.
        roles: Those that it knows.
        own_parts: Types of parts that it has besides the neutral ones; they are sent as they are.
        part: Words a neutral part, given its place, type and content, and whether it is of an answer.
    """

    endpoint: str
    roles: tuple[str, ...]
    own_parts: tuple[str, ...]
    part: Callable[[str, str, JSONObject, bool], JSONObject]

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """The messages of a prompt as the endpoint takes them.

        Raises:
            InvalidInputError: It has no such role or part.
        """
        return [self._message(f"messages[{at}]", message) for at, message in enumerate(messages)]

    def _message(self, where: str, message: Message) -> Message:
        role, content = message["role"], message.get("content")
        if role not in self.roles:
            raise InvalidInputError(
                f"{where} has the role {role!r}, which {self.endpoint} does not know; it has {', '.join(self.roles)}"
            )
        if not isinstance(content, list | tuple):
            return message
        is_answer = role == "assistant"
        parts = [self._part(f"{where}.content[{at}]", part, is_answer) for at, part in enumerate(content)]
        return {**message, "content": parts}

    def _part(self, where: str, part: JSONObject, is_answer: bool) -> JSONObject:
        kind = part["type"]
        if kind in self.own_parts:
            return part
        if kind not in PART_TYPES:
            known = ", ".join((*PART_TYPES, *self.own_parts))
            raise InvalidInputError(
                f"{where} has the type {kind!r}, which {self.endpoint} does not know; it has {known}"
            )
        return self.part(where, kind, part, is_answer)


def further_turns(answer: str, reply: str) -> list[Message]:
    """What follows a conversation that goes on."""
    return [{"role": "assistant", "content": answer}, {"role": "user", "content": reply}]


def data_url(part: JSONObject) -> str:
    """The content of a part as an address."""
    return f"data:{part['media_type']};base64,{part['data']}"


def file_name(part: JSONObject) -> JSONObject:
    """The name of a file whose content is in the part."""
    if "file_id" in part or "url" in part:
        return {}
    return {"filename": part.get("name", "file")}  # the API wants one beside the content


def file_content(part: JSONObject) -> JSONObject:
    """The content of a file, or its id."""
    return {"file_id": part["file_id"]} if "file_id" in part else {"file_data": data_url(part)}


ONE_CALL: JSONObject = {"tool_choice": "required", "parallel_tool_calls": False}
"""Asks for exactly one call."""


def function(tool: ToolSchema) -> JSONObject:
    """A tool as a strict function."""
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": tool.schema, "strict": True}


def with_options(
    tail: JSONObject,
    options: JSONObject,
    *,
    worded: Callable[[str, Any], tuple[str, Any]],
    schema_field: str | None,
) -> JSONObject:
    """The settings of a job with those of one row over them.

    Objects are joined, so that a row's ``{"text": {"verbosity": "low"}}`` keeps the schema that is in the same object.
    ``max_output_tokens`` and ``reasoning_effort`` mean what they mean in the config; all others are fields of the body.

    Args:
        tail: The job's, which is not changed.
        options: The row's.
        worded: Gives a setting that has the config's name under the body's.
        schema_field: The field that holds the job's schema; None where it has none.

    Raises:
        InvalidInputError: A row sets what is not its own to set.
    """
    made = dict(tail)
    for given, wanted in options.items():
        if given in BUILT_FIELDS:
            raise InvalidInputError(f"options must not set {given}: the provider fills this field")
        name, value = worded(given, wanted)
        before = made.get(name)
        if name == schema_field and not _keeps_schema(name, value):
            raise InvalidInputError(
                f"options must not set {given} to {shown(value)}: what the job's output asks for is there"
            )
        made[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return made


def _keeps_schema(name: str, value: Any) -> bool:
    return name == "text" and isinstance(value, dict) and "format" not in value
