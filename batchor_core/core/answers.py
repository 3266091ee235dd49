"""What a provider said about one row, in the engine's terms, and the reading of JSON lines that may be broken."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import orjson

from batchor_core.core.failures import ItemFailure
from batchor_core.core.jsontext import loads_kept
from batchor_core.core.types import JSONObject
from batchor_core.core.usage import TokenUsage

MESSAGE_LIMIT = 2_000


class Answer(NamedTuple):
    """What a provider said about one row.

    Attributes:
        custom_id: The row's name; empty if the line has none.
        text: The answer; with a ``refusal`` failure, the refusal's own words; with a ``non_text_answer``, the text beside
            the calls.
        usage: Billed tokens, also of useless answers.
        failure: Why the answer is not usable; None for a good one.
        count_attempt: Whether the row was really tried. Rows that the provider never ran don't cost an attempt.
        pause_reason: Why the run should pause and wait for a person; None if it should not.
        value: An answer that is not text: a vector as bytes, base64 or a list of numbers; a response body as JSON.
    """

    custom_id: str
    text: str | None = None
    usage: TokenUsage | None = None
    failure: ItemFailure | None = None
    count_attempt: bool = True
    pause_reason: str | None = None
    value: Any = None

    @property
    def has_no_body(self) -> bool:
        """Whether it is unusable as a whole body too. Calls and media in the place of a text are an answer there."""
        return self.failure is not None and self.failure.error_class != "non_text_answer"

    @property
    def has_no_calls(self) -> bool:
        """Whether it is unusable as calls of tools too. None at all are an answer there, which the job's output judges."""
        return (
            self.has_no_body
            and self.failure is not None
            and self.failure.error_class != "empty_response_text"
        )


def unread(custom_id: str, error: Exception) -> Answer:
    """A line on which its reader failed. The row was answered and paid for, and a retry would not repair the reader."""
    message = f"the provider's reader failed on this line: {type(error).__name__}: {error}"[:MESSAGE_LIMIT]
    return Answer(custom_id, failure=ItemFailure("provider_item_error", message, retryable=False))


def parse_line(line: str | bytes) -> JSONObject | None:
    """Parse one line of a file; None if it holds no JSON object. Never raises.

    Some text that is not strictly JSON is accepted: NaN, and halves of surrogate pairs, which become ``?`` since no
    file or database accepts them.
    """
    data = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
    if names_two_rows(data):
        return None
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError:
        record = _parse_leniently(line)
    return record if isinstance(record, dict) else None


def parse_line_exactly(line: bytes) -> JSONObject | None:
    """The same with every number exact, and halves of surrogate pairs as they are. Never raises."""
    if names_two_rows(line):
        return None
    try:
        record = loads_kept(line.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _parse_leniently(line: str | bytes) -> Any:
    try:
        text = line.decode("utf-8-sig", "replace") if isinstance(line, bytes) else line.removeprefix("\ufeff")
        return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):  # ValueError also for integers of thousands of digits
        return None


def names_two_rows(line: bytes) -> bool:
    """Whether an object of a line has the key ``custom_id`` twice: it is unclear which of the two is meant."""
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
        return False  # the parser reports it
    return False


class _RepeatedKeyError(Exception):
    pass
