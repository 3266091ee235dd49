"""How OpenAI and servers like it count the requests of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchor_core.core.lateness import StatedCounts


def read_counts(raw: object) -> StatedCounts:
    """Read ``request_counts``, which may be absent, null, partial, strings or nonsense."""
    if not isinstance(raw, Mapping):
        return StatedCounts()
    return StatedCounts(*(_count(raw.get(name)) for name in ("completed", "failed", "total")))


def _count(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # also refuses NaN and infinity
    return int(value) if 0 <= value < 2**53 and value == int(value) else None


def is_error_line(record: Mapping[str, Any]) -> bool:
    """Whether a line says that its row was not answered.

    A row that the provider lost has a line of status 0; it is counted as completed, as are all rows without an error.
    """
    response = record.get("response")
    status = response.get("status_code") if isinstance(response, Mapping) else None
    if isinstance(status, int) and not isinstance(status, bool):
        return status >= 400
    return bool(record.get("error"))
