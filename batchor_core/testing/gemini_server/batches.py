"""Batches: how they are created and shown. A batch is an operation, and its ``metadata`` is the batch itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batchor_core.testing.gemini_server.errors import rpc_status
from batchor_core.testing.gemini_server.files import page_size, spelled, time_of
from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import ApiError, bad_request
from batchor_core.testing.local_server.paging import page_of
from batchor_core.testing.local_server.records import Batch, BatchStatus
from batchor_core.testing.local_server.settings import DAY

_LIFETIME = 2 * DAY
_MAX_PAGE = 100
_NAME = "displayName"
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."
_STATES = {
    BatchStatus.VALIDATING: "PENDING",
    BatchStatus.IN_PROGRESS: "RUNNING",
    BatchStatus.FINALIZING: "RUNNING",
    BatchStatus.CANCELLING: "RUNNING",
    BatchStatus.COMPLETED: "SUCCEEDED",
    BatchStatus.FAILED: "FAILED",
    BatchStatus.CANCELLED: "CANCELLED",
    BatchStatus.EXPIRED: "EXPIRED",
}
"""The API has fewer states than the core, and a batch with failed rows succeeds like any other."""

_CODES = {"token_limit_exceeded": "RESOURCE_EXHAUSTED"}


class BatchRequests:
    """Creates batches and shows them.

    The input file is not shown, so that clients learn to do without it: the SDK hides it as well.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batches = engine.batches

    def create(self, model: str, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Create a batch of an uploaded file.

        Raises:
            ApiError: A parameter is wrong, or the file is not to be found.
        """
        batch = given.get("batch")
        name = spelled(batch, _NAME, "display_name")
        file = spelled(spelled(batch, "inputConfig", "input_config"), "fileName", "file_name")
        if not isinstance(name, str) or not name:
            raise bad_request("batch.display_name is required.")
        if not isinstance(file, str) or not file.startswith("files/"):
            raise bad_request(
                "batch.input_config.file_name is required; requests inline are not served here."
            )
        file_id = file.removeprefix("files/")
        if self._engine.files.find(file_id) is None:
            raise ApiError(
                403, f"You do not have permission to access the File {file_id} or it may not exist."
            )
        created = self._batches.create(
            endpoint=f"models/{model}:{method}",
            input_file_id=file_id,
            metadata=_tags(name) | {_NAME: name},
            output_lifetime=_LIFETIME,
            lifetime=_LIFETIME,
        )
        return self._shown(created)

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of batches, newest first: ``pageSize`` and ``pageToken`` as the API takes them."""
        limit = page_size(query, most=_MAX_PAGE)
        page = page_of(self._batches.listed(), after=query.get("pageToken"), limit=limit)
        shown = [self._shown(self._batches.settled(batch)) for batch in page.entries]
        listed: dict[str, Any] = {"operations": shown} if shown else {}
        return listed | ({"nextPageToken": page.entries[-1].id} if page.has_more else {})

    def retrieve(self, batch_id: str) -> dict[str, Any]:
        """The batch as it is at present."""
        return self._shown(self._batches.look(batch_id))

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Begin to cancel.

        Raises:
            ApiError: It has ended.
        """
        try:
            self._batches.cancel(batch_id)
        except ApiError as refused:
            if refused.status != 409:
                raise
            raise ApiError(400, f"Batch {batch_id} has ended already.", code="FAILED_PRECONDITION") from None
        return {}

    def delete(self, batch_id: str) -> dict[str, Any]:
        """Delete a batch, whose results stay."""
        self._batches.delete(batch_id)
        return {}

    def _shown(self, batch: Batch) -> dict[str, Any]:
        name, ended = f"batches/{batch.id}", batch.ended_at
        kind = "EmbedContentBatch" if batch.endpoint.endswith(":embedContent") else "GenerateContentBatch"
        shown: dict[str, Any] = {
            "@type": f"{_TYPE}{kind}",
            "model": batch.endpoint.partition(":")[0],
            _NAME: (batch.metadata or {}).get(_NAME),
            "createTime": time_of(batch.created_at),
            "updateTime": time_of(ended or batch.created_at),
            "batchStats": self._stats(batch),
            "state": f"BATCH_STATE_{_STATES[batch.status]}",
            "name": name,
        }
        operation: dict[str, Any] = {"name": name, "metadata": shown}
        if ended is None:
            return operation
        shown["endTime"] = time_of(ended)
        operation["done"] = True
        if batch.errors:
            first = batch.errors[0]
            code = str(first["code"])
            operation["error"] = rpc_status(_CODES.get(code, code), str(first["message"]))
        elif file_id := batch.result_files(self._engine.clock()).get("output"):
            shown["output"] = {"responsesFile": f"files/{file_id}"}
            operation["response"] = {"@type": f"{_TYPE}{kind}Output", "responsesFile": f"files/{file_id}"}
        return operation

    def _stats(self, batch: Batch) -> dict[str, str]:
        """Counts are strings, and zeros are left out."""
        done, failed, total = batch.progress.completed, batch.progress.failed, batch.total
        if batch.ended_at is None:
            done = failed = 0
        counts = {
            "requestCount": total,
            "successfulRequestCount": done,
            "failedRequestCount": failed,
            "pendingRequestCount": max(0, total - done - failed) if batch.ended_at is None else 0,
        }
        return {name: str(count) for name, count in counts.items() if count}


def _tags(name: str) -> dict[str, str]:
    """What a client has put into the name of its batch, for the books."""
    try:
        tags = json.loads(name)
    except ValueError:
        return {}
    return {key: str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}
