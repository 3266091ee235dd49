"""The programs of the gallery, as they stand, each in an empty folder with an empty home."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from batchor_core.testing.openai_server import OpenAIServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## ([^\n]+)\n.*?```python\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE))
IN_DAGSTER = "Translate a catalogue daily in Dagster"  # see tests/dagster/test_gallery.py
LINES = {  # that the made-up answers have no part in
    "Classify reviews, and count": r"Counter\(\{",
    "Extract invoices into a typed table": r"2 invoices",
    "Embed a corpus into DuckDB and search it": r"(?s).*q1 +│ hammer .*q2 +│ orange ",
    "Compare two prompts": r"t1 \{'short': (True|False), 'strict': (True|False)\} (same|DIFFERENT)\n",
}

pytestmark = pytest.mark.acceptance


def test_each_program_is_tried() -> None:
    assert set(PROGRAMS) == {*LINES, IN_DAGSTER}


@pytest.mark.parametrize("title", LINES)
def test_a_program_prints_its_results_and_pays_once(title: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAMS[title], encoding="utf-8")
    with OpenAIServer(batch_seconds=0.2) as server:
        environment = {
            "HOME": str(tmp_path),
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": server.base_url,
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
        }
        printed, batches = [], []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "program.py"],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=90,
            )
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout)
            batches.append(len(server.books.batches))
    assert re.match(LINES[title], printed[0])
    assert printed[1] == printed[0]
    assert batches[1] == batches[0] > 0
