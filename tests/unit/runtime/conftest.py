"""A world for every test: on the memory store, or on both built-in stores that need no server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.world import World


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture(params=["memory", "sqlite"])
def any_world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(kind=request.param)
