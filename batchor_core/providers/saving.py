"""Downloads to the disk, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from batchor_core.core.exceptions import ProviderError

CHUNK_BYTES = 1 << 20
EXCESS_BYTES = 64 << 20
"""How much more than announced is taken before a download is refused: a body can unpack to far more than it weighs."""

MOST_UNPACKED = 100
"""How many times larger than what came over the wire a file may become beyond that, where no size was announced."""


def save(response: Any, path: Path, *, action: str, announced: int | None = None) -> int:
    """Stream an SDK's response to ``path``, readable by its owner only, and return its size.

    Raises:
        ProviderError: It is shorter than announced, or far longer. Cut connections raise the transport's own error.
    """
    size = 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for chunk in response.iter_bytes(CHUNK_BYTES):
            size += len(chunk)
            if announced is not None and size > announced + EXCESS_BYTES:
                raise ProviderError(
                    f"{action}: far more than the announced {announced} bytes",
                    error_class="oversized_download",
                    status_code=200,
                )
            if announced is None and size > EXCESS_BYTES + MOST_UNPACKED * _received(response, size):
                raise ProviderError(
                    f"{action}: unpacks to more than {MOST_UNPACKED} times its size",
                    error_class="oversized_download",
                    status_code=200,
                )
            file.write(chunk)
    if announced is not None and size < announced:
        raise ProviderError(
            f"{action}: {size} of {announced} bytes arrived",
            error_class="truncated_download",
            status_code=200,
        )
    return size


def _received(response: Any, size: int) -> int:
    """Bytes that were transferred; the unpacked bytes if the client does not count them."""
    received = getattr(getattr(response, "http_response", None), "num_bytes_downloaded", None)
    return received if isinstance(received, int) else size
