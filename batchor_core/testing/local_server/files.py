"""The files of an account: what clients upload, and what batches make."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

from batchor_core.testing.local_server.clock import ServerClock
from batchor_core.testing.local_server.errors import no_such_file
from batchor_core.testing.local_server.faults import Faults
from batchor_core.testing.local_server.records import StoredFile
from batchor_core.testing.local_server.settings import DAY
from batchor_core.testing.local_server.store import Store

BATCH_FILE_LIFETIME = 30 * DAY


class Files:
    """Keeps, finds and deletes files. A vendor that takes requests inline keeps them in a file of its own making."""

    def __init__(self, store: Store, clock: ServerClock, faults: Faults) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults

    def put(
        self,
        content: BinaryIO,
        *,
        filename: str,
        purpose: str = "batch",
        lifetime: float | None = BATCH_FILE_LIFETIME,
    ) -> StoredFile:
        """Keep a file. Reads ``content`` from where it stands and leaves it open."""
        file_id = f"file-{uuid.uuid4().hex}"
        path = self._store.content_path(file_id)
        with path.open("wb") as target:
            shutil.copyfileobj(content, target, 1 << 20)
        fault = self._faults.for_file()
        return self._keep(
            path, file_id, filename, purpose, lifetime, hidden_for=fault.seconds if fault else 0.0
        )

    def adopt(self, path: Path, *, key: str, filename: str, lifetime: float) -> str:
        """Make a batch's output, moved from ``path``, a file; return its id, which ``key`` decides.

        Safe to repeat after a crash: the second time finds the file moved already.
        """
        file_id = f"file-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
        content = self._store.content_path(file_id)
        if path.exists():
            path.replace(content)
        return self._keep(content, file_id, filename, "batch_output", lifetime).id

    def find(self, file_id: str) -> StoredFile | None:
        """The file, if there is one to be found at present."""
        file = self._store.file(file_id)
        return file if file is not None and file.exists_at(self._clock()) else None

    def existing(self, file_id: str) -> StoredFile:
        """The file.

        Raises:
            ApiError: There is none to be found at present.
        """
        file = self.find(file_id)
        if file is None:
            raise no_such_file(file_id)
        return file

    def existing_files(self, *, purpose: str | None = None) -> list[StoredFile]:
        """The files that are to be found at present, oldest first."""
        now = self._clock()
        return [file for file in self._store.files(purpose=purpose) if file.exists_at(now)]

    def content(self, file_id: str) -> Path:
        """Where the file's bytes are."""
        return self._store.content_path(self.existing(file_id).id)

    def delete(self, file_id: str) -> None:
        """Delete a file. A batch that has not read it yet will fail its validation."""
        self._store.delete_file(self.existing(file_id).id)

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
