"""Runs of embeddings against the local server: from texts to a column of vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pyarrow.parquet as pq
import pytest

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchRunner,
    BodyOutput,
    ChunkPolicy,
    InvalidInputError,
    MemoryStateStore,
    OpenAIProviderConfig,
    PromptParts,
    RetryPolicy,
    Run,
    VectorOutput,
)
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.testing.openai_server import Limits, OpenAIServer
from batchor_core.testing.openai_server.embeddings import embeddings

TEXTS = {
    "hammer": "a tool that drives nails",
    "nails": "a tool drives nails",
    "orange": "a fruit with a peel",
}


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(batch_seconds=0) as running:
        yield running


def embedded(server: OpenAIServer, folder: Path, items: dict[str, Any] = TEXTS, **changes: Any) -> Run[Any]:
    output = changes.pop("output", VectorOutput(256))
    chunk_policy = changes.pop("chunk_policy", ChunkPolicy())
    config = OpenAIProviderConfig(
        **{"model": "text-embedding-3-small", "endpoint": "/v1/embeddings", "api_key": "any", **changes},
        base_url=server.base_url,
        poll_interval_sec=0.0,
    )
    job: BatchJob[Any, Any] = BatchJob(
        [BatchItem(name, text) for name, text in items.items()],
        lambda item: item.payload,
        config,
        output=output,
        chunk_policy=chunk_policy,
        retry_policy=RetryPolicy(max_attempts=1),
    )
    artifacts = LocalArtifactStore(folder / "artifacts")
    return BatchRunner(storage=MemoryStateStore(), artifact_store=artifacts).run_and_wait(job)


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_texts_become_vectors_of_the_length_that_the_job_says(
    server: OpenAIServer, tmp_path: Path, options: dict[str, Any]
) -> None:
    run = embedded(server, tmp_path, request_options=options)
    run.to_parquet(tmp_path / "vectors.parquet")
    table = pq.read_table(tmp_path / "vectors.parquet")
    assert table["item_id"].to_pylist() == list(TEXTS)
    vectors = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=True).reshape(3, 256)
    assert vectors.dtype == numpy.float32
    expected = embeddings({"input": list(TEXTS.values()), "dimensions": 256})[0]["data"]
    assert vectors.tolist() == [list(entry["embedding"]) for entry in expected]
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > far
    usage = run.summary().usage
    assert (usage.input_tokens, usage.output_tokens) == (
        sum(-(-len(text) // 4) for text in TEXTS.values()),
        0,
    )
    (line,) = [result.raw_response for result in run.iter_results() if result.item_id == "hammer"]
    assert line is not None
    assert line["response"]["body"]["usage"]["total_tokens"] == 6


def test_whole_bodies_of_the_endpoint_are_kept(server: OpenAIServer, tmp_path: Path) -> None:
    run = embedded(server, tmp_path, output=BodyOutput(), request_options={"dimensions": 4})
    bodies = [result.output for result in run.results() if result.output is not None]
    assert [len(body["data"][0]["embedding"]) for body in bodies] == [4, 4, 4]


def test_a_text_that_is_too_long_fails_alone(server: OpenAIServer, tmp_path: Path) -> None:
    run = embedded(server, tmp_path, {"short": "a word", "long": "word " * 8_000})
    failed = {result.item_id: result.error.message for result in run.iter_results() if result.error}
    assert list(failed) == ["long"]
    assert "maximum context length is 8192 tokens" in failed["long"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (PromptParts("hello", "be kind"), "item 'a': its prompt has a system prompt"),
        (
            PromptParts.of_messages([{"role": "user", "content": "hello"}]),
            "item 'a': its prompt has messages",
        ),
    ],
)
def test_a_row_that_is_more_than_a_text_is_refused_before_anything_is_sent(
    server: OpenAIServer, tmp_path: Path, prompt: PromptParts, said: str
) -> None:
    before = len(server.books.batches)
    with pytest.raises(InvalidInputError, match=said):
        embedded(server, tmp_path, {"a": prompt})
    assert len(server.books.batches) == before


def test_a_job_that_says_nothing_of_vectors_is_refused_when_it_is_started(
    server: OpenAIServer, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=r"give the job output=VectorOutput\(dimensions\)"):
        embedded(server, tmp_path, output=None)


def test_a_batch_has_no_more_texts_than_the_service_takes(tmp_path: Path) -> None:
    with OpenAIServer(batch_seconds=0, limits=Limits(max_requests=2)) as server:
        run = embedded(server, tmp_path, chunk_policy=ChunkPolicy(max_requests=2))
        assert run.summary().completed_items == 3
        assert sorted(batch.total for batch in server.books.batches) == [1, 2]
