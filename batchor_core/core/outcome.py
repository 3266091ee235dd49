"""What one line of a provider's output or error file means for the item that asked.

The line format is that of the OpenAI Batch API. A line with status 200 may still be useless (cut off, refused,
filtered, empty), an error may come in three shapes, and compatible servers leave out whatever they like. So nothing
here trusts a type: every line, however broken, becomes an :class:`Answer`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from batchor_core.core.answer_content import Said, read_choices, read_output
from batchor_core.core.models import ItemFailure
from batchor_core.core.repeating import (
    BROKEN_REASONS,
    FILTER_CODES,
    FILTER_REASONS,
    LENGTH_REASONS,
    error_may_pass,
)
from batchor_core.core.types import JSONObject, JSONValue
from batchor_core.core.usage import TokenUsage, usage_from_body

TERMINAL_ROW_CODES = {
    "batch_expired": "batch_terminal_expired",
    "batch_cancelled": "batch_terminal_cancelled",
}
"""Codes of rows that were never run because their batch ended first, and the error classes they become."""

MESSAGE_LIMIT = 2_000
RAW_ERROR_DEPTH = 32


class Answer(NamedTuple):
    """What a provider said about one row.

    Attributes:
        custom_id: The row's name; empty if the line has none.
        text: The answer; with a ``refusal`` failure, the refusal's own words; with a ``non_text_answer``, the text beside
            the calls.
        usage: Billed tokens, also of answers that are no use.
        failure: Why the answer is no use; None for a good one.
        count_attempt: Whether the row was really tried. Rows that the provider never ran don't cost an attempt.
        pause_reason: Why the run should stop and wait for a person; None if it need not.
    """

    custom_id: str
    text: str | None = None
    usage: TokenUsage | None = None
    failure: ItemFailure | None = None
    count_attempt: bool = True
    pause_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The answers of one batch beside what was submitted in it.

    Attributes:
        completed: Good answers, one per custom_id.
        failed: Failures of ids without a good answer, one per custom_id.
        missing: Submitted ids that no line mentions, in the order they were submitted.
        unknown: Lines whose id was not submitted in this batch.
        duplicates: Lines that told of an id again.
    """

    completed: list[Answer] = field(default_factory=list)
    failed: list[Answer] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unknown: int = 0
    duplicates: int = 0


def is_better(new: Answer, old: Answer | None) -> bool:
    """Whether ``new`` takes the place of ``old``: the first good answer wins, and any success beats an error."""
    return old is None or (old.failure is not None and new.failure is None)


def reconcile(answers: Iterable[Answer], submitted: Collection[str]) -> Reconciliation:
    """Match a batch's answers, from both files and in any order, with the ids that were submitted in it."""
    wanted = dict.fromkeys(submitted)
    best: dict[str, Answer] = {}
    unknown = duplicates = 0
    for answer in answers:
        if answer.custom_id not in wanted:
            unknown += 1
            continue
        old = best.get(answer.custom_id)
        duplicates += old is not None
        if is_better(answer, old):
            best[answer.custom_id] = answer
    return Reconciliation(
        completed=[answer for answer in best.values() if answer.failure is None],
        failed=[answer for answer in best.values() if answer.failure is not None],
        missing=[custom_id for custom_id in wanted if custom_id not in best],
        unknown=unknown,
        duplicates=duplicates,
    )


def parse_line(line: str | bytes) -> JSONObject | None:
    """Parse one line of a file; None if it holds no JSON object. Never raises.

    What is not quite JSON is taken where it can be: NaN, and halves of surrogate pairs, which become ``?`` since no
    file or database would take them.
    """
    data = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
    if names_two_rows(data):
        return None
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError:
        record = _parse_leniently(line)
    return record if isinstance(record, dict) else None


def _parse_leniently(line: str | bytes) -> Any:
    try:
        text = line.decode("utf-8-sig", "replace") if isinstance(line, bytes) else line.removeprefix("\ufeff")
        return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):  # ValueError also for integers of thousands of digits
        return None


def names_two_rows(line: bytes) -> bool:
    """Whether an object of a line has the key ``custom_id`` twice: parsers take one of them, and who knows which is meant."""
    if line.count(b'"custom_id"') < 2:
        return False

    def keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if sum(name == "custom_id" for name, _ in pairs) > 1:
            raise _RepeatedKeyError
        return dict(pairs)

    try:
        json.loads(line, object_pairs_hook=keys)
    except _RepeatedKeyError:
        return True
    except (ValueError, RecursionError):
        return False  # whoever parses it finds out
    return False


class _RepeatedKeyError(Exception):
    pass


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


def unread(record: JSONObject, error: Exception) -> Answer:
    """A line that its reader failed on. The row was answered and paid for, and asking again would not repair the reader."""
    custom_id = record.get("custom_id")
    message = f"the provider's read_record failed on this line: {type(error).__name__}: {error}"
    failure = ItemFailure("provider_item_error", _short(message), retryable=False)
    return Answer(custom_id if isinstance(custom_id, str) else "", failure=failure)


def _read_other(custom_id: str, line: dict[str, Any], response: dict[str, Any]) -> Answer:
    """Every response that is not plainly a 200 with an object for a body."""
    body = _decoded(response.get("body"))
    status = _status(response.get("status_code"))
    content: dict[str, Any] = body if isinstance(body, dict) else {}
    answered = "output" in content or "choices" in content
    if (status is not None and 200 <= status < 300) or (status is None and answered):
        if content.get("status") == "failed" or not content.get("error"):
            return _read_body(custom_id, content)
        # 200 around an error object: the error is the answer
        return _read_error(
            custom_id, _error_object(content["error"]), status=None, usage=usage_from_body(content)
        )
    error = _error_object(content.get("error")) or _error_object(line.get("error"))
    if not error and isinstance(body, str) and body.strip():
        error = {"message": body}
    return _read_error(custom_id, error, status=status, usage=usage_from_body(content))


def _read_body(custom_id: str, body: dict[str, Any]) -> Answer:
    """A body that came with status 200."""
    usage = usage_from_body(body)
    output = body.get("output")
    if isinstance(output, list):
        return _read_responses(custom_id, body, output, usage)
    choices = body.get("choices")
    if isinstance(choices, list):
        return _read_chat(custom_id, choices, usage)
    if body.get("status") == "failed":
        return _read_error(
            custom_id, _error_object(body.get("error")), status=None, usage=usage, answered=True
        )
    return _unusable(custom_id, "empty_response_text", "the response holds no output", usage)


def _read_responses(
    custom_id: str, body: dict[str, Any], output: list[Any], usage: TokenUsage | None
) -> Answer:
    """A body of the Responses endpoint."""
    status = body.get("status")
    if status == "failed":
        return _read_error(
            custom_id, _error_object(body.get("error")), status=None, usage=usage, answered=True
        )
    said = read_output(output)
    if not said.text and isinstance(
        body.get("output_text"), str
    ):  # the SDK's own field, which some servers send
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


def _read_chat(custom_id: str, choices: list[Any], usage: TokenUsage | None) -> Answer:
    """A body of the Chat Completions endpoint."""
    said = read_choices(choices)
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
    return code == "insufficient_quota" or code.startswith("billing_")


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
