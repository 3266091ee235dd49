from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import tiktoken

from batchor_core.core.models import PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig, tokens

SCHEMA = StructuredOutputSchema("answer", {"type": "object"})
ONE_MESSAGE = tokens.PROMPT_OVERHEAD + tokens.MESSAGE_OVERHEAD


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_encodings", {})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """tiktoken without its files: single letters are tokens, and so is "ab". Lists the names that were loaded."""
    names: list[str] = []

    def get_encoding(name: str) -> tiktoken.Encoding:
        names.append(name)
        ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 256}
        return tiktoken.Encoding(
            name, pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|end|>": 257}
        )

    monkeypatch.setattr(tiktoken, "get_encoding", get_encoding)
    return names


def provider(**settings: Any) -> OpenAIBatchProvider:
    return OpenAIBatchProvider(OpenAIProviderConfig(**{"model": "gpt-4.1", **settings}))


def estimate(
    made: OpenAIBatchProvider, *prompts: PromptParts, schema: StructuredOutputSchema | None = None
) -> list[int]:
    lines = [
        made.build_request_line(custom_id="a", prompt_parts=prompt, structured_output=schema)
        for prompt in prompts
    ]
    together = made.estimate_tokens(lines, chars_per_token=4)
    assert together == [made.estimate_request_tokens(line, chars_per_token=4) for line in lines]
    return together


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/chat/completions"])
def test_prompt_and_instructions_are_counted(loads: list[str], endpoint: str) -> None:
    prompts = [PromptParts("ababc"), PromptParts("ababc", "ab"), PromptParts("<|end|>")]
    assert estimate(provider(endpoint=endpoint), *prompts) == [
        3 + ONE_MESSAGE,
        3 + 1 + ONE_MESSAGE + tokens.MESSAGE_OVERHEAD,
        7 + ONE_MESSAGE,  # words of a user are never special
    ]


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/chat/completions"])
def test_the_schema_is_counted(loads: list[str], endpoint: str) -> None:
    made = provider(endpoint=endpoint)
    (plain,), (with_schema,) = (
        estimate(made, PromptParts("ab")),
        estimate(made, PromptParts("ab"), schema=SCHEMA),
    )
    assert with_schema - plain >= len(json.dumps(SCHEMA.schema)) - 1


def test_what_lines_share_is_counted_once(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    encode = tiktoken.Encoding.encode_ordinary

    def encode_ordinary(self: tiktoken.Encoding, text: str) -> list[int]:
        counted.append(text)
        return encode(self, text)

    monkeypatch.setattr(tiktoken.Encoding, "encode_ordinary", encode_ordinary)
    made = provider()
    prompts = [PromptParts("a", "one"), PromptParts("b", "one"), PromptParts("c", "two")]
    lines = [
        made.build_request_line(custom_id="a", prompt_parts=p, structured_output=SCHEMA) for p in prompts
    ]
    sizes = made.estimate_tokens(lines, chars_per_token=4)
    assert sizes[0] == sizes[1] == sizes[2]
    assert [text for text in counted if "{" not in text] == ["one", "a", "b", "two", "c"]
    assert len(counted) == 6


def test_a_long_text_is_counted_in_slices(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SLICE_CHARS", 3)
    assert estimate(provider(), PromptParts("ab" * 3)) == [4 + ONE_MESSAGE]  # ab a | b ab


def test_text_parts_of_foreign_lines_are_counted(loads: list[str]) -> None:
    content = [{"type": "input_text", "text": "ab"}, {"type": "input_image", "image_url": "x" * 99}, 7]
    line: Any = {"custom_id": "a", "body": {"input": ["abc", {"role": "user", "content": content}, 7]}}
    assert (
        provider().estimate_request_tokens(line, chars_per_token=4)
        == 3 + ONE_MESSAGE + 2 * tokens.MESSAGE_OVERHEAD + tokens.IMAGE_TOKENS
    )
    assert (
        provider().estimate_request_tokens({"custom_id": "a", "body": {}}, chars_per_token=4)
        == tokens.PROMPT_OVERHEAD
    )


@pytest.mark.parametrize(
    ("model", "encoding"),
    [("gpt-4.1", "o200k_base"), ("gpt-4", "cl100k_base"), ("released-tomorrow", "o200k_base")],
)
def test_the_model_decides_the_encoding_and_new_models_have_the_newest(
    loads: list[str], model: str, encoding: str
) -> None:
    estimate(provider(model=model), PromptParts("ab"))
    assert loads == [encoding]


def test_an_encoding_is_loaded_once_per_process(loads: list[str]) -> None:
    estimate(provider(), PromptParts("ab"), PromptParts("ab"))
    estimate(provider(model="gpt-5"), PromptParts("ab"))
    assert loads == ["o200k_base"]


def test_without_its_files_characters_are_counted_and_nobody_asks_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def get_encoding(name: str) -> Any:
        asked.append(name)
        raise ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", get_encoding)
    assert estimate(provider(), PromptParts("12345678"), PromptParts("1")) == [
        2 + ONE_MESSAGE,
        1 + ONE_MESSAGE,
    ]
    estimate(provider(), PromptParts("12345678"))
    assert asked == ["o200k_base"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no network" in caplog.text


def test_a_download_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    def get_encoding(name: str) -> Any:
        release.wait(20)
        raise ConnectionError("late")

    monkeypatch.setattr(tiktoken, "get_encoding", get_encoding)
    monkeypatch.setattr(tokens, "LOAD_TIMEOUT_SEC", 0.05)
    try:
        assert estimate(provider(), PromptParts("12345678")) == [2 + ONE_MESSAGE]
    finally:
        release.set()
    assert "no answer within" in caplog.text


def test_halves_of_surrogate_pairs_are_counted_too(loads: list[str]) -> None:
    assert estimate(provider(), PromptParts("ab\ud800"))[0] > ONE_MESSAGE
