"""The Anthropic provider without its server: requests, schemas, results, states, errors and prices."""

from __future__ import annotations

import base64
import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import anthropic
import httpx2
import pytest
from anthropic.types import ToolParam
from pydantic import BaseModel, Field, TypeAdapter

from batchor_core.core.exceptions import (
    InvalidInputError,
    MissingCredentialsError,
    ProviderErrorKind,
    StructuredOutputSchemaError,
)
from batchor_core.core.models import PromptParts
from batchor_core.core.outputs import TextOutput
from batchor_core.core.pricing import BatchRates, Unpriced
from batchor_core.core.tools import ToolCall, ToolOutput
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.anthropic import AnthropicBatchApi, AnthropicProviderConfig
from batchor_core.providers.anthropic.answers import (
    read_calls,
    read_result,
    read_whole_message,
    was_answered,
)
from batchor_core.providers.anthropic.credentials import fingerprint, resolve_key
from batchor_core.providers.anthropic.errors import translate
from batchor_core.providers.anthropic.messages import asked
from batchor_core.providers.anthropic.output_schema import model_output_schema
from batchor_core.providers.anthropic.requests import Requests, content_of, estimated_tokens, size_of
from batchor_core.providers.anthropic.states import read_state

MODEL = "claude-sonnet-4-5"
LONG = "Judge the review by these rules. " * 200


def body(prompt: PromptParts, output: Any = None, **settings: Any) -> JSONObject:
    """The request of a prompt."""
    return Requests(AnthropicProviderConfig(MODEL, **settings)).line("a", prompt, output)["body"]


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": " "}, "model must be a non-empty string"),
        ({"max_output_tokens": 0}, "max_output_tokens must be at least 1"),
        ({"cache_prefix": True}, "cache_prefix must be '5m', '1h' or None"),
        ({"betas": "files"}, "betas must be a list of names"),
        ({"betas": ["a\r\nb"]}, "can't be sent in a header"),
        ({"betas": ["a,b"]}, "give one name for each"),
        ({"base_url": "http://example.com"}, "would send the API key unencrypted"),
        ({"request_options": {"system": "x"}}, "must not set system"),
        ({"request_options": {"max_tokens": 5}}, "set max_output_tokens instead"),
        ({"enqueue_limits": {"enqueued_tokens": 5}}, "do you mean 'enqueued_token_limit'"),
        ({"request_timeout_sec": 0}, "must be above 0"),
    ],
)
def test_a_setting_that_can_t_be_used_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        AnthropicProviderConfig(**{"model": MODEL, **settings})


def test_the_key_comes_from_the_environment_and_stays_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AnthropicProviderConfig(MODEL, api_key="sk-ant-canary-1")
    assert "canary" not in repr(config) + json.dumps(config.to_public_payload())
    assert b"canary" not in pickle.dumps(config)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(MissingCredentialsError, match="set the environment variable ANTHROPIC_API_KEY"):
        resolve_key(AnthropicProviderConfig(MODEL))
    monkeypatch.setenv("ANTHROPIC_API_KEY", " sk-ant-env ")
    assert resolve_key(AnthropicProviderConfig(MODEL)) == "sk-ant-env"
    spelled = AnthropicProviderConfig(MODEL, base_url="https://API.anthropic.com/")
    assert fingerprint("k", spelled) == fingerprint("k", AnthropicProviderConfig(MODEL))


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.providers.anthropic.client.find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"pip install 'batchor-core\[anthropic\]'"):
        AnthropicBatchApi(AnthropicProviderConfig(MODEL))


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_has_what_the_api_needs() -> None:
    made = body(PromptParts("Hello", "Be brief."), reasoning_effort="low", request_options={"temperature": 0})
    assert made == {
        "model": MODEL,
        "max_tokens": 8_192,
        "temperature": 0,
        "output_config": {"effort": "low"},
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hello"}],
    }


def test_a_row_s_own_options_come_before_the_job_s() -> None:
    prompt = PromptParts("Hi", options={"max_output_tokens": 9, "reasoning_effort": "max", "temperature": 1})
    made = body(prompt, model_output_schema(Plain), request_options={"temperature": 0})
    assert (made["max_tokens"], made["temperature"]) == (9, 1)
    assert made["output_config"].keys() == {"format", "effort"}
    refused: list[JSONObject] = [{"output_config": {"format": {}}}, {"output_config": None}, {"system": "x"}]
    for options in refused:
        with pytest.raises(InvalidInputError, match="options must not set"):
            body(PromptParts("Hi", options=options), model_output_schema(Plain))


def test_a_call_of_one_tool_is_demanded() -> None:
    output = ToolOutput([Judge, Plain])
    wanted = output.wanted(AnthropicProviderConfig(MODEL).output_schema)
    made = body(PromptParts("Hi", options={"temperature": 1}), wanted)
    assert made["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert TypeAdapter(list[ToolParam]).validate_python(made["tools"]) == made["tools"]
    assert [(tool["name"], tool.get("description"), tool["strict"]) for tool in made["tools"]] == [
        ("judge", "Judge a review.", True),
        ("plain", None, True),
    ]
    assert "output_config" not in made
    with pytest.raises(InvalidInputError, match="options must not set tool_choice"):
        body(PromptParts("Hi", options={"tool_choice": {"type": "auto"}}), wanted)
    settings: list[JSONObject] = [{"tools": []}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}]
    for options in settings:
        config = AnthropicProviderConfig(MODEL, request_options=options)
        config.check_output(TextOutput())
        with pytest.raises(InvalidInputError, match="is a ToolOutput"):
            config.check_output(output)


def test_parts_of_a_conversation_are_worded() -> None:
    text = base64.b64encode(b"a text").decode()
    pdf = {"type": "file", "data": "cGRm", "media_type": "application/pdf", "name": "a.pdf"}
    parts: list[JSONObject] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "image", "data": "aW1n", "media_type": "image/png"},
        pdf,
        {"type": "file", "data": text, "media_type": "text/csv"},
        {"type": "file", "file_id": "file_1", "media_type": "text/plain"},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "5"},
    ]
    made = asked(
        PromptParts.of_messages(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}],
            system_prompt="Be kind.",
        )
    )
    assert made["system"] == "Be kind.\n\nBe brief."
    assert made["messages"][0]["content"] == [
        parts[0],
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1n"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a text"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        parts[6],
    ]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "tool", "content": "5"}, "role 'tool', which Anthropic does not know"),
        ({"role": "system", "content": "x"}, "instructions alone"),
        ({"role": "system", "content": None, "name": "x"}, "instructions for Anthropic are texts"),
        ({"role": "user", "content": [{"type": "audio", "data": "x", "format": "wav"}]}, "takes no audio"),
        ({"role": "user", "content": [{"type": "imagge", "url": "x"}]}, "the type 'imagge', which Anthropic"),
        (
            {"role": "user", "content": [{"type": "image", "data": "x", "media_type": "image/tiff"}]},
            r"messages\[0\].content\[0\], of type image, is image/tiff; Anthropic takes image/jpeg",
        ),
        (
            {"role": "user", "content": [{"type": "file", "data": "x", "media_type": "application/zip"}]},
            "is application/zip; Anthropic takes application/pdf, text/plain",
        ),
    ],
)
def test_what_the_api_does_not_take_is_refused(message: JSONObject, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        asked(PromptParts.of_messages([message]))


def test_a_long_prefix_is_marked_for_the_cache_if_asked_for() -> None:
    assert body(PromptParts("Hi", LONG))["system"] == LONG
    assert body(PromptParts("Hi", "short"), cache_prefix="5m")["system"] == "short"
    [block] = body(PromptParts("Hi", LONG), cache_prefix="1h")["system"]
    assert block["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_a_create_is_streamed_from_the_request_file(tmp_path: Path) -> None:
    lines = [{"custom_id": f"row-{n}_mark", "body": {"n": n, "text": '{"body":'}} for n in range(3)]
    text = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    path = tmp_path / "batch.jsonl"
    path.write_text(f"{text}\n\n" + '{"body": {"n": 3}, "custom_id": "other order"}\n', encoding="utf-8")
    content = b"".join(content_of(path))
    assert size_of(path) == len(content)
    requests = json.loads(content)["requests"]
    assert requests[:3] == [{"custom_id": line["custom_id"], "params": line["body"]} for line in lines]
    assert requests[3] == {"custom_id": "other order", "params": {"n": 3}}


def test_images_are_not_counted_by_their_length() -> None:
    image = {"type": "image", "data": "x" * 1_000_000, "media_type": "image/png"}
    prompt = PromptParts.of_messages([{"role": "user", "content": [image]}])
    assert 1_600 < estimated_tokens(body(prompt), chars_per_token=4) < 1_700


# --- schemas ----------------------------------------------------------------------------------------------------------


class Plain(BaseModel):
    label: Literal["good", "bad"]
    stars: int = Field(ge=1, le=5, description="How many stars.")
    words: list[str] = Field(max_length=3)
    note: str | None = None


class Judge(BaseModel):
    """Judge a review."""

    stars: int


class Node(BaseModel):
    children: list[Node]


class Open(BaseModel):
    counts: dict[str, int]


def test_what_the_dialect_lacks_is_told_in_the_description() -> None:
    schema: Any = model_output_schema(Plain).schema
    stars = schema["properties"]["stars"]
    assert stars.keys() == {"type", "description"}
    assert stars["description"] == 'How many stars. JSON Schema: {"maximum": 5, "minimum": 1}'
    assert schema["properties"]["words"]["description"] == 'JSON Schema: {"maxItems": 3}'
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"label", "stars", "words", "note"}


@pytest.mark.parametrize(("model", "said"), [(Node, "contains itself"), (Open, "arbitrary keys")])
def test_a_model_that_the_dialect_can_t_express_is_refused(model: type[BaseModel], said: str) -> None:
    with pytest.raises(StructuredOutputSchemaError, match=said):
        model_output_schema(model)


# --- results ----------------------------------------------------------------------------------------------------------


def line(reason: str | None = "end_turn", content: Any = None, **message: Any) -> JSONObject:
    """A line with a message."""
    blocks = [{"type": "text", "text": "fine"}] if content is None else content
    usage = {"input_tokens": 5, "output_tokens": 7}
    inner = {"content": blocks, "stop_reason": reason, "usage": usage, **message}
    return {"custom_id": "a", "result": {"type": "succeeded", "message": inner}}


def errored(kind: str, message: str = "Sorry", **details: str) -> JSONObject:
    """A line with an error."""
    error = {"type": kind, "message": message} | ({"details": details} if details else {})
    return {"custom_id": "a", "result": {"type": "errored", "error": {"type": "error", "error": error}}}


CALL: JSONObject = {"type": "tool_use", "id": "toolu_1", "name": "judge", "input": {"stars": 5}}


def test_texts_are_read_past_thoughts() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    said = [thought, {"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]
    answer = read_result(line(content=said))
    assert (answer.custom_id, answer.text, answer.failure) == ("a", "fine", None)


@pytest.mark.parametrize(
    ("record", "error_class", "retryable", "counts"),
    [
        (line("max_tokens"), "incomplete_response", True, True),
        (line("model_context_window_exceeded"), "incomplete_response", False, True),
        (line("pause_turn"), "incomplete_response", False, True),
        (line("refusal", [], stop_details={"category": "bio"}), "refusal", False, True),
        (line("tool_use", [CALL]), "non_text_answer", False, True),
        (line("end_turn", []), "empty_response_text", True, True),
        (errored("overloaded_error"), "provider_item_error", True, True),
        (errored("invalid_request_error"), "provider_item_error", False, True),
        (errored("not_found_error"), "provider_item_error", False, True),
        ({"custom_id": "a", "result": {"type": "expired"}}, "batch_terminal_expired", True, False),
        ({"custom_id": "a", "result": {"type": "canceled"}}, "batch_terminal_cancelled", True, False),
        ({"custom_id": "a"}, "provider_item_error", True, False),
    ],
)
def test_a_line_without_a_usable_answer(
    record: JSONObject, error_class: str, retryable: bool, counts: bool
) -> None:
    answer = read_result(record)
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == (error_class, retryable)
    assert (answer.count_attempt, answer.pause_reason) == (counts, None)
    assert was_answered(record) is (answer.usage is not None)


@pytest.mark.parametrize(
    "record",
    [
        errored("billing_error"),
        errored("permission_error"),
        errored("invalid_request_error", "Your credit balance is too low to access the API."),
        errored("rate_limit_error", error_code="enforced_spend_limit_reached"),
    ],
)
def test_a_row_that_shows_that_a_person_must_act_pauses_the_run(record: JSONObject) -> None:
    answer = read_result(record)
    assert answer.pause_reason is not None
    assert not answer.count_attempt


def test_a_whole_message_is_an_answer_even_if_it_is_a_call() -> None:
    answer = read_whole_message(line("tool_use", [CALL]))
    assert answer.failure is None
    assert answer.value["content"] == [CALL]
    assert read_whole_message(line("refusal")).failure is not None


def test_calls_are_read_with_their_arguments() -> None:
    assert read_calls(line("tool_use", [CALL])).value == [ToolCall(CALL["name"], CALL["input"])]
    for stopped in (line("end_turn", [{"type": "text", "text": "No."}]), line("end_turn", [])):
        assert (read_calls(stopped).failure, read_calls(stopped).value) == (None, [])
    assert read_calls(line("max_tokens", [CALL])).failure is not None
    assert read_calls(line("refusal")).failure is not None


def test_cached_tokens_are_part_of_the_input() -> None:
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    assert read_result(line(usage=usage)).usage == TokenUsage(125, 100, 9, 4, 20)


@pytest.mark.parametrize(
    "broken", [{}, {"custom_id": 5}, {"custom_id": "a", "result": {"type": "succeeded"}}]
)
def test_no_line_is_too_broken_to_be_read(broken: JSONObject) -> None:
    assert read_result(broken).failure is not None


# --- states -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({"succeeded": 5}, "completed"),
        ({"succeeded": 3, "errored": 2}, "completed"),
        ({"succeeded": 4, "canceled": 1}, "cancelled"),
        ({"succeeded": 4, "expired": 1}, "expired"),
    ],
)
def test_a_batch_ends_as_its_counts_say(counts: dict[str, int], status: str) -> None:
    kinds = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    shown = {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "request_counts": kinds | counts,
        "created_at": "2026-11-29T12:00:00Z",
        "expires_at": "2026-11-30T12:00:00+00:00",
        "results_url": "https://elsewhere.example/results",
    }
    state = read_state(shown)
    assert state is not None
    assert (state.status, state.has_ended) == (status, True)
    assert [file.ref for file in state.results] == ["msgbatch_1"]
    assert (state.counts.completed, state.counts.total) == (counts["succeeded"], 5)
    assert (state.created_at or 0) + 86_400 == state.expires_at
    running = read_state({**shown, "processing_status": "in_progress", "results_url": None})
    assert running is not None
    assert (running.has_ended, running.results, running.counts.completed) == (False, (), None)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "code", "expected", "not_performed"),
    [
        (429, "rate_limit_error", "", ProviderErrorKind.RETRY, True),
        (429, "rate_limit_error", "enforced_spend_limit_reached", ProviderErrorKind.QUOTA, True),
        (402, "billing_error", "", ProviderErrorKind.QUOTA, True),
        (401, "authentication_error", "", ProviderErrorKind.CREDENTIALS, True),
        (403, "permission_error", "", ProviderErrorKind.CREDENTIALS, True),
        (400, "invalid_request_error", "organization_on_hold", ProviderErrorKind.CREDENTIALS, True),
        (400, "invalid_request_error", "", ProviderErrorKind.BAD_REQUEST, True),
        (413, "request_too_large", "", ProviderErrorKind.BAD_REQUEST, True),
        (404, "not_found_error", "", ProviderErrorKind.NOT_FOUND, True),
        (500, "api_error", "", ProviderErrorKind.RETRY, False),
        (529, "overloaded_error", "", ProviderErrorKind.RETRY, False),
    ],
)
def test_errors_say_what_to_do(
    status: int, kind: str, code: str, expected: ProviderErrorKind, not_performed: bool
) -> None:
    details = {"details": {"error_code": code}} if code else {}
    said = {"type": "error", "error": {"type": kind, "message": "about sk-ant-canary", **details}}
    request = httpx2.Request("POST", "https://api.anthropic.com/v1/messages/batches")
    response = httpx2.Response(status, request=request, json=said, headers={"retry-after": "7"})
    error = translate(anthropic.APIStatusError("x", response=response, body=said), action="creation")
    assert (error.kind, error.not_performed) == (expected, not_performed)
    assert error.retry_after == 7
    assert "canary" not in str(error)


# --- prices -----------------------------------------------------------------------------------------------------------

NOVEMBER = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize(("prefix", "times"), [(None, 1.25), ("5m", 1.25), ("1h", 2)])
def test_a_write_to_the_cache_costs_by_how_long_it_is_kept(prefix: Any, times: float) -> None:
    rates = AnthropicProviderConfig(MODEL, cache_prefix=prefix).batch_rates(at=NOVEMBER)
    assert isinstance(rates, BatchRates)
    prices = rates.brackets[0].prices
    assert prices["cache_write_tokens"] == prices["input_tokens"] * times
    assert prices["cached_tokens"] == prices["input_tokens"] / 10


def test_what_is_billed_besides_tokens_is_told() -> None:
    tools = [{"name": "judge", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}]
    config = AnthropicProviderConfig(MODEL, request_options={"tools": tools})
    assert config.billed_besides() == ["calls of the tool web_search_20250305"]
    elsewhere = AnthropicProviderConfig(MODEL, base_url="https://proxy.example")
    assert isinstance(elsewhere.batch_rates(at=NOVEMBER), Unpriced)
