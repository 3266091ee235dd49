"""What is an answer in a body and what is not: calls, media, parts without a type, several choices."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from batchor_core.providers.openai.answers import read_record
from batchor_core.providers.openai.plain_lines import read_plain_line
from tests.unit.providers.test_openai_answers import REFUSAL, chat, message, output_text, responses, row

FUNCTION_CALL = {
    "type": "function_call",
    "call_id": "c1",
    "name": "get_weather",
    "arguments": '{"city":"Rome"}',
}
TOOL_CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
}
WEB_SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
IMAGE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="}
SPOKEN = message(output_text("Let me look that up."))


def call(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": "x_1", "call_id": "c1", "status": "completed"} | more


CALLS = [
    FUNCTION_CALL,
    call("custom_tool_call", name="sql", input="SELECT 1"),
    call("computer_call", action={"type": "click"}),
    call("local_shell_call"),
    call("shell_call"),
    call("apply_patch_call"),
    call("mcp_approval_request", name="delete_all", server_label="files", arguments="{}"),
    call("mcp_call", name="list", server_label="files", arguments="{}", output="a"),
    call("tool_search_call", execution="client"),
    call("teleport_call"),
    call("program", code="1"),
    {"type": "mcp_list_tools", "id": "m_1", "server_label": "files", "tools": []},
    WEB_SEARCH,
    IMAGE,
    {"call_id": "c1", "name": "get_weather", "arguments": "{}"},
]


@pytest.mark.parametrize("item", CALLS, ids=lambda item: item.get("type", "no type"))
def test_an_output_of_calls_alone_is_not_retried(item: dict[str, Any]) -> None:
    answer = read_record(row(responses(item)))
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable, answer.text) == (
        "non_text_answer",
        False,
        None,
    )
    assert str(item.get("type", "function_call")) in answer.failure.message
    assert answer.count_attempt
    assert answer.usage is not None


@pytest.mark.parametrize(
    "body",
    [
        chat(None, "tool_calls", tool_calls=[TOOL_CALL]),
        chat("", "tool_calls", tool_calls=[TOOL_CALL]),
        chat(" \n", "stop", tool_calls=[TOOL_CALL]),
        chat(None, "stop", tool_calls=[TOOL_CALL]),  # tool_choice names the function
        chat(None, "length", tool_calls=[TOOL_CALL]),
        chat(
            None,
            "tool_calls",
            tool_calls=[{"type": "custom", "custom": {"name": "get_weather", "input": "x"}}],
        ),
        chat(None, "tool_calls", tool_calls={"function": {"name": "get_weather"}}),
        chat(None, "function_call", function_call={"name": "get_weather", "arguments": "{}"}),
        chat([{"type": "tool_use", "name": "get_weather", "input": {}}], "tool_calls"),
    ],
)
def test_a_chat_answer_of_calls_alone_is_not_retried_and_names_them(body: dict[str, Any]) -> None:
    answer = read_record(row(body))
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable, answer.text) == (
        "non_text_answer",
        False,
        None,
    )
    assert "get_weather" in answer.failure.message


@pytest.mark.parametrize("reason", ["tool_calls", "function_call"])
def test_a_finish_reason_alone_tells_a_call(reason: str) -> None:
    answer = read_record(row(chat(None, reason)))
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == ("non_text_answer", False)


def test_the_arguments_of_a_call_are_kept_with_the_error() -> None:
    for body in (responses(FUNCTION_CALL), chat(None, "tool_calls", tool_calls=[TOOL_CALL])):
        failure = read_record(row(body)).failure
        assert failure is not None
        assert isinstance(failure.raw_error, dict)
        calls: Any = failure.raw_error["calls"]
        [kept] = calls
        assert kept["name"] == "get_weather"
        assert kept["arguments"] == '{"city":"Rome"}'


def test_hostile_calls_are_cut_to_size() -> None:
    many = [FUNCTION_CALL | {"name": "n" * 100_000, "arguments": "a" * 100_000}] * 500
    failure = read_record(row(responses(*many))).failure
    assert failure is not None
    assert len(str(failure.to_payload())) < 200_000


@pytest.mark.parametrize(
    "body",
    [
        responses(SPOKEN, FUNCTION_CALL),
        responses(FUNCTION_CALL, SPOKEN),
        responses(SPOKEN, WEB_SEARCH, FUNCTION_CALL),
        responses(message(output_text("Let me look that up."), phase="commentary"), FUNCTION_CALL),
        chat("Let me look that up.", "tool_calls", tool_calls=[TOOL_CALL]),
        chat("Let me look that up.", "stop", tool_calls=[TOOL_CALL]),
        chat("Let me look that up.", "function_call", function_call={"name": "f"}),
    ],
)
def test_text_beside_a_call_that_waits_for_its_result_is_kept_and_is_no_answer(body: dict[str, Any]) -> None:
    answer = read_record(row(body))
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == ("non_text_answer", False)
    assert answer.text == "Let me look that up."


@pytest.mark.parametrize(
    "body",
    [
        responses(WEB_SEARCH, message(output_text("yes"))),
        responses(message(output_text("yes")), IMAGE),
        responses(call("mcp_call", output="a"), message(output_text("yes"))),
        responses(call("shell_call"), call("shell_call_output"), message(output_text("yes"))),
        responses(message(output_text("hm "), phase="commentary"), FUNCTION_CALL)
        | {"output": [FUNCTION_CALL, message(output_text("yes"), phase="final_answer")]},
        chat("yes", "stop", tool_calls=[]),
        chat("yes", "stop", tool_calls=None, function_call=None),
        chat("yes", "tool_calls", tool_calls=[]),
    ],
)
def test_text_after_calls_that_are_done_is_the_answer(body: dict[str, Any]) -> None:
    answer = read_record(row(body))
    assert (answer.text, answer.failure) == ("yes", None)


def test_a_spoken_answer_is_its_transcript() -> None:
    assert read_record(row(chat(None, audio={"id": "a", "data": "aGk=", "transcript": "yes"}))).text == "yes"


@pytest.mark.parametrize(
    "body",
    [
        chat(None, audio={"id": "a", "data": "aGk="}),
        chat(None, images=[{"type": "image_url", "image_url": {"url": "data:"}}]),
        chat([{"type": "image_url", "image_url": {"url": "data:"}}]),
        responses(message({"type": "output_image", "image_url": "data:"})),
    ],
)
def test_media_without_words_are_not_retried(body: dict[str, Any]) -> None:
    failure = read_record(row(body)).failure
    assert failure is not None
    assert (failure.error_class, failure.retryable) == ("non_text_answer", False)


def test_a_refusal_is_one_beside_a_call_and_when_it_was_cut_off() -> None:
    for body in (
        responses(message(REFUSAL), FUNCTION_CALL),
        responses(message(REFUSAL), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        chat(None, "length", refusal=REFUSAL["refusal"]),
        chat(None, "tool_calls", refusal=REFUSAL["refusal"], tool_calls=[TOOL_CALL]),
    ):
        answer = read_record(row(body))
        assert answer.failure is not None
        assert (answer.failure.error_class, answer.failure.retryable) == ("refusal", False)
        assert answer.text == REFUSAL["refusal"]


# --- what compatible servers leave out ---------------------------------------------------------------------------------

BARE_PART = {"text": "yes"}
UNTYPED = [
    responses({"role": "assistant", "content": [output_text("yes")]}),
    responses({"content": [output_text("yes")]}),
    responses({"role": "assistant", "content": "yes"}),
    responses({"role": "assistant", "content": [BARE_PART]}),
    responses({"type": None, "role": "assistant", "content": [{"type": None, "text": "yes"}]}),
    responses({"summary": [], "content": [{"text": "hm"}]}, {"role": "assistant", "content": [BARE_PART]}),
    responses({"encrypted_content": "x"}, {"content": [BARE_PART]}),
    responses({"role": "user", "content": "and?"}, {"role": "assistant", "content": "yes"}),
    responses(message(BARE_PART)),
    responses(message({"type": "some_text", "text": "yes"})),
    responses(message({"type": "text", "text": {"value": "yes", "annotations": []}})),
    responses(message() | {"content": ["yes"]}),
    responses(message() | {"content": {"type": "output_text", "text": "yes"}}),
    responses(message({"type": "reasoning_text", "text": "hm"}, output_text("yes"))),
    responses(output_text("yes")),
    responses(BARE_PART),
    responses(output_text="yes"),
    {"output": [{"content": [BARE_PART]}]},
    chat([BARE_PART]),
    chat(["yes"]),
    chat({"type": "text", "text": "yes"}),
    chat([{"type": "thinking", "thinking": [BARE_PART]}, BARE_PART]),
    chat([{"type": "text", "text": "yes", "refusal": None}]),
]


@pytest.mark.parametrize("body", UNTYPED)
def test_a_part_with_a_text_is_text_whether_or_not_it_says_so(body: dict[str, Any]) -> None:
    answer = read_record(row(body))
    assert (answer.text, answer.failure) == ("yes", None)


@pytest.mark.parametrize(
    "body",
    [
        responses({"role": "user", "content": "and?"}),
        responses({"summary": [{"text": "hm"}]}),
        responses(message({"type": "reasoning_text", "text": "hm"})),
        responses({"call_id": "c1", "output": "a"}),
        chat([{"type": "thinking", "text": "hm"}]),
    ],
)
def test_what_others_said_and_what_the_model_thought_is_no_answer(body: dict[str, Any]) -> None:
    failure = read_record(row(body)).failure
    assert failure is not None
    assert failure.error_class == "empty_response_text"


@pytest.mark.parametrize(
    "part", [{"refusal": "no"}, {"type": None, "refusal": "no"}, {"type": "refusal", "text": "no"}]
)
def test_a_refusal_without_a_type_is_one(part: dict[str, Any]) -> None:
    for body in (responses(message(part)), chat([part])):
        answer = read_record(row(body))
        assert answer.failure is not None
        assert (answer.failure.error_class, answer.text) == ("refusal", "no")


# --- several choices ---------------------------------------------------------------------------------------------------


def choice(text: str, *index: Any) -> dict[str, Any]:
    said = {"finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return said | ({"index": index[0]} if index else {})


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ([choice("b", 1), choice("a", 0)], "a"),
        ([choice("c", 2), choice("b", 1), choice("a", 0)], "a"),
        ([choice("b", "1"), choice("a", "0")], "a"),
        ([choice("b", 1.0), choice("a", 0.0)], "a"),
        ([choice("b", 1), choice("a")], "a"),
        ([choice("b"), choice("a", 0)], "a"),
        ([choice("a"), choice("b")], "a"),
        ([choice("a", None), choice("b", None)], "a"),
        ([choice("a", True), choice("b", False)], "a"),
        ([choice("b", 2), choice("a", 1)], "a"),
        ([choice("a", 0), choice("b", 0)], "a"),
        ([choice("b", 1), choice("a", -1)], "a"),
        ([choice("b", 1), choice("a", float("nan"))], "a"),
        ([choice("b", 1), choice("a", float("inf"))], "a"),
        ([choice("b", 1), choice("a", [])], "a"),
        ([choice("a", 5)], "a"),
        (["b", None, choice("a", 3)], "a"),
    ],
)
def test_the_choice_of_index_0_is_the_answer(choices: list[Any], text: str) -> None:
    assert read_record(row({"choices": choices})).text == text


def test_what_the_choice_of_index_0_says_counts_even_if_another_is_better() -> None:
    cut = choice("{", 0) | {"finish_reason": "length"}
    failure = read_record(row({"choices": [choice("yes", 1), cut]})).failure
    assert failure is not None
    assert failure.error_class == "incomplete_response"


SAID_ELSEWHERE: dict[str, dict[str, Any]] = {
    "a role in capitals": responses(message(output_text("yes"), role="Assistant")),
    "a message of another type": responses(message(output_text("yes"), type="output_message")),
    "output_text alone": {"status": "completed", "output_text": "yes"},
    "output as a text": {"status": "completed", "output": "yes"},
    "output as one item": {"status": "completed", "output": message(output_text("yes"))},
    "a body within the body": {"response": responses(message(output_text("yes")))},
    "an item of an unknown type": responses({"type": "answer", "text": "yes"}),
    "choices[].text": {"choices": [{"index": 0, "text": "yes", "finish_reason": "stop"}]},
    "a message that is a text": {"choices": [{"message": "yes", "finish_reason": "stop"}]},
    "a delta": {"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]},
    "one choice": {"choices": {"message": {"role": "assistant", "content": "yes"}}},
    "a part whose text is its content": chat([{"type": "text", "content": "yes"}]),
}


@pytest.mark.parametrize("name", SAID_ELSEWHERE)
def test_what_has_a_text_is_text_wherever_a_server_puts_it(name: str) -> None:
    answer = read_record(row(SAID_ELSEWHERE[name]))
    assert (answer.text, answer.failure) == ("yes", None)


@pytest.mark.parametrize(
    "body",
    [
        chat(None, parsed={"a": "é"}),
        chat({"a": "é"}),
        responses(message({"type": "output_json", "json": {"a": "é"}})),
    ],
)
def test_an_answer_that_a_server_has_decoded_is_its_json(body: dict[str, Any]) -> None:
    answer = read_record(row(body))
    assert (answer.text, answer.failure) == ('{"a": "é"}', None)


CALLED_ELSEWHERE: dict[str, dict[str, Any]] = {
    "an item with a function": responses({"id": "c", "function": {"name": "f", "arguments": "{}"}}),
    "an item in camel case": responses({"type": "functionCall", "name": "f", "arguments": "{}"}),
    "calls in a message": responses(
        message() | {"content": None, "tool_calls": [{"function": {"name": "f"}}]}
    ),
    "calls in a choice": {
        "choices": [{"message": {"content": None}, "tool_calls": [{"function": {"name": "f"}}]}]
    },
    "a part without a type": chat([{"id": "t", "name": "f", "input": {}}], "tool_use"),
    "a functionCall in a part": chat([{"functionCall": {"name": "f", "args": {}}}]),
}


@pytest.mark.parametrize("name", CALLED_ELSEWHERE)
def test_a_call_is_not_retried_wherever_a_server_puts_it(name: str) -> None:
    answer = read_record(row(CALLED_ELSEWHERE[name]))
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == ("non_text_answer", False)
    assert " f;" in answer.failure.message


@pytest.mark.parametrize("reason", ["tool_use", "toolUse", "TOOL_CALLS"])
def test_a_finish_reason_in_any_spelling_tells_a_call(reason: str) -> None:
    answer = read_record(row(chat(None, reason)))
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == ("non_text_answer", False)


def test_a_finish_reason_alone_tells_a_refusal() -> None:
    answer = read_record(row(chat(None, "refusal")))
    assert answer.failure is not None
    assert (answer.failure.error_class, answer.failure.retryable) == ("refusal", False)


def test_bodies_nested_without_end_hold_no_answer() -> None:
    body: dict[str, Any] = {"response": None}
    for _ in range(2_000):
        body = {"response": body}
    answer = read_record(row(body))
    assert answer.failure is not None
    assert answer.failure.error_class == "empty_response_text"


@pytest.mark.parametrize("body", [*SAID_ELSEWHERE.values(), *CALLED_ELSEWHERE.values()])
def test_the_quick_reader_agrees(body: dict[str, Any]) -> None:
    assert read_plain_line(orjson.dumps(row(body))) in (None, read_record(row(body)))


def test_the_quick_reader_leaves_text_beside_calls_alone() -> None:
    calls = {"tool_calls": [{"function": {"name": "f"}}]}
    for body in (
        responses(message(output_text("x"), **calls)),
        {"choices": [chat("x")["choices"][0] | calls]},
    ):
        assert read_plain_line(orjson.dumps(row(body))) is None
