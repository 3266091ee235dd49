"""The packages can be imported on every system, and what needs POSIX says so when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["batchor_core", "batchor_dagster"])
def test_all_but_folders_of_artifacts_works_without_what_only_posix_has(package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.without_posix", package, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules, ended, refused = done.stdout.splitlines()
    assert int(modules) > 20
    assert ended == "completed 3"
    assert "needs a POSIX system" in refused
    assert "this is win32" in refused
    assert "artifact_store=ObjectStoreArtifactStore(url)" in refused
