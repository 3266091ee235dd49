"""The short form: every boundary once, samples of the rest, and the negative controls. ``make chaos`` is the long form.

Providers other than the default have a shorter one: what may cost money, in two rounds of everything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.chaos import reuse, suites
from tests.chaos.arena import Arena, Round
from tests.chaos.play import Tally, arenas, play
from tests.chaos.profile import PROFILES
from tests.chaos.scenario import SCENARIOS, Source
from tests.chaos.verdict import Verdict
from tests.postgres_server import postgres_dsn

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        not hasattr(os, "pidfd_open"), reason="holds on to processes by pidfd, as Linux has it"
    ),
]


WORKERS = 2
"""Rounds at the same time: they mostly wait."""


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def on(request: pytest.FixtureRequest) -> Iterator[list[Arena]]:
    dsn = postgres_dsn() if request.param == "postgres" else ""
    with arenas(request.param, WORKERS, dsn) as opened:
        yield opened


@pytest.fixture(scope="module")
def on_sqlite() -> Iterator[list[Arena]]:
    with arenas("sqlite", WORKERS) as opened:
        yield opened


def check(tally: Tally, *, at_least: int) -> None:
    assert tally.crashes == []
    assert tally.failures == []
    assert tally.rounds >= at_least


@pytest.mark.timeout(900)
def test_a_kill_before_and_after_each_boundary_loses_nothing_and_pays_nothing_twice(on: list[Arena]) -> None:
    """All of them on SQLite; on Postgres those around the create, which cost money. The long form has all on each."""
    if on[0].store == "sqlite":
        cases = list(suites.each_boundary(on[0], per_boundary=1))
    else:  # known without the rounds that tell which boundaries a run passes
        cases = list(suites.around_the_create(on[0].profile))
    places = {place for case in cases for place in re.findall(r"\w+:(?:before|after)", case.name)}
    tally = play("boundaries", cases, on)
    check(tally, at_least=len(cases))
    assert places - tally.reached.places.keys() == set()


def test_two_kills_in_a_row_lose_nothing_and_pay_nothing_twice(on: list[Arena]) -> None:
    tally = play("pairs", suites.pairs(on[0], seed=101), on, enough=lambda tally: tally.whole >= 6)
    check(tally, at_least=6)


def test_kills_at_random_instants(on: list[Arena]) -> None:
    tally = play(
        "random", suites.at_random(on[0], seed=102), on, enough=lambda tally: tally.reached.happened >= 8
    )
    check(tally, at_least=4)


def test_each_kind_of_fault_somewhere(on: list[Arena]) -> None:
    check(
        play("faults", suites.each_fault(on[0].profile, occurrences=(1,), seed=103, share=0.06), on),
        at_least=6,
    )


def test_several_drivers_that_are_killed_and_stopped(on: list[Arena]) -> None:
    check(play("drivers", suites.crowds(rounds=3, seed=104, sizes=(2, 4)), on), at_least=3)


def test_drivers_that_wake_after_they_were_replaced(on: list[Arena]) -> None:
    tally = play("zombies", suites.zombies(on[0].profile, rounds=3, seed=105), on)
    check(tally, at_least=3)
    assert tally.reached.happened == tally.reached.meant


def test_a_list_that_lags_less_than_the_grace_period(on: list[Arena]) -> None:
    check(play("lag", suites.lags(on[0].profile, rounds=2, seed=106), on), at_least=2)


def test_creates_that_arrive_after_their_sender_has_given_them_up(on: list[Arena]) -> None:
    check(play("arrivals", suites.arrivals(rounds=2, seed=110), on), at_least=2)


def test_results_that_come_late(on: list[Arena]) -> None:
    check(play("late", suites.late_results(rounds=4, seed=109), on), at_least=4)


def test_rows_are_those_of_one_reading_whatever_becomes_of_their_source(on: list[Arena]) -> None:
    source = Source.QUERY if on[0].store == "postgres" else Source.FRAME
    tally = play("snapshots", suites.around_the_snapshot(source), on)
    check(tally, at_least=len(suites.AROUND_THE_SNAPSHOT))
    assert tally.reached.happened == tally.reached.meant


def test_a_database_that_is_put_back(on: list[Arena]) -> None:
    check(play("restored", suites.time_travels(rounds=4, seed=107), on), at_least=4)


def stride(on: list[Arena]) -> int:
    """How many places of a sample to pass over: more where each round takes longer."""
    return 80 if on[0].store == "postgres" else 40


def test_disks_without_room(on: list[Arena]) -> None:
    tally = play("full-disk", list(suites.full_disks(on[0], stride=stride(on))), on)
    check(tally, at_least=5)
    assert tally.reached.happened >= 0.7 * tally.reached.meant  # the last boundaries are not always passed


def test_power_cuts(on: list[Arena]) -> None:
    check(play("power-loss", list(suites.power_cuts(on[0], stride=stride(on))), on), at_least=5)


def test_connections_that_are_terminated(on: list[Arena]) -> None:
    if on[0].store == "sqlite":  # it has no connections to lose, but a clock of its own
        cases = suites.wrong_clocks(rounds=4, seed=108)
    else:
        cases = suites.lost_connections(rounds=3, seed=108)
    check(play("disturbed", cases, on), at_least=3)


PLACES = [f"{name}:{when}" for name in reuse.MATTERING for when in ("before", "after")]


def test_overlapping_runs_ask_nothing_twice_and_stay_under_their_caps(on: list[Arena]) -> None:
    """A driver after the other that is killed, half of the sides of each boundary on each database; then a crowd."""
    cases = [reuse.where_it_matters()[on[0].store == "postgres"]]
    cases += reuse.crowds(PLACES, rounds=1, seed=301, shape=reuse.NARROW, size=3)
    tally = play("reuse", cases, on)
    check(tally, at_least=len(cases))
    assert (
        tally.reached.happened >= 0.8 * tally.reached.meant
    )  # of a crowd, not all come to where they are to die


def test_a_worker_that_dies_is_told(on: list[Arena]) -> None:
    def fail(stage: Round) -> Verdict:
        raise OSError("no more processes")

    tally = play("broken", [suites.Case("the harness", SCENARIOS["plain"], fail)] * 9, on)
    assert tally.rounds == 0
    assert 1 <= len(tally.crashes) <= WORKERS
    assert "no more processes" in tally.crashes[0]


# --- negative controls: where these find nothing wrong, neither do the tests above -----------------------------------
# What they leave out has nothing to do with the database, so that one is enough here.

CONTROL_ROUNDS = 60
"""At most: a control ends with the first round that goes wrong, which on a busy machine need not be among the first few."""


def test_the_documented_order_alone_pays_twice(on_sqlite: list[Arena]) -> None:
    dangerous = ("create_batch:after", "register:before")
    cases = [case for case in suites.naive(on_sqlite[0]) if case.name.endswith(dangerous)]
    tally = play("naive order", cases, on_sqlite)
    assert (tally.rounds, tally.bad, tally.crashes) == (2, 2, [])
    assert tally.total.paid_twice > 0


def test_without_the_file_fence_a_driver_that_wakes_pays_twice(on_sqlite: list[Arena]) -> None:
    tally = play(
        "no fence",
        suites.zombies(
            on_sqlite[0].profile, rounds=CONTROL_ROUNDS, seed=9, fences=False, sleeps=suites.SLEEPS[:2]
        ),
        on_sqlite,
        stop_at_bad=1,
    )
    assert tally.total.paid_twice > 0


def test_a_list_that_lags_more_than_the_grace_period_pays_twice(on_sqlite: list[Arena]) -> None:
    tally = play(
        "lag above grace",
        suites.lags(on_sqlite[0].profile, rounds=CONTROL_ROUNDS, seed=10, above_grace=True),
        on_sqlite,
        stop_at_bad=1,
    )
    assert tally.total.paid_twice > 0


def test_rows_of_two_readings_are_seen(on_sqlite: list[Arena]) -> None:
    tally = play("no snapshot", suites.without_snapshot(), on_sqlite)
    assert (tally.rounds, tally.bad, tally.crashes) == (1, 1, [])
    assert tally.total.doubled > 0


def test_a_driver_that_buys_at_once_what_has_no_line_pays_twice(on_sqlite: list[Arena]) -> None:
    cases = suites.late_results(rounds=CONTROL_ROUNDS, seed=14, waits=False)
    tally = play("buys at once", cases, on_sqlite, stop_at_bad=1)
    assert tally.total.paid_twice > 0


def test_without_following_overlapping_runs_ask_twice(on_sqlite: list[Arena]) -> None:
    cases = reuse.crowds(PLACES, rounds=CONTROL_ROUNDS, seed=302, shape=reuse.NARROW, size=3, diverts=False)
    tally = play("no following", cases, on_sqlite, stop_at_bad=1)
    assert tally.total.paid_twice > 0


# --- other providers -------------------------------------------------------------------------------------------------

OTHERS = ["stranger"]
"""Providers whose protocol is nothing like the default one's: what the engine does about them."""

SAME_AS_A_STRANGER = [name for name in PROFILES if name not in ("openai", *OTHERS)]
"""Real providers that the engine treats as it does a stranger: whether their protocol says what it has to."""
OTHERS_WORKERS = 4


@pytest.fixture(scope="module", params=OTHERS)
def elsewhere(request: pytest.FixtureRequest) -> Iterator[list[Arena]]:
    """On SQLite; on Postgres in the long form, as far as the provider and not the database makes the difference."""
    with arenas("sqlite", OTHERS_WORKERS, "", provider=request.param) as opened:
        yield opened


def test_another_provider_loses_nothing_and_is_paid_once(elsewhere: list[Arena]) -> None:
    provider = elsewhere[0].profile
    cases = [
        *suites.around_the_create(provider),
        *suites.each_fault(provider, occurrences=(1,), seed=201, share=0.05),
        *suites.zombies(provider, rounds=2, seed=202),
        *suites.lags(provider, rounds=2, seed=203),
        *suites.arrivals(rounds=2, seed=204),
        *suites.late_results(rounds=2, seed=205),
        *suites.time_travels(rounds=3, seed=206),
        *suites.crowds(rounds=1, seed=207, sizes=(3,)),
    ]
    tally = play(f"{provider.name}, in short", cases, elsewhere)
    check(tally, at_least=len(cases))
    assert (tally.total.held > 0) is (not provider.limits.can_fence)


def test_another_provider_is_paid_twice_by_a_driver_without_patience(elsewhere: list[Arena]) -> None:
    """The control: rows that are not found are sent again at once, and then the first create arrives."""
    cases = suites.arrivals(rounds=CONTROL_ROUNDS, seed=17, fences=False)
    tally = play("no patience", cases, elsewhere, stop_at_bad=1)
    assert tally.total.paid_twice > 0


@pytest.mark.parametrize("name", SAME_AS_A_STRANGER)
def test_a_real_provider_that_is_no_better_than_a_stranger(name: str) -> None:
    with arenas("sqlite", 1, "", provider=name) as opened:  # each starts two processes
        provider = opened[0].profile
        dies = "create_batch:after"
        found, _, lost = [case for case in suites.around_the_create(provider) if case.name.endswith(dies)]
        cases = [found, lost]  # a batch that is in the list, and one that never was
        tally = play(f"{provider.name}, in short", cases, opened)
    check(tally, at_least=len(cases))
    assert (tally.total.held > 0) is (not provider.limits.can_fence)
