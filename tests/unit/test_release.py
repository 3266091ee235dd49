"""The release command, on a checkout of its own."""

from __future__ import annotations

import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RELEASE = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "release.py"))
NotReadyError: type[Exception] = RELEASE["NotReadyError"]
release: Callable[..., str] = RELEASE["release"]

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "small"
version = "0.1.0"
requires-python = ">=3.11"
"""


def _git(root: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@b")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 0.2.0 (unreleased)\n\n- More.\n\n## 0.1.0 (2026-01-01)\n"
    )
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "__init__.py").touch()
    (tmp_path / ".gitignore").write_text("dist/\n")
    _git(tmp_path, "init", "-q", "-b", "main")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "Begin")
    return tmp_path


def test_a_release_is_built_checked_committed_and_tagged(checkout: Path) -> None:
    checked: list[Path] = []
    assert release(checkout, "0.2.0", check=checked.extend) == "v0.2.0"
    assert [path.name for path in checked] == ["small-0.2.0-py3-none-any.whl", "small-0.2.0.tar.gz"]
    assert 'version = "0.2.0"' in (checkout / "pyproject.toml").read_text()
    changelog = (checkout / "CHANGELOG.md").read_text()
    assert "unreleased" not in changelog
    assert "## 0.1.0 (2026-01-01)" in changelog
    assert _git(checkout, "status", "--porcelain") == ""
    assert _git(checkout, "log", "-1", "--format=%s", "v0.2.0") == "Release 0.2.0"


def _change(root: Path) -> None:
    (root / "small" / "__init__.py").write_text("x = 1\n")


def _break(root: Path) -> None:
    (root / "pyproject.toml").write_text(PROJECT.replace('name = "small"', "name = 5"))
    _git(root, "commit", "-q", "-am", "Break")


@pytest.mark.parametrize(
    ("version", "prepare", "problem"),
    [
        ("0.2", lambda root: None, "no version such as"),
        ("0.3.0", lambda root: None, "no section '## 0.3.0 \\(unreleased\\)'"),
        ("0.2.0", _change, "not committed"),
        ("0.2.0", lambda root: _git(root, "tag", "v0.2.0"), "exists already"),
        ("0.2.0", _break, "can't be built"),
    ],
)
def test_what_is_not_ready_is_named_and_left_as_it_was(
    checkout: Path, version: str, prepare: Callable[[Path], Any], problem: str
) -> None:
    prepare(checkout)
    before = _git(checkout, "status", "--porcelain"), _git(checkout, "rev-parse", "HEAD")
    with pytest.raises(NotReadyError, match=problem):
        release(checkout, version, check=lambda files: None)
    assert (_git(checkout, "status", "--porcelain"), _git(checkout, "rev-parse", "HEAD")) == before


def test_a_release_that_twine_refuses_leaves_the_checkout_as_it_was(checkout: Path) -> None:
    def refuse(files: list[Path]) -> None:
        raise NotReadyError("twine refuses it")

    with pytest.raises(NotReadyError, match="twine"):
        release(checkout, "0.2.0", check=refuse)
    assert _git(checkout, "status", "--porcelain") == ""
    assert _git(checkout, "tag", "--list") == ""
