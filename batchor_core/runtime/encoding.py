"""An item's request and metadata as JSON text, and errors that name the item and its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import BatchItem, PromptParts
from batchor_core.storage.columns import encode_strictly

_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_LINEAGE = "batchor_lineage"


def encoded_request(request: Any, prompt: PromptParts, item: BatchItem[Any]) -> bytes:
    """A request line, or the body of one, as JSON.

    Raises:
        InvalidInputError: The prompt holds half of a surrogate pair, or the provider built something that is not JSON.
    """
    try:
        return orjson.dumps(request, option=_STRICT)
    except (TypeError, ValueError, RecursionError) as error:
        for name, text in (("prompt", prompt.prompt), ("system prompt", prompt.system_prompt)):
            if text is not None and (half := _half_pair(text)) is not None:
                raise InvalidInputError(
                    f"{named(item)}: its {name} {_half_pair_problem(text, half)}"
                ) from error
        raise InvalidInputError(f"{named(item)}: the provider's request is not JSON ({error})") from error


def check_ids(items: Sequence[BatchItem[Any]]) -> None:
    """Refuse ids without a UTF-8 form: in a Parquet file, two of them would be one. Runs that have such ids are still read.

    Raises:
        InvalidInputError: An id holds half of a surrogate pair.
    """
    if _half_pair("".join([item.item_id for item in items])) is None:
        return
    for item in items:
        if (half := _half_pair(item.item_id)) is not None:
            raise InvalidInputError(
                f"{named(item)}: its item_id {_half_pair_problem(item.item_id, half, 'result file', 'item_id')}"
            )


def encoded_metadata(item: BatchItem[Any]) -> str:
    """The item's metadata as JSON, as the stores keep it.

    Raises:
        InvalidInputError: It is no dict, or a part of it is no JSON value.
    """
    metadata = item.metadata
    if not isinstance(metadata, dict):
        raise InvalidInputError(f"{named(item)}: metadata must be a dict, not {type(metadata).__name__}")
    try:
        return encode_strictly(metadata)
    except TypeError as error:
        raise InvalidInputError(
            f"{named(item)}: its metadata can't be stored as JSON ({error}). Convert it with "
            "batchor_core.sources.rows.json_safe, or to str, int, float, bool, None, lists and dicts with string keys."
        ) from error


def named(item: BatchItem[Any]) -> str:
    """An item and, where a source noted it, the file and row that it comes from."""
    lineage = item.metadata.get(_LINEAGE) if isinstance(item.metadata, Mapping) else None
    if isinstance(lineage, Mapping) and isinstance(index := lineage.get("row_index"), int):
        return f"item {item.item_id!r} ({lineage.get('source_path')}, row {index + 1})"
    return f"item {item.item_id!r}"


def about(item: BatchItem[Any], error: InvalidInputError) -> InvalidInputError:
    """What is wrong with a prompt, with the item that it is for."""
    return InvalidInputError(f"{named(item)}: {error}")


def _half_pair(text: str) -> int | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _half_pair_problem(text: str, at: int, carrier: str = "request", place: str = "build_prompt") -> str:
    return (
        f"holds half of a surrogate pair (\\u{ord(text[at]):04x} at character {at + 1}), which no {carrier} can carry. Text "
        f"that was cut in the middle of an emoji has one at its end. Replace such halves in {place} or in the data: "
        'text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
    )
