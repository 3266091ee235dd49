"""The short form: every boundary once, samples of the rest, and the negative controls. ``make chaos`` is the long form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest

from tests.chaos import suites
from tests.chaos.arena import Arena
from tests.chaos.disturbance import terminate_backends
from tests.chaos.play import Tally, play
from tests.postgres_server import postgres_dsn

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        not hasattr(os, "pidfd_open"), reason="holds on to processes by pidfd, as Linux has it"
    ),
]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    with Arena(request.param, postgres_dsn() if request.param == "postgres" else "") as opened:
        yield opened


def check(tally: Tally, *, at_least: int) -> None:
    assert tally.failures == []
    assert tally.rounds >= at_least


def test_a_kill_before_and_after_each_boundary_loses_nothing_and_pays_nothing_twice(arena: Arena) -> None:
    cases = list(suites.each_boundary(arena, per_boundary=1, repeat_in_all=False))
    tally = play("boundaries", cases, [arena])
    check(tally, at_least=2 * 34)
    assert tally.reached.happened >= 0.9 * tally.reached.meant


def test_two_kills_in_a_row_lose_nothing_and_pay_nothing_twice(arena: Arena) -> None:
    check(play("pairs", suites.pairs(arena, count=25, seed=101), [arena]), at_least=25)


def test_kills_at_random_instants(arena: Arena) -> None:
    check(play("random", suites.at_random(count=4, seed=102, longest=0.8), [arena]), at_least=4)


def test_each_kind_of_fault_somewhere(arena: Arena) -> None:
    cases = list(suites.each_fault(occurrences=(1,), seed=103, share=0.06))
    check(play("faults", cases, [arena]), at_least=6)


def test_several_drivers_that_are_killed_and_stopped(arena: Arena) -> None:
    tally = play("drivers", suites.crowds(rounds=3, seed=104, sizes=(2, 4)), [arena])
    check(tally, at_least=3)


def test_drivers_that_wake_after_they_were_replaced(arena: Arena) -> None:
    tally = play("zombies", suites.zombies(rounds=4, seed=105), [arena])
    check(tally, at_least=4)
    assert tally.reached.happened == tally.reached.meant


def test_a_list_that_lags_less_than_the_grace_period(arena: Arena) -> None:
    check(play("lag", suites.lags(rounds=2, seed=106), [arena]), at_least=2)


def test_a_database_that_is_put_back(arena: Arena) -> None:
    check(play("restored", suites.time_travels(rounds=4, seed=107), [arena]), at_least=4)


def test_connections_that_are_terminated(arena: Arena) -> None:
    if arena.store == "sqlite":
        cases = suites.wrong_clocks(
            rounds=4, seed=108
        )  # it has no connections to lose, but a clock of its own
    else:
        cases = suites.lost_connections(rounds=3, seed=108, disturb=partial(terminate_backends, arena.dsn))
    check(play("disturbed", cases, [arena]), at_least=3)


# --- negative controls: where these find nothing wrong, neither do the tests above -----------------------------------


def test_the_documented_order_alone_pays_twice(arena: Arena) -> None:
    dangerous = ("create_batch:after", "register:before")
    cases = [case for case in suites.naive(arena) if case.name.endswith(dangerous)]
    tally = play("naive order", cases, [arena])
    assert (tally.rounds, tally.bad) == (2, 2)
    assert tally.total.paid_twice > 0


def test_without_the_file_fence_a_driver_that_wakes_pays_twice(arena: Arena) -> None:
    tally = play(
        "no fence",
        suites.zombies(rounds=4, seed=9, fences=False, sleeps=suites.SLEEPS[:2]),
        [arena],
        stop_at_bad=1,
    )
    assert tally.total.paid_twice > 0


def test_a_list_that_lags_more_than_the_grace_period_pays_twice(arena: Arena) -> None:
    tally = play("lag above grace", suites.lags(rounds=3, seed=10, above_grace=True), [arena], stop_at_bad=1)
    assert tally.total.paid_twice > 0
