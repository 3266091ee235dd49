"""The documentation agrees with the code: links lead somewhere, snippets import what exists, tables are complete."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from batchor_core import AnthropicProviderConfig, BatchRunner, GeminiProviderConfig, Run
from batchor_core.core import exceptions
from batchor_core.core.models import ArtifactPolicy, BatchJob, ChunkPolicy, RetryPolicy
from batchor_core.providers.openai.config import OpenAIEnqueueLimitConfig, OpenAIProviderConfig
from batchor_core.runtime.engine import EngineSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _snippets(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", _text(name), flags=re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_page_and_a_heading(name: str) -> None:
    page = ROOT / name
    broken = []
    for link in _links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("name", [name for name in NAMES if _snippets(name)])
def test_snippets_parse_and_import_only_what_exists(name: str) -> None:
    for snippet in _snippets(name):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("batchor_"):
                module = importlib.import_module(node.module or "")
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{node.module} has no {missing}"


# --- the public interface --------------------------------------------------------------------------------------------

PUBLIC = [
    "batchor_core",
    "batchor_core.artifacts",
    "batchor_core.errors",
    "batchor_core.otel",
    "batchor_core.providers",
    "batchor_core.providers.openai",
    "batchor_core.providers.anthropic",
    "batchor_core.providers.gemini",
    "batchor_core.sources",
    "batchor_core.storage",
    "batchor_core.tables",
    "batchor_core.testing",
    "batchor_core.testing.openai_server",
    "batchor_core.testing.anthropic_server",
    "batchor_core.testing.gemini_server",
    "batchor_core.testing.live",
    "batchor_core.webhooks",
    "batchor_dagster",
    "batchor_dagster.components",
    "batchor_dagster.testing",
]
GROUPS = [name for name in PUBLIC if name.startswith("batchor_core.") and name.count(".") == 1]
PLUGIN = "batchor_core.testing.fixtures"
"""It is named to pytest, not imported."""
LOGGER = "batchor_core.runs"
"""It is named to logging."""


def _exports(package: str) -> list[str]:
    exported: list[str] = importlib.import_module(package).__all__
    return exported


def _imports(code: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def _shown() -> Iterator[tuple[str, str]]:
    """What users read and copy: where it stands, and the code."""
    yield from ((name, snippet) for name in NAMES for snippet in _snippets(name))
    for path in sorted(ROOT.glob("examples/**/*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_what_users_copy_imports_from_public_places() -> None:
    private = [
        f"{where}: from {package} import {name}"
        for where, code in _shown()
        for package, name in _imports(code)
        if package.startswith("batchor_") and (package not in PUBLIC or name not in _exports(package))
    ]
    assert not private


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("README", "docs/"))])
def test_pages_send_people_to_public_places_only(name: str) -> None:
    for mentioned in re.findall(r"\bbatchor_core(?:\.\w+)+", _text(name)):
        package, _, member = mentioned.rpartition(".")
        is_name = package in PUBLIC and member in _exports(package)
        assert mentioned in (*PUBLIC, PLUGIN, LOGGER) or is_name, f"{mentioned} is not public"


@pytest.mark.parametrize("package", PUBLIC)
def test_a_public_package_says_what_it_is_and_has_what_it_lists(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert not hasattr(module, "no_such_name")


def test_the_flat_names_that_have_a_group_are_the_same_things_there() -> None:
    flat = importlib.import_module("batchor_core")
    for package in GROUPS:
        group = importlib.import_module(package)
        for name in set(flat.__all__) & set(group.__all__):
            assert getattr(flat, name) is getattr(group, name)


def test_the_api_page_has_every_public_name_and_no_other() -> None:
    page = _text("docs/reference/api.md")
    told = set(re.findall(r"`(\w+)`", page))
    errors = set(_exports("batchor_core.errors"))
    public = {name for package in ["batchor_core", *GROUPS] for name in _exports(package)}
    assert public - errors <= told
    methods = {name for owner in (Run, BatchRunner) for name in dir(owner) if not name.startswith("_")}
    assert {name for name in dir(Run) if not name.startswith("_")} <= told
    assert told <= public | methods | {"batchor_core"}


def test_the_reference_has_every_public_name() -> None:
    """On the pages that come from the docstrings, at the first place from which it can be imported."""
    pages = [page.read_text(encoding="utf-8") for page in ROOT.glob("docs/reference/python/*.md")]
    listed = [name for page in pages for name in re.findall(r"^::: (\S+)$", page, flags=re.MULTILINE)]
    public: dict[str, str] = {}
    for package in PUBLIC:
        for name in _exports(package):
            public.setdefault(name, f"{package}.{name}")
    assert sorted(listed) == sorted(public.values())


def test_newcomers_meet_a_job_before_what_only_extensions_need() -> None:
    order = _exports("batchor_core")
    assert order[:2] == ["BatchJob", "BatchItem"]
    assert order.index("Run") < order.index("CsvItemSource") < order.index("IndexedBatchItem")


def _own_errors() -> list[type[Exception]]:
    found = [
        thing
        for thing in vars(exceptions).values()
        if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    return [error for error in found if error.__module__ == exceptions.__name__]


@pytest.mark.parametrize("error", _own_errors(), ids=lambda error: error.__name__)
def test_every_error_is_in_the_reference(error: type[Exception]) -> None:
    assert f"── {error.__name__}" in _text("docs/reference/errors.md") or error is exceptions.BatchorError


def _runtime_trees() -> list[ast.Module]:
    return [
        ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "batchor_core/runtime").glob("*.py")
    ]


def _strings(nodes: Iterable[ast.AST]) -> set[str]:
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_the_events_reference_lists_what_the_engine_emits() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", _text("docs/reference/events.md"), flags=re.MULTILINE))
    nodes = [node for tree in _runtime_trees() for node in ast.walk(tree)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    emitted = _strings(arg for call in calls if ast.unparse(call.func).endswith(".emit") for arg in call.args)
    assert emitted
    assert emitted <= listed
    assert listed <= _strings(nodes)


SETTINGS = [
    AnthropicProviderConfig,
    ArtifactPolicy,
    BatchJob,
    ChunkPolicy,
    EngineSettings,
    GeminiProviderConfig,
    OpenAIEnqueueLimitConfig,
    OpenAIProviderConfig,
    RetryPolicy,
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_is_documented(settings: type) -> None:
    documentation = "\n".join(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/**/*.md"))
    assert all(
        f"`{field.name}`" in documentation or f"{field.name}=" in documentation for field in fields(settings)
    )
