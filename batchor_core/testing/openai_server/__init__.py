"""A local server that speaks OpenAI's Files and Batches API, for trying things out and for tests.

``python -m batchor_core.testing.openai_server`` runs it; :class:`OpenAIServer` runs it inside a test. Needs
the ``emulator`` extra: ``pip install 'batchor-core[emulator]'``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchor_core.testing.local_server.books import Books
from batchor_core.testing.local_server.errors import ApiError
from batchor_core.testing.local_server.faults import BatchFault, Faults, FileFault, HttpFault, RowFault
from batchor_core.testing.local_server.replies import Reply, ReplyKind, Responder
from batchor_core.testing.local_server.settings import Limits, Timing
from batchor_core.testing.openai_server.responder import default_responder

if TYPE_CHECKING:
    from batchor_core.testing.openai_server.server import OpenAIServer as OpenAIServer

__all__ = [
    "ApiError",
    "BatchFault",
    "Books",
    "Faults",
    "FileFault",
    "HttpFault",
    "Limits",
    "OpenAIServer",
    "Reply",
    "ReplyKind",
    "Responder",
    "RowFault",
    "Timing",
    "default_responder",
]

_EXTRA = {"starlette", "uvicorn", "python_multipart"}


if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late

    def __getattr__(name: str) -> Any:
        """Import the server when it is first used, so that everything else here works without its libraries."""
        if name != "OpenAIServer":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            import_module("python_multipart")  # starlette reads uploads with it, and would miss it only then
            return import_module(f"{__name__}.server").OpenAIServer
        except ModuleNotFoundError as missing:
            library = (missing.name or "").partition(".")[0]
            if library not in _EXTRA:
                raise
            message = f"the local server needs {library}: pip install 'batchor-core[emulator]'"
            raise ModuleNotFoundError(message, name=missing.name) from missing
