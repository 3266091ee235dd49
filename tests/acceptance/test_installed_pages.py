"""What the pages show works from an installed wheel too, where no file of a checkout is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READ_BY_TESTS = ("docs", "examples", "tests", "README.md", "pyproject.toml")
"""What the test of the pages reads of a checkout; the packages are not among it."""

pytestmark = [pytest.mark.acceptance, pytest.mark.long]


@pytest.mark.timeout(900)
def test_every_page_does_what_it_says_from_a_wheel(tmp_path: Path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    install = ["-m", "pip", "install", "-q", *offline, "--target", str(installed), str(ROOT)]
    subprocess.run([sys.executable, *install], check=True)
    elsewhere.mkdir()
    for name in READ_BY_TESTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, elsewhere / name)
    read = "import sys, batchor_core; sys.exit(not batchor_core.__file__.startswith(sys.argv[1]))"
    env = {**os.environ, "PYTHONPATH": str(installed)}
    subprocess.run([sys.executable, "-c", read, str(installed)], cwd=elsewhere, env=env, check=True)
    pages = [
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "tests/acceptance/test_pages.py",
        "-k",
        "test_a_page_does",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *pages],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:]
