"""Vectors that searches can be tried on, and requests for them that the live service would refuse."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from batchor_core.testing.openai_server.embeddings import embeddings, problem

SMALL = {"model": "text-embedding-3-small", "input": "hello"}


def vectors(*texts: str, **body: Any) -> list[list[float]]:
    response, _ = embeddings({**SMALL, "input": list(texts), **body})
    return [entry.embedding for entry in CreateEmbeddingResponse.model_validate(response).data]


def cosine(one: list[float], other: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("text", ["A hammer", "?!", " ", "молоток", "\ud83d", "a b c d e f g h"])
@pytest.mark.parametrize("size", [1, 2, 8, 256])
def test_every_text_has_one_unit_vector(text: str, size: int) -> None:
    one, other = vectors(text, text, dimensions=size)
    assert one == other
    assert len(one) == size
    assert cosine(one, one) == pytest.approx(1.0)


def test_texts_that_share_words_are_near_each_other() -> None:
    question, near, inflected, far = vectors(
        "drive a nail into wood",
        "a tool to drive nails",
        "driving through woods",
        "a fruit with a thick peel",
    )
    assert cosine(question, near) > cosine(question, far) + 0.2
    assert cosine(question, inflected) > cosine(question, far) + 0.05


def test_base64_holds_the_same_numbers_as_float32() -> None:
    (numbers,) = vectors("A hammer", dimensions=16)
    response, tokens = embeddings(
        {**SMALL, "input": "A hammer", "dimensions": 16, "encoding_format": "base64"}
    )
    packed = base64.b64decode(response["data"][0]["embedding"])
    assert list(struct.unpack("<16f", packed)) == numbers
    assert response["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert tokens == 2


@pytest.mark.parametrize(
    ("model", "size"),
    [("text-embedding-3-small", 1536), ("text-embedding-3-large", 3072), ("text-embedding-ada-002", 1536), ("x", 1536)],
)  # fmt: skip
def test_each_model_has_its_own_length(model: str, size: int) -> None:
    assert [len(one) for one in vectors("hello", model=model)] == [size]


@pytest.mark.parametrize(
    "body",
    [
        {"input": "hello", "dimensions": 1536, "encoding_format": "base64", "user": "u"},
        {"input": ["hello", "you"]},
        {"input": [1, 2, 3]},
        {"input": [[1, 2], [3]]},
        {"model": "x", "dimensions": 4096},
    ],
)
def test_a_request_of_the_documented_form_is_answered(body: dict[str, Any]) -> None:
    assert problem({**SMALL, **body}) is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": None}, "'$.input' is invalid"),
        ({"input": ""}, "'$.input' is invalid"),
        ({"input": []}, "'$.input' is invalid"),
        ({"input": ["hello", ""]}, "'$.input' is invalid"),
        ({"input": ["hello", 1]}, "'$.input' is invalid"),
        ({"input": {"text": "hello"}}, "'$.input' is invalid"),
        ({"input": ["a"] * 2049}, "'$.input' is invalid"),
        ({"input": "word " * 8000}, "maximum context length is 8192 tokens, however you requested 10000"),
        ({"encoding_format": "hex"}, "'encoding_format'"),
        ({"dimensions": 0}, "'dimensions' = 0"),
        ({"dimensions": 2000}, "up to 1536"),
        ({"dimensions": "256"}, "'dimensions' = '256'"),
        ({"dimensions": True}, "'dimensions' = True"),
        ({"model": "text-embedding-ada-002", "dimensions": 1536}, "does not support specifying dimensions"),
        ({"temperature": 0}, "Unrecognized request argument supplied: temperature"),
        ({"messages": []}, "Unrecognized request argument supplied: messages"),
    ],
)
def test_any_other_is_refused(body: dict[str, Any], said: str) -> None:
    assert said in str(problem({**SMALL, **body}))
