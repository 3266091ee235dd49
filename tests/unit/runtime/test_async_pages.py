"""What the pages about async code and webhooks show, run as it stands there against the local server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from batchor_core.testing.openai_server import OpenAIServer
from tests.snippets.__main__ import programs
from tests.support.waiting import until

HOW_TO = Path(__file__).parents[3] / "docs/how-to"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """The local server, as the environment of a user has it, with an empty home."""
    with OpenAIServer(batch_seconds=0) as running:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", "whsec_MDEyMzQ1Njc4OQ==")
        yield running


def first_program(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    [first, *_] = programs(HOW_TO / page, (HOW_TO / page).read_text(encoding="utf-8"))
    exec(compile(first.text, page, "exec"), names)
    return names


def test_the_fastapi_service_answers(server: OpenAIServer) -> None:
    app = first_program("wait-in-async-code.md")["app"]
    with TestClient(app) as client:
        for _ in range(2):  # who asks again gets the same run
            told = client.put("/questions/first", json={"sky": "Why is it blue?", "sea": "Why is it salty?"})
            assert told.json() == "first"
        until(lambda: len(client.get("/questions/first").json()) == 2, "both answers")
        assert set(client.get("/questions/first").json()) == {"sky", "sea"}
    assert len(server.books.batches) == 1
    with TestClient(app) as client:  # another life of the service
        assert len(client.get("/questions/first").json()) == 2


def test_the_webhook_route_refuses_what_is_not_signed(server: OpenAIServer) -> None:
    names = first_program("take-webhooks.md")
    try:
        assert TestClient(names["app"]).post("/webhooks/openai", content=b"{}").status_code == 401
    finally:
        names["runner"].close()
