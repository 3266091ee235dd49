"""Made-up answers: plausible, valid and always the same for the same request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from batchor_core.testing.local_server.schema_answers import SchemaAnswers
from batchor_core.testing.local_server.words import words_of

_SPOKEN_WORDS = 12


def spoken_answer(text: str) -> str:
    """A short text from the prompt's words."""
    spoken = " ".join(words_of(text)[:_SPOKEN_WORDS]) or "nothing in particular"
    return f"You asked about: {spoken}."


def json_answer(
    text: str, schema: dict[str, Any], *, problem: Callable[[dict[str, Any]], str | None] | None = None
) -> str:
    """JSON that satisfies a schema, of the prompt's words.

    Args:
        text: What the user said.
        schema: The schema.
        problem: Says why the vendor would refuse the schema.

    Raises:
        ValueError: The schema is refused, or can't be followed here. Also KeyError and TypeError.
    """
    answers = _compiled(orjson.dumps(schema), problem)
    return orjson.dumps(answers.value(words_of(text), seed_of(text))).decode()


def seed_of(text: str) -> int:
    """A number that a text always gives."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest())


@lru_cache(maxsize=64)
def _compiled(schema: bytes, problem: Callable[[dict[str, Any]], str | None] | None) -> SchemaAnswers:
    parsed = orjson.loads(schema)
    found = problem(parsed) if problem is not None else None
    if found is not None:
        raise ValueError(found)
    return SchemaAnswers(parsed)
