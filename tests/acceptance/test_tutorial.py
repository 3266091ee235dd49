"""The tutorial, followed to the letter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from batchor_core.testing.openai_server import OpenAIServer

ROOT = Path(__file__).parents[2]
PORT_IN_TUTORIAL = "http://127.0.0.1:8099/v1"

pytestmark = pytest.mark.acceptance


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that has what the tutorial expects of a checkout."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def _snippets() -> list[str]:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def _run(folder: Path, name: str, code: str) -> str:
    (folder / name).write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_does_what_it_says(checkout: Path) -> None:
    job, reading = _snippets()
    with OpenAIServer(batch_seconds=1) as server:
        code = job.replace(PORT_IN_TUTORIAL, server.base_url)
        assert code != job
        first = _run(checkout, "events.py", code)
        again = _run(checkout, "events.py", code)
        batches = len(server.books.batches)
    assert first.startswith("1074 of 1074 completed, 0 failed\n")
    assert again == first
    assert batches == 1
    assert _run(checkout, "look.py", reading) == "events-1 completed 1074\n"
    assert len((checkout / "events.jsonl").read_text(encoding="utf-8").splitlines()) == 1074
