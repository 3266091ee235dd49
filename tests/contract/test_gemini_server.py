"""The local server of the Gemini API, as the official client sees it: every answer passes the client's own types."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from batchor_core.testing.gemini_server import GeminiServer
from batchor_core.testing.local_server.faults import BatchFault, FileFault, HttpFault
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.local_server.settings import Limits

MODEL = "gemini-3-flash"
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client_of(server: GeminiServer, key: str = "any", timeout_ms: int = 20_000) -> genai.Client:
    """The official client."""
    options = types.HttpOptions(
        base_url=server.base_url,
        timeout=timeout_ms,
        client_args={"verify": CONTEXT},
        async_client_args={"verify": CONTEXT, "ssl": CONTEXT},
    )
    return genai.Client(api_key=key, vertexai=False, http_options=options)


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer(manual=True, batch_seconds=10) as server:
        yield server


@pytest.fixture
def client(server: GeminiServer) -> Iterator[genai.Client]:
    with client_of(server) as client:
        yield client


def uploaded(client: genai.Client, *requests: dict[str, Any], name: str = "a.jsonl") -> str:
    """A file of requests."""
    lines = "".join(
        json.dumps({"key": f"row-{at}", "request": one}) + "\n" for at, one in enumerate(requests)
    )
    file = client.files.upload(
        file=io.BytesIO(lines.encode()),
        config=types.UploadFileConfig(display_name=name, mime_type="application/jsonl"),
    )
    assert file.name is not None
    return file.name


def asks(text: str, **fields: Any) -> dict[str, Any]:
    """A request."""
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **fields}


def created(client: genai.Client, *requests: dict[str, Any], name: str = "nightly") -> str:
    """A batch."""
    source = uploaded(client, *requests)
    batch = client.batches.create(
        model=MODEL, src=source, config=types.CreateBatchJobConfig(display_name=name)
    )
    assert batch.name is not None
    return batch.name


def results(client: genai.Client, batch: str, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The lines of a batch's results by key."""
    file = client.batches.get(name=batch).dest
    assert file is not None
    assert file.file_name is not None
    client.files.download(file=file.file_name, destination=tmp_path / "results")
    lines = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    return {line["key"]: line for line in lines}


def test_a_batch_runs_to_its_end(server: GeminiServer, client: genai.Client, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"]}
    wants = {"responseMimeType": "application/json", "responseJsonSchema": schema}
    batch = created(client, asks("Review 1"), asks("Review 2", generationConfig=wants), {})
    job = client.batches.get(name=batch)
    assert (job.state, job.display_name, job.model) == (
        types.JobState.JOB_STATE_PENDING,
        "nightly",
        f"models/{MODEL}",
    )
    assert job.dest is None
    server.advance(60)
    job = client.batches.get(name=batch)
    assert job.state is types.JobState.JOB_STATE_SUCCEEDED  # although a row has failed
    assert job.end_time is not None
    found = results(client, batch, tmp_path)
    answer = types.GenerateContentResponse.model_validate(found["row-0"]["response"])
    assert answer.text == "You asked about: Review 1."
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.prompt_token_count == 2
    judged = types.GenerateContentResponse.model_validate(found["row-1"]["response"])
    assert isinstance(json.loads(judged.text or "")["stars"], int)
    error = types.JobError.model_validate(found["row-2"]["error"])
    assert (error.code, "contents is not specified" in (error.message or "")) == (3, True)


def test_embeddings_are_vectors_of_the_length_that_was_asked_for(
    server: GeminiServer, client: genai.Client, tmp_path: Path
) -> None:
    request = {"content": {"parts": [{"text": "A hammer"}]}, "outputDimensionality": 8}
    source = types.EmbeddingsBatchJobSource(file_name=uploaded(client, request))
    with pytest.warns(match="experimental"):
        batch = client.batches.create_embeddings(
            model="gemini-embedding-001", src=source, config={"display_name": "vectors"}
        )
    server.advance(60)
    line = results(client, str(batch.name), tmp_path)["row-0"]
    answer = types.SingleEmbedContentResponse.model_validate(line["response"])
    assert answer.embedding is not None
    assert (len(answer.embedding.values or []), answer.token_count) == (8, 2)


def test_a_demanded_function_is_called_with_fitting_arguments(
    server: GeminiServer, client: genai.Client, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"]}
    function = {"name": "judge", "parametersJsonSchema": schema}
    calling = {"functionCallingConfig": {"mode": "ANY"}}
    request = asks("Review 1", tools=[{"functionDeclarations": [function]}], toolConfig=calling)
    batch = created(client, request)
    server.advance(60)
    line = results(client, batch, tmp_path)["row-0"]
    (call,) = types.GenerateContentResponse.model_validate(line["response"]).function_calls or []
    assert call.name == "judge"
    assert isinstance((call.args or {})["stars"], int)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply.incomplete("half"), types.FinishReason.MAX_TOKENS),
        (Reply.incomplete(reason="content_filter"), types.FinishReason.SAFETY),
        (Reply.incomplete("half", reason="RECITATION"), types.FinishReason.RECITATION),
        (Reply.refusal(), None),
    ],
)
def test_answers_may_be_useless(
    server: GeminiServer, client: genai.Client, tmp_path: Path, reply: Reply, reason: Any
) -> None:
    server.responder = lambda body, endpoint, custom_id: reply
    batch = created(client, asks("Hi"))
    server.advance(60)
    line = results(client, batch, tmp_path)["row-0"]
    answer = types.GenerateContentResponse.model_validate(line["response"])
    if reason is None:
        assert answer.prompt_feedback is not None
        assert answer.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT
    else:
        assert answer.candidates is not None
        assert answer.candidates[0].finish_reason is reason


def test_lists_are_paged_newest_first(server: GeminiServer, client: genai.Client) -> None:
    names: list[str] = []
    for number in range(5):
        names.insert(0, created(client, asks("Hi"), name=f"b{number}"))
        server.advance(1)
    assert [batch.name for batch in client.batches.list(config={"page_size": 2})] == names
    assert len(list(client.files.list(config={"page_size": 2}))) == 5


def test_a_cancelled_batch_keeps_what_was_done(
    server: GeminiServer, client: genai.Client, tmp_path: Path
) -> None:
    batch = created(client, *[asks(f"Review {number}") for number in range(10)])
    server.advance(5)
    client.batches.cancel(name=batch)
    server.advance(60)
    assert client.batches.get(name=batch).state is types.JobState.JOB_STATE_CANCELLED
    lines = results(client, batch, tmp_path).values()
    assert sorted("response" in line for line in lines) == [False] * 5 + [True] * 5
    done = created(client, asks("Hi"))
    server.advance(60)
    with pytest.raises(errors.ClientError, match="has ended already"):
        client.batches.cancel(name=done)


def test_what_ends_otherwise_has_a_state_of_its_own(server: GeminiServer, client: genai.Client) -> None:
    for kind, state in (("fail", "FAILED"), ("expire", "EXPIRED")):
        server.faults.clear()
        server.faults.add(BatchFault(kind))  # type: ignore[arg-type]
        batch = created(client, asks("Hi"))
        server.advance(3 * 86_400)
        assert client.batches.get(name=batch).state is types.JobState(f"JOB_STATE_{state}")


def test_what_no_batch_can_be_made_of_is_refused(server: GeminiServer, client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="may not exist") as missing:
        client.batches.create(model=MODEL, src="files/nothing", config={"display_name": "x"})
    assert (missing.value.code, missing.value.status) == (403, "PERMISSION_DENIED")
    server.faults.add(FileFault(seconds=5))
    source = uploaded(client, asks("Hi"))
    with pytest.raises(errors.ClientError, match="may not exist"):
        client.batches.create(model=MODEL, src=source, config={"display_name": "x"})
    server.advance(6)
    assert client.batches.create(model=MODEL, src=source, config={"display_name": "x"}).name
    # a file that can't be read fails its batch
    bad = client.files.upload(file=io.BytesIO(b"{}\n"), config={"mime_type": "application/jsonl"})
    batch = client.batches.create(model=MODEL, src=str(bad.name), config={"display_name": "x"})
    server.advance(60)
    assert client.batches.get(name=str(batch.name)).state is types.JobState.JOB_STATE_FAILED
    assert server.books.rows_executed == 1


def test_files_come_in_pieces_and_go_when_they_are_deleted(
    server: GeminiServer, client: genai.Client
) -> None:
    long = asks("x" * 9_000_000)
    name = uploaded(client, long, name="long.jsonl")
    file = client.files.get(name=name)
    assert (file.display_name, file.state, file.download_uri) == ("long.jsonl", types.FileState.ACTIVE, None)
    assert len([request for request in server.books.requests if request.method == "POST"]) == 3
    client.files.delete(name=name)
    with pytest.raises(errors.ClientError, match="may not exist"):
        client.files.get(name=name)


def test_errors_have_the_api_s_shape() -> None:
    with GeminiServer(api_keys=["good"], limits=Limits(creates_per_hour=1)) as server:
        with client_of(server, "bad") as client, pytest.raises(errors.ClientError) as refused:
            client.batches.list()
        assert refused.value.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert httpx2.get(f"{server.url}/v1/batches").status_code == 403
        with client_of(server, "good") as client:
            server.faults.add(HttpFault("status", status=429, retry_after=7))
            with pytest.raises(errors.ClientError) as full:
                client.batches.list()
            assert (full.value.status, full.value.response.headers["retry-after"]) == (
                "RESOURCE_EXHAUSTED",
                "7",
            )
            created(client, asks("Hi"))
            with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED"):
                created(client, asks("Hi"))
