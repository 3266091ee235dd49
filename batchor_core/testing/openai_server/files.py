"""The Files half of the API."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from batchor_core.testing.openai_server.clock import ServerClock
from batchor_core.testing.openai_server.errors import bad_request, no_such_file
from batchor_core.testing.openai_server.faults import Faults
from batchor_core.testing.openai_server.paging import Page, page_of, read_limit
from batchor_core.testing.openai_server.records import StoredFile
from batchor_core.testing.openai_server.settings import DAY, Settings
from batchor_core.testing.openai_server.store import Store

UPLOAD_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_BATCH_FILE_LIFETIME = 30 * DAY
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


class Files:
    """Uploads, lists, hands out and deletes files."""

    def __init__(self, store: Store, clock: ServerClock, settings: Settings, faults: Faults) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._faults = faults

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
        file_id = f"file-{uuid.uuid4().hex}"
        path = self._store.content_path(file_id)
        with path.open("wb") as target:
            shutil.copyfileobj(content, target, 1 << 20)
        fault = self._faults.for_file()
        default = _BATCH_FILE_LIFETIME if purpose == "batch" else None
        file = self._keep(
            path, file_id, filename, purpose, lifetime or default, hidden_for=fault.seconds if fault else 0.0
        )
        return self._shown(file)

    def adopt(self, path: Path, *, key: str, filename: str, lifetime: float) -> str:
        """Make a batch's output, moved from ``path``, a file; return its id, which ``key`` decides.

        Safe to repeat after a crash: the second time finds the file moved already.
        """
        file_id = f"file-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
        content = self._store.content_path(file_id)
        if path.exists():
            path.replace(content)
        return self._keep(content, file_id, filename, "batch_output", lifetime).id

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of files: ``after``, ``limit``, ``order`` and ``purpose`` as the API takes them."""
        limit = read_limit(query, default=_MAX_PAGE, most=_MAX_PAGE)
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise bad_request("The order must be 'asc' or 'desc'.", param="order", code="invalid_value")
        now = self._clock()
        files = [file for file in self._store.files(purpose=query.get("purpose")) if file.exists_at(now)]
        if order == "desc":
            files.reverse()
        page: Page[StoredFile] = page_of(files, after=query.get("after"), limit=limit)
        return page.as_json(self._shown)

    def find(self, file_id: str) -> StoredFile | None:
        """The file, if there is one to be found at present."""
        file = self._store.file(file_id)
        return file if file is not None and file.exists_at(self._clock()) else None

    def retrieve(self, file_id: str) -> dict[str, Any]:
        """The file object."""
        return self._shown(self._existing(file_id))

    def content(self, file_id: str) -> Path:
        """Where the file's bytes are."""
        return self._store.content_path(self._existing(file_id).id)

    def delete(self, file_id: str) -> dict[str, Any]:
        """Delete a file. A batch that has not read it yet will fail its validation."""
        self._store.delete_file(self._existing(file_id).id)
        return {"id": file_id, "object": "file", "deleted": True}

    def _existing(self, file_id: str) -> StoredFile:
        file = self.find(file_id)
        if file is None:
            raise no_such_file(file_id)
        return file

    def _keep(
        self,
        path: Path,
        file_id: str,
        filename: str,
        purpose: str,
        lifetime: float | None,
        hidden_for: float = 0.0,
    ) -> StoredFile:
        now = self._clock()
        file = StoredFile(
            id=file_id,
            filename=filename,
            purpose=purpose,
            bytes=path.stat().st_size,
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
            seen_from=now + hidden_for,
        )
        self._store.add_file(file)
        return file

    def _check_batch_input(self, content: BinaryIO, filename: str) -> None:
        """What the live service checks before it takes an input: name, size, and that it begins with JSON."""
        if not filename.endswith(".jsonl"):
            raise bad_request("Invalid file format for Batch API. Must be .jsonl")
        size = content.seek(0, 2)
        content.seek(0)
        if size > self._settings.limits.max_file_bytes:
            raise bad_request("File is too large.")
        try:
            orjson.loads(content.readline())
        except orjson.JSONDecodeError:
            raise bad_request("Invalid file format. The first line is not valid JSON.") from None
        content.seek(0)

    def _shown(self, file: StoredFile) -> dict[str, Any]:
        return file.as_json(omit_nulls=self._settings.omit_nulls)
