"""A server on loopback that does what a test tells it, down to cutting the line, and counts what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig

CANARY = "sk-canary-0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass
class Reply:
    """What to answer. ``cut`` sends that many bytes of the body and hangs up; ``hang`` never answers."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang: bool = False

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ScriptedServer:
    """Answers by ``respond(request)``; ``requests`` holds all that arrived, in order."""

    def __init__(self) -> None:
        self.respond: Callable[[Request], Reply] = lambda request: Reply()
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = (
                    self._chunked()
                    if self.headers.get("transfer-encoding") == "chunked"
                    else self.rfile.read(length)
                )
                request = Request(
                    self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body
                )
                server.requests.append(request)
                reply = server.respond(request)
                if reply.hang:
                    server.stopping.wait(20)
                    self.close_connection = True
                    return
                content = reply.content()
                headers = {
                    "content-type": "application/json",
                    "content-length": str(len(content)),
                } | reply.headers
                self.send_response_only(reply.status)  # no headers of its own
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content if reply.cut is None else content[: reply.cut])
                if reply.cut is not None:
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

            def _chunked(self) -> bytes:
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that hung up is part of some tests

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def always(self, reply: Reply) -> None:
        self.respond = lambda request: reply

    def posts(self) -> int:
        return sum(request.method == "POST" for request in self.requests)

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.stop()


@pytest.fixture
def make_provider() -> Iterator[Callable[..., OpenAIBatchProvider]]:
    made: list[OpenAIBatchProvider] = []

    def make(url: str, **settings: Any) -> OpenAIBatchProvider:
        settings = {"model": "gpt-4.1", "api_key": CANARY, "base_url": url} | settings
        made.append(OpenAIBatchProvider(OpenAIProviderConfig(**settings)))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def provider(
    server: ScriptedServer, make_provider: Callable[..., OpenAIBatchProvider]
) -> OpenAIBatchProvider:
    return make_provider(server.url)


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def canary() -> str:
    return CANARY
