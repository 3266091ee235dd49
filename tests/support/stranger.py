"""A provider that is nothing like OpenAI's, and the server that it talks to: the engine may know no more of it than its protocol.

Requests travel inline in the create. There are no files, no metadata and no way to take a create back. Results are one stream of
mixed lines in an order of its own, behind an address that is there once the job has ended. Usage is counted in other words. A list
shows jobs newest first with nothing of ours on them, so that a job says whose it is by its first result.

The server shows the account of the local OpenAI server in this protocol: clocks, faults, fates and books are the same.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from batchor_core.core.answers import Answer
from batchor_core.core.custom_ids import unmarked
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.lateness import StatedCounts
from batchor_core.core.models import ItemFailure, PromptParts, ProviderConfig
from batchor_core.core.outputs import OutputKind
from batchor_core.core.prompts import PromptFeature
from batchor_core.core.structured import StructuredOutputSchema
from batchor_core.core.types import BatchRequestLine, JSONObject
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.api import (
    DAY_SEC,
    BatchApi,
    BatchFailure,
    BatchLimits,
    BatchState,
    FoundBy,
    ResultFile,
    WantedOutput,
)
from batchor_core.providers.registry import ProviderRegistry, build_default_provider_registry
from batchor_core.testing.local_server.engine import Engine
from batchor_core.testing.local_server.errors import ApiError, bad_request
from batchor_core.testing.local_server.paging import page_of
from batchor_core.testing.local_server.records import Batch
from tests.chaos.profile import Profile
from tests.chaos.profile import Request as Sent

KIND = "stranger"
PREFIX = "/stranger/v2"
PAGE = 50
KINDS_OF_ENGINES = {"stranger-numbers": OutputKind.VECTOR, "stranger-packed": OutputKind.VECTOR}
"""Engines whose answers are vectors, as lists or in base64; those of all others are texts."""
DIMENSIONS = 4
PHASES = {"DONE": "completed", "REJECTED": "failed", "OUT_OF_TIME": "expired", "STOPPED": "cancelled"}


@dataclass(frozen=True)
class StrangerConfig(ProviderConfig):
    """Settings: where the server is, and the model."""

    url: str
    model: str = "stranger-1"
    token: str = field(default="", repr=False)
    request_timeout_sec: float = 5.0
    poll_interval_sec: float = 0.01
    enqueue_limits: Mapping[str, int] | None = None

    @property
    def provider_kind(self) -> str:
        return KIND

    def to_payload(self) -> JSONObject:
        return {**self.to_public_payload(), "token": self.token}

    def to_public_payload(self) -> JSONObject:
        return {
            "url": self.url,
            "model": self.model,
            "request_timeout_sec": self.request_timeout_sec,
            "poll_interval_sec": self.poll_interval_sec,
            "enqueue_limits": None if self.enqueue_limits is None else dict(self.enqueue_limits),
        }

    @classmethod
    def from_payload(cls, payload: JSONObject) -> StrangerConfig:
        return cls(**payload)


def _words(content: Any) -> str:
    """A turn's texts, and of other parts what they are."""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] if part["type"] == "text" else f"<{part['type']}>" for part in content)


class StrangerApi(BatchApi):
    """The client's side.

    Args:
        config: Its settings.
        lifetime_sec: How long a job lives at most.
    """

    def __init__(self, config: StrangerConfig, *, lifetime_sec: float = DAY_SEC) -> None:
        self._config = config
        self.limits = BatchLimits(
            max_requests=100_000,
            max_bytes=256_000_000,
            found_by=FoundBy.ROWS,
            can_cancel=True,
            lifetime_sec=lifetime_sec,
            outputs=frozenset({KINDS_OF_ENGINES.get(config.model, OutputKind.TEXT), OutputKind.BODY})
            | ({OutputKind.MODEL} if config.model not in KINDS_OF_ENGINES else frozenset()),
            prompts=frozenset(PromptFeature),
        )

    def request_line(
        self, *, custom_id: str, prompt: PromptParts, output: WantedOutput | None
    ) -> BatchRequestLine:
        ask: dict[str, Any] = {"engine": self._config.model}
        if prompt.messages is None:
            ask["say"] = prompt.prompt
        else:
            ask["talk"] = [[turn["role"], _words(turn["content"])] for turn in prompt.messages]
        if prompt.options:
            ask["so"] = prompt.options
        if prompt.system_prompt is not None:
            ask["be"] = prompt.system_prompt
        if isinstance(output, StructuredOutputSchema):
            ask["shape"] = {"called": output.name, "of": output.schema}
        return {"custom_id": custom_id, "body": ask}

    def estimate_tokens(self, lines: Sequence[BatchRequestLine], *, chars_per_token: int) -> list[int]:
        return [len(orjson.dumps(line["body"])) // chars_per_token + 1 for line in lines]

    def create(
        self, request_file: Path | None, *, handle: str | None, tags: Mapping[str, str] | None
    ) -> BatchState:
        assert request_file is not None
        assert handle is None
        assert tags is None
        lines = [orjson.loads(line) for line in request_file.read_bytes().splitlines()]
        calls = [{"key": line["custom_id"], "ask": line["body"]} for line in lines]
        return self._state(self._json("POST", "/jobs", {"calls": calls}))

    def list_batches(self) -> Iterator[list[BatchState]]:
        before = ""
        while True:
            page = self._json("GET", f"/jobs?before={before}")
            if not isinstance(page.get("jobs"), list):
                raise ProviderError("the list is not readable", error_class="unreadable_answer")
            yield [self._state(job) for job in page["jobs"]]
            if not page.get("more"):
                return
            before = page["jobs"][-1]["ref"]

    def key_fingerprint(self) -> str:
        return "stranger"

    def poll(self, batch_id: str) -> BatchState:
        return self._state(self._json("GET", f"/jobs/{batch_id}"))

    def fetch(self, file: ResultFile, path: Path) -> None:
        with self._request("GET", file.ref) as answer:
            data = self._read(answer)
        if data and not data.endswith(b"\n"):
            raise ProviderError("the results were cut", error_class="truncated_download")
        path.write_bytes(data)

    def custom_id_of(self, record: JSONObject) -> str:
        key = record.get("key", record.get("custom_id"))
        return key if isinstance(key, str) else ""

    def read(self, record: JSONObject) -> Answer:
        key, result = self.custom_id_of(record), record.get("result")
        if not isinstance(result, dict):
            return Answer(
                key, failure=ItemFailure("provider_item_error", "unreadable", True), count_attempt=False
            )
        meter: Any = result.get("meter") or {}
        usage = TokenUsage(input_tokens=meter.get("read", 0), output_tokens=meter.get("wrote", 0))
        match result.get("kind"):
            case "said":
                return Answer(key, "".join(result["words"]), usage)
            case "numbers" | "packed":
                return Answer(key, usage=usage, value=result["it"])
            case "dropped":
                failure = ItemFailure("batch_terminal_expired", "it was never run", True)
                return Answer(key, failure=failure, count_attempt=False)
            case _:
                again = bool(result.get("again"))
                failure = ItemFailure("provider_item_error", str(result.get("why")), again)
                return Answer(key, None, usage, failure)

    def read_body(self, record: JSONObject) -> Answer:
        answer = self.read(record)
        return answer if answer.failure is not None else answer._replace(value=record["result"])

    def cancel(self, batch_id: str) -> BatchState:
        return self._state(self._json("POST", f"/jobs/{batch_id}/stop", {}))

    def _state(self, job: Any) -> BatchState:
        if not isinstance(job, dict) or not isinstance(job.get("ref"), str):
            raise ProviderError("the answer names no job", error_class="unreadable_answer")
        phase = str(job.get("phase"))
        tally = job.get("tally") or {}
        rejected = job.get("rejected")
        return BatchState(
            job["ref"],
            PHASES.get(phase, phase.lower()),
            results=(ResultFile(job["outcome"]),) if job.get("outcome") else (),
            created_at=job.get("born"),
            expires_at=job.get("dies"),
            counts=StatedCounts(tally.get("said"), tally.get("failed"), tally.get("all")),
            failure=None if rejected is None else BatchFailure(ProviderErrorKind.RETRY, "rejected", rejected),
        )

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        with self._request(method, path, body) as answer:
            try:
                return orjson.loads(self._read(answer))
            except orjson.JSONDecodeError as error:
                raise ProviderError("the answer is no JSON", error_class="unreadable_answer") from error

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else orjson.dumps(body)
        request = urllib.request.Request(
            f"{self._config.url}{PREFIX}{path}",
            data=data,
            method=method,
            headers={"authorization": "Bearer t", "content-type": "application/json"},
        )
        try:
            return _OPENER.open(request, timeout=self._config.request_timeout_sec)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.headers.get("retry-after")) from error
        except (OSError, HTTPException) as error:
            refused = isinstance(getattr(error, "reason", None), ConnectionRefusedError)
            raise ProviderError(
                str(error), error_class=type(error).__name__, not_performed=refused
            ) from error

    @staticmethod
    def _read(answer: Any) -> bytes:
        try:
            return bytes(answer.read())
        except (OSError, HTTPException) as error:
            raise ProviderError(str(error), error_class=type(error).__name__) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send a create a second time."""

    def redirect_request(self, *args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _refusal(status: int, retry_after: str | None) -> ProviderError:
    kinds = {
        401: ProviderErrorKind.CREDENTIALS,
        403: ProviderErrorKind.CREDENTIALS,
        404: ProviderErrorKind.NOT_FOUND,
        400: ProviderErrorKind.BAD_REQUEST,
        413: ProviderErrorKind.BAD_REQUEST,
        422: ProviderErrorKind.BAD_REQUEST,
    }
    return ProviderError(
        f"HTTP {status}",
        kind=kinds.get(status, ProviderErrorKind.RETRY),
        error_class=f"http_{status}",
        status_code=status,
        retry_after=float(retry_after) if retry_after else None,
        not_performed=status in (400, 401, 403, 404, 413, 422, 429),
    )


def register_stranger(registry: ProviderRegistry | None = None) -> ProviderRegistry:
    """All that it takes to be known."""
    registry = registry or build_default_provider_registry()
    registry.register(kind=KIND, factory=StrangerApi, loader=StrangerConfig.from_payload)
    return registry


PROFILE = Profile(
    name=KIND,
    config=lambda url, token_limit: StrangerConfig(
        url, request_timeout_sec=0.4, enqueue_limits={"enqueued_token_limit": token_limit}
    ),
    api=StrangerApi,
    careless=partial(StrangerApi, lifetime_sec=0.0),
    registry=register_stranger,
    requests={
        Sent.CREATE: ("POST", f"{PREFIX}/jobs"),
        Sent.LIST: ("GET", f"{PREFIX}/jobs"),
        Sent.POLL: ("GET", f"{PREFIX}/jobs/batch_{'?' * 32}"),
        Sent.DOWNLOAD: ("GET", f"{PREFIX}/jobs/*/outcome"),
        Sent.CANCEL: ("POST", f"{PREFIX}/jobs/*/stop"),
    },
    protocols=(lambda engine: routes(engine),),
)
"""What the crash harness has to know."""


# --- the server's side -----------------------------------------------------------------------------------------------


def routes(engine: Engine) -> list[Route]:
    """The protocol over the account of a local OpenAI server."""
    batches, files = engine.batches, engine.files

    def create(given: Any) -> dict[str, Any]:
        calls = given.get("calls") if isinstance(given, dict) else None
        if not isinstance(calls, list) or not calls:
            raise bad_request("'calls' must hold calls.")
        content = io.BytesIO(b"".join(map(_as_line, calls)))
        parts = unmarked(str(calls[0].get("key")))
        batch = batches.create(
            endpoint="/v1/chat/completions",
            input_file_id=files.put(content, filename="inline.jsonl").id,
            # for the books alone, which no client sees
            metadata={"batchor_local_batch_id": parts[1]} if parts else None,
        )
        return shown(batch)

    def shown(batch: Batch) -> dict[str, Any]:
        phases = {name: phase for phase, name in PHASES.items()}
        phase = phases.get(batch.status.value, "WORKING")
        has_ended = phase != "WORKING"
        if has_ended and files.find(batch.input_file_id) is not None:
            files.delete(batch.input_file_id)
        return {
            "ref": batch.id,
            "phase": phase,
            "born": int(batch.created_at),
            "dies": int(batch.expires_at),
            "tally": {
                "all": batch.total or None,
                "said": batch.progress.completed,
                "failed": batch.progress.failed,
            },
            "outcome": f"/jobs/{batch.id}/outcome" if has_ended and files_of(batch) else None,
            "rejected": batch.errors[0]["message"] if batch.errors else None,
        }

    def files_of(batch: Batch) -> list[str]:
        there = batch.result_files(engine.clock())
        return [there[name] for name in ("error", "output") if name in there]

    def outcome(ref: str) -> Iterator[bytes]:
        parts = [batches.content(file_id) for file_id in files_of(batches.look(ref))]
        if not parts:
            raise ApiError(404, "no such outcome")
        return _mixed(parts)

    async def post_job(request: Request) -> Response:
        return _json(await run_in_threadpool(create, json.loads(await request.body())))

    async def list_jobs(request: Request) -> Response:
        before = request.query_params.get("before") or None
        page = page_of(batches.listed(), after=before, limit=PAGE)
        jobs = [shown(await run_in_threadpool(batches.settled, batch)) for batch in page.entries]
        return _json({"jobs": jobs, "more": page.has_more})

    async def get_job(request: Request) -> Response:
        return _json(shown(await run_in_threadpool(batches.look, request.path_params["ref"])))

    async def stop_job(request: Request) -> Response:
        try:
            return _json(shown(await run_in_threadpool(batches.cancel, request.path_params["ref"])))
        except ApiError as error:
            if error.status != 409:
                raise
            return await get_job(request)

    async def get_outcome(request: Request) -> Response:
        return StreamingResponse(await run_in_threadpool(outcome, request.path_params["ref"]))

    return [
        Route(f"{PREFIX}/jobs", post_job, methods=["POST"]),
        Route(f"{PREFIX}/jobs", list_jobs, methods=["GET"]),
        Route(f"{PREFIX}/jobs/{{ref}}", get_job, methods=["GET"]),
        Route(f"{PREFIX}/jobs/{{ref}}/stop", stop_job, methods=["POST"]),
        Route(f"{PREFIX}/jobs/{{ref}}/outcome", get_outcome, methods=["GET"]),
    ]


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _as_line(call: Any) -> bytes:
    ask = call["ask"]
    turns = ask["talk"] if "talk" in ask else [["user", ask["say"]]]
    messages = [{"role": role, "content": words} for role, words in turns]
    if "be" in ask:
        messages.insert(0, {"role": "system", "content": ask["be"]})
    body = {"model": ask["engine"], "messages": messages, **ask.get("so", {})}
    if "shape" in ask:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": ask["shape"]["called"], "schema": ask["shape"]["of"], "strict": True},
        }
    line = {"custom_id": call["key"], "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps(line) + b"\n"


def _mixed(parts: list[tuple[Path, int | None]]) -> Iterator[bytes]:
    """One part after the other; where one is handed out short, nothing follows."""
    for path, size in parts:
        content = path.read_bytes()
        for line in content[:size].splitlines(keepends=True):
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                yield line  # a garbled one, or a piece of one
            else:
                yield orjson.dumps({"key": record["custom_id"], "result": _result(record)}) + b"\n"
        if size is not None and size < len(content):
            return


def vector_of(text: str) -> list[float]:
    """The vector that the server answers with in the place of a text."""
    return [value / 256 for value in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]


def _result(record: dict[str, Any]) -> dict[str, Any]:
    response = record.get("response")
    if response is None:
        return {"kind": "dropped"}
    body, status = response["body"], response["status_code"]
    if status != 200:
        return {"kind": "failed", "why": f"status {status}", "again": status == 0 or status >= 500}
    message, usage = body["choices"][0]["message"], body["usage"]
    text = message.get("content")
    meter = {"read": usage["prompt_tokens"], "wrote": usage["completion_tokens"]}
    if text is None:
        return {"kind": "failed", "why": "it would not say", "meter": meter}
    if kind := {"stranger-numbers": "numbers", "stranger-packed": "packed"}.get(body["model"]):
        numbers = vector_of(text)
        packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *numbers)).decode()
        return {"kind": kind, "it": packed if kind == "packed" else numbers, "meter": meter}
    half = len(text) // 2
    return {"kind": "said", "words": [text[:half], text[half:]], "meter": meter}
