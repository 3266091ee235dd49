"""A local server that speaks the Gemini API's Files and Batches, for trying things out and for tests.

``batchor serve --provider gemini`` runs it; :class:`GeminiServer` runs it inside a test. Needs the ``emulator`` extra:
``pip install 'batchor-core[emulator]'``. Faults, replies and books are those of every local server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchor_core.testing.gemini_server.responder import default_responder
from batchor_core.testing.local_server.needed import late_server

if TYPE_CHECKING:
    from batchor_core.testing.gemini_server.server import GeminiServer as GeminiServer

__all__ = ["GeminiServer", "default_responder"]

if not TYPE_CHECKING:  # a type checker would take every misspelled name for one that comes late
    __getattr__ = late_server(__name__, "GeminiServer")
