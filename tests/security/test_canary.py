"""A key is used everywhere and left nowhere: not by what works and not by what fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from batchor_core import BatchItem, BatchJob, BatchRunner, OpenAIProviderConfig, SQLiteStorage
from batchor_core.core.exceptions import BatchorError
from batchor_core.core.models import RetryPolicy, RunEvent
from batchor_core.providers.openai.provider import OpenAIBatchProvider
from batchor_core.storage.postgres import PostgresStorage
from batchor_core.testing.local_server.faults import HttpFault
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchorResource, batch_asset
from tests.postgres_server import postgres_dsn, postgres_schema
from tests.security.needles import KEY, found_below, found_in, needles, told_by

FAULTS = {
    "nothing": [],
    "a 401 that quotes the key": [
        HttpFault("status", path="*", status=401, message=f"Incorrect API key provided: {KEY}", times=None)
    ],
    "a 400 that quotes the key": [
        HttpFault("status", method="POST", path="/v1/batches", status=400, message=f"no: {KEY}", times=None)
    ],
    "a 500 that quotes the key": [
        HttpFault("status", path="/v1/files", status=500, message=f"Bearer {KEY}", times=3)
    ],
    "a cut connection": [HttpFault("cut", method="POST", path="/v1/batches", times=1)],
    "a reply that is none": [HttpFault("garbage", path="/v1/files", times=2)],
    "a redirect": [HttpFault("redirect", path="/v1/batches", times=1)],
}


def test_the_needles_find_what_they_are_for() -> None:
    import base64
    import urllib.parse

    for disguise in (
        KEY,
        f"Bearer {KEY[:14]}...",
        urllib.parse.quote(KEY, safe=""),
        *(base64.b64encode(f"{'abc'[:shift]}{KEY}:".encode()).decode() for shift in range(3)),
    ):
        assert found_in(disguise.encode()), disguise
    assert len(set(needles())) == len(needles())
    assert found_in(told_by([_raised(lambda: _uses(KEY))])), "local variables are looked at"


def _uses(secret: str) -> None:
    raise ValueError("something else")


def _raised(attempt: Callable[[], object]) -> BaseException:
    try:
        attempt()
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(batch_seconds=0.05, api_keys=[KEY]) as server:
        yield server


@pytest.mark.parametrize(
    ("given", "fault"),
    [*(("by the config", fault) for fault in FAULTS), ("by the environment", "a 401 that quotes the key")],
)
def test_no_file_log_event_or_traceback_of_a_run_holds_the_key(
    server: OpenAIServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    given: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    if given == "by the environment":
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.faults.add(*FAULTS[fault])
    config = OpenAIProviderConfig(
        model="gpt-5-mini",
        api_key=KEY if given == "by the config" else "",
        base_url=server.base_url,
        poll_interval_sec=0.02,
        request_timeout_sec=5,
    )
    job: BatchJob[Any, Any] = BatchJob(
        items=[BatchItem(f"row-{n}", n) for n in range(3)],
        build_prompt=lambda item: "a question",
        provider_config=config,
        retry_policy=RetryPolicy(base_backoff_sec=0.01, max_backoff_sec=0.02),
    )
    events: list[RunEvent] = []
    errors: list[BaseException] = []
    store = SQLiteStorage(path=tmp_path / "runs.sqlite3")
    runner = BatchRunner(storage=store, observer=events.append, temp_root=tmp_path / "artifacts")
    try:
        run = runner.start(job, run_id="canary")
        run.wait(timeout=2.0)
    except (BatchorError, TimeoutError) as error:
        errors.append(error)
    run = runner.get_run("canary")
    run.export_terminal_results(tmp_path / "results.jsonl")
    if run.is_finished:
        run.export_artifacts(tmp_path / "bundle")
    else:
        assert fault != "nothing"
        errors.append(_raised(run.results))
    shown = [repr(value) for value in (job, config, run, run.config, run.summary(), runner, store, events)]
    shown += [str(event.data) for event in events]
    for row in store.list_runs():
        shown.append(repr(row))
    assert found_in("\n".join(shown).encode()) == []
    assert found_in(told_by(errors)) == []
    assert found_in(caplog.text.encode()) == []
    assert found_below(tmp_path) == {}, "before the database is closed: its log too"
    runner.close()
    store.close()
    assert found_below(tmp_path) == {}
    assert server.books.requests, "the key was used"


@pytest.mark.parametrize("url", ["http://example.com/v1", "https://me:secret@example.com/v1", "nonsense"])
def test_an_environment_that_can_not_be_used_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    provider = OpenAIBatchProvider(OpenAIProviderConfig(model="m", api_key=KEY))
    (tmp_path / "batch.jsonl").write_text("{}\n")
    errors = [
        _raised(lambda: provider.get_batch("batch_1")),
        _raised(provider.key_fingerprint),
        _raised(lambda: provider.upload_input_file(tmp_path / "batch.jsonl")),
    ]
    assert found_in(told_by(errors)) == []


@pytest.mark.postgres
def test_a_dsn_keeps_its_password(caplog: pytest.LogCaptureFixture) -> None:
    """With the canary for a password."""
    import urllib.parse

    caplog.set_level(logging.DEBUG)
    dsn = f"postgresql://me:{urllib.parse.quote(KEY, safe='')}@127.0.0.1:1/none?connect_timeout=1"
    errors = [
        _raised(lambda: PostgresStorage(dsn=dsn)),
        _raised(lambda: PostgresStorage(dsn=dsn, schema="no; such")),
    ]
    shown = "\n".join([repr(error) + str(error) for error in errors])
    assert found_in(shown.encode()) == []
    assert found_in(caplog.text.encode()) == []
    with postgres_schema() as schema:
        store = PostgresStorage(dsn=postgres_dsn(), schema=schema)
        assert "***" in repr(store) or "@" not in repr(store)
        store.close()


@pytest.mark.parametrize("fault", ["nothing", "a 401 that quotes the key", "a 400 that quotes the key"])
def test_dagster_keeps_no_key(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Event log, run storage, run config, tags, metadata and compute logs are all files of the instance."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.faults.add(*FAULTS[fault])
    resource = BatchorResource(
        root=str(tmp_path / "batchor"),
        api_key=dg.EnvVar("OPENAI_API_KEY"),
        base_url=server.base_url,
        poll_interval_sec=0.01,
    )

    @batch_asset(name="facts")
    def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return BatchJob(
            items=[BatchItem("row-1", 1)],
            build_prompt=lambda item: "a question",
            provider_config=OpenAIProviderConfig(model="gpt-5-mini"),
        )

    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        submitted = dg.materialize(
            [facts.assets[0]], resources={"batchor": resource}, instance=instance, raise_on_error=False
        )
        if fault == "nothing":
            assert submitted.success
            with resource.runner() as runner:
                runner.get_run(facts.newest_run_id(runner, None)).wait(timeout=30, poll_interval=0.01)
            written = dg.materialize(
                [facts.assets[1]], resources={"batchor": resource}, instance=instance, raise_on_error=False
            )
            assert written.success
        events = [repr(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
        runs = [repr(run.run_config) + repr(run.tags) for run in instance.get_runs()]
        assert events
        assert found_in("\n".join(events + runs).encode()) == []
        assert found_below(tmp_path) == {}
    assert found_in(repr(resource).encode()) == []
