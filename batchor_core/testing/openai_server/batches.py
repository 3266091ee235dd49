"""The Batches half of the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import bad_request, cannot_find_file
from batchor_core.testing.local_server.paging import page_of
from batchor_core.testing.local_server.records import Batch, BatchStatus, whole, without_nulls
from batchor_core.testing.openai_server.creation import check_create
from batchor_core.testing.openai_server.files import read_lifetime
from batchor_core.testing.openai_server.paging import list_object, read_limit

_MAX_PAGE = 100


class BatchRequests:
    """Creates batches and shows them."""

    def __init__(self, engine: Engine, *, omit_nulls: bool, clean_error_file_id: str | None) -> None:
        self._engine = engine
        self._batches = engine.batches
        self._omit_nulls = omit_nulls
        self._clean_error_file_id = clean_error_file_id

    def create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create a batch.

        Raises:
            ApiError: A parameter is wrong, the file is not to be found, or the hour's batches are used up.
        """
        check_create(request)
        lifetime = read_lifetime(request.get("output_expires_after"), "output_expires_after")
        file = self._engine.files.find(request["input_file_id"])
        if file is None:
            raise bad_request(cannot_find_file(request["input_file_id"]), param="file_id")
        if file.purpose != "batch":
            raise bad_request("The input file must have the purpose 'batch'.", param="input_file_id")
        options = {} if lifetime is None else {"output_lifetime": lifetime}
        batch = self._batches.create(
            endpoint=request["endpoint"],
            input_file_id=file.id,
            metadata=request.get("metadata"),
            **options,
        )
        return self._shown(batch)

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of batches, newest first: ``after`` and ``limit`` as the API takes them."""
        limit = read_limit(query, default=20, most=_MAX_PAGE)
        page = page_of(self._batches.listed(), after=query.get("after"), limit=limit)
        return list_object(page, lambda batch: self._shown(self._batches.settled(batch)))

    def retrieve(self, batch_id: str) -> dict[str, Any]:
        """The batch as it is at present."""
        return self._shown(self._batches.look(batch_id))

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Begin to cancel a batch."""
        return self._shown(self._batches.cancel(batch_id))

    def _shown(self, batch: Batch) -> dict[str, Any]:
        if batch.error_file_id is None and batch.status is BatchStatus.COMPLETED:
            batch = replace(batch, error_file_id=self._clean_error_file_id)
        shown = batch_object(batch, self._engine.clock())
        return without_nulls(shown) if self._omit_nulls else shown


def batch_object(batch: Batch, now: float) -> dict[str, Any]:
    """The ``batch`` object of the API, as seen at ``now``."""
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status.value,
        "output_file_id": batch.output_file_id if batch.has_come(batch.fate.late, "output", now) else None,
        "error_file_id": batch.error_file_id if batch.has_come(batch.fate.late, "error", now) else None,
        "created_at": int(batch.created_at),
        "in_progress_at": whole(batch.in_progress_at),
        "expires_at": int(batch.expires_at),
        "finalizing_at": whole(batch.finalizing_at),
        "completed_at": whole(batch.completed_at),
        "failed_at": whole(batch.failed_at),
        "expired_at": whole(batch.expired_at),
        "cancelling_at": whole(batch.cancelling_at),
        "cancelled_at": whole(batch.cancelled_at),
        "request_counts": {
            "total": batch.total,
            "completed": batch.progress.completed,
            "failed": batch.progress.failed,
        },
        "usage": batch.tokens.as_usage(),
        "metadata": batch.metadata,
    }
