"""Files: they are uploaded in pieces to an address of their own, and only those that a batch made can be downloaded."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import IO, Any

import orjson

from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import ApiError, bad_request
from batchor_core.testing.local_server.paging import page_of
from batchor_core.testing.local_server.records import StoredFile
from batchor_core.testing.local_server.settings import DAY

_LIFETIME = 2 * DAY
_MAX_PAGE = 100


@dataclass(slots=True)
class _Upload:
    display_name: str
    content: IO[bytes] = field(default_factory=TemporaryFile)


class FileRequests:
    """Takes, lists, shows and deletes files."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._files = engine.files
        self._uploads: dict[str, _Upload] = {}
        self._lock = threading.Lock()

    def begin(self, given: Mapping[str, Any]) -> str:
        """Begin an upload; return its id."""
        file = given.get("file")
        name = spelled(file, "displayName", "display_name")
        upload_id = uuid.uuid4().hex
        with self._lock:
            self._uploads[upload_id] = _Upload(name if isinstance(name, str) else "")
        return upload_id

    def take(self, upload_id: str, piece: bytes, *, offset: int, is_last: bool) -> dict[str, Any] | None:
        """Take a piece of an upload; the file once it is complete.

        Raises:
            ApiError: There is no such upload, or the piece does not follow; or the file is too large.
        """
        with self._lock:
            upload = self._uploads.get(upload_id)
        if upload is None or upload.content.tell() != offset:
            raise bad_request("The upload is unknown, or the offset is not where it ended.")
        upload.content.write(piece)
        if upload.content.tell() > self._engine.settings.limits.max_file_bytes:
            raise ApiError(413, "The file is too large.")
        if not is_last:
            return None
        with self._lock:
            del self._uploads[upload_id]
        upload.content.seek(0)
        with upload.content, TemporaryFile() as lines:
            lines.writelines(map(_as_line, upload.content))
            lines.seek(0)
            file = self._files.put(lines, filename=upload.display_name, lifetime=_LIFETIME)
        return {"file": self._shown(file)}

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of files, newest first: ``pageSize`` and ``pageToken`` as the API takes them."""
        files = self._files.existing_files()[::-1]
        page = page_of(files, after=query.get("pageToken"), limit=page_size(query, most=_MAX_PAGE))
        shown: dict[str, Any] = (
            {"files": [self._shown(file) for file in page.entries]} if page.entries else {}
        )
        return shown | ({"nextPageToken": page.entries[-1].id} if page.has_more else {})

    def retrieve(self, file_id: str) -> dict[str, Any]:
        """The file object."""
        return self._shown(self._existing(file_id))

    def delete(self, file_id: str) -> dict[str, Any]:
        """Delete a file."""
        self._files.delete(self._existing(file_id).id)
        return {}

    def _existing(self, file_id: str) -> StoredFile:
        """The file. What there is not, one may not see: that is the API's answer."""
        file = self._files.find(file_id)
        if file is None:
            raise ApiError(
                403, f"You do not have permission to access the File {file_id} or it may not exist."
            )
        return file

    def _shown(self, file: StoredFile) -> dict[str, Any]:
        is_made = file.purpose != "batch"
        shown = {
            "name": f"files/{file.id}",
            "displayName": file.filename,
            "mimeType": "application/jsonl",
            "sizeBytes": str(file.bytes),
            "createTime": time_of(file.created_at),
            "updateTime": time_of(file.created_at),
            "expirationTime": time_of(file.expires_at),
            "uri": f"https://generativelanguage.googleapis.com/v1beta/files/{file.id}",
            "state": "ACTIVE",
            "source": "GENERATED" if is_made else "UPLOADED",
        }
        return shown | ({"downloadUri": f"{shown['uri']}:download?alt=media"} if is_made else {})


def spelled(holder: Any, *names: str) -> Any:
    """A field of an object, which the API takes in camel case and as the SDK spells it."""
    found = (holder.get(name) for name in names) if isinstance(holder, dict) else iter(())
    return next((value for value in found if value is not None), None)


def _as_line(line: bytes) -> bytes:
    """A line as the core has it; what is no request stays what it is, and fails its batch."""
    try:
        row = orjson.loads(line)
        return orjson.dumps({"custom_id": row["key"], "body": row["request"]}) + b"\n"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return line


def page_size(query: Mapping[str, str], *, most: int) -> int:
    """How many entries a page has."""
    given = query.get("pageSize", "10")
    if not given.isdecimal():
        raise bad_request("Invalid value for page_size.")
    return max(1, min(int(given), most))


def time_of(instant: float | None) -> str | None:
    """An instant as the API writes it."""
    return (
        None if instant is None else datetime.fromtimestamp(instant, UTC).isoformat().replace("+00:00", "Z")
    )
