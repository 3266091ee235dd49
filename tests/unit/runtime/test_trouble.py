"""A server that is not there is waited for aloud; an address that is wrong pauses the run."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import ProviderError, ProviderErrorKind
from batchor_core.core.trouble import dated, trouble
from batchor_core.core.words import moment
from batchor_core.providers.openai import OpenAIProviderConfig
from batchor_core.providers.registry import build_default_provider_registry
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.memory import MemoryStateStore
from batchor_core.testing.fake_clock import FakeClock
from batchor_core.testing.openai_server import HttpFault, OpenAIServer
from tests.support.world import RUN, World, text_job

UNREACHABLE = ProviderError("no route to host", error_class="connection", not_performed=True)


def test_an_unreachable_server_is_told_and_waited_for(
    any_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    any_world.provider.fail("upload_input_file", UNREACHABLE, times=40)
    run = any_world.start(text_job(3))
    for _ in range(20):
        any_world.clock.advance(400)
        run.refresh()
    summary = run.summary()
    assert summary.control_state is RunControlState.RUNNING
    assert summary.trouble is not None
    assert re.fullmatch(
        r"submission has been failing since 2026-01-01 00:00:00 UTC \(21 failures in a row, "
        r"next try at 2026-01-01 02:1\d:\d\d UTC\): connection: no route to host",
        summary.trouble,
    )
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.split("(")[1].split(" ")[0] for line in said] == ["1", "2", "4", "8", "16"]
    assert said[0].startswith(
        "run run-1: submission fails (1 failure), next try in 1 s: connection: no route"
    )
    any_world.provider._faults.clear()
    any_world.clock.advance(400)
    assert run.refresh().trouble is None  # submitted again
    assert run.wait().summary().trouble is None


def test_a_server_that_goes_away_after_the_submission_is_told_too(
    any_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    run = any_world.start(text_job(3))
    any_world.provider.fail("get_batch", UNREACHABLE, times=2)
    run.refresh()
    assert re.fullmatch(
        r"polling a batch has been failing since 2026-01-01 00:00:00 UTC "
        r"\(1 failure, next try at 2026-01-01 00:00:0[01] UTC\): connection: no route to host",
        run.summary().trouble or "",
    )
    assert "no route to host" in caplog.text
    any_world.clock.advance(100)
    run.refresh()
    told = run.summary().trouble or ""
    assert "since 2026-01-01 00:00:00 UTC (2 failures in a row, next try at 2026-01-01 00:01:4" in told
    any_world.clock.advance(100)
    with caplog.at_level(logging.INFO, "batchor_core"):
        run.refresh()
    assert run.summary().trouble is None
    assert "can be polled again" in caplog.text


def test_a_paused_or_finished_run_tries_nothing(any_world: World) -> None:
    any_world.provider.fail("upload_input_file", UNREACHABLE)
    run = any_world.start(text_job(3))
    assert run.summary().trouble is not None
    assert any_world.store.list_runs()[0].summary.trouble == run.summary().trouble
    run.pause()
    assert run.summary().trouble is None


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ((0, None, 0, None), None),
        ((3, None, 0, None), None),  # something was sent since
        ((0, "old", 0, None), None),
        ((1, "x", 0, None), "submission fails (1 failure): x"),  # an earlier build stored no date
        ((0, None, 2, None), "polling a batch fails (2 failures in a row)"),
        (
            (2, dated("x", before=None, now=0.0), 1, "y"),
            f"submission has been failing since {moment(0.0)} (2 failures in a row): x; polling a batch fails (1 failure): y",
        ),
    ],
)
def test_trouble_in_words(figures: tuple[int, str | None, int, str | None], expected: str | None) -> None:
    names = ("submit_failures", "submit_error", "poll_failures", "poll_error")
    given: dict[str, Any] = dict(zip(names, figures, strict=True))
    assert trouble(RunLifecycleStatus.RUNNING, RunControlState.RUNNING, **given) == expected
    assert trouble(RunLifecycleStatus.RUNNING, RunControlState.PAUSED, **given) is None
    assert trouble(RunLifecycleStatus.COMPLETED, RunControlState.RUNNING, **given) is None


# --- wrong addresses -------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    clock = FakeClock()
    with BatchRunner(
        storage=MemoryStateStore(now=clock),
        provider_registry=build_default_provider_registry(),
        temp_root=tmp_path,
        sleep=clock.sleep,
    ) as runner:

        def at(base_url: str) -> Run:
            config = OpenAIProviderConfig(model="gpt-4.1", api_key="any", base_url=base_url)
            return runner.start(replace(text_job(3), provider_config=config), run_id=RUN)

        yield at


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(batch_seconds=0) as running:
        yield running


@pytest.mark.parametrize("change", [("/v1", ""), ("/v1", "/v2"), ("/v1", "/v1/batches"), ("/v1", "/api/v1")])
def test_a_base_url_without_the_route_pauses_the_run_at_once(
    server: OpenAIServer, start: Any, change: tuple[str, str]
) -> None:
    base_url = server.base_url.replace(*change)
    run = start(base_url)
    summary = run.summary()
    assert summary.control_state is RunControlState.PAUSED
    reason = summary.control_reason or ""
    assert reason.startswith("no_such_route: ")
    assert base_url in reason
    assert "https://api.openai.com/v1" in reason


class _WebSite(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        page = b"<!doctype html><html><head><title>Welcome</title></head><body>Hello</body></html>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def test_a_web_site_in_the_apis_place_pauses_the_run_at_once(start: Any) -> None:
    site = HTTPServer(("127.0.0.1", 0), _WebSite)
    thread = Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        run = start(f"http://127.0.0.1:{site.server_port}/v1")
    finally:
        site.shutdown()
        site.server_close()
        thread.join()
    reason = run.summary().control_reason or ""
    assert "no_such_route" in reason
    assert "Welcome" in reason


def test_a_server_that_is_not_there_is_waited_for(start: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    run = start(f"http://127.0.0.1:{port}/v1")
    summary = run.summary()
    assert summary.control_state is RunControlState.RUNNING
    assert "connection" in (summary.trouble or "")


def test_a_lost_route_pauses_a_run_that_has_batches_only_after_a_while(any_world: World) -> None:
    lost = ProviderError(
        "no",
        kind=ProviderErrorKind.NO_ROUTE,
        error_class="no_such_route",
        status_code=404,
        not_performed=True,
    )
    any_world.provider.fail("upload_input_file", lost, times=1)
    run = any_world.start(text_job(3))
    assert run.control_state is RunControlState.PAUSED
    run.resume()
    run.refresh()
    assert run.summary().active_batches == 1
    any_world.provider.answer = lambda line: None  # the rows come back, and go into another batch
    any_world.provider.fail("upload_input_file", lost, times=100)
    for _ in range(30):
        any_world.clock.advance(400)
        run.refresh()
        if run.control_state is RunControlState.PAUSED:
            break
    assert run.control_state is RunControlState.PAUSED
    assert "10 failures in a row" in (run.summary().control_reason or "")


def test_what_a_refusal_says_is_the_reason_of_the_pause(server: OpenAIServer, start: Any) -> None:
    server.faults.add(
        HttpFault("status", method="POST", path="/v1/batches", status=422, message="input_file_id: too short")
    )
    run = start(server.base_url)
    assert "input_file_id: too short" in (run.summary().control_reason or "")


def test_a_failure_keeps_the_date_of_the_first_in_a_row() -> None:
    first = dated("x", before=None, now=1_000.0)
    assert dated("y", before=first, now=5_000.0) == "since 1970-01-01 00:16:40 UTC: y"
    assert dated("y", before="x", now=5_000.0) == "since 1970-01-01 01:23:20 UTC: y"
