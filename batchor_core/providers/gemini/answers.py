"""What one line of a result file means for the item that asked.

A line is ``{"key", "response"}``, or ``{"key", "error"}`` for a request that failed, also in a batch that succeeded as a
whole. A response may still be useless: blocked, cut off, empty. Nothing here trusts a type: every line, however broken, becomes an
:class:`~batchor_core.core.answers.Answer`.
"""

from __future__ import annotations

from typing import Any

from batchor_core.core.answers import MESSAGE_LIMIT, Answer
from batchor_core.core.failures import ItemFailure
from batchor_core.core.json_limits import json_fault
from batchor_core.core.tools import ToolCall
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.gemini.codes import NEVER_PASS, reasons, status_name

_NOT_RUN = {"CANCELLED": "batch_terminal_cancelled", "DEADLINE_EXCEEDED": "batch_terminal_expired"}
"""Codes of rows that were not run because their batch ended first, and the error classes they become."""

_FILTERS = frozenset(
    {
        *(
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "ESCALATION",
            "MODEL_ARMOR",
        ),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "JAILBREAK"),
    }
)
"""Reasons to stop that the same request meets again."""

_ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"
_TOO_MANY = 2**62
_DEEPEST = 32


def key_of(record: JSONObject) -> str:
    """The name of a line's row, of a request as the engine has it or of a result."""
    key = record.get("key", record.get("custom_id"))
    return key if isinstance(key, str) else ""


def error_of(record: JSONObject) -> dict[str, Any] | None:
    """The error of a line without a response; None where there is none."""
    if isinstance(record.get("response"), dict):
        return None
    for name in ("error", "status"):
        if isinstance(found := record.get(name), dict):
            return found
    return None


def response_of(record: JSONObject) -> dict[str, Any] | None:
    """The response of a line; None where there is none."""
    response = record.get("response")
    return response if isinstance(response, dict) else None


def read_record(record: JSONObject) -> Answer:
    """Read one line of a result file. Never raises, whatever the line holds."""
    key = key_of(record)
    response = response_of(record)
    if response is None:
        error = error_of(record)
        if error is None:
            failure = ItemFailure(
                "provider_item_error", "the line holds neither a response nor an error", retryable=True
            )
            return Answer(key, failure=failure, count_attempt=False)
        return _failed(key, error)
    if isinstance(embedding := response.get("embedding"), dict):
        return Answer(key, usage=_embedding_usage(response), value=embedding.get("values"))
    return _read_generated(key, response)


def read_body(record: JSONObject) -> Answer:
    """The same for the whole response: calls and media in the place of a text are an answer here. Never raises."""
    answer = read_record(record)
    if answer.has_no_body:
        return answer
    return answer._replace(failure=None, value=response_of(record))


def read_calls(record: JSONObject) -> Answer:
    """The same for the calls of functions: none of them is an answer here too, which the job's output judges. Never raises."""
    answer = read_record(record)
    if answer.has_no_calls:
        return answer
    candidates = (response_of(record) or {}).get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    calls = [part.get("functionCall") for part in _parts(first)[1]] if isinstance(first, dict) else []
    # arguments that are none are left out
    value = [
        ToolCall(str(call.get("name")), call.get("args", {})) for call in calls if isinstance(call, dict)
    ]
    return answer._replace(failure=None, value=value)


def _read_generated(key: str, response: dict[str, Any]) -> Answer:
    usage = usage_of(response)
    candidates = response.get("candidates")
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
        return _without_candidates(key, response, usage)
    reason = candidates[0].get("finishReason")
    texts, others = _parts(candidates[0])
    text = "".join(texts)
    if reason in (None, "", "STOP"):
        if others and (not text or text.isspace()):
            return _not_text(key, others, usage)
        if not text or text.isspace():
            return _unusable(key, "empty_response_text", "the response holds no text", usage)
        return Answer(key, text, usage)
    if reason == _ACCOUNT_LIMITED:
        failure = ItemFailure("provider_item_error", f"the answer was stopped ({reason})", retryable=True)
        pause = f"the provider has limited the account ({reason})"
        return Answer(key, None, usage, failure, pause_reason=pause)
    if reason in _FILTERS:
        return _unusable(
            key, "content_filter", f"the content filter stopped the answer ({reason})", usage, may_pass=False
        )
    message = f"the answer was cut off ({str(reason)[:64]})"
    if reason == "MAX_TOKENS" and not text and usage is not None and usage.reasoning_tokens:
        message += f": all {usage.output_tokens:,} output tokens went into thoughts; raise max_output_tokens or lower reasoning_effort"
    return _unusable(key, "incomplete_response", message, usage)


def _without_candidates(key: str, response: dict[str, Any], usage: TokenUsage | None) -> Answer:
    feedback = response.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    if not reason:
        return _unusable(key, "empty_response_text", "the response holds no answer", usage)
    message = f"the prompt was blocked ({str(reason)[:64]})"
    return _unusable(key, "content_filter", message, usage, may_pass=reason == "OTHER")


def _parts(candidate: dict[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """The texts of an answer, without thoughts, and its other parts, such as calls."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    texts: list[str] = []
    others: list[dict[str, Any]] = []
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict) or part.get("thought") is True:
            continue
        if isinstance(text := part.get("text"), str):
            texts.append(text)
        elif part.keys() & {"functionCall", "inlineData", "fileData"}:
            others.append(part)
    return texts, others


def _not_text(key: str, parts: list[dict[str, Any]], usage: TokenUsage | None) -> Answer:
    """An answer whose substance is not text. The same request gives the same kind of answer again."""
    kinds = ", ".join(sorted({str(next(iter(part))) for part in parts}))
    message = f"the answer is not text but {kinds}; leave tools out of request_options, or use output=ToolOutput(...) or BodyOutput()"
    calls: list[JSONValue] = [part["functionCall"] for part in parts if "functionCall" in part]
    raw_error: JSONValue = {"calls": calls} if calls and json_fault(calls) is None else None
    return Answer(
        key, None, usage, ItemFailure("non_text_answer", message, retryable=False, raw_error=raw_error)
    )


def _unusable(
    key: str, error_class: str, message: str, usage: TokenUsage | None, *, may_pass: bool = True
) -> Answer:
    return Answer(key, None, usage, ItemFailure(error_class, message, retryable=may_pass))


def _failed(key: str, error: dict[str, Any]) -> Answer:
    """A row that was not answered."""
    name = status_name(error)
    said = error.get("message")
    message = said[:MESSAGE_LIMIT] if isinstance(said, str) and said else name or "unknown error"
    raw_error: JSONValue = error if json_fault(error, depth=_DEEPEST) is None else None
    if name in _NOT_RUN:
        failure = ItemFailure(_NOT_RUN[name], message, retryable=True, raw_error=raw_error)
        return Answer(key, failure=failure, count_attempt=False)
    if name == "UNAUTHENTICATED" or "API_KEY_INVALID" in reasons(error):
        failure = ItemFailure("provider_item_error", message, retryable=True, raw_error=raw_error)
        pause = f"the provider refuses the credentials ({name})"
        return Answer(key, failure=failure, count_attempt=False, pause_reason=pause)
    return Answer(key, failure=ItemFailure("provider_item_error", message, name not in NEVER_PASS, raw_error))


def usage_of(response: dict[str, Any]) -> TokenUsage | None:
    """Tokens of a response; None where it says nothing. Cached tokens are within those of the prompt, thoughts are output."""
    used = response.get("usageMetadata")
    if not isinstance(used, dict):
        return None
    thoughts = _count(used, "thoughtsTokenCount")
    return TokenUsage(
        input_tokens=_count(used, "promptTokenCount") + _count(used, "toolUsePromptTokenCount"),
        cached_tokens=_count(used, "cachedContentTokenCount"),
        output_tokens=_count(used, "candidatesTokenCount") + thoughts,
        reasoning_tokens=thoughts,
    )


def _embedding_usage(response: dict[str, Any]) -> TokenUsage | None:
    if "tokenCount" in response:
        return TokenUsage(input_tokens=_count(response, "tokenCount"))
    return usage_of(response)


def _count(block: dict[str, Any], name: str) -> int:
    value = block.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)  # 64-bit numbers of Google's APIs are strings in JSON
    # not a bool, which is an int in Python too; a number beyond the databases' integers is no token count
    return value if type(value) is int and 0 <= value < _TOO_MANY else 0
