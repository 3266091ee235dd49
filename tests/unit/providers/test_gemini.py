"""The Gemini provider without its server: requests, schemas, results, states, errors and prices."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from google.genai import errors, types
from pydantic import BaseModel, Field

from batchor_core.core.exceptions import (
    InvalidInputError,
    MissingCredentialsError,
    ProviderError,
    ProviderErrorKind,
    StructuredOutputSchemaError,
)
from batchor_core.core.models import PromptParts
from batchor_core.core.outputs import ModelOutput, TextOutput, VectorOutput
from batchor_core.core.pricing import BatchRates, Unpriced
from batchor_core.core.tools import ToolCall, ToolOutput
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.gemini import GeminiBatchApi, GeminiEndpoint, GeminiProviderConfig
from batchor_core.providers.gemini.answers import read_body, read_calls, read_record
from batchor_core.providers.gemini.credentials import fingerprint, resolve_api_key
from batchor_core.providers.gemini.errors import CAPACITY_RETRY_SEC, translate
from batchor_core.providers.gemini.output_schema import model_output_schema
from batchor_core.providers.gemini.requests import RequestLines, estimated_tokens, uploaded_form
from batchor_core.providers.gemini.states import (
    LIFETIME_SEC,
    batch_state,
    display_name,
    handle_of,
    read_handle,
)

MODEL = "gemini-3-flash"
EMBEDS = GeminiEndpoint.EMBED_CONTENT


class Plain(BaseModel):
    stars: int
    mood: Literal["good"] = Field(description="How it sounds.")
    code: str = Field(pattern="^[a-z]+$", min_length=2)


class Judge(BaseModel):
    """Judge a review."""

    stars: int


class Node(BaseModel):
    children: list[Node]


def body(prompt: PromptParts, output: Any = None, **settings: Any) -> JSONObject:
    """The request of a prompt."""
    return RequestLines(GeminiProviderConfig(MODEL, **settings)).build("a", prompt, output)["body"]


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": " "}, "model must not be empty"),
        ({"max_output_tokens": 0}, "max_output_tokens must be at least 1"),
        ({"endpoint": "generate"}, "known: 'generateContent', 'embedContent'"),
        ({"base_url": "http://example.com"}, "would send the API key unencrypted"),
        ({"request_options": {"system_instruction": "x"}}, "must not set system_instruction"),
        ({"endpoint": EMBEDS, "request_options": {"temperature": 0}}, "temperature can't be set"),
        ({"endpoint": EMBEDS, "reasoning_effort": "low"}, "reasoning_effort can't be set"),
        ({"enqueue_limits": {"enqueued_tokens": 5}}, "do you mean 'enqueued_token_limit'"),
        ({"model": "a/../b"}, "can't be part of the address"),
        ({"model": "a\nb"}, "can't be part of the address"),
        ({"request_options": {"generation_config": "x"}}, "generation_config must be an object, not 'x'"),
        ({"request_timeout_sec": 0}, "must be above 0"),
    ],
)
def test_a_setting_that_can_t_be_used_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        GeminiProviderConfig(**{"model": MODEL, **settings})


def test_an_output_must_fit_the_endpoint() -> None:
    GeminiProviderConfig(MODEL).check_output(ModelOutput(Plain))
    vectors = GeminiProviderConfig("gemini-embedding-001", endpoint=EMBEDS)
    vectors.check_output(VectorOutput(768))
    with pytest.raises(InvalidInputError, match="endpoint='embedContent'"):
        GeminiProviderConfig(MODEL).check_output(VectorOutput(768))
    with pytest.raises(InvalidInputError, match="endpoint='generateContent'"):
        vectors.check_output(TextOutput())
    asks = GeminiProviderConfig("m", endpoint=EMBEDS, request_options={"output_dimensionality": 5})
    with pytest.raises(InvalidInputError, match="ask for 5 dimensions"):
        asks.check_output(VectorOutput(768))


def test_the_key_comes_from_the_environment_and_stays_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GeminiProviderConfig(MODEL, api_key="AIza-canary-1")
    assert "canary" not in repr(config) + json.dumps(config.to_public_payload())
    assert b"canary" not in pickle.dumps(config)
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingCredentialsError, match="set the environment variable GEMINI_API_KEY"):
        resolve_api_key(GeminiProviderConfig(MODEL))
    assert fingerprint(GeminiProviderConfig(MODEL)) is None
    monkeypatch.setenv("GEMINI_API_KEY", " AIza-env ")
    assert resolve_api_key(GeminiProviderConfig(MODEL)) == "AIza-env"
    spelled = GeminiProviderConfig(MODEL, base_url="https://GenerativeLanguage.googleapis.com/")
    assert fingerprint(spelled) == fingerprint(GeminiProviderConfig(MODEL))


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.providers.gemini.client.find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"pip install 'batchor-core\[gemini\]'"):
        GeminiBatchApi(GeminiProviderConfig(MODEL))


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_has_what_the_api_takes() -> None:
    made = body(
        PromptParts("Hello", "Be brief."),
        max_output_tokens=50,
        reasoning_effort="low",
        request_options={"temperature": 0, "top_p": 1, "safety_settings": []},
    )
    assert made == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "safetySettings": [],
        "generationConfig": {
            "temperature": 0,
            "topP": 1,
            "maxOutputTokens": 50,
            "thinkingConfig": {"thinkingLevel": "low"},
        },
    }
    # the SDK's own types know each field
    types.GenerationConfig.model_validate(made["generationConfig"])
    types.Content.model_validate(made["contents"][0])


def test_equal_requests_to_two_models_differ() -> None:
    lines = [RequestLines(GeminiProviderConfig(model)).build("a", PromptParts("Hi"), None) for model in "xy"]
    lines.append(
        RequestLines(GeminiProviderConfig("x")).build("a", PromptParts("Hi", options={"model": "z"}), None)
    )
    assert [line["url"] for line in lines] == [f"{model}:generateContent" for model in "xyz"]
    assert lines[0]["body"] == lines[2]["body"]


def test_a_handle_names_the_model_of_its_batch() -> None:
    for handle in ("files/abc", "files/abc?model=gemini-3-pro"):
        assert handle_of(*read_handle(handle)) == handle
    assert read_handle("files/abc") == ("files/abc", None)


def test_a_row_s_own_options_come_before_the_job_s() -> None:
    prompt = PromptParts("Hi", options={"max_output_tokens": 9, "temperature": 1, "thinking_level": "high"})
    made = body(
        prompt, model_output_schema(Plain), reasoning_effort="low", request_options={"temperature": 0}
    )
    config = made["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"]) == (9, 1)
    assert config["thinkingConfig"] == {"thinkingLevel": "high"}
    named_as_in_the_config = body(PromptParts("Hi", options={"reasoning_effort": "high"}))
    assert named_as_in_the_config["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "high"}}
    assert config["responseMimeType"] == "application/json"
    refused: list[JSONObject] = [{"response_json_schema": {}}, {"contents": []}]
    for options in refused:
        with pytest.raises(InvalidInputError, match="options must not set"):
            body(PromptParts("Hi", options=options), model_output_schema(Plain))


def test_a_call_of_one_function_is_demanded() -> None:
    output = ToolOutput([Judge, Plain])
    wanted = output.wanted(GeminiProviderConfig(MODEL).output_schema)
    made = body(PromptParts("Hi", options={"temperature": 1}), wanted)
    config = types.ToolConfig.model_validate(made["toolConfig"])
    assert config.function_calling_config is not None
    assert config.function_calling_config.mode is types.FunctionCallingConfigMode.ANY
    (tool,) = made["tools"]
    declared = types.Tool.model_validate(tool).function_declarations or []
    assert [(one.name, one.description) for one in declared] == [
        ("judge", "Judge a review."),
        ("plain", None),
    ]
    schema: Any = declared[0].parameters_json_schema
    assert schema["required"] == ["stars"]
    assert made["generationConfig"] == {"temperature": 1}
    with pytest.raises(InvalidInputError, match="options must not set toolConfig"):
        body(PromptParts("Hi", options={"tool_config": {}}), wanted)
    with pytest.raises(InvalidInputError, match="must not set tool_config: the job's output is a ToolOutput"):
        GeminiProviderConfig(MODEL, request_options={"tool_config": {}}).check_output(output)


def test_parts_of_a_conversation_are_worded() -> None:
    parts: list[JSONObject] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "data": "aW1n", "media_type": "image/png"},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "file", "file_id": "files/abc"},
        {"type": "file", "url": "https://example.com/a?b=c", "media_type": "text/plain"},
        {"type": "audio", "data": "d2F2", "format": "wav"},
        {"type": "audio", "url": "https://example.com/a.mp3?b=c"},
        {"type": "audio", "file_id": "files/abc", "format": "wav"},
        {"type": "part", "functionResponse": {"name": "f", "response": {}}},
    ]
    turns: list[JSONObject] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "A hammer."},
    ]
    made = body(PromptParts.of_messages(turns, system_prompt="Be kind."))
    assert made["systemInstruction"] == {"parts": [{"text": "Be kind."}, {"text": "Be brief."}]}
    assert [turn["role"] for turn in made["contents"]] == ["user", "model"]
    assert made["contents"][0]["parts"] == [
        {"text": "What is this?"},
        {"inlineData": {"mimeType": "image/png", "data": "aW1n"}},
        {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        {"fileData": {"fileUri": "https://example.com/a?b=c", "mimeType": "text/plain"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "d2F2"}},
        {"fileData": {"fileUri": "https://example.com/a.mp3?b=c", "mimeType": "audio/mpeg"}},
        {
            "fileData": {
                "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
                "mimeType": "audio/wav",
            }
        },
        {"functionResponse": {"name": "f", "response": {}}},
    ]
    types.Content.model_validate(made["contents"][0])
    for wrong, said in (
        ({"role": "tool", "content": "x"}, "has the role 'tool'"),
        ({"role": "user", "content": [{"type": "video", "url": "x"}]}, "has the type 'video'"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            body(PromptParts.of_messages([wrong]))


def test_a_vector_is_asked_for_in_its_length() -> None:
    made = body(
        PromptParts("Hi"), VectorOutput(8), endpoint=EMBEDS, request_options={"task_type": "CLUSTERING"}
    )
    assert made == {
        "content": {"parts": [{"text": "Hi"}]},
        "taskType": "CLUSTERING",
        "outputDimensionality": 8,
    }
    with pytest.raises(InvalidInputError, match="reads one text alone"):
        body(PromptParts("Hi", "Be brief."), VectorOutput(8), endpoint=EMBEDS)


def test_a_file_is_uploaded_with_the_api_s_names(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"custom_id":"a-1","url":"m:generateContent","body":{"n": 1.0,"t":"\xc3\xa9"}}\n')
    with uploaded_form(path) as lines:
        assert lines.read() == b'{"key":"a-1","request":{"n": 1.0,"t":"\xc3\xa9"}}\n'


def test_tokens_are_estimated_by_characters() -> None:
    image = {"type": "image", "data": "a" * 9_000, "media_type": "image/png"}
    lines = RequestLines(GeminiProviderConfig(MODEL))
    asked = [
        PromptParts("x" * 400),
        PromptParts.of_messages([{"role": "user", "content": [image]}]),
    ]
    made = [lines.build("a", prompt, None) for prompt in asked]
    assert estimated_tokens(made, chars_per_token=4) == [101, 1_121]


def test_schemas_keep_what_the_api_supports() -> None:
    schema = model_output_schema(Plain).schema
    assert schema["required"] == ["stars", "mood", "code"]
    properties: Any = schema["properties"]
    assert properties["mood"] == {"type": "string", "enum": ["good"], "description": "How it sounds."}
    assert properties["code"] == {"type": "string"}
    with pytest.raises(StructuredOutputSchemaError, match="Node contains itself"):
        model_output_schema(Node)


# --- results ----------------------------------------------------------------------------------------------------------


def answered(*parts: JSONObject, reason: str | None = "STOP", **fields: Any) -> JSONObject:
    """A line with a response."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason}
    return {"key": "a", "response": {"candidates": [candidate], **fields}}


def test_an_answer_is_its_texts_without_thoughts() -> None:
    used = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 20,
        "toolUsePromptTokenCount": 5,
    }
    line = answered({"text": "hm", "thought": True}, {"text": "Hel"}, {"text": "lo"}, usageMetadata=used)
    types.GenerateContentResponse.model_validate(line["response"])
    answer = read_record(line)
    assert (answer.custom_id, answer.text, answer.failure) == ("a", "Hello", None)
    assert answer.usage == TokenUsage(105, 40, 27, 20)


@pytest.mark.parametrize(
    ("line", "error_class", "may_pass"),
    [
        (answered({"text": "x"}, reason="MAX_TOKENS"), "incomplete_response", True),
        (answered(reason="SAFETY"), "content_filter", False),
        (answered(reason="RECITATION"), "content_filter", False),
        (answered(reason="MALFORMED_FUNCTION_CALL"), "incomplete_response", True),
        (answered({"text": " "}), "empty_response_text", True),
        (answered({"functionCall": {"name": "f", "args": {}}}), "non_text_answer", False),
        ({"key": "a", "response": {"promptFeedback": {"blockReason": "SAFETY"}}}, "content_filter", False),
        ({"key": "a", "response": {}}, "empty_response_text", True),
        ({"key": "a", "error": {"code": 3, "message": "no"}}, "provider_item_error", False),
        ({"key": "a", "status": {"code": 14, "message": "busy"}}, "provider_item_error", True),
        ({"key": "a", "error": {"code": 429, "message": "busy"}}, "provider_item_error", True),
        ({"key": "a"}, "provider_item_error", True),
    ],
)
def test_a_useless_line_says_why(line: JSONObject, error_class: str, may_pass: bool) -> None:
    answer = read_record(line)
    assert answer.custom_id == "a"
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == (error_class, may_pass)


def test_rows_that_were_not_run_cost_no_attempt() -> None:
    for code, error_class in ((1, "batch_terminal_cancelled"), (4, "batch_terminal_expired")):
        answer = read_record({"key": "a", "error": {"code": code, "message": "ended"}})
        assert answer.failure is not None
        assert (answer.failure.error_class, answer.count_attempt) == (error_class, False)
    refused = read_record({"key": "a", "error": {"code": 16, "message": "who?"}})
    assert refused.pause_reason == "the provider refuses the credentials (UNAUTHENTICATED)"
    limited = read_record(answered(reason="PUP_LIMITED_DISABLED"))
    assert "limited the account" in (limited.pause_reason or "")


def test_a_body_may_hold_calls() -> None:
    line = answered({"functionCall": {"name": "f", "args": {"x": 1}}})
    assert read_body(line).failure is None
    assert read_body(line).value == line["response"]


def test_calls_are_read_with_their_arguments() -> None:
    called = answered({"text": "Let me see."}, {"functionCall": {"name": "f", "args": {"x": 1}}})
    assert read_calls(called).value == [ToolCall("f", {"x": 1})]
    assert read_calls(answered({"functionCall": {"name": "g"}})).value == [ToolCall("g", {})]
    for spoken in (answered({"text": "No."}), {"key": "a", "response": {}}):
        assert (read_calls(spoken).failure, read_calls(spoken).value) == (None, [])
    assert read_calls({"key": "a", "error": {"code": 3}}).failure is not None


def test_a_vector_comes_with_its_tokens() -> None:
    answer = read_record({"key": "a", "response": {"embedding": {"values": [0.5, -0.5]}, "tokenCount": "3"}})
    assert (answer.value, answer.usage) == ([0.5, -0.5], TokenUsage(3))


# --- states -----------------------------------------------------------------------------------------------------------

CREATED = "2026-11-29T10:00:00.123456789Z"


def operation(state: str, **more: Any) -> JSONObject:
    """What the API says of a batch."""
    tags = display_name({"batchor_local_batch_id": "b-1"})
    metadata = {"state": state, "displayName": tags, "createTime": CREATED, **more.pop("metadata", {})}
    return {"name": "batches/x1", "metadata": metadata, **more}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("BATCH_STATE_PENDING", "pending"),
        ("JOB_STATE_QUEUED", "queued"),
        ("BATCH_STATE_RUNNING", "running"),
        ("JOB_STATE_CANCELLING", "cancelling"),
        ("JOB_STATE_PAUSED", "paused"),
        ("BATCH_STATE_SUCCEEDED", "completed"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", "completed"),
        ("BATCH_STATE_FAILED", "failed"),
        ("JOB_STATE_CANCELLED", "cancelled"),
        ("BATCH_STATE_EXPIRED", "expired"),
        ("", "unknown"),
    ],
)
def test_states_become_ours(state: str, status: str) -> None:
    read = batch_state(operation(state))
    assert read is not None
    assert (read.batch_id, read.status) == ("x1", status)
    assert read.tags == {"batchor_local_batch_id": "b-1"}
    assert read.expires_at == (read.created_at or 0) + LIFETIME_SEC


def test_counts_and_results_are_read_as_they_come() -> None:
    stats = {"requestCount": "5", "failedRequestCount": "2"}
    metadata = {
        "batchStats": stats,
        "output": {"responsesFile": "files/r"},
        "inputConfig": {"fileName": "files/i"},
    }
    read = batch_state(operation("BATCH_STATE_SUCCEEDED", metadata=metadata))
    assert read is not None
    assert (read.counts.completed, read.counts.failed, read.counts.total) == (0, 2, 5)
    assert ([file.ref for file in read.results], read.handle) == (["files/r"], "files/i")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 8, "message": "queue"}, ProviderErrorKind.CAPACITY),
        ({"code": 3, "message": "line 1"}, ProviderErrorKind.BAD_REQUEST),
        ({"code": 13, "message": "oops"}, ProviderErrorKind.RETRY),
        (None, ProviderErrorKind.RETRY),
    ],
)
def test_a_failed_job_says_why(error: Any, kind: ProviderErrorKind) -> None:
    read = batch_state(operation("BATCH_STATE_FAILED", error=error))
    assert read is not None
    assert read.failure is not None
    assert read.failure.kind is kind


def test_batches_of_others_are_known_by_their_names() -> None:
    metadata = {"displayName": "nightly"}
    read = batch_state(operation("BATCH_STATE_RUNNING", metadata=metadata))
    assert read is not None
    assert (read.is_foreign, read.tags) == (True, None)
    for nothing in (None, {}, {"name": "files/x"}, {"name": "batches/../x"}):
        assert batch_state(nothing) is None


# --- errors -----------------------------------------------------------------------------------------------------------


def refusal(status: int, message: str, *details: JSONObject, **headers: str) -> errors.APIError:
    """What the SDK raises."""
    said = {"error": {"code": status, "message": message, "details": list(details)}}
    response = httpx2.Response(status, json=said, headers={"retry-after": "7"} if headers else {})
    return errors.APIError(status, said, response)


BAD_KEY: JSONObject = {"reason": "API_KEY_INVALID"}
DELAY: JSONObject = {"retryDelay": "138.5s"}
KINDS = ProviderErrorKind


@pytest.mark.parametrize(
    ("error", "kind", "certain"),
    [
        (refusal(400, "API key not valid: AIzaSyA-0123456789", BAD_KEY), KINDS.CREDENTIALS, True),
        (refusal(403, "The caller does not have permission"), KINDS.CREDENTIALS, True),
        (refusal(403, "You may not access the File f1 or it may not exist."), KINDS.NOT_READY, True),
        (refusal(400, "The File is not in an ACTIVE state."), KINDS.NOT_READY, True),
        (refusal(400, "Please enable billing on project x"), KINDS.QUOTA, True),
        (refusal(404, "models/x is not found"), KINDS.BAD_REQUEST, True),
        (
            refusal(429, "You exceeded your current quota, check your plan and billing", DELAY),
            KINDS.CAPACITY,
            True,
        ),
        (refusal(500, "oops"), KINDS.RETRY, False),
        (refusal(503, "overloaded"), KINDS.RETRY, False),
        (httpx2.ReadTimeout("slow"), KINDS.RETRY, False),
        (httpx2.ConnectError("refused"), KINDS.RETRY, True),
        (json.JSONDecodeError("no", "<html>", 0), KINDS.RETRY, False),
    ],
)
def test_errors_of_a_create_are_told_apart(error: Exception, kind: ProviderErrorKind, certain: bool) -> None:
    made = translate(error, action="creation", secrets=["AIzaSyA-0123456789"], input_file="files/f1")
    assert (made.kind, made.not_performed) == (kind, certain)
    assert "AIza" not in str(made)


def test_a_full_queue_is_waited_for() -> None:
    made = translate(refusal(429, "full", DELAY), action="creation", input_file="files/f1")
    assert made.retry_after == 138.5
    made = translate(refusal(429, "full"), action="creation", input_file="files/f1")
    assert made.retry_after == CAPACITY_RETRY_SEC
    made = translate(refusal(429, "fast", after="7"), action="list")
    assert (made.kind, made.retry_after) == (KINDS.RETRY, 7)


# --- prices -----------------------------------------------------------------------------------------------------------


def test_batches_are_priced_at_google_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)
    at = datetime(2026, 11, 1, tzinfo=UTC)
    tools = {"tools": [{"googleSearch": {}}, {"functionDeclarations": []}]}
    rates = GeminiProviderConfig("gemini-2.5-flash", request_options=tools).batch_rates(at=at)
    assert isinstance(rates, BatchRates)
    assert rates.unseen == ("calls of the tool googleSearch",)
    elsewhere = GeminiProviderConfig("gemini-2.5-flash", base_url="https://example.com")
    assert isinstance(elsewhere.batch_rates(at=at), Unpriced)


@pytest.mark.parametrize(
    ("page", "is_readable"),
    [({}, True), ({"operations": []}, True), ({"batches": []}, False), ({"error": {"code": 500}}, False)],
)
def test_what_is_no_list_proves_nothing_absent(
    monkeypatch: pytest.MonkeyPatch, page: dict[str, Any], is_readable: bool
) -> None:
    api = GeminiBatchApi(GeminiProviderConfig(model="gemini-2.5-flash", api_key="k"))
    monkeypatch.setattr(api, "_call", lambda *_: None)
    monkeypatch.setattr(api, "_object", lambda _: page)
    if is_readable:
        assert list(api.list_batches()) == [[]]
    else:
        with pytest.raises(ProviderError, match="list of batches: the server's answer can't be read"):
            list(api.list_batches())
