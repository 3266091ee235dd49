"""Requests for embeddings: what of them is refused, and the responses to the others."""

from __future__ import annotations

import base64
import struct
from typing import Any

from batchor_core.testing.local_server.vectors import made_up_vector
from batchor_core.testing.local_server.words import count_tokens

ENDPOINT = "/v1/embeddings"

_DIMENSIONS = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
}
_OTHER_DIMENSIONS = 1_536
_FIXED_LENGTH = "text-embedding-ada-002"
_FIELDS = {"input", "model", "dimensions", "encoding_format", "user"}
_MAX_INPUTS = 2_048
_MAX_TOKENS = 8_192


def problem(body: dict[str, Any]) -> str | None:
    """Why the API would refuse a request, in its words as far as they are known; None if it would not."""
    unknown = sorted(body.keys() - _FIELDS)
    if unknown:
        return f"Unrecognized request argument supplied: {unknown[0]}"
    inputs = inputs_of(body)
    if not inputs or len(inputs) > _MAX_INPUTS or not all(map(_is_input, inputs)):
        return "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
    longest = max(map(_tokens, inputs))
    if longest > _MAX_TOKENS:
        return f"This model's maximum context length is {_MAX_TOKENS} tokens, however you requested {longest} tokens."
    if body.get("encoding_format", "float") not in ("float", "base64"):
        return "Invalid value for 'encoding_format': it must be 'float' or 'base64'."
    return _dimensions_problem(body)


def inputs_of(body: dict[str, Any]) -> list[Any]:
    """The texts, or lists of tokens, that a request has embedded."""
    given = body.get("input")
    return given if isinstance(given, list) and not (given and _is_token(given[0])) else [given]


def embeddings(body: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The response to a request that has no :func:`problem`, and the tokens that were read."""
    size = body.get("dimensions") or _DIMENSIONS.get(str(body.get("model")), _OTHER_DIMENSIONS)
    inputs = inputs_of(body)
    texts = [given if isinstance(given, str) else repr(given) for given in inputs]
    vectors = [struct.pack(f"<{size}f", *made_up_vector(text, size)) for text in texts]
    read = sum(map(_tokens, inputs))
    is_packed = body.get("encoding_format") == "base64"
    response = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector).decode()
                if is_packed
                else struct.unpack(f"<{size}f", vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": body.get("model"),
        "usage": {"prompt_tokens": read, "total_tokens": read},
    }
    return response, read


def _dimensions_problem(body: dict[str, Any]) -> str | None:
    wanted, model = body.get("dimensions"), str(body.get("model"))
    if wanted is None:
        return None
    if model == _FIXED_LENGTH:
        return "This model does not support specifying dimensions."
    most = _DIMENSIONS.get(model)
    if not _is_token(wanted) or wanted < 1 or (most is not None and wanted > most):
        up_to = "" if most is None else f" up to {most}"
        return f"Invalid value for 'dimensions' = {wanted!r}: it must be a positive integer{up_to}."
    return None


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_input(given: Any) -> bool:
    if isinstance(given, list):
        return bool(given) and all(map(_is_token, given))
    return isinstance(given, str) and bool(given)


def _tokens(given: Any) -> int:
    return count_tokens(given) if isinstance(given, str) else len(given)
