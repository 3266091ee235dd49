"""What one line of a provider's output or error file means for the item that asked.

The line format is that of the OpenAI Batch API. A line with status 200 may still be useless (cut off, refused,
filtered, empty), an error may come in three shapes, and compatible servers leave out whatever they like. So nothing
here trusts a type: every line, however broken, becomes an :class:`Answer`.
"""

from __future__ import annotations

import json
from typing import Any

from batchor_core.core.answers import Answer
from batchor_core.core.jsontext import loads_kept
from batchor_core.core.models import ItemFailure
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.error_body import read_error_body
from batchor_core.providers.openai.answer_content import Said, read_choices, read_output
from batchor_core.providers.openai.repeating import (
    BROKEN_REASONS,
    FILTER_CODES,
    FILTER_REASONS,
    LENGTH_REASONS,
    error_may_pass,
)
from batchor_core.providers.openai.usage import usage_from_body

TERMINAL_ROW_CODES = {
    "batch_expired": "batch_terminal_expired",
    "batch_cancelled": "batch_terminal_cancelled",
}
"""Codes of rows that were never run because their batch ended first, and the error classes they become."""

MESSAGE_LIMIT = 2_000
RAW_ERROR_DEPTH = 32


def was_answered(record: JSONObject) -> bool:
    """Whether a line holds an answer with status 200 and no error in it. The answer may still be no use."""
    response = record.get("response")
    if not isinstance(response, dict) or _status(response.get("status_code")) != 200:
        return False
    body = _decoded(response.get("body"))
    return isinstance(body, dict) and not body.get("error")


def read_record(record: JSONObject) -> Answer:
    """Read one line of an output or error file. Never raises, whatever the line holds."""
    line: Any = record
    if not isinstance(line, dict):
        return _not_run("", "the line is not a JSON object")
    custom_id = line.get("custom_id")
    if not isinstance(custom_id, str):
        custom_id = ""
    response = line.get("response")
    if isinstance(response, dict):
        body = response.get("body")
        if isinstance(body, dict) and response.get("status_code") == 200 and not body.get("error"):
            return _read_body(custom_id, body)
        return _read_other(custom_id, line, response)
    return _read_error(custom_id, _error_object(line.get("error")), status=None)


def read_body(record: JSONObject) -> Answer:
    """The same for the whole body: calls and media in the place of a text are an answer here. Never raises."""
    answer = read_record(record)
    if answer.has_no_body:
        return answer
    body = record["response"]["body"]
    return answer._replace(failure=None, value=loads_kept(body) if isinstance(body, str) else body)


def read_calls(record: JSONObject) -> Answer:
    """The same for the calls: none of them is an answer here too, which the job's output judges. Never raises."""
    answer = read_record(record)
    if answer.has_no_calls:
        return answer
    response: Any = record.get("response")
    body: Any = _decoded(response.get("body")) if isinstance(response, dict) else None
    if isinstance(body, dict) and isinstance(body.get("response"), dict) and _SHAPES.keys().isdisjoint(body):
        body = body["response"]
    if not isinstance(body, dict):
        return answer
    said = read_output(body["output"]) if "output" in body else read_choices(body.get("choices"))
    return answer._replace(failure=None, value=said.called)


def _read_other(custom_id: str, line: dict[str, Any], response: dict[str, Any]) -> Answer:
    """Every response that is not plainly a 200 with an object for a body."""
    body = _decoded(response.get("body"))
    status = _status(response.get("status_code"))
    content: dict[str, Any] = body if isinstance(body, dict) else {}
    answered = not content.keys().isdisjoint(_SHAPES) or any(
        isinstance(content.get(name), list) for name in ("data", "results")
    )
    if (status is not None and 200 <= status < 300) or (status is None and answered):
        if content.get("status") == "failed" or not content.get("error"):
            return _read_body(custom_id, content)
        # 200 around an error object: the error is the answer
        return _read_error(
            custom_id, _error_object(content["error"]), status=None, usage=usage_from_body(content)
        )
    error = _error_object(content.get("error")) or _error_object(line.get("error"))
    if not error.get("message"):
        error = _shown(body) | error
    return _read_error(custom_id, error, status=status, usage=usage_from_body(content))


def _shown(body: Any) -> dict[str, Any]:
    """An error body of another shape than OpenAI's: ``{"detail": [...]}``, ``{"message": ...}``, text, a web page."""
    said = read_error_body(body)
    found = {"message": said.message, "code": said.code, "type": said.type}
    return {name: text for name, text in found.items() if text} if said.message else {}


def _read_body(custom_id: str, body: dict[str, Any]) -> Answer:
    """A body that came with status 200."""
    usage = usage_from_body(body)
    for kinds in (list, dict | str):
        for field, read in _SHAPES.items():
            if isinstance(body.get(field), kinds):
                return read(custom_id, body, usage)
    if isinstance(body.get("output_text"), str):
        return _read_responses(custom_id, body, usage)
    if isinstance(body.get("data"), list):
        return _read_vector(custom_id, body["data"], usage)
    if isinstance(body.get("results"), list):
        message = "the answer is not text but the results of a moderation; use output=BodyOutput()"
        return _unusable(custom_id, "non_text_answer", message, usage, retryable=False)
    if isinstance(inner := body.get("response"), dict):  # once: what is nested deeper is no answer
        return _read_body(custom_id, {"usage": body.get("usage")} | inner | {"response": None})
    if body.get("status") == "failed":
        return _read_error(
            custom_id, _error_object(body.get("error")), status=None, usage=usage, answered=True
        )
    return _unusable(custom_id, "empty_response_text", "the response holds no output", usage)


def _read_responses(custom_id: str, body: dict[str, Any], usage: TokenUsage | None) -> Answer:
    """A body of the Responses endpoint."""
    status = body.get("status")
    if status == "failed":
        return _read_error(
            custom_id, _error_object(body.get("error")), status=None, usage=usage, answered=True
        )
    said = read_output(body.get("output"))
    # the SDK's own field, which some servers send
    if not said.text and isinstance(body.get("output_text"), str):
        said.text = body["output_text"]
    if status == "incomplete":
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        if reason == "content_filter":
            return _filtered(custom_id, usage)
        return _cut_off(custom_id, reason, said, usage)
    if status in ("in_progress", "queued", "cancelled"):
        # a background response goes on after its batch, so that its row never holds an answer
        is_background = body.get("background") is True
        message = f"the answer has status {status}"
        if is_background:
            message += ", as background responses have in a batch; leave background out of request_options"
        return _unusable(custom_id, "incomplete_response", message, usage, retryable=not is_background)
    return _finished(custom_id, said, usage)


def _read_chat(custom_id: str, body: dict[str, Any], usage: TokenUsage | None) -> Answer:
    """A body of the Chat Completions endpoint."""
    said = read_choices(body["choices"])
    if said.reason == "stop" and said.error is None:
        return _finished(custom_id, said, usage)
    if said.reason in FILTER_REASONS or said.reason.startswith("content_filter"):
        return _filtered(custom_id, usage)
    if said.error is not None:
        return _read_error(custom_id, said.error, status=None, usage=usage, answered=True)
    if said.reason in LENGTH_REASONS:
        return _cut_off(custom_id, said.reason, said, usage)
    if said.reason in BROKEN_REASONS:
        return _unusable(
            custom_id, "incomplete_response", f"the server did not finish the answer ({said.reason})", usage
        )
    return _finished(custom_id, said, usage)


def _read_vector(custom_id: str, data: list[Any], usage: TokenUsage | None) -> Answer:
    """A body of the Embeddings endpoint. A request has one text, so that there is one vector."""
    found = (entry.get("embedding") for entry in data if isinstance(entry, dict))
    vectors = [vector for vector in found if vector is not None]
    if len(vectors) == 1:
        return Answer(custom_id, usage=usage, value=vectors[0])
    if any(isinstance(entry, dict) and not _IMAGE.isdisjoint(entry) for entry in data):
        message = "the answer is not text but images; use output=BodyOutput()"
        return _unusable(custom_id, "non_text_answer", message, usage, retryable=False)
    message = f"the response holds {len(vectors) or 'no'} vectors, and one text was sent"
    return _unusable(custom_id, "invalid_vector", message, usage, retryable=not vectors)


_IMAGE = frozenset({"b64_json", "url"})

_SHAPES = {"output": _read_responses, "choices": _read_chat}
"""Readers, by the field of a body that lists what was answered: its shape tells, not the endpoint that was asked."""


def _filtered(custom_id: str, usage: TokenUsage | None) -> Answer:
    return _unusable(
        custom_id, "content_filter", "the content filter stopped the answer", usage, retryable=False
    )


def _cut_off(custom_id: str, reason: Any, said: Said, usage: TokenUsage | None) -> Answer:
    """An answer that a limit ended. A refusal or a call is one even if it was cut off."""
    if said.refusal or said.is_waiting:
        return _finished(custom_id, said, usage)
    message = f"the answer was cut off ({_short(reason)})"
    if not said.text and usage is not None and 0 < usage.output_tokens <= usage.reasoning_tokens:
        message += (
            f": all {usage.output_tokens:,} output tokens went into reasoning; raise max_output_tokens or lower"
            " reasoning_effort"
        )
    return _unusable(custom_id, "incomplete_response", message, usage)


def _finished(custom_id: str, said: Said, usage: TokenUsage | None) -> Answer:
    if said.refusal:
        failure = ItemFailure(
            "refusal", "the model refused", retryable=False, raw_error={"refusal": _short(said.refusal)}
        )
        return Answer(custom_id, said.refusal, usage, failure)
    is_blank = not said.text or said.text.isspace()
    if said.calls and (is_blank or said.is_waiting):
        return _not_text(custom_id, said, None if is_blank else said.text, usage)
    if is_blank:
        return _unusable(custom_id, "empty_response_text", "the response holds no text", usage)
    return Answer(custom_id, said.text, usage)


def _not_text(custom_id: str, said: Said, text: str | None, usage: TokenUsage | None) -> Answer:
    """An answer whose substance is not text. The same request gives the same kind of answer again."""
    message = (
        f"the answer is not text but {said.names}; leave tools and modalities out of request_options, or read the calls"
        " from raw_response"
    )
    failure = ItemFailure(
        "non_text_answer", message, retryable=False, raw_error={"calls": list[JSONValue](said.calls)}
    )
    return Answer(custom_id, text, usage, failure)


def _unusable(
    custom_id: str, error_class: str, message: str, usage: TokenUsage | None, *, retryable: bool = True
) -> Answer:
    return Answer(custom_id, None, usage, ItemFailure(error_class, message, retryable))


def _not_run(custom_id: str, message: str, raw_error: JSONValue = None) -> Answer:
    failure = ItemFailure("provider_item_error", message, retryable=True, raw_error=raw_error)
    return Answer(custom_id, failure=failure, count_attempt=False)


def _read_error(
    custom_id: str,
    error: dict[str, Any],
    *,
    status: int | None,
    usage: TokenUsage | None = None,
    answered: bool = False,
) -> Answer:
    """An error object, with the HTTP status it came under where there was one."""
    code = _name(error.get("code"))
    kind = _name(error.get("type"))
    raw_error: JSONValue = error if error and _is_shallow(error, RAW_ERROR_DEPTH) else None
    if code in TERMINAL_ROW_CODES:
        failure = ItemFailure(
            TERMINAL_ROW_CODES[code], _message(error, code), retryable=True, raw_error=raw_error
        )
        return Answer(custom_id, usage=usage, failure=failure, count_attempt=False)
    if status is None:
        status = _status(code)  # some servers put the HTTP status there
    if not status and not error and not answered:
        return _not_run(custom_id, "the line holds neither a response nor an error")
    message = _message(error, f"HTTP {status}" if status else code or kind or "unknown error")
    pause_reason = _pause_reason(status, code, kind)
    if pause_reason is not None:
        failure = ItemFailure("provider_item_error", message, retryable=True, raw_error=raw_error)
        return Answer(custom_id, usage=usage, failure=failure, count_attempt=False, pause_reason=pause_reason)
    if status == 0:
        return _not_run(custom_id, message, raw_error)
    if code in FILTER_CODES:
        failure = ItemFailure("content_filter", message, retryable=False, raw_error=raw_error)
    else:
        may_pass = error_may_pass(status, code, kind, message)
        failure = ItemFailure("provider_item_error", message, may_pass, raw_error)
    return Answer(custom_id, usage=usage, failure=failure)


def _pause_reason(status: int | None, code: str, kind: str) -> str | None:
    """Made of names only: a vendor's message about a key may quote it."""
    for name in (code, kind):
        if is_quota_code(name):
            return f"the provider reports {name[:64]}"
    if status in (401, 403):
        return f"the provider refuses the credentials (HTTP {status})"
    if status == 402:
        return "the provider asks for payment (HTTP 402)"
    return None


def is_quota_code(code: str) -> bool:
    """Whether an error code means that somebody has to pay or raise a limit."""
    return code in _QUOTA_CODES or code.startswith("billing_")


_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "quota_exceeded",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
    }
)
"""The first is OpenAI's; compatible servers have the others."""


def _decoded(body: Any) -> Any:
    """Some servers send the body as a string of JSON."""
    if not isinstance(body, str):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _status(value: Any) -> int | None:
    """An HTTP status from a number or a string of digits; None if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, int | float) and 0 <= value < 600:  # false for NaN
        return int(value)
    return None


def _error_object(error: Any) -> dict[str, Any]:
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) and error else {}


def _name(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000 else ""


def _message(error: dict[str, Any], default: str) -> str:
    message = error.get("message")
    return _short(message) if isinstance(message, str) and message else _short(default)


def _short(text: Any) -> str:
    return text[:MESSAGE_LIMIT] if isinstance(text, str) else "no reason given"


def _is_shallow(value: Any, levels: int) -> bool:
    """Whether a JSON value nests at most ``levels`` deep; deeper ones can't be walked recursively further on."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return True
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in value)
