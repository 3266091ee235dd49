"""Which outcomes the same request may change when it is sent again. What can't change is not paid for again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from batchor_core.core.answers import unread
from batchor_core.core.exceptions import StructuredOutputError
from batchor_core.core.structured import parse_structured_output, validator_fault_may_pass
from batchor_core.providers.openai.answers import read_record
from batchor_core.providers.openai.repeating import error_may_pass
from tests.unit.providers.test_openai_answers import (
    USAGE,
    chat,
    http_error,
    message,
    output_text,
    responses,
    row,
)

STATUSES = {
    **dict.fromkeys((300, 302, 304, 307, 308), True),  # a proxy's doing, which may end
    **dict.fromkeys((400, 404, 405, 410, 413, 415, 422, 423, 424, 431, 451), False),
    **dict.fromkeys((408, 409, 429), True),
    **dict.fromkeys((500, 502, 503, 504, 520, 524, 529, 599), True),
    **dict.fromkeys((501, 505), False),  # the server can't do it at all
}


@pytest.mark.parametrize(("status", "may_pass"), STATUSES.items())
def test_each_status_is_decided(status: int, may_pass: bool) -> None:
    assert error_may_pass(status, "", "") is may_pass
    answer = read_record(http_error(status))
    assert answer.failure is not None
    assert (answer.failure.retryable, answer.count_attempt) == (may_pass, True)


CODES = {
    # every code that OpenAI's Response error may have
    "server_error": True,
    "rate_limit_exceeded": True,
    "vector_store_timeout": True,
    "failed_to_download_image": True,
    "invalid_prompt": False,
    "data_residency_mismatch": False,
    "bio_policy": False,
    "misalignment_policy_violation": False,
    "invalid_image": False,
    "invalid_image_format": False,
    "invalid_base64_image": False,
    "invalid_image_url": False,
    "image_too_large": False,
    "image_too_small": False,
    "image_parse_error": False,
    "image_content_policy_violation": False,
    "invalid_image_mode": False,
    "image_file_too_large": False,
    "unsupported_image_media_type": False,
    "empty_image_file": False,
    "image_file_not_found": False,
    # codes of other errors
    "context_length_exceeded": False,
    "invalid_json_schema": False,
    "invalid_value": False,
    "invalid_type": False,
    "invalid_request_error": False,
    "missing_required_parameter": False,
    "model_not_found": False,
    "string_above_max_length": False,
    "array_above_max_length": False,
    "integer_below_min_value": False,
    "unknown_parameter": False,
    "unsupported_parameter": False,
    "unsupported_value": False,
    "overloaded_error": True,
    "a_code_of_next_year": True,
    "": True,
}


@pytest.mark.parametrize(("code", "may_pass"), CODES.items())
def test_each_code_without_a_status_is_decided(code: str, may_pass: bool) -> None:
    error = {"code": code or None, "message": "no"}
    for record in (
        row(responses(status="failed", error=error)),
        {"custom_id": "a", "response": None, "error": error},
        row({"error": error}),
        row(chat(None, "error") | {"choices": [{"finish_reason": "error", "error": error}]}),
    ):
        answer = read_record(record)
        assert answer.failure is not None
        assert answer.failure.error_class == "provider_item_error"
        assert answer.failure.retryable is may_pass


@pytest.mark.parametrize(
    ("status", "code", "message", "may_pass"),
    [
        (500, "context_length_exceeded", "", False),  # proxies turn a 400 into a 500
        (503, "model_not_found", "", False),
        (429, "invalid_prompt", "", False),
        (500, "content_policy_violation", "", False),
        (500, "rate_limit_exceeded", "", True),
        (500, "invalid_api_response", "", True),  # of the server behind it
        (400, "rate_limit_exceeded", "", False),
        (429, "rate_limit_exceeded", "Rate limit reached for gpt-5", True),
        (429, "rate_limit_exceeded", "Request too large for gpt-5 on tokens per min (TPM)", False),
    ],
)
def test_a_code_that_blames_the_request_outweighs_the_status(
    status: int, code: str, message: str, may_pass: bool
) -> None:
    assert error_may_pass(status, code, "", message) is may_pass


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation", "moderation_blocked"])
def test_a_filter_is_one_under_any_of_its_names(code: str) -> None:
    failure = read_record(http_error(400, code)).failure
    assert failure is not None
    assert (failure.error_class, failure.retryable) == ("content_filter", False)


def test_payment_required_pauses_the_run() -> None:
    answer = read_record(http_error(402))
    assert answer.pause_reason is not None
    assert "402" in answer.pause_reason
    assert not answer.count_attempt


INCOMPLETE: list[tuple[str | None, str, bool]] = [
    ("max_output_tokens", "incomplete_response", True),
    ("max_messages", "incomplete_response", True),
    ("steered", "incomplete_response", True),
    (None, "incomplete_response", True),
    ("content_filter", "content_filter", False),
]


@pytest.mark.parametrize(("reason", "error_class", "retryable"), INCOMPLETE)
def test_each_reason_of_an_incomplete_response_is_decided(
    reason: str | None, error_class: str, retryable: bool
) -> None:
    body = responses(message(output_text("{")), status="incomplete", incomplete_details={"reason": reason})
    failure = read_record(row(body)).failure
    assert failure is not None
    assert (failure.error_class, failure.retryable) == (error_class, retryable)


FINISH: list[tuple[str | None, str | None, bool]] = [
    ("stop", None, False),
    ("STOP", None, False),
    ("eos", None, False),
    ("stop_sequence", None, False),
    (None, None, False),
    ("length", "incomplete_response", True),
    ("max_tokens", "incomplete_response", True),
    ("MAX_TOKENS", "incomplete_response", True),
    ("model_length", "incomplete_response", True),
    ("error", "incomplete_response", True),
    ("abort", "incomplete_response", True),
    ("insufficient_system_resource", "incomplete_response", True),
    ("content_filter", "content_filter", False),
    ("content_filter: RECITATION", "content_filter", False),
    ("SAFETY", "content_filter", False),
]


@pytest.mark.parametrize(("reason", "error_class", "retryable"), FINISH)
def test_each_finish_reason_of_a_chat_answer_is_decided(
    reason: str | None, error_class: str | None, retryable: bool
) -> None:
    answer = read_record(row(chat("text", reason)))
    if error_class is None:
        assert (answer.text, answer.failure) == ("text", None)
        return
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == (error_class, retryable)


def test_reasoning_that_took_all_tokens_is_retried_and_says_what_to_raise() -> None:
    usage = USAGE | {"output_tokens": 2_000, "output_tokens_details": {"reasoning_tokens": 2_000}}
    body = responses(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=usage)
    failure = read_record(row(body)).failure
    assert failure is not None
    assert failure.retryable  # it thinks for another while each time
    assert "all 2,000 output tokens went into reasoning; raise max_output_tokens" in failure.message


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_response_never_ends_in_its_batch(status: str) -> None:
    for background, retryable in ((True, False), (False, True), (None, True)):
        failure = read_record(row(responses(status=status, background=background))).failure
        assert failure is not None
        assert (failure.error_class, failure.retryable) == ("incomplete_response", retryable)


def test_a_line_that_its_reader_fails_on_is_not_bought_again() -> None:
    answer = unread("a", KeyError("output"))
    assert answer.custom_id == "a"
    assert answer.failure is not None
    assert (answer.failure.retryable, answer.count_attempt) == (False, True)
    assert "KeyError: 'output'" in answer.failure.message


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (ValueError("x"), True),
        (KeyError("Atlantis"), True),
        (IndexError(3), True),
        (ZeroDivisionError(), True),
        (OverflowError(), True),
        (NameError("undefined"), False),
        (ImportError("gone"), False),
        (AttributeError("misspelt"), False),
        (TypeError("wrong call"), False),
        (NotImplementedError(), False),
        (OSError("no network"), False),
    ],
)
def test_a_fault_of_a_validators_code_is_not_retried(error: Exception, may_pass: bool) -> None:
    assert validator_fault_may_pass(error) is may_pass

    class Model(BaseModel):
        x: str

        @field_validator("x")
        @classmethod
        def check(cls, value: str) -> Any:
            raise error

    with pytest.raises(StructuredOutputError) as raised:
        parse_structured_output('{"x": "y"}', Model)
    assert raised.value.error_class == "structured_output_validation_failed"
    assert raised.value.may_pass is may_pass


@pytest.mark.parametrize("text", ["", "not json", '{"x": 5}', "[]", "{}", '{"x": "y"'])
def test_what_the_model_wrote_is_retried(text: str) -> None:
    class Model(BaseModel):
        x: str

    with pytest.raises(StructuredOutputError) as raised:
        parse_structured_output(text, Model)
    assert raised.value.may_pass


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (500, "", "invalid_request_error", "bad"),
        (502, "", "", "This model's maximum context length is 4096 tokens"),
        (500, "ContextWindowExceededError", "", ""),
        (None, "BadRequestError", "", ""),
        (None, "InvalidParameter", "", ""),
        (None, "DeploymentNotFound", "", ""),
        (None, "", "", "maximum context length is 4096"),
    ],
)
def test_an_error_that_blames_the_request_is_not_retried_whatever_its_status_and_spelling(
    status: int | None, code: str, kind: str, words: str
) -> None:
    assert not error_may_pass(status, code, kind, words)
