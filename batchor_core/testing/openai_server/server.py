"""The local server of OpenAI's API."""

from __future__ import annotations

from typing import Unpack

from starlette.routing import Route

from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.server import LocalServer, ServerOptions
from batchor_core.testing.openai_server.batches import BatchRequests
from batchor_core.testing.openai_server.files import FileRequests
from batchor_core.testing.openai_server.protocol import OpenAIProtocol
from batchor_core.testing.openai_server.responder import default_responder
from batchor_core.testing.openai_server.routes import batch_routes, file_routes


class OpenAIServer(LocalServer):
    """A local OpenAI-compatible server for Files and Batches.

    Use it as a context manager, or call ``start`` and ``stop``. It answers with made-up results,
    costs nothing and records every request::

        with OpenAIServer() as server:
            client = OpenAI(base_url=server.base_url, api_key="any")
            ...
            assert not server.books.bodies_executed_twice

    Args:
        clean_error_file_id: ``error_file_id`` of a batch without errors: None or ``""``. Live batches show both.
        omit_nulls: Leave optional fields out of answers instead of sending null. The live API has done both.
        options: Those of :class:`~batchor_core.testing.local_server.server.LocalServer`. The default ``responder``
            writes schema-valid answers from the words of the prompt.
    """

    base_path = "/v1"

    def __init__(
        self,
        *,
        clean_error_file_id: str | None = None,
        omit_nulls: bool = False,
        **options: Unpack[ServerOptions],
    ) -> None:
        options.setdefault("responder", default_responder)

        def routes(engine: Engine) -> list[Route]:
            batches = BatchRequests(engine, omit_nulls=omit_nulls, clean_error_file_id=clean_error_file_id)
            return [*file_routes(engine, FileRequests(engine, omit_nulls=omit_nulls)), *batch_routes(batches)]

        super().__init__(OpenAIProtocol(), routes, **options)
