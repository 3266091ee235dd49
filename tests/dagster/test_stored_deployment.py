"""A deployment that an earlier version left behind goes on: its files are found, and nothing is asked or bought again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster.run_ids import batch_run_id
from tests.data.stored import jobs
from tests.data.stored.deployment import ENDED, PARTITIONS, ROWS, SUBMITTED, WRITTEN, Deployment, deployed
from tests.support.stored import KEY, MINUTE, STORED, load_books, unpack

NAMES = sorted(path.name.removesuffix(".tar.gz") for path in STORED.glob("*-dagster.tar.gz"))


@dataclass(frozen=True)
class Copy:
    """A copy of the deployment, and what its writer saw."""

    folder: Path
    deployment: Deployment
    server: OpenAIServer
    seen: dict[str, Any]
    known_batches: int

    def new_batches(self) -> int:
        return len(self.server.books.batches) - self.known_batches


@pytest.fixture(params=NAMES)
def copy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    unpack(request.param, tmp_path)
    books = json.loads((tmp_path / "books.json").read_text(encoding="utf-8"))
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    with ExitStack() as stack:
        server = stack.enter_context(OpenAIServer(manual=True, timing=MINUTE))
        load_books(books, server)
        deployment = stack.enter_context(deployed(tmp_path, server))
        yield Copy(tmp_path, deployment, server, seen, len(books["batches"]))


def test_run_ids_are_those_that_are_stored(copy: Copy) -> None:
    """Another id would be another run: every partition would be paid again."""
    keys = PARTITIONS.get_partition_keys()
    assert sorted(batch_run_id(["shop", "reviews"], key) for key in keys) == copy.seen["run_ids"]


def test_what_was_done_is_found_and_what_was_not_is_brought_in(copy: Copy) -> None:
    deployment = copy.deployment
    for partition in WRITTEN:
        table = deployment.loaded(partition)
        assert sorted(table["item_id"].to_pylist()) == [f"{partition}/{n}" for n in range(ROWS)]
        assert {jobs.Mood(value) for value in table["mood"].to_pylist()} <= set(jobs.Mood)
    assert [request.partition_key for request in _requests(deployment)] == [ENDED]
    copy.server.advance(120)
    assert {request.partition_key for request in _requests(deployment, wanted=2)} == {ENDED, SUBMITTED}
    for request in _requests(deployment, wanted=2):
        assert deployment.launch(request).success
    assert deployment.tick() == []
    for partition in (ENDED, SUBMITTED):
        assert deployment.loaded(partition).num_rows == ROWS
    assert copy.new_batches() == 0
    written = {path.relative_to(copy.folder).as_posix() for path in (copy.folder / "root").rglob("*.parquet")}
    assert set(copy.seen["files"]) < written


def test_submitting_the_same_partitions_again_buys_nothing(copy: Copy) -> None:
    for partition in (*WRITTEN, ENDED, SUBMITTED):
        assert copy.deployment.submit(partition).success
    assert copy.new_batches() == 0


def _requests(deployment: Deployment, wanted: int = 1) -> list[Any]:
    for _ in range(50):
        requests = deployment.tick()
        if len(requests) >= wanted:
            return requests
    raise AssertionError(f"{wanted} results were not requested")
