"""The Dagster tutorial, typed in as it is written: its files, its commands, its daemon."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchor_core.testing.openai_server import OpenAIServer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial-dagster.md"
PORT_IN_TUTORIAL = "http://127.0.0.1:8099/v1"

pytestmark = pytest.mark.acceptance


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks(PAGE, "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder with the files that the tutorial has one save."""
    [rows] = blocks(PAGE, "csv")
    project, look = blocks(PAGE, "python")
    (tmp_path / "2026-11-01.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "shop.py").write_text(project, encoding="utf-8")
    (tmp_path / "look.py").write_text(look, encoding="utf-8")
    return tmp_path


def environment(folder: Path, server: OpenAIServer) -> dict[str, str]:
    """What the tutorial's two export lines do, with the port of this test's server."""
    exports = [line for line in commands() if line.startswith("export ")]
    assert any(PORT_IN_TUTORIAL in line for line in exports)
    shown = subprocess.run(
        ["bash", "-c", "\n".join([*exports, 'echo "$OPENAI_BASE_URL|$OPENAI_API_KEY|$DAGSTER_HOME"'])],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    base_url, key, home = shown.stdout.strip().split("|")
    assert (base_url, key, home) == (PORT_IN_TUTORIAL, "any", str(folder / ".dagster"))
    assert (folder / ".dagster").is_dir()
    (folder / ".dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": key,
        "DAGSTER_HOME": home,
    }


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def dagster_dev(folder: Path, settings: dict[str, str]) -> Iterator[Path]:
    [typed] = [line for line in commands() if line.startswith("dg dev")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "dagster-dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*shlex.split(typed), "-p", str(port)],  # 3000 may be taken on a machine that runs tests
            cwd=folder,
            env=settings,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + 100
            while not is_open(port):  # the tutorial has one open the page first
                assert process.poll() is None, log.read_text()[-3_000:]
                assert time.monotonic() < until, log.read_text()[-3_000:]
                time.sleep(0.3)
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with contextlib.suppress(ProcessLookupError):  # what it started, should anything be left of it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


@pytest.mark.timeout(300)
def test_the_tutorial_does_what_it_says(folder: Path, openai_server: OpenAIServer) -> None:
    settings = environment(folder, openai_server)
    sends = [line for line in commands() if line.startswith("dg launch")]
    assert len(sends) == 2
    landed = folder / "data" / "results" / "reviews" / "2026-11-01.parquet"
    with dagster_dev(folder, settings) as log:
        send(sends[0], folder, settings)
        until = time.monotonic() + 150
        while not landed.exists():
            assert time.monotonic() < until, log.read_text()[-3_000:]
            time.sleep(0.3)
    looked = subprocess.run(
        [sys.executable, "look.py"], cwd=folder, env=settings, check=True, capture_output=True, text=True
    )
    [shown] = [block for block in blocks(PAGE, "console") if block.startswith("$ python look.py")]
    assert looked.stdout == shown.removeprefix("$ python look.py\n")

    assert "the run is finished and the job has not changed, so nothing was sent" in send(
        sends[1], folder, settings
    )
    assert len(openai_server.books.batches) == 1
    project = (folder / "shop.py").read_text()
    (folder / "shop.py").write_text(project.replace("Judge this review:", "Judge this review strictly:"))
    assert "reviews--2026-11-01--g2" in send(sends[1], folder, settings)
    assert len(openai_server.books.batches) == 2


def send(command: str, folder: Path, settings: dict[str, str]) -> str:
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
