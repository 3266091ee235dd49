"""The local server of Anthropic's API, as the official client sees it: every answer passes the client's own types."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types.message import Message
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from batchor_core.testing.anthropic_server import AnthropicServer
from batchor_core.testing.local_server.faults import BatchFault, HttpFault
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.settings import Limits

DAY = 86_400
PREFIX = "Judge the review. " * 300


@pytest.fixture
def server() -> Iterator[AnthropicServer]:
    with AnthropicServer(manual=True, batch_seconds=10) as server:
        yield server


@pytest.fixture
def client(server: AnthropicServer) -> Iterator[anthropic.Anthropic]:
    http = anthropic.DefaultHttpxClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with anthropic.Anthropic(
        base_url=server.base_url, api_key="any", max_retries=0, timeout=20, http_client=http
    ) as client:
        yield client


def rows(count: int, **params: Any) -> list[Any]:
    """Requests of a batch."""
    return [
        {
            "custom_id": f"row-{number}",
            "params": {
                "model": "claude-sonnet-4-5",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": f"Review {number} is fine"}],
                **params,
            },
        }
        for number in range(count)
    ]


def lines(client: anthropic.Anthropic, batch_id: str) -> dict[str, MessageBatchIndividualResponse]:
    """The results of a batch, each checked against the client's types, which the client itself does not do."""
    found = [
        MessageBatchIndividualResponse.model_validate(line.to_dict(mode="json"), strict=False)
        for line in client.messages.batches.results(batch_id)
    ]
    return {line.custom_id: line for line in found}


def strict(batch: MessageBatch) -> MessageBatch:
    """The batch, checked against the client's types."""
    return MessageBatch.model_validate(batch.to_dict(mode="json"))


def message_of(line: MessageBatchIndividualResponse) -> Message:
    """The message of a row that succeeded."""
    assert line.result.type == "succeeded"
    return line.result.message


def test_a_batch_runs_to_its_end(server: AnthropicServer, client: anthropic.Anthropic) -> None:
    batch = strict(client.messages.batches.create(requests=rows(3)))
    assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 3)
    assert (batch.expires_at - batch.created_at).total_seconds() == DAY
    assert batch.results_url is None
    server.advance(60)
    batch = strict(client.messages.batches.retrieve(batch.id))
    assert (batch.processing_status, batch.request_counts.succeeded) == ("ended", 3)
    found = lines(client, batch.id)
    assert found.keys() == {"row-0", "row-1", "row-2"}
    message = message_of(found["row-1"])
    assert (message.stop_reason, message.usage.service_tier) == ("end_turn", "batch")
    assert message.content[0].type == "text"
    assert message.content[0].text == "You asked about: Review 1 is fine."
    server.advance(30 * DAY)
    assert client.messages.batches.retrieve(batch.id).archived_at is not None


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ([], 400, "requests: Field required"),
        ([{**rows(1)[0], "custom_id": "a b"}], 400, "should match pattern"),
        (rows(1) * 2, 400, "Duplicate custom_id 'row-0'"),
        ([{"custom_id": "a"}], 400, "requests.0.params"),
        (rows(6), 413, "at most 5 items"),
        (rows(1, system="x" * 3000), 413, "exceeds the maximum size"),
    ],
)
def test_what_no_batch_can_be_made_of_is_refused_at_once(given: Any, status: int, said: str) -> None:
    limits = Limits(max_requests=5, max_file_bytes=2_000)
    with (
        AnthropicServer(limits=limits) as server,
        anthropic.Anthropic(base_url=server.base_url, api_key="any", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.APIStatusError, match=said) as refused:
            client.messages.batches.create(requests=given)
        assert refused.value.status_code == status
        body: Any = refused.value.body
        assert (body["type"], body.keys()) == ("error", {"type", "error", "request_id"})
        assert server.books.batches == []


def test_bad_parameters_are_errors_of_their_row(server: AnthropicServer, client: anthropic.Anthropic) -> None:
    given = [rows(1)[0], {**rows(2, max_tokens=0)[1]}]
    batch = client.messages.batches.create(requests=given)
    server.advance(60)
    assert client.messages.batches.retrieve(batch.id).request_counts.errored == 1
    result = lines(client, batch.id)["row-1"].result
    assert result.type == "errored"
    assert result.error.error.type == "invalid_request_error"


def test_lists_are_paged_newest_first(server: AnthropicServer, client: anthropic.Anthropic) -> None:
    ids: list[str] = []
    for _ in range(5):
        ids.insert(0, client.messages.batches.create(requests=rows(1)).id)
        server.advance(1)
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == ids
    page = client.messages.batches.list(limit=2, after_id=ids[1])
    assert ([batch.id for batch in page.data], page.has_more) == (ids[2:4], True)
    page = client.messages.batches.list(limit=2, before_id=ids[3])
    assert ([batch.id for batch in page.data], page.has_more) == (ids[1:3], True)


def test_a_canceled_batch_keeps_what_was_done(server: AnthropicServer, client: anthropic.Anthropic) -> None:
    batch = client.messages.batches.create(requests=rows(10))
    server.advance(5)
    assert strict(client.messages.batches.cancel(batch.id)).processing_status == "canceling"
    with pytest.raises(anthropic.BadRequestError, match="Cancel it first"):
        client.messages.batches.delete(batch.id)
    server.advance(60)
    counts = strict(client.messages.batches.retrieve(batch.id)).request_counts
    assert (counts.succeeded, counts.canceled, counts.processing) == (5, 5, 0)
    kinds = [line.result.type for line in lines(client, batch.id).values()]
    assert (kinds.count("succeeded"), kinds.count("canceled")) == (5, 5)
    with pytest.raises(anthropic.BadRequestError, match="already finished"):
        client.messages.batches.cancel(batch.id)
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)


def test_rows_that_are_out_of_time_have_expired(server: AnthropicServer, client: anthropic.Anthropic) -> None:
    server.faults.add(BatchFault("expire", after_rows=1))
    batch = client.messages.batches.create(requests=rows(3))
    server.advance(60)
    counts = strict(client.messages.batches.retrieve(batch.id)).request_counts
    assert (counts.succeeded, counts.expired) == (1, 2)


@pytest.mark.parametrize(("ttl", "kept_for"), [(None, "5m"), ("1h", "1h")])
def test_a_marked_prefix_is_written_once_and_read_afterwards(
    server: AnthropicServer, client: anthropic.Anthropic, ttl: str | None, kept_for: str
) -> None:
    control = {"type": "ephemeral"} | ({} if ttl is None else {"ttl": ttl})
    system = [{"type": "text", "text": PREFIX, "cache_control": control}]
    batch = client.messages.batches.create(requests=rows(3, system=system))
    server.advance(60)
    usage = [message_of(line).usage for line in lines(client, batch.id).values()]
    assert sorted(one.cache_creation_input_tokens or 0 for one in usage) == [0, 0, 1350]
    assert sorted(one.cache_read_input_tokens or 0 for one in usage) == [0, 1350, 1350]
    written = next(one.cache_creation for one in usage if one.cache_creation_input_tokens)
    assert written is not None
    assert getattr(written, f"ephemeral_{kept_for}_input_tokens") == 1350
    assert all(one.input_tokens < 50 for one in usage)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply.refusal("No."), "refusal"),
        (Reply.incomplete("half"), "max_tokens"),
        (Reply.incomplete("half", reason="pause_turn"), "pause_turn"),
    ],
)
def test_answers_may_be_useless(
    server: AnthropicServer, client: anthropic.Anthropic, reply: Reply, reason: str
) -> None:
    server.responder = lambda body, endpoint, custom_id: reply
    batch = client.messages.batches.create(requests=rows(1))
    server.advance(60)
    assert message_of(lines(client, batch.id)["row-0"]).stop_reason == reason


def test_a_forced_tool_is_called_with_fitting_input(
    server: AnthropicServer, client: anthropic.Anthropic
) -> None:
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"]}
    tools = [{"name": "judge", "input_schema": schema}, {"name": "pass", "input_schema": {"type": "object"}}]
    choice = {"type": "tool", "name": "judge"}
    given = rows(1, tools=tools, tool_choice=choice, thinking={"type": "adaptive"})
    batch = client.messages.batches.create(requests=given)
    server.advance(60)
    message = message_of(lines(client, batch.id)["row-0"])
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.content[1].name == "judge"  # type: ignore[union-attr]
    assert isinstance(message.content[1].input["stars"], int)  # type: ignore[union-attr]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    refused = client.messages.batches.create(
        requests=rows(1, tools=tools, tool_choice=choice, thinking=thinking)
    )
    server.advance(60)
    assert lines(client, refused.id)["row-0"].result.type == "errored"


def test_errors_have_the_api_s_types(server: AnthropicServer, client: anthropic.Anthropic) -> None:
    server.faults.add(HttpFault("status", status=529, retry_after=7))
    with pytest.raises(anthropic.InternalServerError) as overloaded:
        client.messages.batches.list()
    assert overloaded.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]
    assert overloaded.value.response.headers["retry-after"] == "7"
    answer = client.messages.batches.with_raw_response.list()
    assert "anthropic-ratelimit-requests-remaining" in answer.headers
    assert httpx2.get(f"{server.url}/v1/messages/batches").status_code == 401


def test_a_batch_that_a_fault_fails_has_an_error_for_each_row(
    server: AnthropicServer, client: anthropic.Anthropic
) -> None:
    server.faults.add(BatchFault("fail"))
    batch = client.messages.batches.create(requests=rows(2))
    server.advance(60)
    assert strict(client.messages.batches.retrieve(batch.id)).request_counts.errored == 2
    assert {line.result.type for line in lines(client, batch.id).values()} == {"errored"}
    assert server.books.rows_executed == 0
