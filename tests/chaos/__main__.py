"""The long form: ``python -m tests.chaos [suite ...] [--stores sqlite,postgres] [--provider openai] [--scale 1.0] [--minutes 0] [--workers 4]``.

Prints what each suite did on each store, and ends with 1 if anything went wrong that must not, a negative control failed to
go wrong, a suite came to fewer kills than it is to have, or the harness itself failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tests.chaos import reuse, suites
from tests.chaos.arena import Arena
from tests.chaos.play import Tally, arenas, play
from tests.chaos.profile import PROFILES, Profile, profile
from tests.chaos.scenario import Source
from tests.chaos.suites import Case
from tests.chaos.verdict import FIGURES
from tests.postgres_server import postgres_dsn

STORES = ("sqlite", "postgres")

PATIENCE = 4
"""A suite that counts kills gives up after so many times the rounds."""


@dataclass(frozen=True)
class Suite:
    """A suite in its full size.

    Attributes:
        about: What it does, in a few words.
        cases: Makes the cases; its first argument is an arena for trial runs, its second the number of rounds.
        rounds: In the long form; 0 for as many as there are cases.
        counts: What ``rounds`` counts: all that were played, those in which both kills came to pass, or single kills.
        stores: Where it makes sense.
        own_servers: Each worker has a Postgres of its own, which it restarts.
        must_fail: It is a negative control.
        makes_sense: Of which providers.
        reaches: Boundaries at which it has to kill, with a provider.
    """

    about: str
    cases: Callable[[Arena, int], Iterable[Case]]
    rounds: int = 0
    counts: Literal["rounds", "pairs", "kills"] = "rounds"
    stores: tuple[str, ...] = STORES
    own_servers: bool = False
    must_fail: bool = False
    makes_sense: Callable[[Profile], bool] = lambda of: True
    reaches: Callable[[Profile], frozenset[str]] = lambda of: frozenset()

    def done(self, tally: Tally) -> int:
        """How far it has come, in what it counts."""
        match self.counts:
            case "rounds":
                return tally.rounds
            case "pairs":
                return tally.whole
            case "kills":
                return tally.reached.happened


SUITES = {
    "boundaries": Suite(
        "a kill before and after each boundary, at its first three passages",
        lambda arena, _: suites.each_boundary(arena, per_boundary=3),
        reaches=suites.places,
    ),
    "pairs": Suite(
        "kills of two drivers in a row, both at boundaries; a pair counts if both came to pass",
        lambda arena, _: suites.pairs(arena, seed=1),
        1_000,
        counts="pairs",
    ),
    "random": Suite(
        "up to three drivers in a row, killed at random instants; kills that came to pass are counted",
        lambda arena, _: suites.at_random(arena, seed=2),
        1_000,
        counts="kills",
    ),
    "faults": Suite(
        "22 kinds of fault at each request, at its first and second occurrence",
        lambda arena, _: suites.each_fault(arena.profile),
    ),
    "drivers": Suite(
        "2, 4 and 8 drivers on one run, killed, replaced, stopped and woken",
        lambda _, count: suites.crowds(rounds=count, seed=3),
        200,
    ),
    "zombies": Suite(
        "a driver is stopped at a boundary, another one takes over, the first one wakes",
        lambda arena, count: suites.zombies(arena.profile, rounds=count, seed=4),
        50,
    ),
    "lag": Suite(
        "the provider lists a new batch late, within the grace period or, without a fence, after it; its creator was killed",
        lambda arena, count: suites.lags(arena.profile, rounds=count, seed=5),
        50,
    ),
    "arrivals": Suite(
        "a create arrives up to two seconds after it was sent; drivers that look for its batch are killed",
        lambda _, count: suites.arrivals(rounds=count, seed=16),
        50,
    ),
    "holds": Suite(
        "rows are held for a lifetime since nothing can fence their create; then drivers are killed at each boundary",
        lambda arena, _: suites.holds(arena),
        makes_sense=lambda of: not of.limits.can_fence,
    ),
    "late": Suite(
        "result files are named late, not there or short, each by itself, by polls and by time; waiting drivers are killed",
        lambda _, count: suites.late_results(rounds=count, seed=13),
        120,
    ),
    "snapshots": Suite(
        "drivers die while the rows of a frame or query are written down, and after; the rows change meanwhile",
        lambda _, count: suites.around_the_snapshot(Source.FRAME, Source.QUERY),
    ),
    "reuse": Suite(
        "overlapping runs that reuse answers under caps: one driver is killed at each boundary, then 8 on 20 runs, all over",
        lambda arena, count: [
            *reuse.each_boundary(arena),
            *reuse.crowds(reuse.passages(arena), rounds=count, seed=18),
        ],
        30,
        makes_sense=lambda of: of.limits.can_fence,
        reaches=lambda of: reuse.ONLY_HERE,
    ),
    "clocks": Suite(
        "after a kill, a driver whose clock is wrong by an hour or a day",
        lambda _, count: suites.wrong_clocks(rounds=count, seed=6),
        50,
    ),
    "restored": Suite(
        "the database is put back to an earlier moment",
        lambda _, count: suites.time_travels(rounds=count, seed=7),
        50,
    ),
    "full-disk": Suite(
        "the k-th write and all that follow find no room, for every k",
        lambda arena, _: suites.full_disks(arena),
    ),
    "power-loss": Suite(
        "at each boundary the power fails: what was not synced is gone; Postgres stops without a shutdown",
        lambda arena, _: suites.power_cuts(arena, stride=1 if arena.store == "sqlite" else 4),
        own_servers=True,
    ),
    "terminated": Suite(
        "all connections to the database are cut, again and again",
        lambda _, count: suites.lost_connections(rounds=count, seed=8),
        50,
        stores=("postgres",),
    ),
    "restarts": Suite(
        "the database stops without a shutdown and starts again, again and again",
        lambda _, count: suites.lost_connections(rounds=count, seed=11, restarts=True),
        30,
        stores=("postgres",),
        own_servers=True,
    ),
    "naive-order": Suite(
        "the documented order of calls alone, killed at each boundary",
        lambda arena, _: suites.naive(arena),
        must_fail=True,
    ),
    "no-fence": Suite(
        "as zombies, with input files that are not deleted",
        lambda arena, count: suites.zombies(
            arena.profile, rounds=count, seed=9, fences=False, sleeps=suites.SLEEPS[:2]
        ),
        12,
        must_fail=True,
        makes_sense=lambda of: of.limits.can_fence,
    ),
    "no-patience": Suite(
        "as arrivals, with drivers that take what they don't find for never created: no fence, no waiting",
        lambda _, count: suites.arrivals(rounds=count, seed=17, fences=False),
        12,
        must_fail=True,
    ),
    "buys-at-once": Suite(
        "as late, with a driver that takes what has no line for missing",
        lambda _, count: suites.late_results(rounds=count, seed=14, waits=False),
        12,
        must_fail=True,
    ),
    "no-snapshot": Suite(
        "as snapshots, with rows that are read anew after a crash",
        lambda _, count: suites.without_snapshot(),
        1,
        must_fail=True,
    ),
    "no-following": Suite(
        "as reuse, with rows that don't follow equal ones",
        lambda arena, count: reuse.crowds(reuse.passages(arena), rounds=count, seed=19, diverts=False),
        4,
        must_fail=True,
        makes_sense=lambda of: of.limits.can_fence,
    ),
    "no-cap-check": Suite(
        "as reuse, with claims that don't look at caps",
        lambda arena, count: reuse.crowds(reuse.passages(arena), rounds=count, seed=20, checks_caps=False),
        4,
        must_fail=True,
        makes_sense=lambda of: of.limits.can_fence,
    ),
    "lag-above-grace": Suite(
        "as lag, but later than the grace period; where there is no fence, with such drivers",
        lambda arena, count: suites.lags(arena.profile, rounds=count, seed=10, above_grace=True),
        12,
        must_fail=True,
    ),
}


def main() -> int:
    """Play what was asked for."""
    options = _options()
    provider = profile(options.provider)
    wrong = False
    print(_row(["suite", "store", "counted", "rounds", "bad", *FIGURES, "kills", "seconds", "slowest"]))
    for store in options.stores:
        chosen = [
            name
            for name in options.suites
            if store in SUITES[name].stores and SUITES[name].makes_sense(provider)
        ]
        for own_servers in (False, True):
            names = deque(name for name in chosen if _owns_servers(name, store) == own_servers)
            while names:
                dsn = postgres_dsn() if store == "postgres" and not own_servers else ""
                with arenas(
                    store, options.workers, dsn, own_servers=own_servers, provider=provider.name
                ) as on:
                    healthy = True
                    while names and healthy:
                        tally, is_right = _play(names.popleft(), on, options)
                        wrong |= not is_right
                        healthy = not tally.crashes  # otherwise the rest is played by new processes
    print("SOMETHING IS WRONG, see above" if wrong else "all as it must be", flush=True)
    return int(wrong)


def _owns_servers(name: str, store: str) -> bool:
    return SUITES[name].own_servers and store == "postgres"


def _play(name: str, on: list[Arena], options: argparse.Namespace) -> tuple[Tally, bool]:
    """One suite on one store, and whether all was as it must be."""
    suite = SUITES[name]
    is_short = options.scale < 1 and suite.must_fail  # a control is over with the first round that goes wrong
    wanted = suite.rounds if suite.must_fail else max(1, round(suite.rounds * options.scale))
    is_sample = not suite.rounds and not suite.must_fail and options.scale <= 0.5
    until = time.monotonic() + options.minutes * 60 if options.minutes else None
    try:
        cases = suite.cases(on[0], wanted)
        if suite.counts == "rounds":
            cases = list(cases)  # trial runs come first
        if is_sample:
            cases = list(cases)[:: round(1 / options.scale)]
    except Exception:  # the other suites may yet tell something
        tally = Tally(name, on[0].store, crashes=[traceback.format_exc()])
    else:
        tally = play(
            name,
            cases,
            on,
            until=until,
            stop_at_bad=int(is_short),
            enough=lambda tally: (
                suite.counts != "rounds"
                and (suite.done(tally) >= wanted or tally.rounds >= PATIENCE * wanted)
            ),
        )
    complaints = [f"THE HARNESS FAILED: {crash}" for crash in tally.crashes]
    is_whole = until is None and not tally.crashes and not is_sample
    if suite.must_fail:
        complaints += ["NOTHING WENT WRONG, so the harness is blind"] if tally.bad == 0 else []
    else:
        complaints += tally.failures[:20]
        if is_whole and suite.done(tally) < wanted:
            complaints.append(f"ONLY {suite.done(tally)} OF {wanted} {suite.counts}")
        if is_whole and (never := suite.reaches(on[0].profile) - tally.reached.places.keys()):
            complaints.append(f"NEVER KILLED: {', '.join(sorted(never))}")
    _print(suite, tally)
    if tally.total.excess:
        print(
            f"    the largest excess over a cap, as rows had reserved too little: {tally.total.excess:,} picodollars"
        )
    for complaint in complaints:
        print(f"    {complaint[:2_000]}", flush=True)
    for leftover in tally.leftovers if options.verbose and not suite.must_fail else ():
        print(f"    allowed: {leftover[:500]}", flush=True)
    return tally, not complaints


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Kill drivers and count what is lost. Suites:\n"
        + "\n".join(f"  {name:16} {suite.about}" for name, suite in SUITES.items()),
    )
    parser.add_argument("suites", nargs="*", metavar="suite", help="all by default")
    parser.add_argument("--provider", default="openai", choices=PROFILES, help="whose batches")
    parser.add_argument("--stores", default=",".join(STORES), help="where to keep the runs")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rounds")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="end each suite after so long; 0 for no limit"
    )
    parser.add_argument("--workers", type=int, default=4, help="rounds played at the same time")
    parser.add_argument("--verbose", action="store_true", help="name the files that stayed where they may")
    options = parser.parse_args()
    options.suites = options.suites or list(SUITES)
    options.stores = options.stores.split(",")
    unknown = {*options.suites} - {*SUITES} | {*options.stores} - {*STORES}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def _print(suite: Suite, tally: Tally) -> None:
    figures = [str(getattr(tally.total, name)) for name in FIGURES]
    kills = f"{tally.reached.happened}/{tally.reached.meant}" if tally.reached.meant else "-"
    name = f"{tally.suite} (must fail)" if suite.must_fail else tally.suite
    counted = f"{suite.done(tally)} {suite.counts}"
    times = [f"{tally.seconds:.0f}", f"{tally.slowest:.1f}"]
    cells = [name, tally.store, counted, str(tally.rounds), str(tally.bad), *figures, kills, *times]
    print(_row(cells), flush=True)


def _row(cells: list[str]) -> str:
    return " | ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
