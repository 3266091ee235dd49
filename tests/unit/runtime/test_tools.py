"""Answers that are calls of tools: asked for, checked, stored and read back as instances, JSON and columns."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from openai.types.chat import ChatCompletionFunctionToolParam
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel, Field, TypeAdapter

from batchor_core import (
    BatchJob,
    BatchRunner,
    OpenAIEndpoint,
    OpenAIProviderConfig,
    ToolItemResult,
    ToolOutput,
)
from batchor_core.core.answers import Answer
from batchor_core.core.exceptions import InvalidInputError, RunConfigMismatchError
from batchor_core.core.failures import ItemFailure
from batchor_core.core.output_kinds import Kept
from batchor_core.core.tools import ToolCall
from batchor_core.providers.openai.answers import read_calls
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from tests.support.world import RUN, ask, items

RESPONSES, CHAT = OpenAIEndpoint.RESPONSES, OpenAIEndpoint.CHAT_COMPLETIONS


class Refund(BaseModel):
    """Pay a customer back."""

    order: int
    amount: Decimal = Field(max_digits=8)


class Escalate(BaseModel):
    team: Literal["law", "press"]
    due: date


class Strict(BaseModel):
    order: str


OUTPUT = ToolOutput([Refund, Escalate])
GOOD = [
    Reply.call("refund", '{"order": 7, "amount": "12.50"}'),
    Reply.call("escalate", '{"team": "law", "due": "2026-11-29"}'),
]
EXPECTED = [Refund(order=7, amount=Decimal("12.50")), Escalate(team="law", due=date(2026, 11, 29))]


def job(server: OpenAIServer, **changes: Any) -> BatchJob[Any, Any]:
    endpoint = changes.pop("endpoint", RESPONSES)
    config = OpenAIProviderConfig(
        model="gpt-5-mini", api_key="any", base_url=server.base_url, endpoint=endpoint, poll_interval_sec=0
    )
    made: dict[str, Any] = {
        "items": items(2),
        "build_prompt": ask,
        "provider_config": config,
        "output": OUTPUT,
    }
    return BatchJob(**(made | changes))


@pytest.mark.parametrize("endpoint", [RESPONSES, CHAT])
def test_a_call_is_an_answer(endpoint: OpenAIEndpoint, tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    def respond(body: dict[str, Any], _endpoint: str, _custom_id: str) -> Reply:
        bodies.append(body)
        number = int("question 1" in str(body))
        is_first = sum("question 1" in str(one) for one in bodies) == 1
        return Reply.answer("I'd rather talk.") if number and is_first else GOOD[number]

    with (
        OpenAIServer(responder=respond, batch_seconds=0) as server,
        BatchRunner(storage="memory", temp_root=tmp_path) as runner,
    ):
        run = runner.run_and_wait(job(server, endpoint=endpoint), run_id=RUN)
        results = run.results()
        assert [result.output for result in results] == EXPECTED
        assert [result.tool for result in results if isinstance(result, ToolItemResult)] == [
            "refund",
            "escalate",
        ]
        assert [result.attempt_count for result in results] == [1, 2]
        lines = [json.loads(line)["output_json"] for line in _exported(run, tmp_path)]
        assert sorted(line["tool"] for line in lines) == ["escalate", "refund"]
        table = run.to_arrow(order="input")
        assert table.column("tool").to_pylist() == ["refund", "escalate"]
        assert table.column("refund").to_pylist() == [{"order": 7, "amount": Decimal("12.50")}, None]
        assert table.column("escalate").to_pylist() == [None, {"team": "law", "due": date(2026, 11, 29)}]
        resumed = runner.start(job(server, endpoint=endpoint), run_id=RUN)
        assert resumed.is_finished
        with pytest.raises(RunConfigMismatchError, match="tools"):
            runner.start(job(server, endpoint=endpoint, output=ToolOutput([Refund])), run_id=RUN)
    sent = bodies[0]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
    kind: Any = FunctionToolParam if endpoint is RESPONSES else ChatCompletionFunctionToolParam
    assert TypeAdapter(list[kind]).validate_python(sent["tools"]) == sent["tools"]
    first = sent["tools"][0].get("function", sent["tools"][0])
    assert (first["name"], first["description"], first["strict"]) == ("refund", "Pay a customer back.", True)
    assert first["parameters"]["additionalProperties"] is False


def _exported(run: Any, folder: Path) -> list[str]:
    run.export_artifacts(folder / "out")
    return (folder / "out" / RUN / "results.jsonl").read_text().splitlines()


def test_the_local_server_calls_a_tool_by_itself(tmp_path: Path) -> None:
    with OpenAIServer(batch_seconds=0) as server, BatchRunner(storage="memory", temp_root=tmp_path) as runner:
        made = job(server, items=items(12), output=ToolOutput([Strict, Escalate]))
        results = runner.run_and_wait(made, run_id=RUN).results()
    kinds: set[Any] = {Strict, Escalate}
    assert {type(result.output) for result in results} == kinds


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], "no_tool_called"),
        (None, "no_tool_called"),
        ([ToolCall("refund", "{}"), ToolCall("refund", "{}")], "several_tools_called"),
        ([ToolCall("delete", "{}")], "unknown_tool"),
        ([ToolCall("refund", "{")], "invalid_json"),
        ([ToolCall("refund", '{"order": 1, "amount": 2}, "tool": "escalate"')], "invalid_json"),
        ([ToolCall("refund", '{"order": "x"}')], "structured_output_validation_failed"),
        ([ToolCall("escalate", '{"order": 1, "amount": 2}')], "structured_output_validation_failed"),
        ([ToolCall("refund", {"order": 1, "amount": "2"})], None),
    ],
)
def test_what_is_no_fitting_call_fails_as_unfitting_answers_do(calls: Any, expected: str | None) -> None:
    found = OUTPUT.check(Answer("a", value=calls))
    if expected is None:
        assert found == Kept('{"tool":"refund","arguments":{"order":1,"amount":"2"}}', True)
    else:
        assert isinstance(found, ItemFailure)
        assert (found.error_class, found.retryable) == (expected, True)


def test_without_its_models_a_call_has_to_be_json() -> None:
    assert isinstance(ToolOutput(None).check(Answer("a", value=[ToolCall("any", "{}")])), Kept)
    assert isinstance(ToolOutput(None).check(Answer("a", value=[ToolCall("any", "{")])), ItemFailure)


def test_one_tool_alone_is_checked_too() -> None:
    output = ToolOutput([Strict])
    assert output.called('{"tool":"strict","arguments":{"order":"a"}}') == Strict(order="a")
    assert isinstance(output.check(Answer("a", value=[ToolCall("strict", '{"order": 1}')])), ItemFailure)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([], "a list of Pydantic models"),
        (Refund, "a list of Pydantic models"),
        ([dict], "Pydantic model classes"),
        ([Refund, Refund], "two models .* 'refund'"),
        ([type("Tool", (BaseModel,), {})], "another name"),
    ],
)
def test_these_are_no_tools(models: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        ToolOutput(models)


def test_settings_that_contradict_the_tools_are_refused() -> None:
    def made(**settings: Any) -> BatchJob[Any, Any]:
        config = OpenAIProviderConfig(model="m", **settings)
        return BatchJob(items=[], build_prompt=ask, provider_config=config, output=OUTPUT)

    with pytest.raises(InvalidInputError, match="request_options must not set tools"):
        made(request_options={"tools": []})
    with pytest.raises(InvalidInputError, match="of the kind 'tool', and the endpoint /v1/embeddings gives"):
        made(endpoint=OpenAIEndpoint.EMBEDDINGS)


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ({"output": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, [ToolCall("f", "{}")]),
        ({"output": [{"type": "web_search_call"}, {"type": "function_call", "name": "f", "arguments": "{}"}]}, [ToolCall("f", "{}")]),
        (
            {"choices": [{"finish_reason": "tool_calls", "message": {"content": "well", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]},
            [ToolCall("f", "{}")],
        ),
        ({"choices": [{"finish_reason": "stop", "message": {"content": "well"}}]}, []),
        ({"output": []}, []),
    ],
)  # fmt: skip
def test_calls_are_found_where_servers_put_them(body: Any, calls: Any) -> None:
    answer = read_calls({"custom_id": "a", "response": {"status_code": 200, "body": body}})
    assert (answer.failure, answer.value) == (None, calls)


def test_refusals_and_errors_are_still_failures() -> None:
    refusal = {"choices": [{"finish_reason": "stop", "message": {"refusal": "no"}}]}
    for line, expected in (
        ({"response": {"status_code": 200, "body": refusal}}, "refusal"),
        ({"response": {"status_code": 500, "body": {}}}, "provider_item_error"),
        ({"error": {"code": "batch_expired"}}, "batch_terminal_expired"),
    ):
        failure = read_calls({"custom_id": "a", **line}).failure
        assert failure is not None
        assert failure.error_class == expected
