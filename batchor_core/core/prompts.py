"""The prompt of one item: a text or a conversation, and the item's own settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from batchor_core.core.arguments import no_prompt, shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_limits import json_fault
from batchor_core.core.types import JSONObject

Message: TypeAlias = JSONObject
"""One turn of a conversation: ``role``, and ``content`` as text or a list of parts; see :class:`PromptParts`."""


class PromptFeature(StrEnum):
    """What a provider may support in a prompt besides its two texts."""

    MESSAGES = "messages"
    """Conversations: :attr:`PromptParts.messages`."""
    OPTIONS = "options"
    """Settings of a single item: :attr:`PromptParts.options`."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """What is sent for one item: a prompt, or a conversation instead (:meth:`of_messages`).

    A message is a dict with a ``role`` and a ``content``: a text, or a list of parts. Parts that every provider of
    conversations understands are::

        {"type": "text", "text": "What is this?"}
        {"type": "image", "url": "https://..."}                         # or data and media_type, or file_id; detail
        {"type": "file", "data": "<base64>", "media_type": "application/pdf", "name": "a.pdf"}  # or url, or file_id
        {"type": "audio", "data": "<base64>", "format": "wav"}

    Parts of any other type, and other keys of a message, are sent to the provider unchanged.

    Attributes:
        prompt: The user's turn; empty if there are messages.
        system_prompt: Instructions that come before it.
        messages: The conversation, oldest turn first; None if there is a prompt.
        options: Fields of this item's request that override those of the job, such as ``{"temperature": 0}``.

    Raises:
        InvalidInputError: There is neither a prompt nor a message, or both; or a part of it can't be sent.
    """

    prompt: str
    system_prompt: str | None = None
    messages: Sequence[Message] | None = field(default=None, hash=False)
    options: JSONObject | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        # few comparisons: there is one of these for each row in a job of millions
        if not (self.system_prompt is None or isinstance(self.system_prompt, str)) or not (
            (isinstance(self.prompt, str) and self.prompt) or self.messages is not None
        ):
            raise no_prompt(self.prompt, self.system_prompt)
        if self.messages is not None:
            if not (self.prompt is None or (isinstance(self.prompt, str) and not self.prompt)):
                raise InvalidInputError(
                    f"give a prompt or messages, not both; got prompt={shown(self.prompt)} and messages"
                )
            object.__setattr__(self, "prompt", "")
            _check_messages(self.messages)
        if self.options is not None:
            _check_options(self.options)

    @classmethod
    def of_messages(
        cls,
        messages: Sequence[Message],
        *,
        system_prompt: str | None = None,
        options: JSONObject | None = None,
    ) -> PromptParts:
        """A conversation instead of a prompt."""
        return cls("", system_prompt, messages, options)

    @property
    def features(self) -> list[PromptFeature]:
        """What a provider has to support besides the two texts."""
        used = [PromptFeature.MESSAGES] if self.messages is not None else []
        return [*used, PromptFeature.OPTIONS] if self.options else used


def _check_options(options: Any) -> None:
    if not isinstance(options, dict):
        raise InvalidInputError(f"options must be a dict of request fields, not {shown(options)}")
    if fault := json_fault(options):
        raise InvalidInputError(f"options must be JSON: options{fault.where} {fault.problem}; {fault.fix}")


def _check_messages(messages: Any) -> None:
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise InvalidInputError(f"messages must be a list of messages, not {shown(messages)}")
    if not messages:
        raise InvalidInputError("messages is empty; give at least one message, or a prompt")
    for number, message in enumerate(messages):
        _check_message(f"messages[{number}]", message)
    if fault := json_fault(messages):
        raise InvalidInputError(f"messages must be JSON: messages{fault.where} {fault.problem}; {fault.fix}")


def _check_message(where: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise InvalidInputError(f"{where} must be a dict with role and content, not {shown(message)}")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise InvalidInputError(f"{where} must have a role, such as 'user'; its role is {shown(role)}")
    if content is None and message.keys() > {"role", "content"}:
        return  # all that it says is in further keys, such as calls
    if isinstance(content, str) and content:
        return
    if not isinstance(content, list | tuple) or not content:
        raise InvalidInputError(
            f"{where}.content must be a non-empty string or list of parts, and is {shown(content)}"
        )
    for number, part in enumerate(content):
        _check_part(f"{where}.content[{number}]", part)


_SOURCES = ("url", "data", "file_id")
_PARTS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "text": (frozenset({"text"}), frozenset()),
    "image": (frozenset(), frozenset({*_SOURCES, "media_type", "detail"})),
    "file": (frozenset(), frozenset({*_SOURCES, "media_type", "name"})),
    "audio": (frozenset({"data", "format"}), frozenset()),
}
"""By type, the keys that a part must have and those that it may have; each holds a text."""


def _check_part(where: str, part: Any) -> None:
    if not isinstance(part, dict):
        hint = f'; write text as {{"type": "text", "text": {part[:20]!r}}}' if isinstance(part, str) else ""
        raise InvalidInputError(f"{where} must be a dict with a type, not {shown(part)}{hint}")
    kind = part.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidInputError(
            f"{where} must have a type, one of {', '.join(_PARTS)} or one of the provider's own; its type is {shown(kind)}"
        )
    if kind not in _PARTS:
        return
    needed, allowed = _PARTS[kind]
    keys = part.keys() - {"type"}
    if missing := needed - keys:
        raise InvalidInputError(f"{where}, of type {kind}, has no {' and no '.join(sorted(missing))}")
    if unknown := keys - needed - allowed:
        raise InvalidInputError(
            f"{where}, of type {kind}, has the unknown key {min(unknown, key=str)!r}; "
            f"it may have {', '.join(sorted(needed | allowed))}"
        )
    for key in keys:
        if not isinstance(part[key], str) or not part[key]:
            raise InvalidInputError(f"{where}.{key} must be a non-empty string, and is {shown(part[key])}")
    if not needed:
        _check_source(where, kind, keys)


def _check_source(where: str, kind: str, keys: set[str]) -> None:
    """Refuse a part without content, or with content from two places."""
    given = [source for source in _SOURCES if source in keys]
    if len(given) != 1:
        raise InvalidInputError(
            f"{where}, of type {kind}, must have exactly one of {', '.join(_SOURCES)}; it has {' and '.join(given) or 'none'}"
        )
    if ("data" in keys) != ("media_type" in keys):
        raise InvalidInputError(
            f"{where}, of type {kind}: data (base64) and media_type, such as 'image/png', go together"
        )
