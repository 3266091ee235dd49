"""What a user gets from ``pip install batchor-core``."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
INFO = f"batchor_core-{VERSION}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built as a release builds it."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(target.glob("*.whl")))


def _in_repository(package: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("package", ["batchor_core", "batchor_dagster"])
def test_the_wheel_holds_every_file_of_a_package(wheel: zipfile.ZipFile, package: str) -> None:
    packed = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert packed == _in_repository(package)
    assert f"{package}/py.typed" in packed


def test_the_wheel_holds_nothing_but_the_packages_and_the_license(wheel: zipfile.ZipFile) -> None:
    outside = {name.split("/")[0] for name in wheel.namelist()} - {"batchor_core", "batchor_dagster"}
    assert outside == {INFO}
    assert f"{INFO}/licenses/LICENSE" in wheel.namelist()


def test_a_plain_install_imports_the_engine_and_none_of_the_extras() -> None:
    extras = [
        "dagster",
        "deltalake",
        "fsspec",
        "genai_prices",
        "pandas",
        "polars",
        "psycopg",
        "rich",
        "starlette",
    ]
    extras += ["typer", "uvicorn"]
    code = f"import sys, batchor_core\nprint([name for name in {extras} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_engine_loads_no_large_library_before_it_is_needed() -> None:
    large = ["alembic", "openai", "pyarrow", "sqlalchemy", "tiktoken"]
    code = (
        f"import sys, batchor_core as batchor\nprint([name for name in {large} if name in sys.modules])\n"
        "print(batchor.SQLiteStorage.__module__, batchor.PostgresStorage.__module__, 'SQLiteStorage' in dir(batchor))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    stores = "batchor_core.storage.sqlite batchor_core.storage.postgres True"
    assert done.stdout.splitlines() == ["[]", stores]


def test_a_dagster_process_loads_neither_pandas_nor_the_vendors_client_before_they_are_needed() -> None:
    # pyarrow.dataset brings pandas
    large = ["alembic", "openai", "pandas", "pyarrow.dataset", "tiktoken"]
    code = f"import sys, batchor_dagster\nprint([name for name in {large} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_direct_dependency_is_pinned_for_development() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    names = {re.split(r"[\[><=]", requirement)[0].lower() for requirement in asked} - {"batchor-core"}
    assert names <= pinned


def test_no_dagster_table_hides_workspace_yaml() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert not {"dagster", "dg"} & set(tool)
