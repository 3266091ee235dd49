"""The server as an object: start it in a thread, talk to it, look into its books, stop it."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self, TypedDict

import uvicorn

from batchor_core.testing.local_server.app import Routes, make_app
from batchor_core.testing.local_server.books import Books
from batchor_core.testing.local_server.clock import Clock, ServerClock
from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.faults import Faults, common_row_faults
from batchor_core.testing.local_server.protocol import Protocol
from batchor_core.testing.local_server.replies import Responder
from batchor_core.testing.local_server.settings import Limits, Settings, Timing
from batchor_core.testing.local_server.wire import CuttableConnection, Wire

_START_LIMIT = 30
_log = logging.getLogger(__name__)


class ServerOptions(TypedDict, total=False):
    """What every local server takes, as described at :class:`LocalServer`."""

    responder: Responder
    batch_seconds: float
    timing: Timing | None
    manual: bool
    clock: Clock | None
    limits: Limits | None
    fault_rate: float
    seed: int
    api_keys: Iterable[str] | None
    latency: float
    state_dir: str | Path | None
    protocols: Iterable[Routes]
    host: str
    port: int


class LocalServer:
    """A server of one vendor's batch API on this machine.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. It answers with made-up results,
    costs nothing and records every request.

    Args:
        protocol: The vendor's words for rows, keys and errors.
        routes: The vendor's routes.
        responder: Answers the rows: ``responder(body, endpoint, custom_id)`` returns a
            :class:`~batchor_core.testing.local_server.replies.Reply` or a text. May be replaced at any time
            through :attr:`responder`.
        batch_seconds: How long a batch takes from creation to completion, 1 by default. Ignored with
            ``timing``.
        timing: The same by phase.
        manual: The clock stands still and moves only by :meth:`advance`.
        clock: The clock to use: a function that returns epoch seconds or an aware datetime. The wall clock
            by default.
        limits: The limits to enforce; the published ones by default.
        fault_rate: Share of the rows that fails in one of the common ways.
        seed: Decides which rows those are, every other fault drawn by rate, and the order of output lines.
        api_keys: The keys to accept; by default any, but there must be one.
        latency: Seconds that every answer takes at least.
        state_dir: Where to keep files and state. A later server on the same directory uses them again. A
            temporary directory, removed at the end, by default.
        protocols: Further routes over the same account, such as another vendor's protocol.
        host: Address to listen on; loopback by default. The server accepts strangers' requests: keep it
            there.
        port: Port to listen on; 0, the default, picks a free one.
    """

    base_path = ""
    """What a client's base URL has after the root."""

    def __init__(
        self,
        protocol: Protocol,
        routes: Routes,
        *,
        responder: Responder,
        batch_seconds: float = 1.0,
        timing: Timing | None = None,
        manual: bool = False,
        clock: Clock | None = None,
        limits: Limits | None = None,
        fault_rate: float = 0.0,
        seed: int = 0,
        api_keys: Iterable[str] | None = None,
        latency: float = 0.0,
        state_dir: str | Path | None = None,
        protocols: Iterable[Routes] = (),
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if manual and clock is not None:
            raise ValueError("a manual server has its own clock")
        settings = Settings(
            timing=timing or Timing.of_batch_seconds(batch_seconds),
            limits=limits or Limits(),
            seed=seed,
            api_keys=None if api_keys is None else frozenset(api_keys),
            latency=latency,
        )
        self._clock = _clock(manual, clock)
        self._host, self._port = host, port
        self._protocols = (routes, *protocols)
        self._temporary = state_dir is None
        self._directory = Path(
            tempfile.mkdtemp(prefix=f"{protocol.name}-server-") if state_dir is None else state_dir
        )
        self._engine = Engine(
            self._directory, protocol=protocol, clock=self._clock, settings=settings, responder=responder
        )
        self._engine.faults.add(*(common_row_faults(fault_rate) if fault_rate else ()))
        self._running: _Running | None = None

    # -- running -----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen, and return once requests are served.

        Raises:
            OSError: The address can't be listened on.
        """
        if self._running is None:
            app = Wire(make_app(self._engine, self._protocols), self._engine)
            self._running = _Running(app, self._host, self._port)
            _log.debug("listening on %s", self.base_url)
        return self

    def stop(self) -> None:
        """Stop for good: close the port and the state, remove a temporary directory."""
        if self._running is not None:
            self._running.stop()
            self._running = None
        self._engine.store.close()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The root, with ``/_control`` below it: ``http://127.0.0.1:PORT``."""
        if self._running is None:
            raise RuntimeError("the server is not running")
        return f"http://{self._running.address}"

    @property
    def base_url(self) -> str:
        """What the vendor's clients take as ``base_url``, such as ``http://127.0.0.1:PORT/v1``."""
        return f"{self.url}{self.base_path}"

    # -- controls ----------------------------------------------------------------------------------

    @property
    def clock(self) -> ServerClock:
        """The server's time; call it for epoch seconds."""
        return self._clock

    def advance(self, seconds: float) -> None:
        """Move the server's time ahead. Batches have come that much further when they are next asked for."""
        self._clock.advance(seconds)

    @property
    def responder(self) -> Responder:
        """The function that answers rows."""
        return self._engine.runner.responder

    @responder.setter
    def responder(self, responder: Responder) -> None:
        self._engine.runner.responder = responder

    @property
    def faults(self) -> Faults:
        """What goes wrong."""
        return self._engine.faults

    @property
    def books(self) -> Books:
        """What really happened. Looking into the books first moves every batch to the present."""
        self._engine.batches.settle_all()
        return self._engine.books

    def reset(self) -> None:
        """Forget files, batches, books and faults."""
        self._engine.reset()


def _clock(manual: bool, clock: Clock | None) -> ServerClock:
    if manual:
        return ServerClock.standing_still()
    return ServerClock() if clock is None else ServerClock(clock)


class _Running:
    """A uvicorn server in a thread of its own."""

    def __init__(self, app: Wire, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        self._server = _Announcing(
            uvicorn.Config(
                app,
                http=CuttableConnection,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                date_header=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="local-server", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(_START_LIMIT):
            self.stop()
            raise RuntimeError("the server did not start in time")

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


class _Announcing(uvicorn.Server):
    """A uvicorn server that tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener
