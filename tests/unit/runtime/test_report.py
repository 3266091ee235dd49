"""A run's report links batches and names prices only if it knows where the run was sent."""

from __future__ import annotations

import pytest

from batchor_core import BatchRunner, MemoryStateStore, OpenAIProviderConfig
from batchor_core.testing.fake_provider import FakeProvider
from batchor_core.testing.openai_server import OpenAIServer
from tests.support.world import RUN, text_job

LINK = "(https://platform.openai.com/batches/batch_"


def test_a_server_from_the_environment_is_not_taken_for_openai(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local")
    monkeypatch.setenv("OPENAI_BASE_URL", openai_server.base_url)
    config = OpenAIProviderConfig(model="gpt-5-mini", poll_interval_sec=0.0)
    with BatchRunner(storage=MemoryStateStore()) as runner:
        run = runner.run_and_wait(text_job(2, provider_config=config), run_id=RUN)
        reports = [run.report()]
        monkeypatch.delenv("OPENAI_BASE_URL")
        reports.append(run.report())
        monkeypatch.delenv("OPENAI_API_KEY")
        reports.append(run.report())
    assert [LINK in report for report in reports] == [False, False, False]
    costs = {line for report in reports for line in report.split("\n") if line.startswith("| Cost")}
    assert costs == {"| Cost | unknown: no batch price known for the server 127.0.0.1 |"}


def test_a_run_at_openai_is_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    config = OpenAIProviderConfig(model="gpt-5-mini", poll_interval_sec=0.0)
    provider = FakeProvider(fingerprint=config.account_fingerprint())
    with BatchRunner(storage=MemoryStateStore(), provider_factory=lambda _: provider) as runner:
        run = runner.run_and_wait(text_job(2, provider_config=config), run_id=RUN)
        assert LINK in run.report()
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        assert LINK not in run.report()
