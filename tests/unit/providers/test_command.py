"""A command of this machine as a provider: it is found again, started again, and its answers are there once."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchor_core import BatchJob, BatchRunner, MemoryStateStore
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.exceptions import InvalidInputError, ProviderError
from batchor_core.providers.api import BatchState
from batchor_core.providers.command import CommandProviderConfig
from batchor_core.providers.command.api import CommandApi
from batchor_core.providers.eight_methods import as_batch_api
from batchor_core.providers.registry import build_default_provider_registry
from tests.support.world import ask, items

SCRIPT = """
import json, os, sys, time
source, target, model, folder = sys.argv[1:5]
with open(folder + "/started", "a") as file:
    file.write("x")
while not os.path.exists(folder + "/go"):
    time.sleep(0.01)
with open(source) as lines, open(target, "w") as answers:
    for line in lines:
        request = json.loads(line)
        said = model + ": " + request["body"]["messages"][-1]["content"]
        choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}]
        response = {"status_code": 200, "body": {"choices": choices}}
        print(json.dumps({"custom_id": request["custom_id"], "response": response, "error": None}), file=answers)
"""


@pytest.fixture
def config(tmp_path: Path) -> CommandProviderConfig:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), "{input}", "{output}", "{model}", str(tmp_path)]
    return CommandProviderConfig(
        command, model="local", folder=str(tmp_path / "batches"), poll_interval_sec=0.02
    )


@pytest.fixture
def api(config: CommandProviderConfig) -> CommandApi:
    made = as_batch_api(CommandApi(config))
    assert isinstance(made, CommandApi)
    return made


def created(api: CommandApi, folder: Path) -> BatchState:
    requests = folder / "batch-1-a.jsonl"
    body = {"messages": [{"role": "user", "content": "hello"}]}
    requests.write_text(json.dumps({"custom_id": "a", "body": body}) + "\n")
    return api.create(None, handle=api.prepare(requests), tags={"who": "me"})


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(api: CommandApi, batch_id: str) -> BatchState:
    until(lambda: api.poll(batch_id).has_ended)
    return api.poll(batch_id)


def test_a_run_needs_no_server(config: CommandProviderConfig, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    job = BatchJob(items=items(3), build_prompt=ask, provider_config=config)
    with BatchRunner(
        storage=MemoryStateStore(), artifact_store=LocalArtifactStore(tmp_path / "files")
    ) as runner:
        results = runner.run_and_wait(job, run_id="run").results()
    assert [result.output for result in results] == [f"local: question {n}" for n in range(3)]


def test_a_process_that_was_killed_is_started_again(api: CommandApi, tmp_path: Path) -> None:
    state = created(api, tmp_path)
    started = tmp_path / "started"
    until(started.exists)
    assert api.poll(state.batch_id).status == "in_progress"
    os.kill(int((tmp_path / "batches" / state.batch_id / "pid").read_text()), signal.SIGKILL)
    until(lambda: api.poll(state.batch_id).status == "in_progress" and len(started.read_text()) == 2)
    (tmp_path / "go").touch()  # both commands go on, and one of them is the batch's
    (result,) = ended(api, state.batch_id).results
    api.fetch(result, tmp_path / "answers.jsonl")
    (line,) = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert api.read(json.loads(line)).text == "local: hello"


def test_another_process_finds_the_batch_by_its_tags(
    api: CommandApi, config: CommandProviderConfig, tmp_path: Path
) -> None:
    state = created(api, tmp_path)
    ((found,),) = list(CommandApi(config).list_batches())
    assert (found.batch_id, found.tags) == (state.batch_id, {"who": "me"})
    (tmp_path / "go").touch()
    assert ended(CommandApi(config), state.batch_id).status == "completed"
    assert (tmp_path / "started").read_text() == "x"


def test_a_batch_is_cancelled(api: CommandApi, tmp_path: Path) -> None:
    state = created(api, tmp_path)
    until((tmp_path / "started").exists)
    api.cancel(state.batch_id)
    assert ended(api, state.batch_id).status == "cancelled"


def test_a_fenced_file_makes_no_batch(api: CommandApi, tmp_path: Path) -> None:
    requests = tmp_path / "batch-1-a.jsonl"
    requests.write_text("{}\n")
    handle = api.prepare(requests)
    assert api.find_prepared(requests.name) == [handle]
    api.fence(handle)
    with pytest.raises(ProviderError) as raised:
        api.create(None, handle=handle, tags={})
    assert raised.value.not_performed
    assert list(api.list_batches()) == [[]]
    api.discard(handle)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            [sys.executable, "-c", "import sys; sys.exit('no GPU')", "{input}", "{output}"],
            "exit code 1, .*no GPU",
        ),
        ([sys.executable, "-c", "", "{input}", "{output}"], "no output file"),
        (["/no/such/program", "{input}", "{output}"], "exit code 127, .*No such file"),
    ],
)
def test_a_command_that_fails_says_why(command: list[str], said: str, tmp_path: Path) -> None:
    api = CommandApi(CommandProviderConfig(command, model="m", folder=str(tmp_path / "batches")))
    state = ended(api, created(api, tmp_path).batch_id)
    assert state.status == "failed"
    assert state.failure is not None
    assert re.search(said, state.failure.message)


def test_the_command_is_not_stored(config: CommandProviderConfig, tmp_path: Path) -> None:
    stored: Any = {"provider_kind": "command", "config": config.to_public_payload()}
    assert "command" not in stored["config"]
    again = build_default_provider_registry().load_config(stored)
    assert isinstance(again, CommandProviderConfig)
    with pytest.raises(InvalidInputError, match="the command is not stored with a run"):
        created(CommandApi(again), tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"command": "vllm run-batch"}, "command must be a list"),
        ({"command": ["vllm", "{input}"]}, "must have {output}"),
        ({"folder": ""}, "folder must be the path"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        CommandProviderConfig(
            **{"command": ["vllm", "{input}", "{output}"], "model": "m", "folder": "x", **settings}
        )
