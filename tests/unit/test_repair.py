"""What a model is told about an answer that was rejected, and which answers are sent back at all."""

from __future__ import annotations

from typing import Any

import pytest

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.failures import ItemFailure
from batchor_core.core.lifecycle import ItemState, is_repaired
from batchor_core.core.policies import RetryPolicy
from batchor_core.core.prompts import PromptParts
from batchor_core.core.repair import MAX_ANSWER_CHARS, can_be_repaired, reply_to
from batchor_core.providers.openai.config import OpenAIProviderConfig
from batchor_core.providers.openai.provider import OpenAIBatchProvider


def _failure(error_class: str = "invalid_json", *, retryable: bool = True, raw: Any = None) -> ItemFailure:
    return ItemFailure(error_class, "the answer is not JSON", retryable, raw)


@pytest.mark.parametrize(
    ("failure", "answer", "expected"),
    [
        (_failure(), "no JSON", True),
        (_failure("structured_output_validation_failed"), "{}", True),
        (_failure("structured_output_validation_failed", retryable=False), "{}", False),
        (_failure("refusal"), "I can't", False),
        (_failure("provider_item_error"), "{}", False),
        (_failure(), None, False),
        (_failure(), " \n", False),
        (_failure(), "x" * MAX_ANSWER_CHARS, True),
        (_failure(), "x" * (MAX_ANSWER_CHARS + 1), False),
    ],
)
def test_only_short_answers_that_the_model_rejects_are_sent_back(
    failure: ItemFailure, answer: str | None, expected: bool
) -> None:
    assert can_be_repaired(failure, answer) is expected


def test_every_problem_is_a_line_with_its_place() -> None:
    errors = [
        {"loc": ["items", 0, "price"], "msg": "Input should be\n a number"},
        {"loc": [], "msg": "x" * 400},
    ]
    said = reply_to(_failure(raw={"output": {}, "errors": errors})).split("\n")
    assert said[0] == "Your answer was rejected:"
    assert said[1] == "- items.0.price: Input should be a number"
    assert said[2].startswith("- the whole answer: xxx")
    assert len(said[2]) == 302
    assert said[3].startswith("Answer the request again.")
    many = reply_to(_failure(raw={"errors": errors * 20})).split("\n")
    assert (len(many), many[-2]) == (23, "- and 20 more")
    assert "- the answer is not JSON" in reply_to(_failure(raw="no JSON"))


@pytest.mark.parametrize(
    ("status", "repairs", "most", "expected"),
    [
        (ItemStatus.FAILED_RETRYABLE, 0, 1, True),
        (ItemStatus.FAILED_RETRYABLE, 1, 1, False),
        (ItemStatus.FAILED_RETRYABLE, 1, 2, True),
        (ItemStatus.FAILED_PERMANENT, 0, 1, False),
    ],
)
def test_an_item_is_asked_with_the_reason_while_it_has_attempts(
    status: ItemStatus, repairs: int, most: int, expected: bool
) -> None:
    assert is_repaired(ItemState(status, 1, 1), repairs=repairs, most=most) is expected


def test_the_policy_takes_whole_numbers_only() -> None:
    assert RetryPolicy().repair == 0
    for wrong in (-1, True, 1.5):
        with pytest.raises((InvalidInputError, TypeError)):
            RetryPolicy(repair=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("endpoint", "turns"), [("/v1/responses", "input"), ("/v1/chat/completions", "messages")]
)
def test_a_request_goes_on_as_a_conversation(endpoint: Any, turns: str) -> None:
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="m", api_key="sk-x", endpoint=endpoint))
    parts = [
        PromptParts("hello", "be brief"),
        PromptParts.of_messages([{"role": "user", "content": "hello"}]),
    ]
    for prompt in parts:
        line = provider.build_request_line(custom_id="a", prompt_parts=prompt)
        before = repr(line)
        further: Any = provider.continued_line(line, answer="bad", reply="why")
        assert repr(line) == before
        assert further["body"][turns][-3:] == [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "bad"},
            {"role": "user", "content": "why"},
        ]
        rest: Any = line["body"]
        assert {**further["body"], turns: 0} == {**rest, turns: 0}


def test_an_endpoint_without_turns_refuses() -> None:
    config = OpenAIProviderConfig(model="m", api_key="sk-x", endpoint="/v1/embeddings")  # type: ignore[arg-type]
    provider = OpenAIBatchProvider(config)
    line = provider.build_request_line(custom_id="a", prompt_parts=PromptParts("hello"))
    with pytest.raises(InvalidInputError, match="has no turns"):
        provider.continued_line(line, answer="bad", reply="why")
