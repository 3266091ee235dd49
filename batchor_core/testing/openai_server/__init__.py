"""A local server that speaks OpenAI's Files and Batches API, for trying things out and for tests.

``python -m batchor_core.testing.openai_server`` runs it; :class:`OpenAIServer` runs it inside a test. Needs
the ``emulator`` extra: ``pip install 'batchor-core[emulator]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchor_core.testing.local_server.books import Books
from batchor_core.testing.local_server.errors import ApiError
from batchor_core.testing.local_server.faults import BatchFault, Faults, FileFault, HttpFault, RowFault
from batchor_core.testing.local_server.needed import late_server
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

if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late
    __getattr__ = late_server(__name__, "OpenAIServer")
