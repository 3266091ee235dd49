"""Dagster is used by its front door only: ``import dagster as dg``, and names that it exports there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("batchor_dagster", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]


def complaints(source: str) -> Iterator[str]:
    """What a module takes from Dagster that may be gone with the next release."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for name in names:
                    if _is_dagster(name.name) and (name.name, name.asname) != ("dagster", "dg"):
                        yield f"line {node.lineno}: import {name.name}"
            case ast.ImportFrom(module=str(module)) if _is_dagster(module):
                yield f"line {node.lineno}: from {module} import ..."
            case ast.Attribute(value=ast.Name(id="dg"), attr=name):
                if name.startswith("_") or not hasattr(dg, name):
                    yield f"line {node.lineno}: dg.{name}"
            case _:
                pass


def _is_dagster(module: str) -> bool:
    return module.split(".")[0].split("_")[0] == "dagster"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_dagster_is_imported_by_its_public_names(path: Path) -> None:
    assert list(complaints(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "from dagster._core.storage.tags import PARTITION_NAME_TAG",
        "from dagster.components.utils.translation import TranslationFn",
        "from dagster import asset",
        "import dagster",
        "import dagster._check as check",
        "import dagster_shared.serdes",
        "def f():\n    from dagster_shared import record",
        "import dagster as dg\ndg._check.inst(1, int)",
        "import dagster as dg\ndg.NoSuchThing()",
    ],
)
def test_what_may_be_gone_tomorrow_is_named(source: str) -> None:
    assert len(list(complaints(source))) == 1
