"""Requests to the Embeddings endpoint, the answers to them, and what contradicts them before anything is sent."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
import tiktoken
from openai.types import EmbeddingCreateParams
from pydantic import BaseModel, TypeAdapter

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.failures import ItemFailure
from batchor_core.core.models import BatchItem, BatchJob
from batchor_core.core.outputs import BodyOutput, Kept, ModelOutput, TextOutput, VectorOutput
from batchor_core.core.pricing import Unpriced
from batchor_core.core.prompts import PromptFeature, PromptParts
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig, tokens
from batchor_core.providers.openai.answers import read_body, read_record
from tests.unit.providers.test_openai_answers import embedding, row

SMALL = "text-embedding-3-small"
PACKED = struct.pack("<2f", 0.5, 1.0)
IN_BASE64 = base64.b64encode(PACKED).decode()


class Review(BaseModel):
    rating: int


def config(**settings: Any) -> OpenAIProviderConfig:
    return OpenAIProviderConfig(**{"model": SMALL, "endpoint": "/v1/embeddings", **settings})


def body(prompt: PromptParts, output: VectorOutput | None, **settings: Any) -> dict[str, Any]:
    api = as_batch_api(OpenAIBatchProvider(config(**settings)))
    line = api.request_line(custom_id="a", prompt=prompt, output=output)
    assert (line["custom_id"], line["method"], line["url"]) == ("a", "POST", "/v1/embeddings")
    return line["body"]


def job(output: Any, **settings: Any) -> BatchJob[Any, Any]:
    return BatchJob([BatchItem("a", "a")], lambda item: item.payload, config(**settings), output=output)


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_asks_for_the_dimensions_of_the_output_in_base64() -> None:
    made = body(PromptParts("hello"), VectorOutput(256))
    assert made == {"model": SMALL, "input": "hello", "encoding_format": "base64", "dimensions": 256}
    TypeAdapter(EmbeddingCreateParams).validate_python(made)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"request_options": {"user": "u-1"}}, {"encoding_format": "base64", "dimensions": 8, "user": "u-1"}),
        ({"request_options": {"dimensions": 8}}, {"encoding_format": "base64", "dimensions": 8}),
        # a server that has no base64, or whose model has one length
        ({"request_options": {"encoding_format": "float"}}, {"encoding_format": "float", "dimensions": 8}),
        ({"request_options": {"dimensions": None}}, {"encoding_format": "base64"}),
        ({"request_options": {"dimensions": None, "encoding_format": None}}, {}),
        ({"model": "text-embedding-ada-002"}, {"encoding_format": "base64"}),
        ({"request_options": {"input_type": "query"}}, {"encoding_format": "base64", "dimensions": 8, "input_type": "query"}),
    ],
)  # fmt: skip
def test_options_of_the_job_are_fields_of_the_request(
    settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    made = body(PromptParts("hello"), VectorOutput(8), **settings)
    assert made == {"model": settings.get("model", SMALL), "input": "hello", **fields}


def test_a_row_has_options_of_its_own() -> None:
    prompt = PromptParts("hello", options={"user": "u-2"})
    assert body(prompt, VectorOutput(8), request_options={"user": "u-1"})["user"] == "u-2"


def test_whole_bodies_are_asked_for_as_the_options_say() -> None:
    options = {"dimensions": 16, "encoding_format": "float"}
    assert body(PromptParts("hello"), None, request_options=options) == {
        "model": SMALL,
        "input": "hello",
        **options,
    }


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (PromptParts("hello", "be kind"), "has a system prompt.*leave the system prompt out"),
        (PromptParts("hello", options={"dimensions": 4}), "options must not set dimensions"),
        (PromptParts("hello", options={"encoding_format": "float"}), "options must not set encoding_format"),
        (PromptParts("hello", options={"temperature": 0}), "options must not set temperature"),
        (PromptParts("hello", options={"input": "bye"}), "options must not set input"),
    ],
)
def test_what_a_row_can_not_ask_for_is_refused(prompt: PromptParts, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        body(prompt, VectorOutput(8))


def test_a_row_has_no_conversation() -> None:
    assert as_batch_api(OpenAIBatchProvider(config())).limits.prompts == {PromptFeature.OPTIONS}


def test_the_estimate_is_that_of_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}

    def get_encoding(name: str) -> tiktoken.Encoding:
        assert name == "cl100k_base"
        return tiktoken.Encoding(name, pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={})

    monkeypatch.setattr(tiktoken, "get_encoding", get_encoding)
    monkeypatch.setattr(tokens, "_encodings", {})
    api = as_batch_api(OpenAIBatchProvider(config()))
    lines = [
        api.request_line(custom_id="a", prompt=PromptParts(text), output=VectorOutput(8))
        for text in ("hello", "hello hello")
    ]
    assert api.estimate_tokens(lines, chars_per_token=4) == [5, 11]


# --- jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "settings", "said"),
    [
        (VectorOutput(256), {"request_options": {"dimensions": 1536}}, r"dimensions=1536, and .* VectorOutput\(256\).*paid"),
        (VectorOutput(256), {"request_options": {"dimensions": None}}, r"have 1,536 dimensions .*give VectorOutput\(1536\)"),
        (VectorOutput(256), {"model": "text-embedding-ada-002"}, "text-embedding-ada-002 have 1,536 dimensions"),
        (VectorOutput(1), {"request_options": {"dimensions": True}}, "dimensions=True"),
        (VectorOutput(256), {"request_options": {"encoding_format": "hex"}}, "'base64' or 'float'"),
        (VectorOutput(256, "int8"), {}, "answers with float32"),
        (TextOutput(), {}, r"of the kind 'text'.* gives vector or body; give the job output=VectorOutput\(dimensions\)"),
        (ModelOutput(Review), {}, "of the kind 'model'"),
        (VectorOutput(256), {"endpoint": "/v1/responses"}, "of the kind 'vector'.* the config endpoint='/v1/embeddings'"),
        (VectorOutput(256), {"endpoint": "/v1/chat/completions"}, "endpoint='/v1/embeddings'"),
    ],
)  # fmt: skip
def test_a_job_that_contradicts_itself_is_refused(output: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        job(output, **settings)


@pytest.mark.parametrize(
    ("output", "options"),
    [
        (VectorOutput(256), {"dimensions": 256}),
        (VectorOutput(256, "float64"), {"encoding_format": "float"}),
        (VectorOutput(1536), {"dimensions": None}),
        (BodyOutput(), {"dimensions": 256}),
    ],
)
def test_a_job_that_fits_is_made(output: Any, options: dict[str, Any]) -> None:
    assert job(output, request_options=options).output_spec == output


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"max_output_tokens": 9, "request_options": {"temperature": 0}}, "max_output_tokens, temperature"),
        ({"request_options": {"response_format": {}}}, "response_format"),
    ],
)
def test_settings_of_models_that_write_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(
        InvalidInputError, match=f"{said} can't be set for the endpoint /v1/embeddings; leave it out"
    ):
        config(**settings)


def test_no_batch_price_is_guessed() -> None:
    from datetime import UTC, datetime

    assert isinstance(config().batch_rates(at=datetime(2026, 11, 1, tzinfo=UTC)), Unpriced)


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        row(embedding(IN_BASE64)),
        row(embedding([0.5, 1])),
        row(embedding(IN_BASE64), 201),
        {"custom_id": "a", "response": {"body": embedding(IN_BASE64)}},  # without a status
        row({"data": [{"embedding": IN_BASE64}], "usage": {"prompt_tokens": 5}}),
    ],
)
def test_a_vector_is_stored_as_its_bytes(record: dict[str, Any]) -> None:
    answer = read_record(record)
    assert (answer.custom_id, answer.text, answer.failure, answer.usage) == ("a", None, None, TokenUsage(5))
    assert VectorOutput(2).check(answer) == Kept(data=PACKED)


@pytest.mark.parametrize(
    ("found", "error_class", "retryable"),
    [
        (embedding(), "invalid_vector", True),
        (embedding(None), "invalid_vector", True),
        (embedding(IN_BASE64, IN_BASE64), "invalid_vector", False),
        (embedding({"values": [1, 2]}), "invalid_vector", True),
        (embedding("!"), "invalid_vector", True),
        (embedding(IN_BASE64[:-2]), "invalid_vector", True),
        (embedding(""), "vector_wrong_dimensions", False),
        (embedding([]), "vector_wrong_dimensions", False),
        (embedding([0.5]), "vector_wrong_dimensions", False),
        (embedding([0.5, None]), "invalid_vector", True),
        (embedding(base64.b64encode(struct.pack("<2f", 0.5, float("nan"))).decode()), "vector_not_finite", False),
    ],
)  # fmt: skip
def test_what_is_not_the_vector_is_a_failure(
    found: dict[str, Any], error_class: str, retryable: bool
) -> None:
    answer = read_record(row(found))
    failure = answer.failure or VectorOutput(2).check(answer)
    assert isinstance(failure, ItemFailure)
    assert (failure.error_class, failure.retryable, answer.count_attempt) == (error_class, retryable, True)
    assert answer.usage == TokenUsage(5)


def test_a_vector_is_no_text() -> None:
    failure = TextOutput().check(read_record(row(embedding(IN_BASE64))))
    assert isinstance(failure, ItemFailure)
    assert failure.error_class == "non_text_answer"


def test_the_whole_body_is_an_answer_too() -> None:
    found = embedding([0.5, 1])
    answer = read_body(row(found))
    assert (answer.failure, answer.value) == (None, found)
