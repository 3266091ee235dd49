"""The HTTP application: the vendor's routes, and the server's own under ``/_control``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import ApiError, bad_request
from batchor_core.testing.local_server.faults import fault_from_json

Routes: TypeAlias = Callable[[Engine], list[Route]]
"""Routes that show an account in a vendor's words. Those under ``/_control`` belong to the server."""


def make_app(engine: Engine, protocols: Iterable[Routes]) -> Starlette:
    """The application over ``engine``. Every route does its work in a thread, so none holds up the others."""
    protocol = engine.protocol
    shown = [route for routes in protocols for route in routes(engine)]

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return json_response(protocol.error_body(error), error.status, error.headers)

    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        refusal = ApiError(error.status_code, f"Invalid URL ({request.method} {request.url.path})")
        return json_response(protocol.error_body(refusal), refusal.status)

    return Starlette(
        routes=[*shown, *_control_routes(engine)],
        exception_handlers={ApiError: refused, HTTPException: no_route},
    )


def _control_routes(engine: Engine) -> list[Route]:
    async def books(request: Request) -> Response:
        await run_in_threadpool(engine.batches.settle_all)
        return json_response(await run_in_threadpool(engine.books.as_json))

    async def executions(request: Request) -> Response:
        lines = (orjson.dumps(row._asdict()) + b"\n" for row in engine.books.executions())
        return StreamingResponse(lines, media_type="application/jsonl")

    async def reset(request: Request) -> Response:
        wishes = await object_of(request) if await request.body() else {}
        await run_in_threadpool(engine.reset)
        if wishes.get("clock"):
            engine.clock.put_right()
        return json_response({"reset": True})

    async def advance(request: Request) -> Response:
        seconds = (await object_of(request)).get("seconds")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise bad_request("'seconds' must be a number, not negative.", param="seconds")
        engine.clock.advance(seconds)
        return json_response({"now": engine.clock()})

    async def faults(request: Request) -> Response:
        return json_response({"faults": engine.faults.as_json()})

    async def add_faults(request: Request) -> Response:
        given = await object_of(request)
        try:
            engine.faults.add(*[fault_from_json(fields) for fields in given.get("faults", [given])])
        except ValueError as wrong:
            raise bad_request(str(wrong)) from None
        return await faults(request)

    async def clear_faults(request: Request) -> Response:
        engine.faults.clear()
        return await faults(request)

    return [
        Route("/_control/books", books, methods=["GET"]),
        Route("/_control/executions", executions, methods=["GET"]),
        Route("/_control/reset", reset, methods=["POST"]),
        Route("/_control/advance", advance, methods=["POST"]),
        Route("/_control/faults", faults, methods=["GET"]),
        Route("/_control/faults", add_faults, methods=["POST"]),
        Route("/_control/faults", clear_faults, methods=["DELETE"]),
    ]


async def object_of(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises:
        ApiError: It carries something else.
    """
    try:
        given = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise bad_request("We could not parse the JSON body of your request.")
    return given


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
