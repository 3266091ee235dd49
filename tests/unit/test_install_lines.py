"""The install lines of the pages, typed as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.snippets.__main__ import pages

ROOT = Path(__file__).parents[2]
_LINE = re.compile(r"(?:^\$ |^|`)(pip install [^`#\n]+)", flags=re.MULTILINE)


def _lines() -> list[tuple[str, str]]:
    """Page and command."""
    return [
        (page.relative_to(ROOT).as_posix(), line.strip())
        for page in [*pages(), ROOT / "CONTRIBUTING.md"]
        for line in _LINE.findall(page.read_text(encoding="utf-8"))
    ]


def _ours(command: str) -> list[str]:
    """The requirements that mean this package."""
    given = [argument for argument in shlex.split(command)[2:] if not argument.startswith("-")]
    return [argument for argument in given if argument.startswith(".") or "batchor" in argument]


def test_the_pages_say_how_to_install_with_and_without_dagster() -> None:
    commands = {command for page, command in _lines() if page == "README.md"}
    assert {'pip install ".[dagster]"', "pip install ."} <= commands
    assert len(_lines()) > len(commands)


def test_what_is_asked_for_is_installed_from_a_checkout(tmp_path: Path) -> None:
    """By pip, at once, into an empty folder. The dependencies are another matter: ``make versions`` installs those."""
    requirements = sorted({one for _, command in _lines() for one in _ours(command)})
    assert len(requirements) > 1
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", str(tmp_path), *requirements],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stdout + done.stderr
    assert (tmp_path / "batchor_core" / "py.typed").exists()
    assert (tmp_path / "batchor_dagster" / "py.typed").exists()
    assert (tmp_path / "bin" / "batchor").exists()


def test_other_packages_are_named_at_the_version_that_is_tested() -> None:
    pinned = set((ROOT / "constraints.txt").read_text().splitlines())
    others = {
        argument
        for _, command in _lines()
        for argument in shlex.split(command)[2:]
        if "==" in argument and argument not in _ours(command)
    }
    assert others
    assert others <= pinned


def test_messages_name_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra
        for package in ("batchor_core", "batchor_dagster")
        for path in (ROOT / package).rglob("*.py")
        for group in re.findall(r"batchor-core\[([\w,-]+)\]", path.read_text(encoding="utf-8"))
        for extra in group.split(",")
    }
    assert named
    assert named <= set(extras)
