"""Conversations and a row's own settings, in the bodies of both endpoints."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from openai.types.chat import ChatCompletionContentPartParam
from openai.types.responses import EasyInputMessageParam
from pydantic import TypeAdapter
from typing_extensions import TypedDict  # that of typing is too simple for pydantic before Python 3.12

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.prompts import PromptParts
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig

RESPONSES, CHAT = "/v1/responses", "/v1/chat/completions"
SCHEMA = StructuredOutputSchema("answer", {"type": "object", "properties": {}})
IMAGE = {"type": "image", "data": "AAAA", "media_type": "image/png"}


def body(
    prompt: PromptParts, endpoint: str, schema: StructuredOutputSchema | None = None, **settings: Any
) -> dict[str, Any]:
    provider = OpenAIBatchProvider(
        OpenAIProviderConfig(model="m", endpoint=endpoint, **settings)  # type: ignore[arg-type]
    )
    made = provider.build_request_line(custom_id="a", prompt_parts=prompt, structured_output=schema)["body"]
    return {name: value for name, value in made.items() if name != "model"}


def conversation(*parts: Any, role: str = "user") -> PromptParts:
    return PromptParts.of_messages([{"role": role, "content": list(parts)}])


@pytest.mark.parametrize(
    ("part", "responses", "chat"),
    [
        ({"type": "text", "text": "x"}, {"type": "input_text", "text": "x"}, {"type": "text", "text": "x"}),
        (
            {"type": "image", "url": "u", "detail": "low"},
            {"type": "input_image", "detail": "low", "image_url": "u"},
            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        ),
        (
            IMAGE,
            {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AAAA"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ),
        (
            {"type": "file", "data": "AAAA", "media_type": "application/pdf", "name": "a.pdf"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        ),
        (
            {"type": "file", "file_id": "f"},
            {"type": "input_file", "file_id": "f"},
            {"type": "file", "file": {"file_id": "f"}},
        ),
        (
            {"type": "file", "data": b"%PDF-1", "name": "a.pdf"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"},
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"},
            },
        ),
        ({"type": "image", "file_id": "f"}, {"type": "input_image", "detail": "auto", "file_id": "f"}, None),
        ({"type": "file", "url": "u"}, {"type": "input_file", "file_url": "u"}, None),
        (
            {"type": "audio", "data": b"ID3..", "format": "mp3"},
            None,
            {"type": "input_audio", "input_audio": {"data": "SUQzLi4=", "format": "mp3"}},
        ),
    ],
)
def test_a_part_is_spelled_as_the_endpoint_does(part: Any, responses: Any, chat: Any) -> None:
    if responses is not None:
        made = body(conversation(part), RESPONSES)["input"]
        assert made == [{"role": "user", "content": [responses]}]
        assert TypeAdapter(list[EasyInputMessageParam]).validate_python(made) == made
    if chat is not None:
        made = body(conversation(part), CHAT)["messages"]
        assert made == [{"role": "user", "content": [chat]}]
        assert TypeAdapter(list[ChatMessage]).validate_python(made) == made


class ChatMessage(TypedDict):
    """A turn, as the vendor's client has it; that type has an Iterable, which pydantic reads lazily."""

    role: Literal["user"]
    content: list[ChatCompletionContentPartParam]


def test_turns_come_in_their_order_after_the_system_prompt() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    prompt = PromptParts.of_messages(turns, system_prompt="s")
    assert body(prompt, RESPONSES) == {"instructions": "s", "input": turns}
    assert body(prompt, CHAT) == {"messages": [{"role": "system", "content": "s"}, *turns]}


def test_the_models_own_turns_are_output() -> None:
    made = body(conversation({"type": "text", "text": "x"}, role="assistant"), RESPONSES)
    assert made["input"][0]["content"] == [{"type": "output_text", "text": "x"}]


def test_further_keys_and_own_parts_are_sent_as_they_are() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    answer = {"role": "tool", "tool_call_id": "c", "content": "7"}
    assert body(PromptParts.of_messages([call, answer]), CHAT) == {"messages": [call, answer]}
    own = {"type": "input_image", "image_url": "u"}
    assert body(conversation(own), RESPONSES)["input"][0]["content"] == [own]


@pytest.mark.parametrize(
    ("prompt", "endpoint", "said"),
    [
        (conversation({"type": "txt", "text": "x"}), CHAT, r"messages\[0\]\.content\[0\] has the type 'txt'"),
        (conversation({"type": "image_url", "image_url": {}}), RESPONSES, "has the type 'image_url'"),
        (conversation({"type": "input_image"}), CHAT, "it has text, image, file, audio"),
        (conversation({"type": "text", "text": "x"}, role="tool"), RESPONSES, "has the role 'tool'"),
        (conversation({"type": "text", "text": "x"}, role="usr"), CHAT, "it has user, assistant"),
        (conversation({"type": "image", "file_id": "f"}), CHAT, "by url, data or path, not by file_id"),
        (conversation({"type": "file", "url": "u"}), CHAT, "by data, path or file_id, not by url"),
        (conversation({"type": "audio", "url": "u"}), CHAT, "by data or path, not by url"),
        (
            conversation({"type": "audio", "data": "A", "format": "wav"}),
            RESPONSES,
            "set endpoint='/v1/chat/c",
        ),
        (PromptParts("x", options={"stream": True}), RESPONSES, "options must not set stream"),
        (PromptParts("x", options={"messages": []}), CHAT, "options must not set messages"),
    ],
)
def test_what_the_endpoint_does_not_know_is_refused(prompt: PromptParts, endpoint: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        body(prompt, endpoint)


@pytest.mark.parametrize("prompt_options", [{"response_format": {"type": "text"}}, {"response_format": None}])
def test_a_row_can_not_take_the_schema_away_in_chat(prompt_options: Any) -> None:
    with pytest.raises(InvalidInputError, match="must not set response_format"):
        body(PromptParts("x", options=prompt_options), CHAT, SCHEMA)
    assert (
        body(PromptParts("x", options=prompt_options), CHAT)["response_format"]
        == prompt_options["response_format"]
    )


@pytest.mark.parametrize("prompt_options", [{"text": {"format": {"type": "text"}}}, {"text": None}])
def test_a_row_can_not_take_the_schema_away_in_responses(prompt_options: Any) -> None:
    with pytest.raises(InvalidInputError, match="must not set text"):
        body(PromptParts("x", options=prompt_options), RESPONSES, SCHEMA)


def test_a_rows_options_are_over_the_jobs() -> None:
    settings: dict[str, Any] = {
        "reasoning_effort": "high",
        "max_output_tokens": 9,
        "request_options": {"temperature": 1, "top_p": 0.5},
    }
    options = {
        "temperature": 0,
        "max_output_tokens": 5,
        "reasoning": {"summary": "auto"},
        "tools": [{"type": "function", "name": "f"}],
        "prompt_cache_key": "k",
    }
    assert body(PromptParts("x", options=options), RESPONSES, **settings) == {
        "input": "x",
        "reasoning": {"effort": "high", "summary": "auto"},
        "max_output_tokens": 5,
        "temperature": 0,
        "top_p": 0.5,
        "tools": [{"type": "function", "name": "f"}],
        "prompt_cache_key": "k",
    }
    names = {"max_output_tokens": 5, "reasoning_effort": "low"}
    assert body(PromptParts("x", options=names), RESPONSES, **settings)["reasoning"] == {"effort": "low"}
    chat = body(PromptParts("x", options=names), CHAT, **settings)
    assert (chat["max_completion_tokens"], chat["reasoning_effort"]) == (5, "low")
    assert "max_output_tokens" not in chat


def test_a_rows_options_are_its_own() -> None:
    provider = OpenAIBatchProvider(
        OpenAIProviderConfig(model="m", request_options={"text": {"verbosity": "high"}})
    )
    for options, verbosity in (({"text": {"verbosity": "low"}}, "low"), (None, "high")):
        line = provider.build_request_line(
            custom_id="a", prompt_parts=PromptParts("x", options=options), structured_output=SCHEMA
        )
        assert line["body"]["text"]["verbosity"] == verbosity
        assert line["body"]["text"]["format"]["schema"] == SCHEMA.schema


@pytest.mark.parametrize("endpoint", [RESPONSES, CHAT])
def test_tokens_of_a_conversation_are_counted(endpoint: str) -> None:
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="m", endpoint=endpoint))  # type: ignore[arg-type]

    def tokens(prompt: PromptParts) -> int:
        line = provider.build_request_line(custom_id="a", prompt_parts=prompt)
        return provider.estimate_request_tokens(line, chars_per_token=1)

    text = tokens(conversation({"type": "text", "text": "hello there"}))
    assert tokens(conversation({"type": "text", "text": "hello there " * 50})) > text + 40
    large = {**IMAGE, "data": "A" * 1_000_000}
    assert text + 700 < tokens(conversation({"type": "text", "text": "hello there"}, large)) < text + 1_500
    low = {**large, "detail": "low"}
    assert text < tokens(conversation({"type": "text", "text": "hello there"}, low)) < text + 200
    tools = {"tools": [{"type": "function", "name": "look_up", "description": "word " * 100}]}
    assert tokens(PromptParts("x", options=tools)) > tokens(PromptParts("x")) + 90
    pdf = {"type": "file", "data": "A" * 1_000_000, "media_type": "application/pdf"}
    assert tokens(conversation(pdf)) > 10_000
    if endpoint == CHAT:
        assert 0 < tokens(conversation({"type": "audio", "data": "A" * 20_000, "format": "wav"})) < 100
