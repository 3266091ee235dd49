"""The local server of Anthropic's API."""

from __future__ import annotations

from typing import Unpack

from batchor_core.testing.anthropic_server.protocol import AnthropicProtocol
from batchor_core.testing.anthropic_server.responder import default_responder
from batchor_core.testing.anthropic_server.routes import routes
from batchor_core.testing.local_server.server import LocalServer, ServerOptions
from batchor_core.testing.local_server.settings import MEGABYTE, Limits

LIMITS = Limits(max_requests=100_000, max_file_bytes=256 * MEGABYTE)
"""The published limits of a message batch."""


class AnthropicServer(LocalServer):
    """A local server of Anthropic's Message Batches API.

    Use it as a context manager, or call ``start`` and ``stop``. It answers with made-up results,
    costs nothing and records every request::

        with AnthropicServer() as server:
            client = Anthropic(base_url=server.base_url, api_key="any")
            ...
            assert not server.books.bodies_executed_twice

    Args:
        options: Those of :class:`~batchor_core.testing.local_server.server.LocalServer`. The default ``responder``
            writes schema-valid answers from the words of the prompt.
    """

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        options.setdefault("responder", default_responder)
        options["limits"] = options.get("limits") or LIMITS
        super().__init__(AnthropicProtocol(), routes, **options)
