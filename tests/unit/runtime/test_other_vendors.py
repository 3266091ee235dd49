"""What rows may ask for, at the other vendors' local servers: calls of tools, models of their own, files of this machine, and to be asked again with the reason."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from pydantic import BaseModel

from batchor_core import (
    AnthropicProviderConfig,
    BatchItem,
    BatchJob,
    BatchRunner,
    GeminiProviderConfig,
    PromptParts,
    RetryPolicy,
    ToolItemResult,
    ToolOutput,
)
from batchor_core.testing import AnthropicServer, GeminiServer
from batchor_core.testing.local_server.replies import Reply
from tests.support.world import RUN, ask, items

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


class Refund(BaseModel):
    """Pay a customer back."""

    order: int


class Escalate(BaseModel):
    team: Literal["law", "press"]


class Vendor(NamedTuple):
    """A vendor's local server and a config for it."""

    server: Any
    config: Any

    def job(self, **changes: Any) -> BatchJob[Any, Any]:
        made: dict[str, Any] = {"items": items(2), "build_prompt": ask, "provider_config": self.config}
        return BatchJob(**(made | changes))


VENDORS: dict[str, tuple[Any, Any, str]] = {
    "anthropic": (AnthropicServer, AnthropicProviderConfig, "claude-haiku-4-5"),
    "gemini": (GeminiServer, GeminiProviderConfig, "gemini-3-flash"),
}


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    make_server, make_config, model = VENDORS[request.param]
    with make_server(batch_seconds=0) as server:
        yield Vendor(server, make_config(model, api_key="any", base_url=server.base_url, poll_interval_sec=0))


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[BatchRunner]:
    with BatchRunner(storage="memory", temp_root=tmp_path) as runner:
        yield runner


def test_a_call_of_a_tool_is_an_answer(vendor: Vendor, runner: BatchRunner) -> None:
    answers = [
        Reply.answer("I'd rather talk."),
        Reply.call("refund", '{"order": 7}'),
        Reply.call("escalate", '{"team": "law"}'),
    ]
    vendor.server.responder = lambda body, endpoint, custom_id: answers.pop(0)
    run = runner.run_and_wait(vendor.job(items=items(1), output=ToolOutput([Refund, Escalate])), run_id=RUN)
    (result,) = run.results()
    assert isinstance(result, ToolItemResult)
    assert (result.tool, result.output, result.attempt_count) == ("refund", Refund(order=7), 2)


def test_the_server_calls_the_tools_that_are_demanded(vendor: Vendor, runner: BatchRunner) -> None:
    job = vendor.job(items=items(8), output=ToolOutput([Refund, Escalate]))
    results = runner.run_and_wait(job, run_id=RUN).results()
    tools: set[Any] = {Refund, Escalate}
    assert {type(result.output) for result in results} == tools


def test_a_row_is_asked_again_with_its_answer_and_the_reason(vendor: Vendor, runner: BatchRunner) -> None:
    asked: list[dict[str, Any]] = []

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
        asked.append(body)
        return Reply.answer('{"order": "none"}' if len(asked) == 1 else '{"order": 7}')

    vendor.server.responder = respond
    job = vendor.job(items=items(1), structured_output=Refund, retry_policy=RetryPolicy(repair=1))
    (result,) = runner.run_and_wait(job, run_id=RUN).results()
    assert result.output == Refund(order=7)
    first, second = (body.get("messages") or body["contents"] for body in asked)
    assert second[: len(first)] == first
    answer, reason = second[len(first) :]
    assert (answer["role"], reason["role"]) in (("assistant", "user"), ("model", "user"))
    assert "none" in json.dumps(answer)
    assert "order" in json.dumps(reason)


def test_rows_may_name_models_of_their_own(vendor: Vendor, runner: BatchRunner) -> None:
    asked: list[tuple[bool, str]] = []

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
        model = body.get("model") or endpoint.removeprefix("models/").partition(":")[0]
        asked.append(("question 1" in str(body) or "question 3" in str(body), model))
        return Reply.answer("Fine.")

    def by_turns(item: BatchItem[Any]) -> PromptParts:
        return PromptParts(ask(item), options={"model": "large"} if item.payload["n"] % 2 else None)

    vendor.server.responder = respond
    run = runner.run_and_wait(vendor.job(items=items(4), build_prompt=by_turns), run_id=RUN)
    assert run.summary().completed_items == 4
    assert sorted(asked) == [(False, vendor.config.model)] * 2 + [(True, "large")] * 2
    assert [batch.model for batch in runner.storage.get_batches(run_id=RUN)] == [None, "large"]
    gone = [one.path for one in vendor.server.books.requests if one.method == "DELETE"]
    assert len(gone) == (2 if isinstance(vendor.server, GeminiServer) else 0)  # what was uploaded


def test_local_files_are_sent_by_their_content(vendor: Vendor, runner: BatchRunner, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 a")
    asked: list[Any] = []

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Reply:
        asked.append(body.get("messages") or body["contents"])
        return Reply.answer("Fine.")

    content = [
        {"type": "image", "path": tmp_path / "a.png"},
        {"type": "file", "path": tmp_path / "a.pdf"},
        {"type": "image", "data": PNG},
    ]
    vendor.server.responder = respond
    job = vendor.job(
        items=items(1),
        build_prompt=lambda item: PromptParts.of_messages([{"role": "user", "content": content}]),
    )
    assert runner.run_and_wait(job, run_id=RUN).summary().completed_items == 1
    sent = json.dumps(asked)
    assert (sent.count(b64encode(PNG).decode()), sent.count(b64encode(b"%PDF-1.4 a").decode())) == (2, 1)
    assert (sent.count("image/png"), sent.count("application/pdf")) == (2, 1)
