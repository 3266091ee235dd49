"""What one vendor's API adds to an account: its words for rows, keys and errors. Its routes stand on the engine."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchor_core.testing.local_server.errors import ApiError
from batchor_core.testing.local_server.faults import HttpFault
from batchor_core.testing.local_server.records import Batch, Tokens
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.settings import Limits


@dataclass(slots=True)
class Report:
    """What the check of a batch's requests found.

    Attributes:
        errors: Made by :func:`~batchor_core.testing.local_server.records.batch_error`; the batch fails if there is one.
        total: Requests in the file.
        model: The model of its first request.
        tokens: Estimated prompt tokens of the whole file.
        inputs: Texts to embed in it.
    """

    errors: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    model: str | None = None
    tokens: int = 0
    inputs: int = 0


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """What one row adds to its batch.

    Attributes:
        line: The bytes to write, newline included; empty for a missing row.
        in_error_file: Whether they belong to the error file. A vendor with one file of results has none.
        failed: Whether the batch counts the row as failed.
        tokens: What the row used.
    """

    line: bytes
    in_error_file: bool
    failed: bool
    tokens: Tokens


class Protocol(ABC):
    """One vendor's words. Methods may be called from several threads."""

    name: str
    """The vendor, as it is in names of folders."""

    fails_whole_batches: bool = True
    """Whether a bad request fails its batch; if not, a batch that a fault fails ends with an error for each row."""

    # over HTTP

    @abstractmethod
    def error_body(self, error: ApiError) -> Any:
        """The JSON of an answer that is an error."""

    @abstractmethod
    def key_error(self, headers: Mapping[str, str], accepted: frozenset[str] | None) -> ApiError | None:
        """The 401 of a request without one of the accepted keys; None accepts any. Names of headers are lower-case."""

    def headers(self) -> dict[str, str]:
        """Headers that every answer bears besides its date."""
        return {}

    def on_fault(self, fault: HttpFault) -> ApiError:
        """The error that a fault of the kind ``status`` asks for."""
        return ApiError(fault.status, fault.message, code=fault.code)

    # batches

    def new_batch_id(self) -> str:
        """An id for a new batch."""
        return f"batch_{uuid.uuid4().hex}"

    @abstractmethod
    def check(self, path: Path, endpoint: str, limits: Limits) -> Report:
        """Check the requests of a new batch: lines of JSON with ``custom_id`` and ``body``."""

    def refusal(self, body: dict[str, Any], endpoint: str) -> Reply | None:
        """The error that a row is answered with instead of an answer; None if its request is fine."""
        return None

    @abstractmethod
    def write_row(
        self, reply: Reply, *, request: dict[str, Any], batch: Batch, custom_id: str, now: float
    ) -> WrittenRow:
        """Turn what became of a row into the line, or lines, of its batch's result files.

        Args:
            reply: What became of the row.
            request: The body of its request.
            batch: Where it ran.
            custom_id: The row's id in the input.
            now: Epoch seconds for the answer's timestamps.
        """
