"""Every store of the suite, one after the other, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from batchor_core.storage.state import DriverSession, StateStore
from tests.contract.stores.kit import Backend, Clock, create, drive, make_backend

_BUILT_IN = ["model", "memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=_BUILT_IN)
def backend(request: pytest.FixtureRequest, stack: ExitStack, tmp_path: Path) -> Backend:
    """A place for runs, for tests that open it more than once."""
    return make_backend(request.param, stack, tmp_path)


@pytest.fixture
def store(backend: Backend, clock: Clock) -> StateStore:
    """A built-in store: leases, native sessions, every extra."""
    return backend.open(clock)


@pytest.fixture(params=[*_BUILT_IN, "third_party"])
def any_store(request: pytest.FixtureRequest, stack: ExitStack, tmp_path: Path, clock: Clock) -> StateStore:
    """A built-in store, or one that has the documented methods only."""
    return make_backend(request.param, stack, tmp_path).open(clock)


@pytest.fixture
def session(store: StateStore) -> DriverSession:
    """A driver's session on a new run of six items."""
    create(store, 6)
    return drive(store)


@pytest.fixture
def any_session(any_store: StateStore) -> DriverSession:
    """The same, also on a store that knows nothing of sessions."""
    create(any_store, 6)
    return drive(any_store)
