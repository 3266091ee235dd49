"""A batch in the books of :class:`~batchor_core.testing.FakeProvider`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from batchor_core.core.types import BatchRemoteRecord, BatchRequestLine


@dataclass
class FakeBatch:
    """A batch in the fake's books.

    Attributes:
        id: Its id.
        input_file_id: The file it was made from.
        metadata: What it was created with.
        created_at: Seconds since 1970.
        lines: Its requests.
        steps: Statuses still to come, one for each time it is looked at; the last one stays.
        status: The present status.
        output_file_id: Set at the end, if a row was answered; empty if none of a completed batch has a line.
        error_file_id: Set at the end, if a row failed.
        errors: ``errors`` of a batch that fails validation.
        listed: Whether ``list_batches`` shows it.
        request_counts: What it states about its rows.
        expires_at: Seconds since 1970.
    """

    id: str
    input_file_id: str
    metadata: dict[str, str]
    created_at: float
    lines: list[BatchRequestLine]
    steps: deque[str]
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Any = None
    listed: bool = True
    request_counts: Any = None
    expires_at: float | None = None

    def record(self) -> BatchRemoteRecord:
        """What the provider says of it."""
        return {
            "id": self.id,
            "status": self.status,
            "input_file_id": self.input_file_id,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "metadata": dict(self.metadata),
            "errors": self.errors,
            "request_counts": self.request_counts,
            "expires_at": self.expires_at,
        }
