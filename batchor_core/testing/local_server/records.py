"""What the server knows of a file and of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from batchor_core.testing.local_server.settings import DAY, Timing

FOREVER = 1e15
"""An instant that never comes, in epoch seconds; JSON knows no infinity."""


class BatchStatus(StrEnum):
    """The statuses of the Batch API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


OPEN = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.CANCELLING)
"""The statuses from which a batch still moves."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file. Instants are epoch seconds; ``seen_from`` is when requests begin to find it."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None = None
    seen_from: float = 0.0

    def exists_at(self, now: float) -> bool:
        """Whether a request at ``now`` finds the file."""
        return self.seen_from <= now and (self.expires_at is None or now < self.expires_at)

    def as_json(self, *, omit_nulls: bool) -> dict[str, Any]:
        """The ``file`` object of the API."""
        shown = {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.bytes,
            "created_at": int(self.created_at),
            "expires_at": whole(self.expires_at),
            "status": "processed",
            "status_details": None,
        }
        return without_nulls(shown) if omit_nulls else shown


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one row, or a whole batch, used. The input includes what was read from, and written to, a cache."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cache_written: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cache_written + other.cache_written,
        )

    def as_usage(self) -> dict[str, Any]:
        """The shape of the books, which is that of OpenAI's batches."""
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.input + self.output,
        }


@dataclass(frozen=True, slots=True)
class Lateness:
    """When a result file comes: so many seconds after the batch's end, and to the look after so many others."""

    seconds: float = 0.0
    polls: int = 0

    def is_over(self, ended_at: float, now: float, looks: int) -> bool:
        """Whether the file has come at ``now``, after ``looks`` at the ended batch."""
        return now >= ended_at + self.seconds and looks >= self.polls


ON_TIME = Lateness()


@dataclass(frozen=True, slots=True)
class Fate:
    """What faults decided for a batch when it was created.

    Attributes:
        rejection: The entry of ``errors.data`` with which validation fails.
        row_limit: No more rows than this are ever executed.
        cancelled_by_provider: The provider itself cancels the batch when its rows should have ended.
        found_from: Until then, retrieving the batch answers 404.
        found_until: From then on, it answers 404 again.
        listed_from: Until then, the batch is missing in lists.
        late: When the batch begins to name a result file, by ``output`` and ``error``; at its end unless given.
        short: When a result file is whole, in the same way.
        gone: When a result file that is named is there.
        kept_share: The share of a short file's bytes that is handed out.
        never_ends: It stays in the status before its last one.
    """

    rejection: dict[str, Any] | None = None
    row_limit: int | None = None
    cancelled_by_provider: bool = False
    found_from: float = 0.0
    found_until: float = FOREVER
    listed_from: float = 0.0
    late: dict[str, Lateness] = field(default_factory=dict)
    short: dict[str, Lateness] = field(default_factory=dict)
    gone: dict[str, Lateness] = field(default_factory=dict)
    kept_share: float = 0.5
    never_ends: bool = False


def batch_error(
    code: str, message: str, *, line: int | None = None, param: str | None = None
) -> dict[str, Any]:
    """One entry of a failed batch's ``errors.data``."""
    return {"code": code, "line": line, "message": message, "param": param}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the execution of a batch came: rows, the place in its input, bytes written so far."""

    rows: int = 0
    completed: int = 0
    failed: int = 0
    input_offset: int = 0
    output_bytes: int = 0
    error_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. Instants are epoch seconds."""

    id: str
    endpoint: str
    input_file_id: str
    created_at: float
    expires_at: float
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None
    output_lifetime: float = 30 * DAY
    timing: Timing = field(default_factory=Timing)
    fate: Fate = field(default_factory=Fate)
    status: BatchStatus = BatchStatus.VALIDATING
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    model: str | None = None
    total: int = 0
    enqueued_tokens: int = 0
    progress: Progress = field(default_factory=Progress)
    tokens: Tokens = field(default_factory=Tokens)
    output_file_id: str | None = None
    error_file_id: str | None = None
    looks: int = 0
    """Retrievals since its end."""

    def found_at(self, now: float) -> bool:
        """Whether a request at ``now`` finds the batch by its id."""
        return self.fate.found_from <= now < self.fate.found_until

    def listed_at(self, now: float) -> bool:
        """Whether a list made at ``now`` shows the batch."""
        return self.fate.listed_from <= now < self.fate.found_until

    @property
    def ended_at(self) -> float | None:
        """When the batch reached its last status, None while it is open."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    def has_come(self, lateness: dict[str, Lateness], file: str, now: float) -> bool:
        """Whether nothing of this kind holds up the batch's file any more."""
        late = lateness.get(file, ON_TIME)
        return self.ended_at is None or late.is_over(self.ended_at, now, max(0, self.looks - 1))

    def result_files(self, now: float) -> dict[str, str]:
        """The ids of the files that the batch names, by ``output`` and ``error``."""
        ids = {"output": self.output_file_id, "error": self.error_file_id}
        return {
            name: file_id
            for name, file_id in ids.items()
            if file_id is not None and self.has_come(self.fate.late, name, now)
        }


def whole(instant: float | None) -> int | None:
    """An instant in whole seconds."""
    return None if instant is None else int(instant)


def without_nulls(shown: dict[str, Any]) -> dict[str, Any]:
    """An object without the members that are null."""
    return {key: value for key, value in shown.items() if value is not None}
