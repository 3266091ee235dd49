"""The trial at a real API, tried at the local server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batchor_core.testing import AnthropicServer, GeminiServer
from batchor_core.testing.live import main
from batchor_core.testing.local_server.faults import BatchFault


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnthropicServer]:
    with AnthropicServer(manual=True) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
        yield server


def test_nothing_is_sent_without_live(
    server: AnthropicServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LIVE", raising=False)
    assert main(["anthropic"]) == 2
    said = capsys.readouterr()
    assert "less than a tenth of a cent" in said.out
    assert "nothing was sent" in said.err
    assert server.books.requests == []


def test_it_tells_what_it_found(
    server: AnthropicServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVE", "1")
    server.faults.add(BatchFault("not_found", seconds=1.5), BatchFault("unlisted", seconds=5))
    assert main(["anthropic"], pause=server.advance) == 0
    said = capsys.readouterr().out
    assert "2 times 404 before" in said
    assert "ok  5 lines for 5 rows" in said
    assert said.endswith("all as assumed\n")
    assert len(server.books.batches) == 1


def test_a_deleted_file_is_tried_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with GeminiServer(manual=True) as server:
        for name, value in (("LIVE", "1"), ("GEMINI_BASE_URL", server.base_url), ("GEMINI_API_KEY", "any")):
            monkeypatch.setenv(name, value)
        assert main(["gemini"], pause=server.advance) == 0
        assert "ok  no batch is made of a deleted file" in capsys.readouterr().out
        assert len(server.books.batches) == 1
