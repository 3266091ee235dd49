"""OpenAI's HTTP routes, under ``/v1``."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from batchor_core.testing.local_server.app import json_response, object_of
from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import bad_request
from batchor_core.testing.openai_server.batches import BatchRequests
from batchor_core.testing.openai_server.files import FileRequests


def file_routes(engine: Engine, files: FileRequests) -> list[Route]:
    """The Files half."""

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
        return json_response(shown)

    async def page(request: Request) -> Response:
        return json_response(await run_in_threadpool(files.page, request.query_params))

    async def retrieve(request: Request) -> Response:
        return json_response(await run_in_threadpool(files.retrieve, request.path_params["file_id"]))

    async def delete(request: Request) -> Response:
        return json_response(await run_in_threadpool(files.delete, request.path_params["file_id"]))

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


def batch_routes(batches: BatchRequests) -> list[Route]:
    """The Batches half."""

    async def create(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.create, await object_of(request)))

    async def page(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.page, request.query_params))

    async def retrieve(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.retrieve, request.path_params["batch_id"]))

    async def cancel(request: Request) -> Response:
        return json_response(await run_in_threadpool(batches.cancel, request.path_params["batch_id"]))

    return [
        Route("/v1/batches", create, methods=["POST"]),
        Route("/v1/batches", page, methods=["GET"]),
        Route("/v1/batches/{batch_id}", retrieve, methods=["GET"]),
        Route("/v1/batches/{batch_id}/cancel", cancel, methods=["POST"]),
    ]
