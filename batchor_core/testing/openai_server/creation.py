"""What the API checks, and refuses at once, when a batch is created."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchor_core.testing.local_server.errors import bad_request

ENDPOINTS = (
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)
"""Every endpoint that a batch may name."""

_MAX_PAIRS, _MAX_KEY, _MAX_VALUE = 16, 64, 512


def check_create(request: Mapping[str, Any]) -> None:
    """Check all of a create request but its file.

    Raises:
        ApiError: It is not what the API takes.
    """
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(request.get(name), str) or not request[name]:
            message = f"Missing required parameter: '{name}'."
            raise bad_request(message, param=name, code="missing_required_parameter")
    _check_choice(request, "endpoint", ENDPOINTS)
    _check_choice(request, "completion_window", ("24h",))
    _check_metadata(request.get("metadata"))


def _check_choice(request: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> None:
    if request[name] not in choices:
        supported = ", ".join(f"'{choice}'" for choice in choices)
        message = f"Invalid value: '{request[name]}'. Supported values are: {supported}."
        raise bad_request(message, param=name, code="invalid_value")


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        message = "Invalid type for 'metadata': expected an object."
        raise bad_request(message, param="metadata", code="invalid_type")
    if len(metadata) > _MAX_PAIRS:
        message = (
            f"Invalid 'metadata': too many properties. Expected at most {_MAX_PAIRS}, got {len(metadata)}."
        )
        raise bad_request(message, param="metadata", code="object_above_max_properties")
    for key, value in metadata.items():
        if not isinstance(value, str):
            message = f"Invalid type for 'metadata.{key}': expected a string."
            raise bad_request(message, param=f"metadata.{key}", code="invalid_type")
        if len(key) > _MAX_KEY or len(value) > _MAX_VALUE:
            message = (
                f"Invalid 'metadata.{key}': keys have at most {_MAX_KEY} characters, values {_MAX_VALUE}."
            )
            raise bad_request(message, param=f"metadata.{key}", code="string_above_max_length")
