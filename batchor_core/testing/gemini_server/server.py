"""The local server of the Gemini API."""

from __future__ import annotations

from typing import Unpack

from batchor_core.testing.gemini_server.protocol import GeminiProtocol
from batchor_core.testing.gemini_server.responder import default_responder
from batchor_core.testing.gemini_server.routes import routes
from batchor_core.testing.local_server.server import LocalServer, ServerOptions
from batchor_core.testing.local_server.settings import MEGABYTE, Limits

LIMITS = Limits(max_requests=10_000_000, max_file_bytes=2_000 * MEGABYTE)
"""The published limit of an input file; none is known of requests."""


class GeminiServer(LocalServer):
    """A local server of the Gemini API's Files and Batches.

    Use it as a context manager, or call ``start`` and ``stop``. It answers with made-up results,
    costs nothing and records every request::

        with GeminiServer() as server:
            client = genai.Client(api_key="any", http_options={"base_url": server.base_url})
            ...
            assert not server.books.bodies_executed_twice

    Args:
        options: Those of :class:`~batchor_core.testing.local_server.server.LocalServer`. The default ``responder``
            writes schema-valid answers from the words of the prompt.
    """

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        options.setdefault("responder", default_responder)
        options["limits"] = options.get("limits") or LIMITS
        super().__init__(GeminiProtocol(), routes, **options)
