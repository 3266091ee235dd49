"""The prompt of one item: a text or a conversation, and the item's own settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from batchor_core.core.arguments import no_prompt, shown
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.json_limits import json_fault
from batchor_core.core.parts import checked_parts
from batchor_core.core.types import JSONObject

Message: TypeAlias = JSONObject
"""One turn of a conversation: ``role``, and ``content`` as text or a list of parts; see :class:`PromptParts`."""


class PromptFeature(StrEnum):
    """What a provider may support in a prompt besides its two texts."""

    MESSAGES = "messages"
    """Conversations: :attr:`PromptParts.messages`."""
    OPTIONS = "options"
    """Settings of a single item: :attr:`PromptParts.options`."""
    MODEL = "model"
    """A model of a single item, as ``model`` in its options. Batches are made of items of one model."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """What is sent for one item: a prompt, or a conversation instead (:meth:`of_messages`).

    A message is a dict with a ``role`` and a ``content``: a text, or a list of parts. Parts that every provider of
    conversations understands are::

        {"type": "text", "text": "What is this?"}
        {"type": "image", "path": Path("photos/1.jpg")}
        {"type": "file", "data": b"%PDF-...", "name": "a.pdf"}
        {"type": "audio", "url": "https://..."}

    An image, a file or audio has exactly one of ``path``, ``data`` (bytes, or base64 text with ``media_type``), ``url`` and
    ``file_id``; see ``batchor_core.core.parts`` for their other keys. A local file is read once, while its row is read:
    what is stored then is what is sent, whatever becomes of the file. A provider refuses what it can't take. Parts of any
    other type, and other keys of a message, are sent to the provider unchanged.

    Attributes:
        prompt: The user's turn; empty if there are messages.
        system_prompt: Instructions that come before it.
        messages: The conversation, oldest turn first; None if there is a prompt. Contents that were given as bytes are
            base64 here.
        options: Fields of this item's request that override those of the job, such as ``{"temperature": 0}``. ``model`` is one of
            them; items of different models are sent in different batches.

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
            object.__setattr__(self, "messages", _checked_messages(self.messages))
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
        if self.options:
            used.append(PromptFeature.OPTIONS)
        return used if self.model is None else [*used, PromptFeature.MODEL]

    @property
    def model(self) -> str | None:
        """The model that the item names itself; None for that of the job."""
        return self.options.get("model") if self.options else None


def _check_options(options: Any) -> None:
    if not isinstance(options, dict):
        raise InvalidInputError(f"options must be a dict of request fields, not {shown(options)}")
    if fault := json_fault(options):
        raise InvalidInputError(f"options must be JSON: options{fault.where} {fault.problem}; {fault.fix}")
    if "model" in options and (not isinstance(options["model"], str) or not options["model"]):
        raise InvalidInputError(f"options.model must be a non-empty string, and is {shown(options['model'])}")


def _checked_messages(messages: Any) -> Sequence[Message]:
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise InvalidInputError(f"messages must be a list of messages, not {shown(messages)}")
    if not messages:
        raise InvalidInputError("messages is empty; give at least one message, or a prompt")
    checked = [_checked_message(f"messages[{number}]", message) for number, message in enumerate(messages)]
    if fault := json_fault(checked):
        raise InvalidInputError(f"messages must be JSON: messages{fault.where} {fault.problem}; {fault.fix}")
    is_changed = any(one is not other for one, other in zip(checked, messages, strict=True))
    return checked if is_changed else messages


def _checked_message(where: str, message: Any) -> Message:
    if not isinstance(message, dict):
        raise InvalidInputError(f"{where} must be a dict with role and content, not {shown(message)}")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise InvalidInputError(f"{where} must have a role, such as 'user'; its role is {shown(role)}")
    if content is None and message.keys() > {"role", "content"}:
        return message  # all that it says is in further keys, such as calls
    if isinstance(content, str) and content:
        return message
    if not isinstance(content, list | tuple) or not content:
        raise InvalidInputError(
            f"{where}.content must be a non-empty string or list of parts, and is {shown(content)}"
        )
    checked = checked_parts(f"{where}.content", content)
    return message if checked is content else {**message, "content": checked}
