"""What Anthropic says about a batch, in the engine's words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from batchor_core.core.lateness import StatedCounts
from batchor_core.providers.api import BatchState, ResultFile


def read_state(batch: Any) -> BatchState | None:
    """Read a ``message_batch`` object; None if it names no batch."""
    batch_id = batch.get("id") if isinstance(batch, dict) else None
    if not isinstance(batch_id, str) or not batch_id:
        return None
    counts = batch.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    status = _status(batch, counts)
    has_ended = batch.get("processing_status") == "ended"
    return BatchState(
        batch_id,
        status,
        # there is one address for each batch; the one that it names is not trusted with the key
        results=(ResultFile(batch_id),) if has_ended and batch.get("results_url") else (),
        created_at=_instant(batch.get("created_at")),
        expires_at=_instant(batch.get("expires_at")),
        counts=_counts(counts, has_ended=has_ended),
    )


def listed_state(entry: Any) -> BatchState:
    """The same of an entry of a list; one that names no batch has the empty id, and the time where it gives one."""
    found = read_state(entry)
    created = entry.get("created_at") if isinstance(entry, dict) else None
    return found or BatchState("", "unknown", created_at=_instant(created))


def _status(batch: dict[str, Any], counts: dict[str, Any]) -> str:
    """How a batch ended: the API has one word for all ends."""
    status = batch.get("processing_status")
    if status != "ended":
        return str(status).lower() if isinstance(status, str) and status else "unknown"
    if _count(counts, "canceled"):
        return "cancelled"
    return "expired" if _count(counts, "expired") else "completed"


def _counts(counts: dict[str, Any], *, has_ended: bool) -> StatedCounts:
    """Until a batch has ended, all of its requests are being processed."""
    kinds = ("processing", "succeeded", "errored", "canceled", "expired")
    numbers = [_count(counts, kind) for kind in kinds]
    known = [number for number in numbers if number is not None]
    if len(known) < len(kinds):
        return StatedCounts()
    _, succeeded, *failed = known
    total = sum(known)
    if not has_ended:
        return StatedCounts(None, None, total)
    return StatedCounts(succeeded, sum(failed), total)


def _count(counts: dict[str, Any], kind: str) -> int | None:
    value = counts.get(kind)
    return value if type(value) is int and 0 <= value < 2**53 else None


def _instant(value: Any) -> float | None:
    """Seconds since 1970 of an RFC 3339 time."""
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
