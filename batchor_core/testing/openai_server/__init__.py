"""A local server that speaks OpenAI's Files and Batches API, for trying things out and for tests.

``python -m batchor_core.testing.openai_server`` runs it; :class:`OpenAIServer` runs it inside a test. Needs
the ``emulator`` extra: ``pip install 'batchor-core[emulator]'``.
"""

from __future__ import annotations

from batchor_core.testing.openai_server.errors import ApiError
from batchor_core.testing.openai_server.faults import BatchFault, Faults, FileFault, HttpFault, RowFault
from batchor_core.testing.openai_server.replies import Reply, ReplyKind, Responder
from batchor_core.testing.openai_server.responder import default_responder
from batchor_core.testing.openai_server.settings import Limits, Timing

try:
    import python_multipart as _python_multipart  # noqa: F401  starlette needs it for uploads

    from batchor_core.testing.openai_server.books import Books
    from batchor_core.testing.openai_server.server import OpenAIServer
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in {"starlette", "uvicorn", "python_multipart"}:
        raise
    raise ModuleNotFoundError(
        f"the local server needs {missing.name}: pip install 'batchor-core[emulator]'", name=missing.name
    ) from missing

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
