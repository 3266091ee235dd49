"""The Moderations and Completions endpoints: requests of one text, and what is made of their answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types import Completion, CompletionCreateParams, ModerationCreateParams, ModerationCreateResponse
from openai.types.image_generate_params import ImageGenerateParamsNonStreaming
from pydantic import TypeAdapter

from batchor_core import BatchItem, BatchJob, BatchRunner, BodyOutput, MemoryStateStore, OpenAIProviderConfig
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.outputs import TextOutput, VectorOutput
from batchor_core.core.prompts import PromptParts
from batchor_core.providers.openai import OpenAIBatchProvider
from batchor_core.providers.openai.answers import read_body, read_record
from batchor_core.testing.openai_server import OpenAIServer
from tests.unit.providers.test_openai_answers import row

SETTINGS: dict[str, dict[str, Any]] = {
    "/v1/moderations": {"model": "omni-moderation-latest"},
    "/v1/completions": {"model": "gpt-3.5-turbo-instruct", "max_output_tokens": 99},
}


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(batch_seconds=0) as running:
        yield running


def config(endpoint: str, **settings: Any) -> OpenAIProviderConfig:
    return OpenAIProviderConfig(endpoint=endpoint, **{**SETTINGS[endpoint], **settings})  # type: ignore[arg-type]


def body(endpoint: str, prompt: PromptParts, **settings: Any) -> dict[str, Any]:
    provider = OpenAIBatchProvider(config(endpoint, **settings))
    return provider.build_request_line(custom_id="a", prompt_parts=prompt)["body"]


def outputs(server: OpenAIServer, folder: Path, endpoint: str, output: Any, *texts: str) -> list[Any]:
    job: BatchJob[Any, Any] = BatchJob(
        [BatchItem(text, text) for text in texts],
        lambda item: item.payload,
        config(endpoint, base_url=server.base_url, api_key="any", poll_interval_sec=0.0),
        output=output,
    )
    runner = BatchRunner(storage=MemoryStateStore(), artifact_store=LocalArtifactStore(folder))
    return [result.output for result in runner.run_and_wait(job).results()]


def test_a_moderation_is_asked_for() -> None:
    made = body("/v1/moderations", PromptParts("hello"))
    assert made == {"model": "omni-moderation-latest", "input": "hello"}
    TypeAdapter(ModerationCreateParams).validate_python(made)


def test_a_completion_is_asked_for() -> None:
    prompt = PromptParts("Once", options={"max_output_tokens": 5})
    made = body("/v1/completions", prompt, request_options={"temperature": 0})
    assert made == {"model": "gpt-3.5-turbo-instruct", "prompt": "Once", "max_tokens": 5, "temperature": 0}
    TypeAdapter(CompletionCreateParams).validate_python(made)


@pytest.mark.parametrize("endpoint", SETTINGS)
def test_a_row_is_one_text(endpoint: str) -> None:
    with pytest.raises(InvalidInputError, match=f"system prompt, and {endpoint} reads one text alone"):
        body(endpoint, PromptParts("hello", "be kind"))
    with pytest.raises(InvalidInputError, match="options must not set tools"):
        body(endpoint, PromptParts("hello", options={"tools": []}))


@pytest.mark.parametrize(
    ("endpoint", "settings", "said"),
    [
        ("/v1/moderations", {"max_output_tokens": 5}, "max_output_tokens can't be set for the endpoint /v1/moderations"),
        ("/v1/completions", {"reasoning_effort": "low"}, "reasoning_effort can't be set"),
        ("/v1/completions", {"request_options": {"prompt": "Twice"}}, "prompt can't be set"),
        ("/v1/completions", {"max_output_tokens": None}, "ends answers after 16 tokens .* set max_output_tokens"),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_are_refused(endpoint: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        config(endpoint, **settings)


@pytest.mark.parametrize(
    ("endpoint", "output", "said"),
    [
        ("/v1/moderations", TextOutput(), r"gives body; give the job output=BodyOutput\(\)"),
        ("/v1/completions", VectorOutput(3), "gives text or body; give the job no output"),
    ],
)
def test_other_outputs_are_refused(endpoint: str, output: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        config(endpoint).check_output(output)


def test_texts_are_moderated(server: OpenAIServer, tmp_path: Path) -> None:
    found = outputs(server, tmp_path, "/v1/moderations", BodyOutput(), "Have a nice day", "I kill you")
    results = [ModerationCreateResponse.model_validate(one).results[0] for one in found]
    assert [(result.flagged, result.categories.violence) for result in results] == [
        (False, False),
        (True, True),
    ]


def test_texts_are_continued(server: OpenAIServer, tmp_path: Path) -> None:
    (text,) = outputs(server, tmp_path / "text", "/v1/completions", None, "Once upon a time")
    assert "Once upon a time" in text
    (whole,) = outputs(server, tmp_path / "body", "/v1/completions", BodyOutput(), "Once upon a time")
    assert Completion.model_validate(whole).choices[0].text == text


def test_a_moderation_is_no_text() -> None:
    failure = read_record(row({"id": "modr-1", "results": [{"flagged": False}]})).failure
    assert failure is not None
    assert (failure.error_class, failure.retryable) == ("non_text_answer", False)


def test_images_are_asked_for_and_kept_as_bodies() -> None:
    endpoint: Any = "/v1/images/generations"
    made = OpenAIProviderConfig("gpt-image-1", endpoint=endpoint, request_options={"size": "1024x1024"})
    made.check_output(BodyOutput())
    line = OpenAIBatchProvider(made).build_request_line(
        custom_id="a", prompt_parts=PromptParts("a cat", options={"n": 2})
    )
    assert line["url"] == endpoint
    assert line["body"] == {"model": "gpt-image-1", "prompt": "a cat", "size": "1024x1024", "n": 2}
    TypeAdapter(ImageGenerateParamsNonStreaming).validate_python(line["body"])
    answer = row(
        {"created": 1, "data": [{"b64_json": "AAAA"}], "usage": {"input_tokens": 3, "output_tokens": 4}}
    )
    read = read_body(answer)
    assert (read.failure, read.value["data"], read.usage and read.usage.output_tokens) == (
        None,
        [{"b64_json": "AAAA"}],
        4,
    )
    failure = read_record(answer).failure
    assert failure is not None
    assert failure.error_class == "non_text_answer"
    with pytest.raises(InvalidInputError, match="gives body"):
        made.check_output(TextOutput())
