"""Between the socket and the routes: keys, headers, the request log, and answers that go wrong on the way.

A fault can close the connection, which ASGI has no word for. :class:`CuttableConnection` therefore hands its
transport down in the request's ``state``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import ApiError
from batchor_core.testing.local_server.faults import HttpFault
from batchor_core.testing.local_server.store import LoggedRequest

_GARBAGE = b"<html><body>upstream hiccup</body></html>"
_CONTROL = "/_control/"


class CuttableConnection(H11Protocol):
    """A connection whose transport the application can see, as ``scope["state"]["transport"]``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Wire:
    """ASGI middleware around the routes of an engine."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine
        self._protocol = engine.protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_CONTROL):
            await self._app(scope, receive, send)
            return
        fault = self._engine.faults.for_request(scope["method"], scope["path"])
        answer = _Answer(send, self._own_headers, lambda status: self._log(scope, status, fault))
        if self._engine.settings.latency:
            await asyncio.sleep(self._engine.settings.latency)
        await self._respond(fault, scope, receive, answer)

    async def _respond(
        self, fault: HttpFault | None, scope: Scope, receive: Receive, answer: _Answer
    ) -> None:
        if fault is None:
            await self._work(scope, receive, answer.pass_on)
        elif fault.kind == "truncate":
            await self._truncate(fault, scope, receive, answer)
        elif fault.kind == "delay" and not fault.after_work:
            # the request is all there, and is worked on whether or not its client still waits
            request = await _taken(receive)
            await asyncio.sleep(fault.seconds)
            await self._work(scope, request, answer.pass_on)
        elif fault.kind == "delay":
            held: list[Message] = []
            await self._work(scope, receive, _collector(held))
            await asyncio.sleep(fault.seconds)
            for message in held:
                await answer.pass_on(message)
        else:
            if fault.after_work:
                await self._work(scope, receive, _collector([]))
            elif fault.kind != "cut":
                await _read_all(receive)
            await self._spoil(fault, scope, receive, answer)

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _read_all(receive)
            await _send_json(send, refusal.status, self._protocol.error_body(refusal))

    async def _spoil(self, fault: HttpFault, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Answer in the fault's own way instead of the server's."""
        if fault.kind == "cut":
            answer.log(None)
            scope["state"]["transport"].abort()
            await _gone(receive)
        elif fault.kind == "garbage":
            await _send(answer.pass_on, 200, _GARBAGE, {"content-type": "application/json"})
        elif fault.kind == "redirect":
            await _send(answer.pass_on, 307, b"", {"location": fault.location or scope["path"]})
        else:
            error = self._protocol.error_body(self._protocol.on_fault(fault))
            pause = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
            await _send_json(answer.pass_on, fault.status, error, pause)

    async def _truncate(self, fault: HttpFault, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """Announce the whole body, send the first part of it, hang up."""
        budget = 0

        async def shorten(message: Message) -> None:
            nonlocal budget
            if message["type"] == "http.response.start":
                budget = int(int(_header(message, b"content-length") or 0) * fault.keep)
            else:
                part = message.get("body", b"")[:budget]
                budget -= len(part)
                message = {"type": "http.response.body", "body": part, "more_body": True}
            await answer.pass_on(message)

        await self._work(scope, receive, shorten)
        scope["state"]["transport"].close()  # sends what is buffered first
        await _gone(receive)

    def _refusal(self, scope: Scope) -> ApiError | None:
        """The 401 of a request without a good key."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        return self._protocol.key_error(headers, self._engine.settings.api_keys)

    def _own_headers(self) -> dict[str, str]:
        return {
            "date": formatdate(self._engine.clock(), usegmt=True),
            **self._protocol.headers(),
        }

    def _log(self, scope: Scope, status: int | None, fault: HttpFault | None) -> None:
        query = scope["query_string"].decode("latin-1")
        path = f"{scope['path']}?{query}" if query else scope["path"]
        kind = None if fault is None else fault.kind
        request = LoggedRequest(self._engine.clock(), scope["method"], path, status, kind)
        self._engine.store.log_request(request)


class _Answer:
    """Passes an answer on with the headers that every answer bears.

    ``log`` is told the status before the client can see it, so that a client finds its own requests in the
    books.
    """

    def __init__(
        self, send: Send, headers: Callable[[], dict[str, str]], log: Callable[[int | None], None]
    ) -> None:
        self._send = send
        self._headers = headers
        self.log = log

    async def pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.log(message["status"])
            message = {**message, "headers": [*message.get("headers", []), *_encoded(self._headers())]}
        await self._send(message)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _header(message: Message, name: bytes) -> bytes | None:
    return next((value for key, value in message["headers"] if key.lower() == name), None)


def _collector(messages: list[Message]) -> Send:
    async def collect(message: Message) -> None:
        messages.append(message)

    return collect


async def _send(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    sized = _encoded({**headers, "content-length": str(len(body))})
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})


async def _send_json(send: Send, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    await _send(send, status, orjson.dumps(body), {"content-type": "application/json", **(headers or {})})


async def _read_all(receive: Receive) -> None:
    """Let the client finish speaking: an answer in the midst of an upload would reach it as a broken pipe."""
    while (await receive()).get("more_body"):
        pass


async def _taken(receive: Receive) -> Receive:
    """The client's whole request, to be read once more."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    messages.reverse()

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def _gone(receive: Receive) -> None:
    """Wait until the connection is known to be closed, lest it be answered after all."""
    while (await receive())["type"] != "http.disconnect":
        pass
