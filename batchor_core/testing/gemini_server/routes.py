"""The API's HTTP routes, under ``/v1`` and ``/v1beta``."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from batchor_core.testing.gemini_server.batches import BatchRequests
from batchor_core.testing.gemini_server.files import FileRequests
from batchor_core.testing.local_server.app import json_response, object_of
from batchor_core.testing.local_server.engine import Engine

PATH = "/{version}"
UPLOAD = f"/upload{PATH}/files"
_JSON_LINES = "application/jsonl"
_COMMAND, _STATUS = "x-goog-upload-command", "x-goog-upload-status"


def routes(engine: Engine) -> list[Route]:
    """Files and batches."""
    return [*_file_routes(engine, FileRequests(engine)), *_batch_routes(BatchRequests(engine))]


def _file_routes(engine: Engine, files: FileRequests) -> list[Route]:
    async def upload(request: Request) -> Response:
        command = request.headers.get(_COMMAND, "")
        if command == "start":
            upload_id = await run_in_threadpool(files.begin, await object_of(request))
            address = f"{str(request.base_url).rstrip('/')}{request.url.path}?upload_id={upload_id}&upload_protocol=resumable"
            return Response(b"", headers={"x-goog-upload-url": address, _STATUS: "active"})
        offset = request.headers.get("x-goog-upload-offset", "")
        is_last = "finalize" in command
        shown = await run_in_threadpool(
            files.take,
            request.query_params.get("upload_id", ""),
            await request.body(),
            offset=int(offset) if offset.isdecimal() else -1,
            is_last=is_last,
        )
        if shown is None:
            return Response(b"", headers={_STATUS: "active"})
        done = json_response(shown)
        done.headers[_STATUS] = "final"
        return done

    async def page(request: Request) -> Response:
        return json_response(await run_in_threadpool(files.page, request.query_params))

    async def retrieve(request: Request) -> Response:
        return json_response(await run_in_threadpool(files.retrieve, request.path_params["id"]))

    async def delete(request: Request) -> Response:
        return json_response(await run_in_threadpool(files.delete, request.path_params["id"]))

    async def content(request: Request) -> Response:
        path, size = await run_in_threadpool(engine.batches.content, request.path_params["id"])
        if size is None:
            return FileResponse(path, media_type=_JSON_LINES)
        with path.open("rb") as file:
            return Response(file.read(size), media_type=_JSON_LINES)

    return [
        Route(UPLOAD, upload, methods=["POST"]),
        Route(f"{PATH}/files", page, methods=["GET"]),
        Route(f"{PATH}/files/{{id}}:download", content, methods=["GET"]),
        Route(f"{PATH}/files/{{id}}", retrieve, methods=["GET"]),
        Route(f"{PATH}/files/{{id}}", delete, methods=["DELETE"]),
    ]


def _batch_routes(batches: BatchRequests) -> list[Route]:
    async def generate(request: Request) -> Response:
        model = request.path_params["model"]
        shown = await run_in_threadpool(batches.create, model, "generateContent", await object_of(request))
        return json_response(shown)

    async def embed(request: Request) -> Response:
        model = request.path_params["model"]
        shown = await run_in_threadpool(batches.create, model, "embedContent", await object_of(request))
        return json_response(shown)

    async def page(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.page, request.query_params))

    async def retrieve(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.retrieve, request.path_params["id"]))

    async def cancel(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.cancel, request.path_params["id"]))

    async def delete(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.delete, request.path_params["id"]))

    return [
        Route(f"{PATH}/models/{{model}}:batchGenerateContent", generate, methods=["POST"]),
        Route(f"{PATH}/models/{{model}}:asyncBatchEmbedContent", embed, methods=["POST"]),
        Route(f"{PATH}/batches", page, methods=["GET"]),
        Route(f"{PATH}/batches/{{id}}:cancel", cancel, methods=["POST"]),
        Route(f"{PATH}/batches/{{id}}", retrieve, methods=["GET"]),
        Route(f"{PATH}/batches/{{id}}", delete, methods=["DELETE"]),
    ]
