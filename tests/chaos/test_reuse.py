"""Runs that reuse each other's answers, with drivers that are killed: nothing is paid for twice, and no row is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from batchor_core.core.boundaries import Boundary
from tests.chaos import reuse
from tests.chaos.arena import Arena
from tests.chaos.play import arenas, play
from tests.postgres_server import postgres_dsn

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        not hasattr(os, "pidfd_open"), reason="holds on to processes by pidfd, as Linux has it"
    ),
]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def on(request: pytest.FixtureRequest) -> Iterator[list[Arena]]:
    with arenas(request.param, 2, postgres_dsn() if request.param == "postgres" else "") as opened:
        yield opened


@pytest.fixture
def on_sqlite() -> Iterator[list[Arena]]:
    with arenas("sqlite", 2) as opened:
        yield opened


def test_a_kill_at_each_boundary_executes_no_request_twice(on: list[Arena]) -> None:
    cases = list(reuse.each_boundary(on[0]))
    cases = [case for index, case in enumerate(cases) if (index % 2 == 0) is (on[0].store == "sqlite")]
    tally = play("reuse", cases, on)
    assert (tally.crashes, tally.failures) == ([], [])
    assert tally.reached.happened >= 0.9 * tally.reached.meant
    assert any(place.startswith(f"{Boundary.FOLLOW}:") for place in tally.reached.places)


def test_drivers_that_compete_and_are_killed_execute_no_request_twice(on: list[Arena]) -> None:
    tally = play("reuse crowds", reuse.crowds(rounds=3, seed=301), on)
    assert (tally.crashes, tally.failures, tally.rounds) == ([], [], 3)


def test_without_following_requests_are_executed_twice(on_sqlite: list[Arena]) -> None:
    """The control. What it leaves out has nothing to do with the database."""
    tally = play("reuse control", reuse.crowds(rounds=4, seed=302, diverts=False), on_sqlite, stop_at_bad=1)
    assert tally.total.paid_twice > 0
