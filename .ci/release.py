"""Makes a release: ``make release VERSION=0.2.0``. Publishes nothing; says what to type for that.

Sets the version in pyproject.toml, dates the changelog's newest section, builds the wheel and the source distribution into
``dist``, has twine check them, commits and tags. Whatever fails before the commit leaves the checkout as it was.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


class NotReadyError(Exception):
    """The checkout can't be released, and why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("version", help="such as 0.2.0 or 0.2.0rc1")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout")
    options = parser.parse_args()
    try:
        tag = release(options.root, options.version, check=_twine)
    except NotReadyError as problem:
        sys.exit(f"error: {problem}")
    print(f"released as {tag}. To publish it:\n  git push --follow-tags\n  uv publish dist/*")


def release(root: Path, version: str, *, check: Callable[[list[Path]], None]) -> str:
    """Make the release; returns its tag.

    Args:
        root: The checkout, with everything committed.
        version: As in PEP 440: three numbers, and perhaps ``a1``, ``b1`` or ``rc1``.
        check: Raises NotReadyError if the built files can't be published.

    Raises:
        NotReadyError: What is wrong, with the checkout as it was.
    """
    tag = f"v{version}"
    if not VERSION.fullmatch(version):
        raise NotReadyError(f"{version!r} is no version such as 0.2.0 or 0.2.0rc1")
    if _git(root, "status", "--porcelain"):
        raise NotReadyError("there are changes that are not committed: commit or stash them")
    if _git(root, "tag", "--list", tag):
        raise NotReadyError(f"the tag {tag} exists already")
    project, changelog = root / "pyproject.toml", root / "CHANGELOG.md"
    before = {path: path.read_text(encoding="utf-8") for path in (project, changelog)}
    try:
        project.write_text(_versioned(before[project], version), encoding="utf-8")
        changelog.write_text(_dated(before[changelog], version), encoding="utf-8")
        check(_built(root))
    except BaseException:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
        raise
    _git(root, "commit", "--quiet", "--allow-empty", "-m", f"Release {version}", str(project), str(changelog))
    _git(root, "tag", "--annotate", tag, "-m", f"batchor {version}")
    return tag


def _versioned(text: str, version: str) -> str:
    return re.sub(r'^version = ".*"$', f'version = "{version}"', text, count=1, flags=re.MULTILINE)


def _dated(text: str, version: str) -> str:
    heading = f"## {version} (unreleased)"
    if heading not in text:
        raise NotReadyError(f"CHANGELOG.md has no section {heading!r}: say there what changes for users")
    return text.replace(heading, f"## {version} ({datetime.now(UTC):%Y-%m-%d})", 1)


def _built(root: Path) -> list[Path]:
    """The wheel and the source distribution, built by the backend of this environment."""
    target = root / "dist"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise NotReadyError(f"it can't be built:\n{done.stderr}")
    return sorted(target.iterdir())


def _twine(files: list[Path]) -> None:
    """Twine has a dozen dependencies that nothing else here needs, so uv brings it for this one call."""
    command = [
        str(Path(sys.executable).with_name("uv")),
        "tool",
        "run",
        "twine",
        "check",
        "--strict",
        *map(str, files),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotReadyError(f"twine refuses it:\n{done.stdout}{done.stderr}")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise NotReadyError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
