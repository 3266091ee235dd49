"""The Files half of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import orjson

from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import bad_request
from batchor_core.testing.local_server.files import BATCH_FILE_LIFETIME
from batchor_core.testing.local_server.paging import page_of
from batchor_core.testing.local_server.records import StoredFile
from batchor_core.testing.openai_server.paging import list_object, read_limit

UPLOAD_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_MAX_PAGE = 10_000


def read_lifetime(given: Any, param: str) -> int | None:
    """Seconds of an ``expires_after`` object, None if there is none.

    Raises:
        ApiError: It is not what the API takes.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or given.get("anchor") != "created_at":
        raise bad_request("The anchor must be 'created_at'.", param=f"{param}.anchor", code="invalid_value")
    try:
        seconds = int(given.get("seconds", ""))
    except (TypeError, ValueError):
        message = f"Invalid type for '{param}.seconds': expected an integer."
        raise bad_request(message, param=f"{param}.seconds", code="invalid_type") from None
    if not 3_600 <= seconds <= 2_592_000:
        code = "integer_below_min_value" if seconds < 3_600 else "integer_above_max_value"
        message = f"Invalid '{param}.seconds': expected a value between 3600 and 2592000, but got {seconds}."
        raise bad_request(message, param=f"{param}.seconds", code=code)
    return seconds


class FileRequests:
    """Uploads, lists, shows and deletes files."""

    def __init__(self, engine: Engine, *, omit_nulls: bool) -> None:
        self._engine = engine
        self._files = engine.files
        self._omit_nulls = omit_nulls

    def upload(
        self,
        content: BinaryIO,
        *,
        filename: str,
        purpose: str | None,
        expires_after: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Take a file. Reads ``content`` from its beginning and leaves it open.

        Raises:
            ApiError: It is not what the API takes, by purpose, name, size or first line.
        """
        if purpose not in UPLOAD_PURPOSES:
            message = f"'{purpose}' is not one of {list(UPLOAD_PURPOSES)} - 'purpose'"
            raise bad_request(message, param="purpose", code="invalid_value")
        lifetime = read_lifetime(expires_after, "expires_after")
        if purpose == "batch":
            self._check_batch_input(content, filename)
        default = BATCH_FILE_LIFETIME if purpose == "batch" else None
        file = self._files.put(content, filename=filename, purpose=purpose, lifetime=lifetime or default)
        return self._shown(file)

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of files: ``after``, ``limit``, ``order`` and ``purpose`` as the API takes them."""
        limit = read_limit(query, default=_MAX_PAGE, most=_MAX_PAGE)
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise bad_request("The order must be 'asc' or 'desc'.", param="order", code="invalid_value")
        files = self._files.existing_files(purpose=query.get("purpose"))
        if order == "desc":
            files.reverse()
        return list_object(page_of(files, after=query.get("after"), limit=limit), self._shown)

    def retrieve(self, file_id: str) -> dict[str, Any]:
        """The file object. Of a file that is handed out short it does not say how long it is."""
        shown = self._shown(self._files.existing(file_id))
        if self._engine.batches.hides_size_of(file_id):
            shown["bytes"] = None
        return shown

    def delete(self, file_id: str) -> dict[str, Any]:
        """Delete a file."""
        self._files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    def _check_batch_input(self, content: BinaryIO, filename: str) -> None:
        """What the live service checks before it takes an input: name, size, and that it begins with JSON."""
        if not filename.endswith(".jsonl"):
            raise bad_request("Invalid file format for Batch API. Must be .jsonl")
        size = content.seek(0, 2)
        content.seek(0)
        if size > self._engine.settings.limits.max_file_bytes:
            raise bad_request("File is too large.")
        try:
            orjson.loads(content.readline())
        except orjson.JSONDecodeError:
            raise bad_request("Invalid file format. The first line is not valid JSON.") from None
        content.seek(0)

    def _shown(self, file: StoredFile) -> dict[str, Any]:
        return file.as_json(omit_nulls=self._omit_nulls)
