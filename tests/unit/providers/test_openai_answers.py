"""What lines of output and error files mean. Shapes and codes: OpenAI's published schemas and reported live behaviour."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchor_core.core.models import ItemFailure
from batchor_core.core.types import JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.openai.answers import read_record

USAGE = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 18,
}


def row(body: Any, status: Any = 200, **more: Any) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return {"id": "batch_req_1", "custom_id": "a", "response": response, "error": None} | more


def message(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": list(parts)} | more


def output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def responses(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "output": [{"id": "rs_1", "type": "reasoning", "summary": []}, *output],
        "usage": USAGE,
    } | more


def chat(content: Any, finish_reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, "refusal": None} | more
    return {
        "id": "chatcmpl_1",
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": said}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
    }


def embedding(*vectors: Any, **more: Any) -> dict[str, Any]:
    entries = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(vectors)]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return {"object": "list", "data": entries, "model": "text-embedding-3-small", "usage": usage} | more


def http_error(
    status: int, code: Any = None, kind: str = "some_error", message: str = "no"
) -> dict[str, Any]:
    return row({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)


REFUSAL = {"type": "refusal", "refusal": "I can't help with that."}

GOOD = {
    "responses": (row(responses(message(output_text("yes")))), "yes"),
    "responses, several parts": (row(responses(message(output_text("y"), output_text("es")))), "yes"),
    "responses, several messages": (
        row(responses(message(output_text("one ")), message(output_text("two")))),
        "one two",
    ),
    "responses, thinking aloud before the final answer": (
        row(
            responses(
                message(output_text("let me see"), phase="commentary"),
                message(output_text("42"), phase="final_answer"),
            )
        ),
        "42",
    ),
    "responses without a status": (row({"output": [message(output_text("yes"))]}), "yes"),
    "responses, content as a string": (row(responses(message() | {"content": "yes"})), "yes"),
    "chat": (row(chat("yes")), "yes"),
    "chat, content as parts": (row(chat([{"type": "text", "text": "yes"}])), "yes"),
    "chat without a finish reason": (row(chat("yes", None)), "yes"),
    "body as a JSON string": (row(json.dumps(chat("yes"))), "yes"),
    "status as a string": (row(chat("yes"), "200"), "yes"),
    "status as a float": (row(chat("yes"), 200.0), "yes"),
    "status missing": ({"custom_id": "a", "response": {"body": chat("yes")}}, "yes"),
    "error key missing": ({"custom_id": "a", "response": {"status_code": 200, "body": chat("yes")}}, "yes"),
    "another success status": (row(chat("yes"), 201), "yes"),
    "line separators in the text": (row(chat("a\u2028b\u0085c")), "a\u2028b\u0085c"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_usable_answer_is_read_from(name: str) -> None:
    record, text = GOOD[name]
    answer = read_record(record)
    assert (answer.custom_id, answer.text, answer.failure, answer.count_attempt) == ("a", text, None, True)
    assert answer.pause_reason is None


def test_usage_is_read_in_both_spellings() -> None:
    assert read_record(row(responses(message(output_text("x"))))).usage == TokenUsage(11, 3, 7, 2)
    assert read_record(row(chat("x"))).usage == TokenUsage(5, 0, 6, 0)


# name -> (record, error class, retryable, counted)
BAD: dict[str, tuple[dict[str, Any], str, bool, bool]] = {
    "cut off by length": (
        row(
            responses(
                message(output_text("{")),
                status="incomplete",
                incomplete_details={"reason": "max_output_tokens"},
            )
        ),
        "incomplete_response",
        True,
        True,
    ),
    "cut off without details": (row(responses(status="incomplete")), "incomplete_response", True, True),
    "content filter": (
        row(responses(status="incomplete", incomplete_details={"reason": "content_filter"})),
        "content_filter",
        False,
        True,
    ),
    "still queued": (row(responses(status="queued")), "incomplete_response", True, True),
    "failed, server error": (
        row(responses(status="failed", error={"code": "server_error", "message": "sorry"})),
        "provider_item_error",
        True,
        True,
    ),
    "failed, rate limit": (
        row(responses(status="failed", error={"code": "rate_limit_exceeded", "message": "sorry"})),
        "provider_item_error",
        True,
        True,
    ),
    "failed, invalid prompt": (
        row(responses(status="failed", error={"code": "invalid_prompt", "message": "no"})),
        "provider_item_error",
        False,
        True,
    ),
    "failed, bad image": (
        row(responses(status="failed", error={"code": "image_too_large", "message": "no"})),
        "provider_item_error",
        False,
        True,
    ),
    "failed without an error": (row(responses(status="failed")), "provider_item_error", True, True),
    "failed without output": (row({"status": "failed", "error": None}), "provider_item_error", True, True),
    "no message in the output": (row(responses()), "empty_response_text", True, True),
    "empty text": (row(responses(message(output_text("")))), "empty_response_text", True, True),
    "blank text": (row(chat(" \n")), "empty_response_text", True, True),
    "a body without output": (row({"id": "x"}), "empty_response_text", True, True),
    "an empty body under 200": (row({}), "empty_response_text", True, True),
    "a body that is no object": (row([1, 2]), "empty_response_text", True, True),
    "chat cut off by length": (row(chat("{", "length")), "incomplete_response", True, True),
    "chat content filter": (row(chat(None, "content_filter")), "content_filter", False, True),
    "chat tool calls only": (
        row(chat(None, "tool_calls", tool_calls=[{"id": "call_1"}])),
        "non_text_answer",
        False,
        True,
    ),
    "chat without choices": (row({"choices": []}), "empty_response_text", True, True),
    "chat with null message": (row({"choices": [{"message": None}]}), "empty_response_text", True, True),
    "HTTP 400": (
        http_error(400, "invalid_value", "invalid_request_error"),
        "provider_item_error",
        False,
        True,
    ),
    "HTTP 400, context too long": (
        http_error(400, "context_length_exceeded"),
        "provider_item_error",
        False,
        True,
    ),
    "HTTP 400, filtered": (http_error(400, "content_filter"), "content_filter", False, True),
    "HTTP 404": (http_error(404, "model_not_found"), "provider_item_error", False, True),
    "HTTP 408": (http_error(408), "provider_item_error", True, True),
    "HTTP 409": (http_error(409), "provider_item_error", True, True),
    "HTTP 422": (http_error(422), "provider_item_error", False, True),
    "HTTP 429": (http_error(429, "rate_limit_exceeded"), "provider_item_error", True, True),
    "HTTP 500": (http_error(500), "provider_item_error", True, True),
    "HTTP 503 with a page for a body": (row("<html>", 503), "provider_item_error", True, True),
    "HTTP 500 without a body": (row(None, 500), "provider_item_error", True, True),
    "HTTP 500, error as a string": (row({"error": "boom"}, 500), "provider_item_error", True, True),
    "HTTP 200 around an error": (
        row({"error": {"message": "no", "type": "invalid_request_error"}}),
        "provider_item_error",
        False,
        True,
    ),
    "error without a response": (
        {"custom_id": "a", "error": {"code": "server_error", "message": "boom"}},
        "provider_item_error",
        True,
        True,
    ),
    "error without a code": (
        {"custom_id": "a", "response": None, "error": {"type": "invalid_request_error", "message": "no"}},
        "provider_item_error",
        False,
        True,
    ),
    "error with an HTTP status for a code": (
        {"custom_id": "a", "response": None, "error": {"code": 503, "message": "busy"}},
        "provider_item_error",
        True,
        True,
    ),
    "expired": (
        {"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "too late"}},
        "batch_terminal_expired",
        True,
        False,
    ),
    "expired, with a blank response": (
        row({}, 0, error={"code": "batch_expired", "message": "too late"}),
        "batch_terminal_expired",
        True,
        False,
    ),
    "cancelled": (
        {"custom_id": "a", "response": None, "error": {"code": "batch_cancelled", "message": "stopped"}},
        "batch_terminal_cancelled",
        True,
        False,
    ),
    "blank with status 0": (row({}, 0), "provider_item_error", True, False),
    "status 0 and no body": (row(None, 0), "provider_item_error", True, False),
    "status 0 with an error": (row({"error": {"message": "lost"}}, 0), "provider_item_error", True, False),
    "status NaN": (row({}, float("nan")), "provider_item_error", True, False),
    "neither response nor error": ({"custom_id": "a"}, "provider_item_error", True, False),
    "both null": ({"custom_id": "a", "response": None, "error": None}, "provider_item_error", True, False),
    "an empty response": ({"custom_id": "a", "response": {}}, "provider_item_error", True, False),
    "a response that is no object": ({"custom_id": "a", "response": 7}, "provider_item_error", True, False),
}


@pytest.mark.parametrize("name", BAD)
def test_an_unusable_answer_is_classified(name: str) -> None:
    record, error_class, retryable, counted = BAD[name]
    answer = read_record(record)
    assert answer.custom_id == "a"
    assert answer.text is None
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable, answer.count_attempt) == (
        error_class,
        retryable,
        counted,
    )
    assert answer.failure.message
    assert answer.pause_reason is None


@pytest.mark.parametrize(
    "record",
    [row(responses(message(REFUSAL))), row(chat(None, refusal=REFUSAL["refusal"])), row(chat([REFUSAL]))],
)
def test_a_refusal_is_permanent_and_keeps_its_words(record: dict[str, Any]) -> None:
    answer = read_record(record)
    assert answer.text == "I can't help with that."
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable, answer.count_attempt) == (
        "refusal",
        False,
        True,
    )
    assert answer.usage is not None


@pytest.mark.parametrize(
    "record",
    [
        http_error(401, "invalid_api_key", message="Incorrect API key provided: sk-canary"),
        http_error(403),
        http_error(429, "insufficient_quota"),
        http_error(429, None, "insufficient_quota"),
        http_error(400, "billing_hard_limit_reached"),
        {"custom_id": "a", "response": None, "error": {"code": "billing_not_active", "message": "pay"}},
        {"custom_id": "a", "response": None, "error": {"code": "quota_exceeded", "message": "pay"}},
        http_error(400, "insufficient_balance"),
        row(responses(status="failed", error={"code": "insufficient_quota", "message": "pay"})),
    ],
)
def test_credentials_and_billing_pause_the_run_and_cost_no_attempt(record: dict[str, Any]) -> None:
    answer = read_record(record)
    assert answer.pause_reason
    assert "sk-canary" not in answer.pause_reason
    assert answer.failure is not None
    assert answer.failure.retryable
    assert not answer.count_attempt


def test_usage_of_a_useless_answer_is_kept() -> None:
    assert read_record(row(chat("{", "length"))).usage == TokenUsage(5, 0, 6, 0)


def test_an_error_keeps_the_providers_own_words() -> None:
    error: dict[str, JSONValue] = {
        "message": "no such model",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    answer = read_record(row({"error": error}, 404))
    assert answer.failure == ItemFailure("provider_item_error", "no such model", False, error)


def test_a_hostile_error_is_cut_to_size() -> None:
    nested: Any = "x"
    for _ in range(500):
        nested = {"inner": nested}
    answer = read_record(row({"error": {"message": "m" * 100_000, "inner": nested}}, 500))
    assert answer.failure is not None
    assert len(answer.failure.message) == 2_000
    assert answer.failure.raw_error is None
    assert answer.failure.to_payload()


@pytest.mark.parametrize("record", [None, 1, "x", [], {"custom_id": 5}, {"custom_id": None, "response": {}}])
def test_a_line_without_a_name_belongs_to_nobody(record: Any) -> None:
    answer = read_record(record)
    assert answer.custom_id == ""
    assert answer.failure is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "custom_id response error status_code body output choices status content type text refusal message code "
    "incomplete_details reason usage input_tokens finish_reason phase"
)
KEYS = st.sampled_from(NAMES.split())
VALUES = st.sampled_from(
    [
        *("message", "output_text", "failed", "incomplete", "completed", 200, 0, 401, 429, "length"),
        *(
            "function_call",
            "function_call_output",
            "tool_calls",
            "stop",
            "assistant",
            "image",
            "refusal",
            "text",
        ),
    ]
)
SHAPED = st.recursive(
    VALUES | JSON,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(JSON, SHAPED), SHAPED, SHAPED)
def test_no_json_makes_it_raise(anything: Any, body: Any, status: Any) -> None:
    for record in (
        anything,
        row(body),
        row(body, status),
        {"custom_id": "a", "response": anything, "error": body},
    ):
        answer = read_record(record)
        assert isinstance(answer.custom_id, str)
        assert answer.failure is not None or answer.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}, "body.model: Field required"),
        ({"detail": "no such deployment"}, "no such deployment"),
        ({"message": "bad", "code": "x"}, "bad"),
        ({"error": {"detail": "inside"}}, "inside"),
        ({"error": "text"}, "text"),
        (["one", "two"], "one; two"),
        ("<html><title>413 Too Large</title></html>", "a web page: 413 Too Large"),
        ("plain", "plain"),
        ({}, "HTTP 422"),
        (None, "HTTP 422"),
        ({"error": {"code": "x"}}, "HTTP 422"),
    ],
)
def test_an_error_body_of_any_shape_says_why_a_row_failed(body: Any, message: str) -> None:
    answer = read_record({"custom_id": "a", "response": {"status_code": 422, "body": body}, "error": None})
    assert answer.failure is not None
    assert answer.failure.message == message
    assert not answer.failure.retryable
