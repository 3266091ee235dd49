"""What every store keeps of a batch that is late: fields of ``ActiveBatchRecord``, which are columns of ``batches`` too."""

from __future__ import annotations

from typing import Any, Final

from batchor_core.storage.session import ResultsWait

NOTHING_LATE: Final[dict[str, Any]] = {"ended_at": None, "late_rows": 0, "looks": 0, "wait_reason": None}
"""The fields of a batch that nothing is waited for of."""


def late_fields(wait: ResultsWait) -> dict[str, Any]:
    """The same fields of a batch that is waited for."""
    return {
        "ended_at": wait.ended_at,
        "late_rows": wait.late_rows,
        "looks": wait.looks,
        "wait_reason": wait.reason,
    }


def more_stated(known: int | None, stated: int | None) -> dict[str, int]:
    """The field that changes when the provider states more answered rows than ever before."""
    return {} if stated is None or stated <= (known or 0) else {"stated_completed": stated}


def waiting_begins_again(*, ended_at: float | None, due_at: float | None, now: float) -> dict[str, Any]:
    """The fields that change when a person chooses to wait on: patience is counted from here."""
    fields: dict[str, Any] = {"poll_failures": 0, "next_poll_at": 0.0, "looks": 0}
    if ended_at is not None:
        fields["ended_at"] = now
    if due_at is not None and due_at < now:
        fields["due_at"] = now
    return fields
