"""The HTTP routes: OpenAI's under ``/v1``, the server's own under ``/_control``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from batchor_core.testing.openai_server.engine import Engine
from batchor_core.testing.openai_server.errors import ApiError, bad_request
from batchor_core.testing.openai_server.faults import fault_from_json

Protocol: TypeAlias = Callable[[Engine], list[Route]]
"""Routes that show the same account in another vendor's words."""


def make_app(engine: Engine, protocols: Iterable[Protocol] = ()) -> Starlette:
    """The application over ``engine``. Every route does its work in a thread, so none holds up the others."""
    others = [route for protocol in protocols for route in protocol(engine)]
    return Starlette(
        routes=[*_file_routes(engine), *_batch_routes(engine), *_control_routes(engine), *others],
        exception_handlers={ApiError: _refused, HTTPException: _no_route},
    )


def _file_routes(engine: Engine) -> list[Route]:
    files = engine.files

    async def upload(request: Request) -> Response:
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise bad_request("'file' is a required property", param="file")
            anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
            purpose = form.get("purpose")
            shown = await run_in_threadpool(
                files.upload,
                file.file,
                filename=file.filename or "",
                purpose=purpose if isinstance(purpose, str) else None,
                expires_after=None if anchor is seconds is None else {"anchor": anchor, "seconds": seconds},
            )
        return _json(shown)

    async def page(request: Request) -> Response:
        return _json(await run_in_threadpool(files.page, request.query_params))

    async def retrieve(request: Request) -> Response:
        return _json(await run_in_threadpool(engine.batches.file, request.path_params["file_id"]))

    async def delete(request: Request) -> Response:
        return _json(await run_in_threadpool(files.delete, request.path_params["file_id"]))

    async def content(request: Request) -> Response:
        path, size = await run_in_threadpool(engine.batches.content, request.path_params["file_id"])
        if size is None:
            return FileResponse(path, media_type="application/octet-stream")
        with path.open("rb") as file:
            return Response(file.read(size), media_type="application/octet-stream")

    return [
        Route("/v1/files", upload, methods=["POST"]),
        Route("/v1/files", page, methods=["GET"]),
        Route("/v1/files/{file_id}", retrieve, methods=["GET"]),
        Route("/v1/files/{file_id}", delete, methods=["DELETE"]),
        Route("/v1/files/{file_id}/content", content, methods=["GET"]),
    ]


def _batch_routes(engine: Engine) -> list[Route]:
    batches = engine.batches

    async def create(request: Request) -> Response:
        return _json(await run_in_threadpool(batches.create, await _object(request)))

    async def page(request: Request) -> Response:
        return _json(await run_in_threadpool(batches.page, request.query_params))

    async def retrieve(request: Request) -> Response:
        return _json(await run_in_threadpool(batches.retrieve, request.path_params["batch_id"]))

    async def cancel(request: Request) -> Response:
        return _json(await run_in_threadpool(batches.cancel, request.path_params["batch_id"]))

    return [
        Route("/v1/batches", create, methods=["POST"]),
        Route("/v1/batches", page, methods=["GET"]),
        Route("/v1/batches/{batch_id}", retrieve, methods=["GET"]),
        Route("/v1/batches/{batch_id}/cancel", cancel, methods=["POST"]),
    ]


def _control_routes(engine: Engine) -> list[Route]:
    async def books(request: Request) -> Response:
        await run_in_threadpool(engine.batches.settle_all)
        return _json(await run_in_threadpool(engine.books.as_json))

    async def executions(request: Request) -> Response:
        lines = (orjson.dumps(row._asdict()) + b"\n" for row in engine.books.executions())
        return StreamingResponse(lines, media_type="application/jsonl")

    async def reset(request: Request) -> Response:
        wishes = await _object(request) if await request.body() else {}
        await run_in_threadpool(engine.reset)
        if wishes.get("clock"):
            engine.clock.put_right()
        return _json({"reset": True})

    async def advance(request: Request) -> Response:
        seconds = (await _object(request)).get("seconds")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise bad_request("'seconds' must be a number, not negative.", param="seconds")
        engine.clock.advance(seconds)
        return _json({"now": engine.clock()})

    async def faults(request: Request) -> Response:
        return _json({"faults": engine.faults.as_json()})

    async def add_faults(request: Request) -> Response:
        given = await _object(request)
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


async def _object(request: Request) -> dict[str, Any]:
    try:
        given = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise bad_request("We could not parse the JSON body of your request.")
    return given


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _json(error.body, error.status, error.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = ApiError(error.status_code, f"Invalid URL ({request.method} {request.url.path})")
    return _json(refusal.body, refusal.status)
