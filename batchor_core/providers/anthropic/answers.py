"""What one line of results means for the item that asked. Nothing here trusts a type: every line becomes an Answer."""

from __future__ import annotations

from typing import Any

from batchor_core.core.answers import MESSAGE_LIMIT, Answer
from batchor_core.core.models import ItemFailure
from batchor_core.core.tools import ToolCall
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.anthropic.errors import error_code, needs_money, needs_permission
from batchor_core.providers.anthropic.usage import read_usage

_NEVER_RUN = {"canceled": "batch_terminal_cancelled", "expired": "batch_terminal_expired"}
"""Results of rows that were never run, and so not billed; and the error classes they become."""

_PASSING = frozenset({"api_error", "overloaded_error", "rate_limit_error", "timeout_error"})
"""Types of errors after which the same request may do better. All others blame the request."""

_USELESS = {
    "max_tokens": ("the answer was cut off (max_tokens)", True),
    "model_context_window_exceeded": ("the prompt and the answer exceed the model's context window", False),
    "pause_turn": ("the model paused a long turn, which a batch can't continue", False),
}
"""Reasons to stop without a usable answer: what they mean, and whether another attempt may do better."""


def read_result(record: JSONObject) -> Answer:
    """Read one line of results. Never raises, whatever the line holds."""
    line: Any = record
    custom_id = line.get("custom_id") if isinstance(line, dict) else None
    name = custom_id if isinstance(custom_id, str) else ""
    found = line.get("result") if isinstance(line, dict) else None
    result: dict[str, Any] = found if isinstance(found, dict) else {}
    kind = result.get("type")
    if kind == "succeeded" and isinstance(result.get("message"), dict):
        return _read_message(name, result["message"])
    if kind == "errored":
        return _read_error(name, result.get("error"))
    if isinstance(kind, str) and kind in _NEVER_RUN:
        failure = ItemFailure(_NEVER_RUN[kind], f"the request was not run: {kind}", retryable=True)
        return Answer(name, failure=failure, count_attempt=False)
    failure = ItemFailure("provider_item_error", "the line holds neither a message nor an error", True)
    return Answer(name, failure=failure, count_attempt=False)


def read_whole_message(record: JSONObject) -> Answer:
    """The same for the whole message: calls of tools in the place of a text are an answer here. Never raises."""
    answer = read_result(record)
    if answer.has_no_body:
        return answer
    return answer._replace(failure=None, value=record["result"]["message"])


def read_calls(record: JSONObject) -> Answer:
    """The same for the calls of tools: none of them is an answer here too, which the job's output judges. Never raises."""
    answer = read_result(record)
    if answer.has_no_calls:
        return answer
    calls = [
        ToolCall(str(one.get("name")), one.get("input"))
        for one in _blocks(record["result"]["message"])
        if one.get("type") == "tool_use"
    ]
    return answer._replace(failure=None, value=calls)


def was_answered(record: JSONObject) -> bool:
    """Whether the batch counts the line's row as succeeded."""
    result = record.get("result")
    return isinstance(result, dict) and result.get("type") == "succeeded"


def _read_message(name: str, message: dict[str, Any]) -> Answer:
    usage, reason = read_usage(message.get("usage")), message.get("stop_reason")
    content = _blocks(message)
    text = "".join(
        one["text"] for one in content if one.get("type") == "text" and isinstance(one.get("text"), str)
    )
    if reason == "refusal":
        return _refused(name, message, text, usage)
    if isinstance(reason, str) and reason in _USELESS:
        said, may_pass = _USELESS[reason]
        if reason == "max_tokens" and not text and usage is not None and usage.reasoning_tokens:
            said += f": {usage.reasoning_tokens:,} output tokens went into thinking; raise max_output_tokens or think less"
        return Answer(name, None, usage, ItemFailure("incomplete_response", said, may_pass))
    calls: list[JSONValue] = [one for one in content if one.get("type") == "tool_use"]
    is_blank = not text or text.isspace()
    if calls and (is_blank or reason == "tool_use"):
        return _not_text(name, calls, None if is_blank else text, usage)
    if is_blank:
        failure = ItemFailure("empty_response_text", "the response holds no text", retryable=True)
        return Answer(name, None, usage, failure)
    return Answer(name, text, usage)


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    blocks = message.get("content")
    return [one for one in blocks if isinstance(one, dict)] if isinstance(blocks, list) else []


def _refused(name: str, message: dict[str, Any], text: str, usage: TokenUsage | None) -> Answer:
    details = message.get("stop_details")
    details = details if isinstance(details, dict) else {}
    category, explanation = details.get("category"), details.get("explanation")
    words = text or (explanation if isinstance(explanation, str) else "")
    said = "the model refused" + (f" ({category[:64]})" if isinstance(category, str) and category else "")
    raw: JSONValue = {"refusal": words[:MESSAGE_LIMIT]}
    failure = ItemFailure("refusal", said, retryable=False, raw_error=raw)
    return Answer(name, words or None, usage, failure)


def _not_text(name: str, calls: list[JSONValue], text: str | None, usage: TokenUsage | None) -> Answer:
    names = ", ".join(sorted({str(call.get("name"))[:64] for call in calls if isinstance(call, dict)}))
    message = f"the answer is not text but calls of {names}; use output=ToolOutput(...) or BodyOutput(), or leave tools out of request_options"
    failure = ItemFailure("non_text_answer", message, retryable=False, raw_error={"calls": calls})
    return Answer(name, text, usage, failure)


def _read_error(name: str, response: Any) -> Answer:
    """An error response, or the error object alone."""
    body = response if isinstance(response, dict) else {}
    inner = body.get("error")
    error: dict[str, Any] = inner if isinstance(inner, dict) else body
    kind = error.get("type") if isinstance(error.get("type"), str) else ""
    said = error.get("message")
    message = said[:MESSAGE_LIMIT] if isinstance(said, str) and said else kind or "unknown error"
    code = error_code({"error": error})
    raw: JSONValue = {"type": kind, "message": message} | ({"error_code": code} if code else {})
    money = needs_money(str(kind), code, message)
    if money or needs_permission(str(kind), code):
        # made of names only: a message about a key may quote it
        reason = f"the provider reports {(code or str(kind))[:64]}"
        failure = ItemFailure("provider_item_error", message, retryable=True, raw_error=raw)
        return Answer(name, failure=failure, count_attempt=False, pause_reason=reason)
    failure = ItemFailure("provider_item_error", message, not kind or kind in _PASSING, raw)
    return Answer(name, failure=failure)
