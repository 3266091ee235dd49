"""The long form: ``python -m tests.chaos [suite ...] [--stores sqlite,postgres] [--scale 1.0] [--minutes 0]``.

Prints what each suite did on each store, and ends with 1 if anything went wrong that must not, or a negative control failed
to go wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from tests.chaos import suites
from tests.chaos.arena import Arena
from tests.chaos.disturbance import RestartingPostgres, terminate_backends
from tests.chaos.play import Tally, arenas, play
from tests.chaos.suites import Case
from tests.chaos.verdict import FIGURES
from tests.postgres_server import postgres_dsn

STORES = ("sqlite", "postgres")


@dataclass(frozen=True)
class Suite:
    """A suite in its full size.

    Attributes:
        cases: Makes the cases; its first argument is an arena for trial runs, its second the number of rounds.
        rounds: In the long form.
        stores: Where it makes sense.
        must_fail: It is a negative control.
    """

    cases: Callable[[Arena, int], Iterable[Case]]
    rounds: int = 0
    stores: tuple[str, ...] = STORES
    must_fail: bool = False


SUITES = {
    "boundaries": Suite(lambda arena, _: suites.each_boundary(arena, per_boundary=3, repeat_in_all=False)),
    "pairs": Suite(lambda arena, count: suites.pairs(arena, count=count, seed=1), 1_000),
    "random": Suite(lambda _, count: suites.at_random(count=count, seed=2, longest=1.2), 1_000),
    "faults": Suite(lambda _, __: suites.each_fault()),
    "drivers": Suite(lambda _, count: suites.crowds(rounds=count, seed=3), 200),
    "zombies": Suite(lambda _, count: suites.zombies(rounds=count, seed=4), 50),
    "lag": Suite(lambda _, count: suites.lags(rounds=count, seed=5), 50),
    "clocks": Suite(lambda _, count: suites.wrong_clocks(rounds=count, seed=6), 50),
    "restored": Suite(lambda _, count: suites.time_travels(rounds=count, seed=7), 50),
    "terminated": Suite(
        lambda arena, count: suites.lost_connections(
            rounds=count, seed=8, disturb=partial(terminate_backends, arena.dsn)
        ),
        50,
        stores=("postgres",),
    ),
    "restarts": Suite(lambda _, __: (), 30, stores=("postgres",)),  # on a server of its own: see _restarts
    "naive-order": Suite(lambda arena, _: suites.naive(arena), must_fail=True),
    "no-fence": Suite(
        lambda _, count: suites.zombies(rounds=count, seed=9, fences=False, sleeps=suites.SLEEPS[:2]),
        12,
        must_fail=True,
    ),
    "lag-above-grace": Suite(
        lambda _, count: suites.lags(rounds=count, seed=10, above_grace=True), 12, must_fail=True
    ),
}


def main() -> int:
    """Play what was asked for."""
    options = _options()
    wrong = False
    print(_row(["suite", "store", "rounds", "bad", *FIGURES, "kills", "seconds", "slowest"]))
    for store in options.stores:
        dsn = postgres_dsn() if store == "postgres" else ""
        with arenas(store, options.workers, dsn) as on:
            for name in options.suites:
                suite = SUITES[name]
                if store not in suite.stores:
                    continue
                count = max(1, round(suite.rounds * options.scale))
                until = time.monotonic() + options.minutes * 60 if options.minutes else None
                if name == "restarts":
                    tally = _restarts(count, options.workers, until)
                else:
                    tally = play(
                        name, list(suite.cases(on[0], count)), on, until=until
                    )  # trial runs come first
                wrong |= (tally.bad == 0) if suite.must_fail else (tally.bad > 0)
                _print(tally, must_fail=suite.must_fail)
    return int(wrong)


def _restarts(count: int, workers: int, until: float | None) -> Tally:
    with RestartingPostgres() as server, arenas("postgres", workers, server.dsn) as on:
        return play(
            "restarts",
            suites.lost_connections(rounds=count, seed=11, disturb=server.restart),
            on,
            until=until,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Kill drivers and count what is lost."
    )
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"of {', '.join(SUITES)}; all by default")
    parser.add_argument("--stores", default=",".join(STORES), help="where to keep the runs")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rounds")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="end each suite after so long; 0 for no limit"
    )
    parser.add_argument("--workers", type=int, default=2, help="rounds played at the same time")
    options = parser.parse_args()
    options.suites = options.suites or list(SUITES)
    options.stores = options.stores.split(",")
    unknown = {*options.suites} - {*SUITES} | {*options.stores} - {*STORES}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def _print(tally: Tally, *, must_fail: bool) -> None:
    figures = [str(getattr(tally.total, name)) for name in FIGURES]
    kills = f"{tally.reached.happened}/{tally.reached.meant}" if tally.reached.meant else "-"
    name = f"{tally.suite} (must fail)" if must_fail else tally.suite
    times = [f"{tally.seconds:.0f}", f"{tally.slowest:.1f}"]
    print(_row([name, tally.store, str(tally.rounds), str(tally.bad), *figures, kills, *times]), flush=True)
    if not must_fail:
        for failure in tally.failures[:20]:
            print(f"    {failure[:500]}", file=sys.stderr, flush=True)


def _row(cells: list[str]) -> str:
    return " | ".join(cells)


if __name__ == "__main__":
    raise SystemExit(main())
