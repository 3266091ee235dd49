"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.shelf_provider import install_package
from tests.support.world import World

Install = Callable[..., None]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds, each in a folder of its own."""
    with ExitStack() as stack:
        count = 0

        def make(**options: Any) -> World:
            nonlocal count
            count += 1
            folder = tmp_path / f"world-{count}"
            folder.mkdir()
            world = World(folder, **options)
            stack.callback(world.close)
            return world

        yield make


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs packages into a folder on sys.path; what is imported from it is gone after the test."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))
    yield lambda **package: install_package(site, **package)
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(site):
            del sys.modules[name]
