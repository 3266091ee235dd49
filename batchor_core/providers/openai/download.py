"""Files from the server to the disk."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from batchor_core.providers.saving import save


def download(client: Any, file_id: str, path: Path, *, announced: int | None) -> int:
    """Stream a file to ``path`` and return its size; see :func:`~batchor_core.providers.saving.save`."""
    with _streamed(client, file_id) as response:
        return save(response, path, action=f"download of {file_id}", announced=announced)


def _streamed(client: Any, file_id: str) -> AbstractContextManager[Any]:
    streaming = getattr(client.files, "with_streaming_response", None)
    if streaming is None:  # a stand-in with the plain methods only
        return nullcontext(client.files.content(file_id))
    response: AbstractContextManager[Any] = streaming.content(file_id)
    return response
