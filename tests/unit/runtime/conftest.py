"""A world for every test: on the memory store, or on SQLite too, whose statements are the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.world import World


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture(params=["sqlite", pytest.param("memory", marks=pytest.mark.long)])
def any_world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    """On a file; in the long form in memory too, where most tests are anyhow."""
    return make_world(kind=request.param)
