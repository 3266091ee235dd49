"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import World


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
