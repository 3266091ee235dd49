"""The tutorial, typed as it is written into an empty folder with an empty home: from a checkout, and from a wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from batchor_core.testing.openai_server import OpenAIServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PORT_IN_TUTORIAL = "http://127.0.0.1:8099/v1"

pytestmark = pytest.mark.acceptance


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def _shown(command: str) -> str:
    """What the page shows that a command prints."""
    [shown] = {
        block.removeprefix(f"$ {command}\n") for block in _blocks("console") if f"$ {command}\n" in block
    }
    return shown


@pytest.fixture(scope="module", params=["checkout", "wheel"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is imported from."""
    if request.param == "checkout":
        return ROOT
    target = tmp_path_factory.mktemp("installed")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    install = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(target), str(ROOT)]
    subprocess.run(install, check=True)
    return target


def _run(folder: Path, installed: Path, name: str) -> str:
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env={"PYTHONPATH": str(installed), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_does_what_it_says(installed: Path, tmp_path: Path) -> None:
    [rows], [job, reading] = _blocks("csv"), _blocks("python")
    (tmp_path / "reviews.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "look.py").write_text(reading, encoding="utf-8")
    with OpenAIServer(batch_seconds=1) as server:
        code = job.replace(PORT_IN_TUTORIAL, server.base_url)
        assert code != job
        (tmp_path / "reviews.py").write_text(code, encoding="utf-8")
        first = _run(tmp_path, installed, "reviews.py")
        again = _run(tmp_path, installed, "reviews.py")
        batches = len(server.books.batches)
    assert first.startswith(_shown("python reviews.py"))
    assert len(re.findall(r"^r\d\d sentiment=", first, flags=re.MULTILINE)) == 12
    assert again == first
    assert batches == 1
    assert _run(tmp_path, installed, "look.py") == _shown("python look.py")
    assert len((tmp_path / "reviews.jsonl").read_text(encoding="utf-8").splitlines()) == 12
