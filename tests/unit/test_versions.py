"""Which Pythons ``make versions`` finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.versions.__main__ import PYTHONS, find

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture(autouse=True)
def nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))


def test_the_python_that_asks_is_always_found() -> None:
    assert HERE in PYTHONS
    found = find(HERE)
    assert found is not None
    assert Path(found.path).exists()


def test_a_python_that_is_not_there_is_not_found() -> None:
    assert find("3.99") is None


def test_a_shim_that_stands_for_nothing_is_passed_over(tmp_path: Path) -> None:
    _executable(tmp_path / "bin" / "python3.99", "echo 'pyenv: python3.99: command not found' >&2; exit 127")
    assert find("3.99") is None


def test_a_python_of_another_version_than_its_name_is_passed_over(tmp_path: Path) -> None:
    _executable(tmp_path / "bin" / "python3.99", "echo /usr/bin/python3 3 98")
    assert find("3.99") is None


def test_a_version_that_only_pyenv_has_is_found(tmp_path: Path) -> None:
    _executable(tmp_path / "bin" / "python3.99", "exit 127")
    _executable(tmp_path / "pyenv" / "versions" / "3.99.1" / "bin" / "python", "echo /opt/python3.99 3 99")
    found = find("3.99")
    assert found is not None
    assert (found.version, found.path) == ("3.99", "/opt/python3.99")
