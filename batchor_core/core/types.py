"""Shapes of plain data that cross the engine's boundaries."""

from __future__ import annotations

from typing import Any, NotRequired, TypeAlias, TypedDict

JSONScalar: TypeAlias = "str | int | float | bool | None"
JSONValue: TypeAlias = "JSONScalar | list[JSONValue] | dict[str, JSONValue]"
"""Anything that ``json.dumps`` accepts without a custom encoder."""

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object."""


class BatchRequestLine(TypedDict):
    """One line of a batch input file, as the OpenAI Batch API defines it.

    Providers may add keys; ``custom_id`` and ``body`` are what the engine reads.
    """

    custom_id: str
    method: NotRequired[str]
    url: NotRequired[str]
    body: dict[str, Any]


class BatchRemoteRecord(TypedDict):
    """What a provider says about one of its batches.

    Only ``id`` and ``status`` are needed. File ids may be absent, None or empty while
    there is no such file. ``request_counts`` is passed through and never trusted.
    """

    id: str
    status: str
    input_file_id: NotRequired[str | None]
    output_file_id: NotRequired[str | None]
    error_file_id: NotRequired[str | None]
    created_at: NotRequired[float | None]
    expires_at: NotRequired[float | None]
    metadata: NotRequired[dict[str, str] | None]
    request_counts: NotRequired[dict[str, int] | None]
    errors: NotRequired[Any]
    usage: NotRequired[dict[str, Any] | None]
    model: NotRequired[str | None]
