"""Message batches: how they are created and shown."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

import orjson

from batchor_core.core.custom_ids import unmarked
from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import ApiError, bad_request
from batchor_core.testing.local_server.paging import Page, page_of
from batchor_core.testing.local_server.records import Batch, BatchStatus
from batchor_core.testing.local_server.settings import DAY

ENDPOINT = "/v1/messages"
_CUSTOM_ID = "^[a-zA-Z0-9_-]{1,64}$"
_MAX_PAGE = 1_000
_RESULTS_LIFETIME = 29 * DAY


class BatchRequests:
    """Creates batches and shows them.

    Args:
        engine: The account.
        results_url: Where a batch's results are, with ``{}`` for its id.
    """

    def __init__(self, engine: Engine, *, results_url: str) -> None:
        self._engine = engine
        self._batches = engine.batches
        self._results_url = results_url

    def create(self, content: bytes) -> dict[str, Any]:
        """Create a batch.

        Raises:
            ApiError: It is too large, or not what the API takes. Parameters of the single requests are not looked at.
        """
        limits = self._engine.settings.limits
        if len(content) > limits.max_file_bytes:
            raise ApiError(413)
        try:
            given = orjson.loads(content)
        except orjson.JSONDecodeError:
            raise bad_request("The request body is not valid JSON.") from None
        requests = given.get("requests") if isinstance(given, dict) else None
        if not isinstance(requests, list) or not requests:
            raise bad_request("requests: Field required")
        if len(requests) > limits.max_requests:
            raise ApiError(413, f"requests: List should have at most {limits.max_requests} items")
        lines = _lines(requests)
        sent_by = unmarked(requests[0]["custom_id"])
        batch = self._batches.create(
            endpoint=ENDPOINT,
            input_file_id=self._engine.files.put(io.BytesIO(lines), filename="requests.jsonl").id,
            total=len(requests),
            # for the books alone, which no client sees
            metadata={"batchor_local_batch_id": sent_by[1]} if sent_by else None,
            output_lifetime=_RESULTS_LIFETIME,
        )
        return self._shown(batch)

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of batches, newest first: ``before_id``, ``after_id`` and ``limit`` as the API takes them."""
        limit, before = _limit(query), query.get("before_id")
        listed = self._batches.listed()
        if before is None:
            page = page_of(listed, after=query.get("after_id"), limit=limit)
        else:
            newer = list(takewhile(lambda batch: batch.id != before, listed))
            page = Page(newer[-limit:], has_more=len(newer) > limit)
        return {
            "data": [self._shown(self._batches.settled(batch)) for batch in page.entries],
            "has_more": page.has_more,
            "first_id": page.entries[0].id if page.entries else None,
            "last_id": page.entries[-1].id if page.entries else None,
        }

    def retrieve(self, batch_id: str) -> dict[str, Any]:
        """The batch as it is at present."""
        return self._shown(self._batches.look(batch_id))

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Begin to cancel. A batch that is being cancelled already stays as it is.

        Raises:
            ApiError: It has ended.
        """
        if self._batches.look(batch_id).ended_at is not None:
            raise bad_request(
                f"Batch {batch_id} cannot be canceled because it has already finished processing."
            )
        return self._shown(self._batches.cancel(batch_id))

    def delete(self, batch_id: str) -> dict[str, Any]:
        """Delete a batch.

        Raises:
            ApiError: It has not ended.
        """
        if self._batches.look(batch_id).ended_at is None:
            raise bad_request(f"Batch {batch_id} cannot be deleted while it is in progress. Cancel it first.")
        self._batches.delete(batch_id)
        return {"id": batch_id, "type": "message_batch_deleted"}

    def results(self, batch_id: str) -> tuple[Path, int | None] | None:
        """Where the results are, and how many bytes of them a client gets, None for all; None if they have no line.

        Raises:
            ApiError: They are not there, or not any more.
        """
        batch = self._batches.look(batch_id)
        if not self._has_results(batch):
            raise ApiError(404, f"Batch {batch_id} has no available results.")
        return None if batch.output_file_id is None else self._batches.content(batch.output_file_id)

    def _has_results(self, batch: Batch) -> bool:
        now = self._engine.clock()
        return (
            batch.ended_at is not None
            and batch.has_come(batch.fate.late, "output", now)
            and not self._is_archived(batch)
        )

    def _is_archived(self, batch: Batch) -> bool:
        return self._engine.clock() >= batch.created_at + _RESULTS_LIFETIME

    def _shown(self, batch: Batch) -> dict[str, Any]:
        """The ``message_batch`` object of the API, as seen at present."""
        archived = batch.created_at + _RESULTS_LIFETIME if self._is_archived(batch) else None
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": _status(batch),
            "request_counts": self._counts(batch),
            "created_at": _time(batch.created_at),
            "expires_at": _time(batch.expires_at),
            "ended_at": _time(batch.ended_at),
            "cancel_initiated_at": _time(batch.cancelling_at),
            "archived_at": _time(archived),
            "results_url": self._results_url.format(batch.id) if self._has_results(batch) else None,
        }

    def _counts(self, batch: Batch) -> dict[str, int]:
        """All rows are processing until the whole batch has ended."""
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if batch.ended_at is None:
            return {**counts, "processing": batch.total}
        failed = batch.progress.failed
        end = {BatchStatus.EXPIRED: "expired", BatchStatus.CANCELLED: "canceled"}.get(batch.status)
        not_run = 0 if end is None else min(failed, batch.total - self._batches.rows_run(batch.id))
        counts |= {"succeeded": batch.progress.completed, "errored": failed - not_run}
        return counts if end is None else {**counts, end: not_run}


def _lines(requests: list[Any]) -> bytes:
    """The requests as the core's lines.

    Raises:
        ApiError: A request is none, or its custom_id is not usable.
    """
    seen: set[str] = set()
    lines = []
    for number, request in enumerate(requests):
        custom_id = request.get("custom_id") if isinstance(request, dict) else None
        if not isinstance(custom_id, str) or not re.fullmatch(_CUSTOM_ID[1:-1], custom_id):
            raise bad_request(f"requests.{number}.custom_id: String should match pattern '{_CUSTOM_ID}'")
        if custom_id in seen:
            raise bad_request(f"requests.{number}.custom_id: Duplicate custom_id '{custom_id}'")
        seen.add(custom_id)
        if not isinstance(request.get("params"), dict):
            raise bad_request(f"requests.{number}.params: Field required")
        lines.append(orjson.dumps({"custom_id": custom_id, "body": request["params"]}))
    return b"\n".join(lines) + b"\n"


def _status(batch: Batch) -> str:
    if batch.ended_at is not None:
        return "ended"
    return "canceling" if batch.status is BatchStatus.CANCELLING else "in_progress"


def _limit(query: Mapping[str, str]) -> int:
    given = query.get("limit", "20")
    if not given.isdecimal() or not 1 <= int(given) <= _MAX_PAGE:
        raise bad_request(f"limit: Input should be between 1 and {_MAX_PAGE}")
    return int(given)


def _time(instant: float | None) -> str | None:
    """An instant as the API writes it."""
    return None if instant is None else datetime.fromtimestamp(instant, UTC).isoformat()
