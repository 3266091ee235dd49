"""Rendering items: their prompts and their metadata, which needs neither a provider nor a store."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem, PromptBuilder, PromptParts
from batchor_core.core.parts import parts_of
from batchor_core.core.rendered import RenderedChunk
from batchor_core.runtime.encoding import about, encoded_metadata, named
from batchor_core.sources.rows import LINEAGE_KEY
from batchor_core.storage.columns import encode_strictly


class Asked(NamedTuple):
    """What a job asks of a chunk of its items: all that has to stay the same when the run is started again.

    Attributes:
        first_index: Index of the first item.
        items: The items.
        prompts: Their prompts.
        metadata: Their metadata as JSON.
    """

    first_index: int
    items: list[BatchItem[Any]]
    prompts: list[PromptParts]
    metadata: list[str]

    @property
    def end(self) -> int:
        """The index after the last item."""
        return self.first_index + len(self.items)

    def add(self, item: BatchItem[Any], build_prompt: PromptBuilder) -> int:
        """Render one more item and return about how many bytes its request will take.

        Raises:
            InvalidInputError: The item, its prompt or its metadata can't be used; says which and why.
        """
        _check_id(item, self.end)
        prompt = _prompt(item, build_prompt)
        metadata = encoded_metadata(item)
        self.items.append(item)
        self.prompts.append(prompt)
        self.metadata.append(metadata)
        return _size(prompt)

    def digest(self) -> RenderedChunk:
        """What is kept to know the same items by."""
        return RenderedChunk.of(
            self.first_index,
            item_ids=[item.item_id for item in self.items],
            prompts=[prompt.prompt for prompt in self.prompts],
            system_prompts=[prompt.system_prompt for prompt in self.prompts],
            messages=[prompt.messages for prompt in self.prompts],
            options=[prompt.options or None for prompt in self.prompts],
            metadata=[
                text
                if LINEAGE_KEY not in item.metadata
                else "{"
                if len(item.metadata) == 1
                else _without_lineage(item, text)
                for item, text in zip(self.items, self.metadata, strict=True)
            ],
        )


def _without_lineage(item: BatchItem[Any], text: str) -> str:
    """Metadata without the row's location, since files may be moved: the JSON text before it."""
    if next(reversed(item.metadata)) == LINEAGE_KEY:  # as the file sources have it
        return text[: text.rfind(_LINEAGE)]
    return encode_strictly({k: value for k, value in item.metadata.items() if k != LINEAGE_KEY})


_LINEAGE = f'"{LINEAGE_KEY}":'


def ask(items: Iterable[BatchItem[Any]], first_index: int, build_prompt: PromptBuilder) -> Asked:
    """Render items: the part of ingestion that needs neither a provider nor a store.

    Raises:
        InvalidInputError: An item, its prompt or its metadata can't be used; says which and why.
    """
    asked = Asked(first_index, [], [], [])
    for item in items:
        asked.add(item, build_prompt)
    return asked


def _check_id(item: BatchItem[Any], index: int) -> None:
    if not isinstance(item, BatchItem):
        raise InvalidInputError(
            f"item {index} is a {type(item).__name__}; a job's items must be BatchItem objects"
        )
    if not isinstance(item.item_id, str) or not item.item_id:
        raise InvalidInputError(f"item {index} has item_id {item.item_id!r}; it must be a non-empty string")


def _prompt(item: BatchItem[Any], build_prompt: PromptBuilder) -> PromptParts:
    try:
        prompt = build_prompt(item)
        if isinstance(prompt, str):
            return PromptParts(prompt)
    except Exception as error:
        error.add_note(f"build_prompt raised this for {named(item)}")
        if type(error) is InvalidInputError:  # of PromptParts: the message itself should name the item
            raise about(item, error) from error
        raise
    if not isinstance(prompt, PromptParts):
        raise InvalidInputError(
            f"build_prompt returned a {type(prompt).__name__} for {named(item)}; return a str or PromptParts"
        )
    return prompt


def _size(prompt: PromptParts) -> int:
    size = len(prompt.prompt) + len(prompt.system_prompt or "")
    if prompt.messages is None:
        return size
    for message in prompt.messages:
        content = message.get("content")
        size += len(content) if isinstance(content, str) else 0
    return size + sum(_size_of_part(part) for part in parts_of(prompt.messages))


def _size_of_part(part: Any) -> int:
    size = sum(len(value) for value in part.values() if isinstance(value, str))
    if "path" in part:
        with suppress(OSError):  # who reads it will say what is wrong with it
            size += Path(part["path"]).stat().st_size * 4 // 3
    return size
