"""What Google says of a batch, as the engine has it.

A batch is an *operation* whose ``metadata`` is the batch itself. The SDK's own ``BatchJob`` leaves out the counts, the input file
and the error of a job that failed, so that this reads the answer as it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from batchor_core.core.exceptions import ProviderErrorKind
from batchor_core.core.lateness import StatedCounts
from batchor_core.providers.api import BatchFailure, BatchState, ResultFile
from batchor_core.providers.gemini.codes import NEVER_PASS, reasons, status_name

BATCHES = "batches/"
"""What stands before the id in the name of a batch."""

LIFETIME_SEC = 48 * 3_600.0
"""A batch that has not ended by then expires."""

_MODEL = "?model="
_NAME = re.compile(rf"{BATCHES}([\w-]+)")
_ENDED = {
    "succeeded": "completed",
    "partially_succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}


def display_name(tags: Mapping[str, str] | None) -> str:
    """Tags as the name of a batch, which lists show."""
    return json.dumps(dict(tags or {}), ensure_ascii=False, separators=(",", ":"))


def handle_of(file: str, model: str | None) -> str:
    """An uploaded file and, if it is not the config's, the model that its batch is for: requests don't name theirs."""
    return file if model is None else f"{file}{_MODEL}{model}"


def read_handle(handle: str) -> tuple[str, str | None]:
    """The file and the model of a handle."""
    file, _, model = handle.partition(_MODEL)
    return file, model or None


def tags_of(name: Any) -> dict[str, str] | None:
    """The tags in a batch's name; None for a batch that was named otherwise."""
    if not isinstance(name, str) or not name.startswith("{"):
        return None
    try:
        tags = json.loads(name)
    except (ValueError, RecursionError):
        return None
    good = isinstance(tags, dict) and all(isinstance(value, str) for value in tags.values())
    return tags if good else None


def batch_state(operation: Any) -> BatchState | None:
    """Read an operation; None if it names no batch."""
    if not isinstance(operation, dict):
        return None
    batch = _object(operation.get("metadata"))
    found = _NAME.fullmatch(str(operation.get("name") or batch.get("name")))
    if found is None:
        return None
    status = _status(operation, batch)
    created_at = seconds(batch.get("createTime"))
    name = batch.get("displayName")
    tags = tags_of(name)
    handle = _object(batch.get("inputConfig")).get("fileName")
    return BatchState(
        batch_id=found.group(1),
        status=status,
        results=_results(operation, batch),
        created_at=created_at,
        expires_at=None if created_at is None else created_at + LIFETIME_SEC,
        handle=handle if isinstance(handle, str) else None,
        tags=tags,
        is_foreign=bool(name) and tags is None,
        counts=_counts(batch.get("batchStats")),
        failure=_failure(operation.get("error") or batch.get("error")) if status == "failed" else None,
    )


def listed_state(operation: Any) -> BatchState:
    """The same of an entry of a list; one that names no batch has an empty id."""
    return batch_state(operation) or BatchState("", "unknown")


def seconds(timestamp: Any) -> float | None:
    """Seconds since 1970 of an RFC 3339 timestamp; None if it is none."""
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except (TypeError, ValueError):
        return None


def _status(operation: Mapping[str, Any], batch: Mapping[str, Any]) -> str:
    state = batch.get("state")
    if not isinstance(state, str) or not state:
        return "failed" if operation.get("done") is True and operation.get("error") else "unknown"
    word = state.lower().removeprefix("job_state_").removeprefix("batch_state_")
    return _ENDED.get(word, word)


def _results(operation: Mapping[str, Any], batch: Mapping[str, Any]) -> tuple[ResultFile, ...]:
    for holder in (batch.get("output"), operation.get("response")):
        name = _object(holder).get("responsesFile")
        if isinstance(name, str) and name:
            return (ResultFile(name),)
    return ()


def _counts(stats: Any) -> StatedCounts:
    """``batchStats``, whose zeros are left out."""
    if not isinstance(stats, dict) or "requestCount" not in stats:
        return StatedCounts()
    done, failed, total = (
        _whole(stats.get(name, 0))
        for name in ("successfulRequestCount", "failedRequestCount", "requestCount")
    )
    return StatedCounts(done, failed, total)


def _whole(value: Any) -> int | None:
    """A count, which JSON holds as a string of digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value if type(value) is int and value >= 0 else None


def _failure(error: Any) -> BatchFailure:
    """Why a job failed as a whole."""
    name = status_name(error)
    said = _object(error).get("message")
    message = said if isinstance(said, str) and said else name or "the provider gives no reason"
    if name == "RESOURCE_EXHAUSTED":
        kind = ProviderErrorKind.CAPACITY
    elif name == "UNAUTHENTICATED" or "API_KEY_INVALID" in reasons(error):
        kind = ProviderErrorKind.CREDENTIALS
    elif name in NEVER_PASS:
        kind = ProviderErrorKind.BAD_REQUEST
    else:
        kind = ProviderErrorKind.RETRY
    return BatchFailure(kind, name.lower() or "batch_terminal_failed", message[:2_000])


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
