"""Anthropic's HTTP routes, under ``/v1/messages/batches``."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from batchor_core.testing.anthropic_server.batches import BatchRequests
from batchor_core.testing.local_server.app import json_response
from batchor_core.testing.local_server.engine import Engine

PATH = "/v1/messages/batches"
_JSON_LINES = "application/x-jsonl"


def routes(engine: Engine) -> list[Route]:
    """The six requests about batches."""

    def batches(request: Request) -> BatchRequests:
        return BatchRequests(engine, results_url=f"{str(request.base_url).rstrip('/')}{PATH}/{{}}/results")

    async def create(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches(request).create, await request.body()))

    async def page(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches(request).page, request.query_params))

    async def retrieve(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches(request).retrieve, request.path_params["id"]))

    async def cancel(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches(request).cancel, request.path_params["id"]))

    async def delete(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches(request).delete, request.path_params["id"]))

    async def results(request: Request) -> Response:
        found = await run_in_threadpool(batches(request).results, request.path_params["id"])
        if found is None:
            return Response(b"", media_type=_JSON_LINES)
        path, size = found
        if size is None:
            return FileResponse(path, media_type=_JSON_LINES)
        with path.open("rb") as file:
            return Response(file.read(size), media_type=_JSON_LINES)

    return [
        Route(PATH, create, methods=["POST"]),
        Route(PATH, page, methods=["GET"]),
        Route(f"{PATH}/{{id}}", retrieve, methods=["GET"]),
        Route(f"{PATH}/{{id}}", delete, methods=["DELETE"]),
        Route(f"{PATH}/{{id}}/cancel", cancel, methods=["POST"]),
        Route(f"{PATH}/{{id}}/results", results, methods=["GET"]),
    ]
