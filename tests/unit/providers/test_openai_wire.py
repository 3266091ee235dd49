"""The OpenAI provider over a real socket: what is sent, how often, and what each answer becomes."""

from __future__ import annotations

import gzip
import json
import pickle
import socket
import traceback
import tracemalloc
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchor_core.core.exceptions import (
    InvalidInputError,
    MissingCredentialsError,
    ProviderError,
    ProviderErrorKind,
)
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig, client

if TYPE_CHECKING:
    from tests.unit.providers.conftest import Reply, ScriptedServer

RETRY, CAPACITY, CREDENTIALS = (
    ProviderErrorKind.RETRY,
    ProviderErrorKind.CAPACITY,
    ProviderErrorKind.CREDENTIALS,
)
QUOTA, BAD_REQUEST, NOT_FOUND, NOT_READY, NO_ROUTE = (
    ProviderErrorKind.QUOTA,
    ProviderErrorKind.BAD_REQUEST,
    ProviderErrorKind.NOT_FOUND,
    ProviderErrorKind.NOT_READY,
    ProviderErrorKind.NO_ROUTE,
)

BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/responses",
    "input_file_id": "file-1",
    "completion_window": "24h",
    "status": "validating",
    "created_at": 1_700_000_000,
}


def error_body(message: str = "no", code: Any = None, kind: str = "some_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# status, body, kind, error class, certainly no effect
ANSWERS: list[tuple[int, Any, ProviderErrorKind, str, bool]] = [
    (400, error_body(code="invalid_value"), BAD_REQUEST, "invalid_value", True),
    (
        400,
        error_body("Cannot find file file-1, or project proj_1 does not have access"),
        NOT_READY,
        "input_file_not_ready",
        True,
    ),
    (404, error_body("No such File object: file-1"), NOT_READY, "input_file_not_ready", True),
    # a 409 may mean that an earlier try is being worked on, whatever its words say
    (409, error_body("The file file-1 is not processed yet"), RETRY, "conflict", False),
    (404, error_body(), NO_ROUTE, "no_such_route", True),
    (404, b"<html><title>404 Not Found</title></html>", NO_ROUTE, "no_such_route", True),
    (405, {"detail": "Method Not Allowed"}, NO_ROUTE, "no_such_route", True),
    (404, error_body(code="model_not_found"), BAD_REQUEST, "model_not_found", True),
    (400, error_body(code="billing_hard_limit_reached"), QUOTA, "billing_hard_limit_reached", True),
    (400, error_body(code="token_limit_exceeded"), CAPACITY, "enqueue_token_limit", True),
    (401, error_body(code="invalid_api_key"), CREDENTIALS, "credentials", True),
    (403, error_body(), CREDENTIALS, "credentials", True),
    (408, error_body(), RETRY, "timeout", False),
    (409, error_body(), RETRY, "conflict", False),
    (413, b"<html>too large</html>", BAD_REQUEST, "bad_request", True),
    (422, error_body(), BAD_REQUEST, "bad_request", True),
    (429, error_body(code="rate_limit_exceeded"), RETRY, "rate_limit", True),
    (429, error_body(kind="insufficient_quota"), QUOTA, "insufficient_quota", True),
    (
        429,
        error_body("Enqueued token limit reached for gpt-4.1 in organization org-1."),
        CAPACITY,
        "enqueue_token_limit",
        True,
    ),
    (429, error_body("Enqueued request limit reached for gpt-4.1."), CAPACITY, "enqueue_token_limit", True),
    (500, error_body(), RETRY, "server_error", False),
    (502, b"bad gateway", RETRY, "server_error", False),
    (503, b"", RETRY, "server_error", False),
    (418, error_body(), BAD_REQUEST, "bad_request", False),
]


@pytest.mark.parametrize(("status", "body", "kind", "error_class", "not_performed"), ANSWERS)
def test_an_error_answer_is_translated_after_exactly_one_post(
    server: ScriptedServer,
    provider: OpenAIBatchProvider,
    reply: type[Reply],
    status: int,
    body: Any,
    kind: Any,
    error_class: Any,
    not_performed: Any,
) -> None:
    server.always(reply(status, body))
    with pytest.raises(ProviderError) as caught:
        provider.create_batch(input_file_id="file-1")
    error = caught.value
    assert (error.kind, error.error_class, error.not_performed) == (kind, error_class, not_performed)
    assert error.status_code == status
    assert server.posts() == 1


@pytest.mark.parametrize(
    "body",
    [
        b"garbage",
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"id": null}',
        b'{"job": {"id": "x"}}',
        b'{"id": ""}',
        b'{"error": {}}',
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
def test_a_success_without_a_batch_id_leaves_the_outcome_unknown(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], body: Any, content_type: Any
) -> None:
    server.always(reply(200, body, {"content-type": content_type}))
    with pytest.raises(ProviderError) as caught:
        provider.create_batch(input_file_id="file-1")
    assert (caught.value.kind, caught.value.not_performed) == (RETRY, False)
    assert caught.value.error_class == "unreadable_answer"
    assert server.posts() == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], status: int
) -> None:
    server.always(reply(status, b"", {"location": server.url + "/elsewhere"}))
    with pytest.raises(ProviderError) as caught:
        provider.create_batch(input_file_id="file-1")
    assert (caught.value.error_class, caught.value.not_performed) == ("redirect", False)
    assert len(server.requests) == 1


def test_a_cut_answer_leaves_the_outcome_unknown(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, BATCH, cut=10))
    with pytest.raises(ProviderError) as caught:
        provider.create_batch(input_file_id="file-1")
    assert (caught.value.kind, caught.value.error_class, caught.value.not_performed) == (
        RETRY,
        "connection",
        False,
    )
    assert server.posts() == 1


def test_a_read_timeout_leaves_the_outcome_unknown(
    server: ScriptedServer, make_provider: Callable[..., OpenAIBatchProvider], reply: type[Reply]
) -> None:
    server.always(reply(hang=True))
    with pytest.raises(ProviderError) as caught:
        make_provider(server.url, request_timeout_sec=0.2).create_batch(input_file_id="file-1")
    assert (caught.value.kind, caught.value.error_class, caught.value.not_performed) == (
        RETRY,
        "timeout",
        False,
    )
    assert server.posts() == 1


def test_a_refused_connection_certainly_did_nothing(
    make_provider: Callable[..., OpenAIBatchProvider],
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ProviderError) as caught:
        make_provider(f"http://127.0.0.1:{port}/v1").create_batch(input_file_id="file-1")
    assert (caught.value.kind, caught.value.error_class, caught.value.not_performed) == (
        RETRY,
        "connection",
        True,
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "999999999"}, 86_400.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    server: ScriptedServer,
    provider: OpenAIBatchProvider,
    reply: type[Reply],
    headers: dict[str, str],
    seconds: float | None,
) -> None:
    server.always(reply(429, error_body(), headers))
    with pytest.raises(ProviderError) as caught:
        provider.get_batch("batch_1")
    assert caught.value.retry_after == seconds


def test_create_sends_what_the_api_asks_for(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], canary: str
) -> None:
    server.always(reply(200, BATCH))
    record = provider.create_batch(input_file_id="file-1", metadata={"batchor_run_id": "r"})
    assert (record["id"], record["status"], record["input_file_id"]) == ("batch_1", "validating", "file-1")
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/batches")
    assert json.loads(request.body) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/responses",
        "completion_window": "24h",
        "metadata": {"batchor_run_id": "r"},
    }
    assert request.headers["authorization"] == f"Bearer {canary}"


def test_without_metadata_none_is_sent(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, BATCH))
    provider.create_batch(input_file_id="file-1")
    assert "metadata" not in json.loads(server.requests[0].body)


def test_organization_and_project_are_sent(
    server: ScriptedServer, make_provider: Callable[..., OpenAIBatchProvider], reply: type[Reply]
) -> None:
    server.always(reply(200, BATCH))
    make_provider(server.url, organization="org-1", project="proj_1").get_batch("batch_1")
    headers = server.requests[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj_1")


def test_records_are_normalised(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(
        reply(
            200,
            BATCH
            | {
                "status": "COMPLETED",
                "output_file_id": "file-out",
                "error_file_id": "",
                "created_at": "1700000000",
                "request_counts": {"total": 2, "completed": None, "failed": 0},
                "errors": {
                    "object": "list",
                    "data": [{"code": "x", "line": 1, "message": "m", "param": None}],
                },
                "metadata": {"a": "b"},
                "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            },
        )
    )
    record = provider.get_batch("batch_1")
    assert record["status"] == "completed"
    assert (record["output_file_id"], record["error_file_id"]) == ("file-out", None)
    assert record["created_at"] == 1_700_000_000.0
    assert record["metadata"] == {"a": "b"}
    assert record["errors"]["data"][0]["code"] == "x"
    usage = record["usage"]
    assert usage is not None
    assert usage["total_tokens"] == 3


def test_a_bare_record_is_enough(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, {"id": "batch_1"}))
    record = provider.get_batch("batch_1")
    assert record["status"] == "unknown"
    assert [record["output_file_id"], record["created_at"], record["metadata"]] == [None] * 3


def test_an_upload_is_streamed_under_the_files_name(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path
) -> None:
    path = tmp_path / "run-1-batch-1.jsonl"
    path.write_bytes(b'{"custom_id":"a"}\n' * 1_000)
    server.always(reply(200, {"id": "file-1", "object": "file"}))
    assert provider.upload_input_file(str(path)) == "file-1"
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/files")
    assert b'filename="run-1-batch-1.jsonl"' in request.body
    assert b'name="purpose"\r\n\r\nbatch' in request.body
    assert path.read_bytes() in request.body


def test_an_upload_is_handed_over_as_an_open_file(tmp_path: Path) -> None:
    handed: list[Any] = []

    class Files:
        def create(self, *, file: Any, purpose: str) -> Any:
            handed.append((file[0], isinstance(file[1], BufferedReader), file[1].closed))
            return {"id": "file-1"}

    class Client:
        files = Files()

    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"), Client()).upload_input_file(path)
    assert handed == [("a.jsonl", True, False)]


def test_a_failed_upload_is_not_repeated(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    server.always(reply(500, error_body()))
    with pytest.raises(ProviderError):
        provider.upload_input_file(path)
    assert server.posts() == 1


def test_uploading_a_missing_file_is_the_callers_error(provider: OpenAIBatchProvider, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        provider.upload_input_file(tmp_path / "none.jsonl")


CONTENT = b'{"custom_id":"a"}\n' * 5_000
SIZE = len(CONTENT)


def file_server(reply: Any, content: bytes = CONTENT, *, announced: Any = SIZE, **served: Any) -> Any:
    def respond(request: Any) -> Any:
        if request.path.endswith("/content"):
            headers = {"content-type": "application/octet-stream"} | served.pop("headers", {})
            return reply(200, content, headers, **served)
        return reply(200, {"id": "file-1", "object": "file", "bytes": announced, "filename": "out.jsonl"})

    return respond


@pytest.mark.parametrize("announced", [SIZE, None, 0, "many"])
def test_a_download_arrives_whole(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path, announced: Any
) -> None:
    server.respond = file_server(reply, announced=announced)
    assert provider.download_to_path("file-1", tmp_path / "out.jsonl") == SIZE
    assert (tmp_path / "out.jsonl").read_bytes() == CONTENT
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_compressed_download_is_unpacked(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path
) -> None:
    server.respond = file_server(reply, gzip.compress(CONTENT), headers={"content-encoding": "gzip"})
    assert provider.download_to_path("file-1", tmp_path / "out.jsonl") == SIZE


@pytest.mark.parametrize(
    "served",
    [
        {"content": CONTENT, "cut": 40_000},
        {"content": CONTENT[:40_000]},
        {"content": gzip.compress(CONTENT), "headers": {"content-encoding": "gzip"}, "cut": 50},
        {"content": b"not gzip at all", "headers": {"content-encoding": "gzip"}},
    ],
    ids=["connection cut", "shorter than announced", "gzip cut", "gzip garbled"],
)
def test_a_download_that_is_not_whole_leaves_nothing(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path, served: Any
) -> None:
    server.respond = file_server(reply, **served)
    with pytest.raises(ProviderError) as caught:
        provider.download_to_path("file-1", tmp_path / "out.jsonl")
    assert caught.value.kind is RETRY
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_unpacks_to_far_more_than_announced_is_refused(
    server: ScriptedServer,
    provider: OpenAIBatchProvider,
    reply: type[Reply],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batchor_core.providers.saving.EXCESS_BYTES", 1_000)
    bomb = gzip.compress(b"\0" * 20_000_000)
    server.respond = file_server(reply, bomb, announced=10, headers={"content-encoding": "gzip"})
    with pytest.raises(ProviderError, match="far more"):
        provider.download_to_path("file-1", tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_content_without_metadata_is_still_downloaded(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path
) -> None:
    def respond(request: Any) -> Any:
        return reply(200, CONTENT) if request.path.endswith("/content") else reply(404, error_body())

    server.respond = respond
    assert provider.download_to_path("file-1", tmp_path / "out.jsonl") == SIZE


def test_a_large_download_takes_little_memory(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path
) -> None:
    content = b"x" * 40_000_000
    server.respond = file_server(reply, content, announced=len(content))
    provider.get_batch("warm-up")  # the SDK itself is large
    tracemalloc.start()
    try:
        provider.download_to_path("file-1", tmp_path / "out.jsonl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_downloaded_file_is_private(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path
) -> None:
    server.respond = file_server(reply)
    provider.download_to_path("file-1", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o077 == 0


def test_a_download_that_does_not_exist_is_not_found(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], tmp_path: Path
) -> None:
    server.always(reply(404, error_body()))
    with pytest.raises(ProviderError) as caught:
        provider.download_to_path("file-1", tmp_path / "out.jsonl")
    assert caught.value.kind is NOT_FOUND


def test_a_small_file_is_read_as_text(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    text = "a\u2028b\u0085c\n"
    server.always(reply(200, b"\xef\xbb\xbf" + text.encode(), {"content-type": "application/octet-stream"}))
    assert provider.download_file_content("file-1") == text


def test_cancelling_a_batch_that_has_ended_returns_its_state(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    def respond(request: Any) -> Any:
        if request.path.endswith("/cancel"):
            return reply(409, error_body("Cannot cancel a batch with status 'completed'."))
        return reply(200, BATCH | {"status": "completed"})

    server.respond = respond
    assert provider.cancel_batch("batch_1")["status"] == "completed"


def test_cancelling_a_running_batch_returns_its_state(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, BATCH | {"status": "cancelling"}))
    assert provider.cancel_batch("batch_1")["status"] == "cancelling"
    assert [request.path for request in server.requests] == ["/v1/batches/batch_1/cancel"]


def test_batches_are_listed_page_by_page_as_they_are_asked_for(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    def respond(request: Any) -> Any:
        first = "after=batch_b" not in request.path
        ids = ["batch_a", "batch_b"] if first else ["batch_c"]
        return reply(200, {"object": "list", "data": [BATCH | {"id": i} for i in ids], "has_more": first})

    server.respond = respond
    pages = provider.list_batches()
    assert server.requests == []
    assert [record["id"] for record in next(pages)] == ["batch_a", "batch_b"]
    assert len(server.requests) == 1
    assert [record["id"] for page in pages for record in page] == ["batch_c"]
    assert "limit=100" in server.requests[0].path
    assert len(server.requests) == 2


def test_an_empty_list_has_no_pages(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, {"object": "list", "data": [], "has_more": False}))
    assert list(provider.list_batches()) == []


@pytest.mark.parametrize(
    "body",
    [
        {"data": [BATCH], "has_more": True},
        {"data": [], "has_more": True},
        {"data": [BATCH], "next_page": "/more"},
        {
            "data": [BATCH | {"id": f"batch_{n}"} for n in range(20)]
        },  # as many as a page holds, and they come again
        {"error": "no"},
        {"data": [{}], "has_more": True},
    ],
)
def test_a_list_that_does_not_come_to_its_end_is_an_error(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], body: Any
) -> None:
    server.always(reply(200, body))
    with pytest.raises(ProviderError):
        list(provider.list_batches())
    assert len(server.requests) <= 2


def test_a_list_that_does_not_say_whether_there_is_more_ends_with_an_empty_page(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    def respond(request: Any) -> Any:
        known = [f"batch_{n}" for n in range(45)]
        after = request.path.partition("after=")[2].partition("&")[0]
        begin = known.index(after) + 1 if after else 0
        return reply(200, {"data": [BATCH | {"id": one} for one in known[begin : begin + 20]]})

    server.respond = respond
    assert [len(page) for page in provider.list_batches()] == [20, 20, 5]
    assert len(server.requests) == 4


def test_a_short_list_of_a_server_without_pages_is_complete(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, {"data": [BATCH]}))
    assert [[record["id"] for record in page] for page in provider.list_batches()] == [["batch_1"]]


def test_entries_that_name_no_batch_are_listed_without_an_id(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, {"data": [None, {"created_at": 5}, BATCH], "has_more": False}))
    (page,) = provider.list_batches()
    assert [(record["id"], record["created_at"]) for record in page][:2] == [("", None), ("", 5.0)]
    assert len(page) == 3


def test_input_files_are_found_by_name(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    files = [{"id": "file-1", "filename": "a.jsonl"}, {"id": "file-2", "filename": "b.jsonl"}]
    server.always(reply(200, {"object": "list", "data": files, "has_more": False}))
    assert provider.find_input_files("b.jsonl") == ["file-2"]
    assert "purpose=batch" in server.requests[0].path


def test_removing_a_file_that_is_gone_is_fine(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(404, error_body()))
    provider.remove_input_file("file-1")


@pytest.mark.parametrize(
    ("status", "body"), [(500, error_body()), (200, {"id": "file-1", "deleted": False}), (200, b"x")]
)
def test_removing_a_file_without_proof_is_an_error_and_deleting_it_is_not(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], status: int, body: Any
) -> None:
    server.always(reply(status, body))
    with pytest.raises(ProviderError):
        provider.remove_input_file("file-1")
    provider.delete_input_file("file-1")


def test_a_file_is_removed(server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]) -> None:
    server.always(reply(200, {"id": "file-1", "object": "file", "deleted": True}))
    provider.remove_input_file("file-1")
    assert (server.requests[0].method, server.requests[0].path) == ("DELETE", "/v1/files/file-1")


def test_the_environment_names_the_server_and_the_key(
    server: ScriptedServer,
    reply: type[Reply],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", " from-env\n")
    server.always(reply(200, BATCH))
    client._report_server.cache_clear()
    for _ in range(2):
        provider = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"))
        provider.get_batch("batch_1")
        provider.close()
    assert server.requests[0].headers["authorization"] == "Bearer from-env"
    assert caplog.text.count("OPENAI_BASE_URL") == 1


def test_an_unsafe_server_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://example.com/v1")
    with pytest.raises(InvalidInputError, match="unencrypted"):
        OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1", api_key="k")).get_batch("batch_1")


def test_a_key_is_asked_for_when_it_is_needed_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"))
    assert provider.key_fingerprint() is None
    with pytest.raises(MissingCredentialsError, match="OPENAI_API_KEY"):
        provider.get_batch("batch_1")


def test_a_given_client_is_used_without_its_retries(server: ScriptedServer, reply: type[Reply]) -> None:
    import openai

    server.always(reply(500, error_body()))
    with openai.OpenAI(api_key="k", base_url=server.url) as client:
        provider = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"), client)
        with pytest.raises(ProviderError):
            provider.create_batch(input_file_id="file-1")
    assert server.posts() == 1


def test_a_stand_in_client_with_plain_methods_is_enough(tmp_path: Path) -> None:
    class Files:
        def content(self, file_id: str) -> Any:
            class Content:
                content = CONTENT

                def iter_bytes(self, size: int) -> Any:
                    return iter([CONTENT])

            return Content()

    class Batches:
        def retrieve(self, batch_id: str) -> Any:
            return {"id": batch_id, "status": "completed"}

    class Client:
        files = Files()
        batches = Batches()

    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"), Client())
    assert provider.get_batch("batch_1")["status"] == "completed"
    assert provider.download_to_path("file-1", tmp_path / "out.jsonl") == SIZE
    assert provider.download_file_content("file-1") == CONTENT.decode()


def test_the_key_is_in_no_error_repr_payload_or_pickle(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], canary: str
) -> None:
    quoted = f"Incorrect API key provided: {canary[:8]}********{canary[-4:]}. Whole: {canary}"
    texts = []
    for status in (400, 401, 403, 404, 429, 500):
        server.always(reply(status, error_body(quoted, code="invalid_api_key" if status == 401 else None)))
        with pytest.raises(ProviderError) as caught:
            provider.create_batch(input_file_id="file-1")
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        assert error.__traceback__ is not None
        # the first frame is this test's own, which knows the key
        captured = traceback.TracebackException(
            type(error), error, error.__traceback__.tb_next, capture_locals=True
        )
        texts += [str(error), repr(error), "".join(captured.format()), repr(pickle.dumps(str(error)))]
    config = provider._config
    texts += [
        repr(config),
        json.dumps(config.to_public_payload()),
        repr(pickle.dumps(config)),
        repr(vars(provider)),
    ]
    texts += [str(provider.key_fingerprint())]
    assert len(texts) > 24
    for text in texts:
        assert canary[:12] not in text
        assert canary[-4:] not in text


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "batch-1.jsonl"
    path.write_bytes(b"{}\n")
    return path


# --- addresses that answer, and not as the API does ------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Log in</body></html>"
HTML = {"content-type": "text/html"}


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (404, b"", {}),
        (404, {"detail": "Not Found"}, {}),
        (404, b"404 page not found", {"content-type": "text/plain"}),
        (404, PAGE, HTML),
        (405, {"detail": "Method Not Allowed"}, {}),
        (410, b"", {}),
        (501, b"", {}),
        (200, PAGE, HTML),
        (301, b"", {"location": "https://elsewhere.example/v1/files"}),
        (308, b"", {"location": "https://elsewhere.example/v1/files"}),
    ],
)
def test_an_upload_that_finds_no_route_names_the_address(
    server: ScriptedServer,
    provider: OpenAIBatchProvider,
    reply: type[Reply],
    jsonl: Path,
    status: int,
    body: Any,
    headers: dict[str, str],
) -> None:
    server.always(reply(status, body, headers))
    with pytest.raises(ProviderError) as caught:
        provider.upload_input_file(jsonl)
    error = caught.value
    assert (error.kind, error.error_class) == (NO_ROUTE, "no_such_route")
    assert server.url in str(error)
    assert "https://api.openai.com/v1" in str(error)
    assert ("elsewhere" in str(error)) == ("location" in headers)


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_passing_redirect_of_an_upload_is_waited_for(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], jsonl: Path, status: int
) -> None:
    server.always(reply(status, b"", {"location": "https://login.example/"}))
    with pytest.raises(ProviderError) as caught:
        provider.upload_input_file(jsonl)
    assert (caught.value.kind, caught.value.error_class) == (RETRY, "redirect")


@pytest.mark.parametrize(("status", "body"), [(404, b""), (405, b""), (200, PAGE)])
def test_a_list_that_is_no_route_is_told_from_an_outage(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply], status: int, body: Any
) -> None:
    server.always(reply(status, body, HTML))
    with pytest.raises(ProviderError) as caught:
        list(provider.list_batches())
    assert caught.value.kind is NO_ROUTE


def test_a_missing_batch_is_no_missing_route(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(404, error_body()))
    with pytest.raises(ProviderError) as caught:
        provider.get_batch("batch_1")
    assert (caught.value.kind, caught.value.error_class) == (NOT_FOUND, "not_found")


# --- the input file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("processed", True),
        ("uploaded", None),  # OpenAI's own word for a file that is there
        ("pending", False),
        ("running", False),
        ("notRunning", False),
        ("something new", None),
        (None, None),
    ],
)
def test_a_files_status_tells_whether_it_is_ready(
    server: ScriptedServer,
    provider: OpenAIBatchProvider,
    reply: type[Reply],
    status: int,
    expected: bool | None,
) -> None:
    server.always(reply(200, {"id": "file-1", "object": "file", "status": status}))
    assert provider.is_input_file_ready("file-1") is expected


def test_a_file_that_is_not_there_yet_tells_nothing(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(404, error_body()))
    assert provider.is_input_file_ready("file-1") is None


def test_a_file_that_the_server_rejects_needs_a_person(
    server: ScriptedServer, provider: OpenAIBatchProvider, reply: type[Reply]
) -> None:
    server.always(reply(200, {"id": "file-1", "status": "error", "status_details": "line 3 is no JSON"}))
    with pytest.raises(ProviderError, match="line 3 is no JSON") as caught:
        provider.is_input_file_ready("file-1")
    assert (caught.value.kind, caught.value.not_performed) == (BAD_REQUEST, True)
