"""A job whose request asks for tools pays for each row once, over HTTP, on both endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIEndpoint, OpenAIProviderConfig
from batchor_core.core.enums import ItemStatus
from batchor_core.testing import OpenAIServer
from batchor_core.testing.local_server.replies import Reply

CHAT: dict[str, Any] = {
    "object": "chat.completion",
    "choices": [
        {
            "index": 1,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "not this one"},
        },
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
                ],
            },
        },
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
}
RESPONSES: dict[str, Any] = {
    "object": "response",
    "status": "completed",
    "output": [{"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"}],
    "usage": {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11},
}
TOOLS = [{"type": "function", "name": "look_up", "function": {"name": "look_up"}}]


@pytest.mark.parametrize(
    ("endpoint", "body"), [(OpenAIEndpoint.CHAT_COMPLETIONS, CHAT), (OpenAIEndpoint.RESPONSES, RESPONSES)]
)
def test_a_tool_call_is_paid_for_once(endpoint: OpenAIEndpoint, body: dict[str, Any]) -> None:
    with OpenAIServer(responder=lambda *_: Reply.whole_body(body), batch_seconds=0) as server:
        job: BatchJob[Any, Any] = BatchJob(
            items=[BatchItem(f"row-{index}", "text") for index in range(3)],
            build_prompt=lambda item: str(item.payload),
            provider_config=OpenAIProviderConfig(
                model="gpt-5-mini",
                api_key="any",
                base_url=server.base_url,
                endpoint=endpoint,
                poll_interval_sec=0,
                request_options={"tools": TOOLS},
            ),
        )
        with BatchRunner(storage="memory") as runner:
            results = runner.run_and_wait(job).results()
        assert server.books.rows_executed == 3
    for result in results:
        assert (result.status, result.attempt_count) == (ItemStatus.FAILED_PERMANENT, 1)
        assert result.error is not None
        assert (result.error.error_class, result.error.retryable) == ("non_text_answer", False)
        assert "look_up" in result.error.message
