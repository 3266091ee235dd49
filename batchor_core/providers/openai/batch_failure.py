"""What a batch that the provider refused as a whole means for its rows and for the run."""

from __future__ import annotations

from typing import Any

from batchor_core.core.exceptions import FILE_NOT_READY, ProviderErrorKind
from batchor_core.providers.api import BatchFailure
from batchor_core.providers.openai.answers import is_quota_code
from batchor_core.providers.openai.input_file import is_file_not_ready

_CAPACITY_CODES = frozenset({"token_limit_exceeded", "request_limit_exceeded"})


def judge_failed_batch(errors: Any) -> BatchFailure:
    """Read the ``errors`` of a failed batch: ``{"data": [{"code", "line", "message", "param"}]}``, all of it optional.

    One bad line fails the whole batch, and none of its rows is run. Unknown codes need a person, since sending
    the same again would fail again.
    """
    rows = errors.get("data") if isinstance(errors, dict) else errors
    entries = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not entries:
        return BatchFailure(ProviderErrorKind.RETRY, "batch_terminal_failed", "the provider gave no reason")
    kinds = [_kind(entry) for entry in entries]
    for decisive in (
        ProviderErrorKind.QUOTA,
        ProviderErrorKind.CAPACITY,
        ProviderErrorKind.BAD_REQUEST,
        ProviderErrorKind.NOT_READY,
    ):
        if decisive in kinds:
            return _verdict(decisive, entries[kinds.index(decisive)])
    bad_lines = {entry["line"]: _text(entry) for entry in entries if _line(entry) is not None}
    first = _verdict(ProviderErrorKind.RETRY, entries[0])
    return BatchFailure(first.kind, first.error_class, first.message, bad_lines)


def _kind(entry: dict[str, Any]) -> ProviderErrorKind:
    code, message = str(entry.get("code") or ""), str(entry.get("message") or "").lower()
    if is_quota_code(code):
        return ProviderErrorKind.QUOTA
    if code in _CAPACITY_CODES or ("limit reached" in message and "enqueued" in message):
        return ProviderErrorKind.CAPACITY
    if _line(entry) is None and is_file_not_ready(
        code=code, param=str(entry.get("param") or ""), message=message
    ):
        return ProviderErrorKind.NOT_READY
    # the model is the same in every line, so it is the job that is wrong, not the line
    if code == "model_not_found" or entry.get("param") == "body.model" or _line(entry) is None:
        return ProviderErrorKind.BAD_REQUEST
    return ProviderErrorKind.RETRY


def _verdict(kind: ProviderErrorKind, entry: dict[str, Any]) -> BatchFailure:
    error_class = str(entry.get("code") or "batch_terminal_failed")
    if kind is ProviderErrorKind.NOT_READY:
        error_class = FILE_NOT_READY  # the code is mostly "invalid_request", which says nothing
    return BatchFailure(kind, error_class, _text(entry))


def _text(entry: dict[str, Any]) -> str:
    return str(entry.get("message") or entry.get("code") or "no message")


def _line(entry: dict[str, Any]) -> int | None:
    line = entry.get("line")
    return line if isinstance(line, int) and not isinstance(line, bool) and line > 0 else None
