"""The local server as a process of its own, and what a restart finds again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from batchor_core.testing.openai_server import OpenAIServer, Timing
from tests.contract.openai_server_helpers import by_id, finish, lines_of, rows, submit

ROOT = Path(__file__).parents[2]
MODULE = "batchor_core.testing.openai_server"


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the base URL it prints first."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        first, _, url = process.stdout.readline().strip().rpartition(" ")
        assert first == "listening on"
        yield process, url
    finally:
        process.kill()
        process.communicate()


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


class TestCommand:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_serves_until_it_is_told_to_stop(self, number: signal.Signals) -> None:
        with running("--batch-seconds", "0") as (process, url):
            with OpenAI(base_url=url, api_key="any", max_retries=0) as client:
                batch = client.batches.retrieve(submit(client, rows(3)).id)
                assert batch.status == "completed"
                assert len(lines_of(client, batch.output_file_id)) == 3
            process.send_signal(number)
            output, complaints = process.communicate(timeout=20)
        assert (process.returncode, output, complaints) == (0, "", "")

    def test_options_reach_the_server(self) -> None:
        with (
            running("--manual", "--api-key", "right", "--fault-rate", "1", "--seed", "3", "--omit-nulls") as (
                _,
                url,
            ),
            OpenAI(base_url=url, api_key="right", max_retries=0) as client,
        ):
            batch = submit(client, rows(20))
            assert "output_file_id" not in batch.to_dict()
            client.post(f"{url.removesuffix('/v1')}/_control/advance", cast_to=object, body={"seconds": 60})
            batch = client.batches.retrieve(batch.id)
            assert len(lines_of(client, batch.error_file_id)) > 2
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="wrong").files.list()

    def test_strangers_are_warned_about(self) -> None:
        with running("--host", "0.0.0.0") as (process, _):
            process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=20)
        assert complaints.startswith("warning: 0.0.0.0 lets other machines connect")

    def test_a_taken_port_is_named(self) -> None:
        with OpenAIServer() as server:
            port = server.base_url.rpartition(":")[2].removesuffix("/v1")
            taken = subprocess.run(
                [sys.executable, "-m", MODULE, "--port", port],
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=60,
                check=False,
            )
        assert taken.returncode == 2
        assert taken.stderr.startswith(f"error: can't listen on 127.0.0.1:{port}: ")

    @pytest.mark.parametrize(
        "arguments", [["--fault-rate", "2"], ["--batch-seconds", "-1"], ["--port", "65536"]]
    )
    def test_a_senseless_option_is_refused(self, arguments: list[str]) -> None:
        from batchor_core.testing.openai_server.__main__ import main

        with pytest.raises(SystemExit) as refused:
            main(arguments)
        assert refused.value.code == 2

    @pytest.mark.parametrize("missing", ["starlette", "uvicorn", "python_multipart"])
    def test_a_missing_library_names_the_extra(self, missing: str) -> None:
        code = (
            f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['--port', '0']\n"
            f"import runpy; runpy.run_module({MODULE!r}, run_name='__main__', alter_sys=True)"
        )
        finished = python(code)
        assert finished.returncode == 2
        assert (
            finished.stderr
            == f"error: the local server needs {missing}: pip install 'batchor-core[emulator]'\n"
        )

    def test_the_other_fakes_cost_no_import_of_the_server(self) -> None:
        code = (
            "import sys, batchor_core.testing; print({'starlette', 'uvicorn'} & set(sys.modules) or 'none')"
        )
        assert python(code).stdout.strip() == "none"


class TestState:
    def test_a_killed_server_carries_on_where_it_was(self, tmp_path: Path) -> None:
        options = ("--state-dir", str(tmp_path), "--manual")
        with running(*options) as (process, url), OpenAI(base_url=url, api_key="any") as client:
            batch = submit(client, rows(10))
            client.post(f"{url.removesuffix('/v1')}/_control/advance", cast_to=object, body={"seconds": 0.5})
            half = client.batches.retrieve(batch.id)
            assert half.request_counts is not None
            assert half.request_counts.completed == 5
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=20)
        with (
            OpenAIServer(state_dir=tmp_path, manual=True) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = finish(client, server, batch)
            assert batch.status == "completed"
            assert len(by_id(lines_of(client, batch.output_file_id))) == 10
            assert set(server.books.times_executed.values()) == {1}

    def test_unregistered_bytes_of_a_killed_server_are_written_over(self, tmp_path: Path) -> None:
        timing = Timing(validating=0, running=10, finalizing=0)
        with (
            OpenAIServer(state_dir=tmp_path, manual=True, timing=timing) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(10))
            server.advance(5)
            client.batches.retrieve(batch.id)
        with (tmp_path / "work" / f"{batch.id}.output").open("ab") as stream:
            stream.write(b'{"custom_id": "half a li')
        with (
            OpenAIServer(state_dir=tmp_path, manual=True, timing=timing) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = finish(client, server, batch)
            lines = lines_of(client, batch.output_file_id)
        assert sorted(line["custom_id"] for line in lines) == sorted(f"row-{number}" for number in range(10))

    def test_a_kept_state_directory_is_not_removed(self, tmp_path: Path) -> None:
        with OpenAIServer(state_dir=tmp_path):
            pass
        assert (tmp_path / "state.db").exists()

    def test_a_clock_can_be_shared(self) -> None:
        present = [1_800_000_000.0]
        with (
            OpenAIServer(clock=lambda: present[0]) as server,
            OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
        ):
            batch = submit(client, rows(1))
            assert batch.created_at == 1_800_000_000
            present[0] += 5
            answer = client.batches.with_raw_response.retrieve(batch.id)
        assert answer.parse().status == "completed"
        assert answer.headers["date"] == "Fri, 15 Jan 2027 08:00:05 GMT"

    def test_a_server_that_does_not_run_has_no_address(self) -> None:
        server = OpenAIServer()
        with pytest.raises(RuntimeError, match="not running"):
            _ = server.base_url
        server.stop()

    def test_two_clocks_are_one_too_many(self) -> None:
        with pytest.raises(ValueError, match="own clock"):
            OpenAIServer(manual=True, clock=lambda: 0.0)


def test_books_are_plain_json(tmp_path: Path) -> None:
    with (
        OpenAIServer(batch_seconds=0) as server,
        OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
    ):
        submit(client, rows(2))
        assert json.loads(json.dumps(server.books.as_json()))["rows_executed"] == 2
