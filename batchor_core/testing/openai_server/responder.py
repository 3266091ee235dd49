"""The answers the server gives when nobody tells it better: plausible, valid and always the same."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import orjson

from batchor_core.testing.openai_server.prompts import prompt_words
from batchor_core.testing.openai_server.replies import Reply
from batchor_core.testing.openai_server.schema_answers import SchemaAnswers

_SPOKEN_WORDS = 12


def default_responder(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
    """Answer from the prompt's words: a valid object where the request has a JSON schema, else a short text.

    Depends on the request's text and schema alone, so the same request is always answered alike.
    """
    words = prompt_words(body)
    schema = answer_schema(body)
    if schema is None:
        spoken = " ".join(words[:_SPOKEN_WORDS]) or "nothing in particular"
        return Reply.answer(f"You asked about: {spoken}.")
    try:
        answers = _compiled(orjson.dumps(schema))
    except (KeyError, TypeError, ValueError) as unusable:
        return Reply.http_error(400, "invalid_json_schema", f"Invalid schema for response_format: {unusable}")
    return Reply.answer(orjson.dumps(answers.value(words, _seed(words))).decode())


def answer_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that the request wants its answer to follow; an open object for plain JSON mode."""
    responses_format = _member(_member(body, "text"), "format")
    chat_format = _member(body, "response_format")
    for wanted in (responses_format, _member(chat_format, "json_schema"), chat_format):
        schema = wanted.get("schema")
        if isinstance(schema, dict):
            return schema
        if wanted.get("type") == "json_object":
            return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return None


def _member(holder: dict[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _seed(words: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest())


@lru_cache(maxsize=64)
def _compiled(schema: bytes) -> SchemaAnswers:
    return SchemaAnswers(orjson.loads(schema))
