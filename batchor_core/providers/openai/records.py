"""What OpenAI and servers like it say about batches, as plain dictionaries."""

from __future__ import annotations

from typing import Any

from batchor_core.core.types import BatchRemoteRecord

_FIELDS = (
    "input_file_id",
    "output_file_id",
    "error_file_id",
    "metadata",
    "request_counts",
    "errors",
    "usage",
    "model",
)
_TIMES = ("created_at", "expires_at")
_NEXT_PAGE = ("next_page", "next", "next_cursor", "next_page_token", "nextPageToken", "nextLink")
"""Where servers that know no ``has_more`` say how to go on."""


def batch_record(answer: Any) -> BatchRemoteRecord | None:
    """Read an SDK object or a dictionary; None if it names no batch.

    Only the id is needed. Statuses become lower case, as some servers shout them, and a missing one is ``unknown``,
    which never counts as an end. Empty ids become None: a clean batch may have the error file ``""``.
    """
    batch_id = read(answer, "id")
    if not isinstance(batch_id, str) or not batch_id:
        return None
    status = read(answer, "status")
    record: dict[str, Any] = {
        "id": batch_id,
        "status": status.lower() if isinstance(status, str) and status else "unknown",
    }
    for name in _FIELDS:
        record[name] = plain(read(answer, name)) or None
    for name in _TIMES:
        record[name] = _time(read(answer, name))
    if not isinstance(record["metadata"], dict):
        record["metadata"] = None
    return record  # type: ignore[return-value]  # filled by name


def listed_record(entry: Any) -> BatchRemoteRecord:
    """The same of an entry of a list; one that names no batch has the empty id, and the time where it gives one."""
    found = batch_record(entry)
    return found or {"id": "", "status": "unknown", "created_at": _time(read(entry, "created_at"))}


def has_more(page: Any) -> bool | None:
    """Whether a page of a list says that it is not the last; None where it says nothing."""
    said = read(page, "has_more")
    if isinstance(said, bool):
        return said
    return True if any(isinstance(read(page, name), str) for name in _NEXT_PAGE) else None


def read(answer: Any, name: str) -> Any:
    """A field of an SDK object or a dictionary, None where there is none."""
    return answer.get(name) if isinstance(answer, dict) else getattr(answer, name, None)


def plain(value: Any) -> Any:
    """SDK objects as dictionaries. Their own warnings about types that the server got wrong are no news."""
    if hasattr(value, "model_dump"):
        return value.model_dump(warnings=False)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _time(value: Any) -> float | None:
    """Seconds since 1970; some servers send them as a string."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
