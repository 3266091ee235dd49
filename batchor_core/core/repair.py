"""Asking again with the reason: which bad answers are shown to the model again, and what it is told about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batchor_core.core.failures import ItemFailure

REPAIRABLE = frozenset({"invalid_json", "structured_output_validation_failed"})
"""Error classes of answers that are not what the job's model accepts."""

MAX_ANSWER_CHARS = 100_000
"""A longer answer is not sent back: it would cost more than it helps, and the request is asked as it was."""

_SHOWN = 20
_LINE_CHARS = 300


def can_be_repaired(failure: ItemFailure, answer: str | None) -> bool:
    """Whether the model could answer better if it saw this answer and what is wrong with it."""
    is_usable = (
        answer is not None and len(answer) <= MAX_ANSWER_CHARS and not answer.isspace() and answer != ""
    )
    return is_usable and failure.retryable and failure.error_class in REPAIRABLE


def is_over(failure: ItemFailure, *, ended: bool) -> bool:
    """Whether a request that asked again has had its answer, or was refused. One that the provider failed to run is sent again."""
    return ended or not failure.retryable or failure.error_class in REPAIRABLE


def reply_to(failure: ItemFailure) -> str:
    """What the model is told: a line for each of the first twenty problems, and what to do."""
    problems = list(_problems(failure.raw_error)) or [failure.message]
    shown = [f"- {_short(problem)}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        shown.append(f"- and {len(problems) - _SHOWN} more")
    return "\n".join(
        [
            "Your answer was rejected:",
            *shown,
            "Answer the request again. Return the complete, corrected JSON and nothing else.",
        ]
    )


def _problems(raw_error: Any) -> Iterator[str]:
    """The errors of a validation, each with its place."""
    errors = raw_error.get("errors") if isinstance(raw_error, dict) else None
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict) and "msg" in error:
            where = ".".join(map(str, error.get("loc") or ())) or "the whole answer"
            yield f"{where}: {error['msg']}"


def _short(problem: str) -> str:
    one_line = " ".join(problem.split())
    return one_line if len(one_line) <= _LINE_CHARS else f"{one_line[: _LINE_CHARS - 1]}…"
