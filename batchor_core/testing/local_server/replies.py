"""What becomes of one request of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias


class ReplyKind(StrEnum):
    """The ways a row of a batch can end."""

    ANSWER = "answer"
    REFUSAL = "refusal"
    INCOMPLETE = "incomplete"
    CALL = "call"
    BODY = "body"
    HTTP_ERROR = "http_error"
    NOT_RUN = "not_run"
    BLANK = "blank"
    MISSING = "missing"
    GARBLED = "garbled"


@dataclass(frozen=True, slots=True)
class Reply:
    """The fate of one row. Make it with one of the class methods.

    Attributes:
        kind: Which way the row ended.
        content: The text of an answer, a refusal, an incomplete answer, the arguments of a call, or the raw line of a garbled one.
        tool: The tool that is called, for ``CALL``.
        status: HTTP status of the row.
        code: Error code, for errors.
        message: Error message, for errors.
        reason: Why an answer is incomplete: ``max_output_tokens`` or ``content_filter``.
        body: The whole response body, for ``BODY``.
        custom_id: The id written in the output instead of the true one.
        copies: How often the line is written.
    """

    kind: ReplyKind
    content: str = ""
    status: int = 200
    code: str | None = None
    message: str | None = None
    reason: str | None = None
    body: dict[str, Any] | None = None
    custom_id: str | None = None
    copies: int = 1
    tool: str = ""

    @classmethod
    def answer(cls, text: str) -> Reply:
        """The model answered ``text``."""
        return cls(ReplyKind.ANSWER, content=text)

    @classmethod
    def call(cls, tool: str, arguments: str) -> Reply:
        """The model called a tool with these arguments, which are JSON."""
        return cls(ReplyKind.CALL, content=arguments, tool=tool)

    @classmethod
    def refusal(cls, text: str = "I'm sorry, but I can't help with that.") -> Reply:
        """The model refused, in these words."""
        return cls(ReplyKind.REFUSAL, content=text)

    @classmethod
    def incomplete(cls, text: str = "", *, reason: str = "max_output_tokens") -> Reply:
        """The answer was cut: ``max_output_tokens`` or ``content_filter``. ``text`` is what came before."""
        return cls(ReplyKind.INCOMPLETE, content=text, reason=reason)

    @classmethod
    def whole_body(cls, body: dict[str, Any], *, status: int = 200) -> Reply:
        """The row is answered with exactly this body."""
        return cls(ReplyKind.BODY, body=body, status=status)

    @classmethod
    def http_error(cls, status: int, code: str | None = None, message: str | None = None) -> Reply:
        """The row's request failed with an HTTP status; it goes to the error file."""
        return cls(ReplyKind.HTTP_ERROR, status=status, code=code, message=message)

    @classmethod
    def not_run(cls, code: str, message: str) -> Reply:
        """The row was not executed: ``response`` is null, ``error`` says why (``batch_expired`` and such)."""
        return cls(ReplyKind.NOT_RUN, code=code, message=message)

    @classmethod
    def blank(cls) -> Reply:
        """Status 0 and an empty body, a fault of the live service; the batch counts the row as completed."""
        return cls(ReplyKind.BLANK, status=0)

    @classmethod
    def missing(cls) -> Reply:
        """The row appears in neither file."""
        return cls(ReplyKind.MISSING)

    @classmethod
    def garbled(cls, line: str = '{"id": "batch_req_') -> Reply:
        """The output file has this raw text where the row's line should be."""
        return cls(ReplyKind.GARBLED, content=line)


Responder: TypeAlias = Callable[[dict[str, Any], str, str], Reply | str]
"""Answers a row: ``responder(body, endpoint, custom_id)``. A plain string is an answer of that text."""

BATCH_EXPIRED = Reply.not_run(
    "batch_expired", "This request could not be executed before the completion window expired."
)
BATCH_CANCELLED = Reply.not_run(
    "batch_cancelled", "This request was not executed because the batch was cancelled."
)
