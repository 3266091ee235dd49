"""Installs what the package's own requirements allow, and tries it: ``make versions``.

The lowest versions on the oldest Python at hand, and the newest ones on every Python at hand, without constraints.txt. uv
resolves and installs: pip has no way to ask for the lowest versions that are declared, and takes a minute for what takes
uv some seconds. Each environment gets a wheel, as users do, and runs ``smoke.py`` with warnings as errors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.postgres_server import postgres_dsn

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
EXTRAS = ("anthropic", "cli", "dagster", "emulator", "gemini", "object-store", "postgres", "prices", "s3")
"""What users install; ``dev`` is ours."""

PYTHONS = ("3.11", "3.12", "3.13", "3.14")

Resolution = Literal["lowest-direct", "highest"]
RESOLUTIONS: tuple[Resolution, ...] = ("lowest-direct", "highest")


@dataclass(frozen=True)
class Python:
    """An interpreter.

    Attributes:
        version: Such as ``3.12``.
        path: Its executable.
    """

    version: str
    path: str


def find(version: str) -> Python | None:
    """An interpreter of this version that really runs: a shim of pyenv may stand for nothing."""
    names = [f"python{version}", *_of_pyenv(version), *([sys.executable] if _is_ours(version) else [])]
    for name in names:
        path = shutil.which(name)
        if path is None:
            continue
        said = subprocess.run(
            [path, "-I", "-c", "import sys, sqlite3; print(sys.executable, *sys.version_info[:2])"],
            capture_output=True,
            text=True,
        )
        executable, *numbers = said.stdout.split()[-3:] or [""]
        if said.returncode == 0 and ".".join(numbers) == version:
            return Python(version, executable)
    return None


def _of_pyenv(version: str) -> Iterator[str]:
    home = os.path.expanduser("~")  # noqa: PTH111 - where there is none, Path's raises
    root = Path(os.environ.get("PYENV_ROOT") or f"{home}/.pyenv") / "versions"
    yield from map(str, sorted(root.glob(f"{version}.*/bin/python")))


def _is_ours(version: str) -> bool:
    return version == f"{sys.version_info.major}.{sys.version_info.minor}"


def build_wheel(folder: Path) -> Path:
    """The wheel of this tree."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def uv(*arguments: str | Path) -> None:
    """Run uv, quietly unless it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", "--no-config", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **_index()},
    )
    if done.returncode:
        sys.exit(f"uv {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")


def _index() -> dict[str, str]:
    """The package index that pip is told to use, which uv would not ask for."""
    if "UV_DEFAULT_INDEX" in os.environ:
        return {}
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    url = os.environ.get("PIP_INDEX_URL") or said.stdout.strip()
    return {"UV_DEFAULT_INDEX": url} if url else {}


def install(python: Python, resolution: Resolution, wheel: Path, venv: Path) -> Path:
    """An environment with the wheel and what it asks for; returns its interpreter."""
    uv("venv", "--quiet", "--python", python.path, venv)
    inside = venv / "bin" / "python"
    extras = [option for extra in EXTRAS for option in ("--extra", extra)]
    install_into = ("pip", "install", "--quiet", "--python", inside)
    uv(*install_into, "--resolution", resolution, "-r", "pyproject.toml", *extras)
    uv(*install_into, "--no-deps", wheel)
    return inside


def smoke(inside: Path, folder: Path) -> None:
    """Run the smoke test in an environment; it must not see this tree."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BATCHOR_", "OPENAI_", "DAGSTER_", "PYTHON"))
    }
    environment = kept | {
        "BATCHOR_TEST_POSTGRES_DSN": postgres_dsn(),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "HOME": str(folder),
        "PYTHONWARNINGS": "error",
    }
    done = subprocess.run(
        [inside, "-W", "error", SMOKE],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-3000:]}{done.stderr[-6000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make versions")
    parser.add_argument("--python", choices=PYTHONS, nargs="*", default=PYTHONS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="versions-") as temporary:
        folder = Path(temporary)
        wheel = build_wheel(folder)
        lowest_is_due = True
        for version in chosen.python:
            python = find(version)
            if python is None:
                print(f"Python {version}: not on this machine, passed over", flush=True)
                continue
            resolutions = RESOLUTIONS if lowest_is_due else RESOLUTIONS[1:]
            lowest_is_due = False
            for resolution in resolutions:
                began = time.monotonic()
                venv = folder / f"{version}-{resolution}"
                inside = install(python, resolution, wheel, venv)
                installed = time.monotonic()
                (home := folder / f"{version}-{resolution}-home").mkdir()
                smoke(inside, home)
                shutil.rmtree(venv)
                print(
                    f"Python {version}, {'lowest' if resolution != 'highest' else 'newest'} versions: well, "
                    f"{installed - began:.0f} s to install and {time.monotonic() - installed:.0f} s to try",
                    flush=True,
                )


if __name__ == "__main__":
    main()
