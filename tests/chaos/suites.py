"""The suites: which rounds there are, and how each is played."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

from tests.chaos.arena import Arena, Driver, Round
from tests.chaos.scenario import GRACE_SEC, SCENARIOS, Scenario, batch, http
from tests.chaos.verdict import Verdict, judge

SHORT_LEASE_SEC = 0.7
"""Of drivers that are stopped for longer: as short as the timeout of a request allows."""

LONGEST_SLEEP_SEC = 10.0

Play: TypeAlias = Callable[[Round], Verdict]


@dataclass(frozen=True)
class Case:
    """One round.

    Attributes:
        name: Tells it from the suite's others.
        scenario: What the drivers are asked to do.
        play: What happens to them.
    """

    name: str
    scenario: Scenario
    play: Play


# --- kills at boundaries ---------------------------------------------------------------------------------------------


def passages(arena: Arena, scenario: Scenario) -> Counter[str]:
    """The boundaries that an undisturbed driver passes, as ``name:when``, with how often."""
    if scenario.name not in arena.passages:
        with arena.round(scenario) as stage:
            driver = stage.live(trace=True)
            verdict = judge(stage.facts(), scenario)
            assert verdict.is_good, f"{scenario.name} goes wrong by itself: {verdict}"
            arena.passages[scenario.name] = Counter(driver.trace())
    return arena.passages[scenario.name]


def each_boundary(arena: Arena, *, per_boundary: int, repeat_in_all: bool) -> Iterator[Case]:
    """A kill before and after each boundary, in the first scenario that passes it, or in all that do."""
    seen: set[str] = set()
    for scenario in SCENARIOS.values():
        passed = passages(arena, scenario)
        for place, times in passed.items():
            if repeat_in_all or place not in seen:
                for nth in range(1, min(times, per_boundary) + 1):
                    yield Case(f"{scenario.name} {place}:{nth}", scenario, killed_at(f"{place}:{nth}"))
        seen |= passed.keys()


def killed_at(*places: str) -> Play:
    """One driver after the other, each killed at its place; then one that finishes."""

    def play(stage: Round) -> Verdict:
        for place in places:
            stage.reached.count(stage.live(kill=place))
        return stage.verdict()

    return play


PAIRED = ("plain", "answer-lost", "request-lost", "expired", "rows-fail", "cancelled", "cancelled-in-doubt")


def pairs(arena: Arena, *, count: int, seed: int) -> Iterator[Case]:
    """Kills at two boundaries in a row, drawn from all that a scenario has."""
    draw = random.Random(seed)
    places = {
        name: [
            f"{place}:{nth}"
            for place, times in sorted(passages(arena, SCENARIOS[name]).items())
            for nth in range(1, min(times, 3) + 1)
        ]
        for name in PAIRED
    }
    for _ in range(count):
        name = draw.choice(PAIRED)
        # the second driver recovers before it does anything else: half of the second kills hit that
        first, second = (
            draw.choice(places[name]),
            draw.choice([draw.choice(places[name]), draw.choice(RECOVERY)]),
        )
        yield Case(f"{name} {first} then {second}", SCENARIOS[name], killed_at(first, second))


RECOVERY = [
    f"{name}:{when}:{nth}"
    for name in (
        "open_session",
        "requeue_local",
        "mark_unknown",
        "list_batches",
        "remove_file",
        "record_look_up",
        "drop",
        "register",
        "find_files",
        "delete_file",
        "delete_artifact",
    )
    for when in ("before", "after")
    for nth in (1, 2)
]


def at_random(*, count: int, seed: int, longest: float) -> Iterator[Case]:
    """Kills at up to three random instants in a row."""
    draw = random.Random(seed)
    for number in range(count):
        scenario = SCENARIOS[draw.choice(PAIRED)]
        delays = [draw.uniform(0.0, longest) for _ in range(draw.randint(1, 3))]
        yield Case(f"#{number} {scenario.name} {delays}", scenario, killed_after(delays))


def killed_after(delays: Sequence[float]) -> Play:
    """One driver after the other, each killed after so many seconds unless it has finished; then one that finishes."""

    def play(stage: Round) -> Verdict:
        for delay in delays:
            driver = stage.start()
            driver.wait(delay)
            driver.kill()
            stage.reached.count(driver)
        return stage.verdict()

    return play


# --- faults of the provider ------------------------------------------------------------------------------------------

REQUESTS = {
    "upload": ("POST", "/v1/files"),
    "create": ("POST", "/v1/batches"),
    "list": ("GET", "/v1/batches"),
    "poll": ("GET", "/v1/batches/batch_*"),
    "look-up-file": ("GET", "/v1/files/batch_*put"),
    "download": ("GET", "/v1/files/*/content"),
    "delete": ("DELETE", "/v1/files/*"),
    "cancel": ("POST", "/v1/batches/*/cancel"),
}
"""The provider's routes that drivers use."""

KINDS: dict[str, dict[str, object]] = {
    **{
        f"status {code}": {"kind": "status", "status": code}
        for code in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503)
    },
    "status 429, retry after": {"kind": "status", "status": 429, "retry_after": 0.05},
    "status 500 after work": {"kind": "status", "status": 500, "after_work": True},
    "status 503 after work": {"kind": "status", "status": 503, "after_work": True},
    "cut": {"kind": "cut"},
    "cut after work": {"kind": "cut", "after_work": True},
    "truncated": {"kind": "truncate"},
    "garbage": {"kind": "garbage"},
    "garbage after work": {"kind": "garbage", "after_work": True},
    "redirect": {"kind": "redirect"},
    "late beyond the timeout": {"kind": "delay", "seconds": 0.8, "after_work": True},
}
"""Twenty-two ways in which a request goes wrong."""


def each_fault(
    *,
    kinds: Sequence[str] = tuple(KINDS),
    occurrences: Sequence[int] = (1, 2),
    seed: int = 0,
    share: float = 1.0,
) -> Iterator[Case]:
    """Every kind of fault at every request, at its first and second occurrence."""
    draw = random.Random(seed)
    for (name, (method, path)), kind, nth in product(REQUESTS.items(), kinds, occurrences):
        if draw.random() >= share:
            continue
        fields = dict(KINDS[kind])
        fault = http(str(fields.pop("kind")), method, path, nth=nth, **fields)
        # what is only asked in doubt, or on cancelling, needs a run that comes there
        before = {"list": "request-lost", "cancel": "cancelled"}.get(name, "plain")
        scenario = SCENARIOS[before]
        scenario = replace(
            scenario, name=f"{before}, {kind} at {name} {nth}", faults=(*scenario.faults, fault)
        )
        yield Case(scenario.name, scenario, lambda stage: stage.verdict())


# --- several drivers -------------------------------------------------------------------------------------------------


def crowds(*, rounds: int, seed: int, sizes: Sequence[int] = (2, 4, 8)) -> Iterator[Case]:
    """Several drivers on one run, some of which are killed and replaced, or stopped for longer than the lease lasts."""
    draw = random.Random(seed)
    for number in range(rounds):
        size = sizes[number % len(sizes)]
        scenario = SCENARIOS[draw.choice(("plain", "answer-lost", "request-lost", "expired", "rows-fail"))]
        yield Case(f"#{number} {size} drivers, {scenario.name}", scenario, crowd(size, draw.randrange(2**32)))


def crowd(size: int, seed: int) -> Play:
    """``size`` drivers at once, disturbed by a seed."""

    def play(stage: Round) -> Verdict:
        draw = random.Random(seed)
        how = {"lease_ttl_sec": SHORT_LEASE_SEC, "exports": False}
        drivers = [stage.start(**how) for _ in range(size)]
        stopped: list[Driver] = []
        for _ in range(draw.randint(2, 5)):
            time.sleep(draw.uniform(0.02, 0.4))
            victim = draw.choice(drivers)
            match draw.choice(("kill", "stop", "wake")):
                case "kill":
                    victim.kill()
                    drivers[drivers.index(victim)] = stage.start(**how)
                case "stop":
                    victim.send(signal.SIGSTOP)
                    stopped.append(victim)
                case "wake" if stopped:
                    stopped.pop(draw.randrange(len(stopped))).send(signal.SIGCONT)
        # one who sleeps while he holds the database's lock keeps everybody waiting, as he would in life
        time.sleep(draw.uniform(0.0, 0.5))
        for driver in stopped:
            driver.send(signal.SIGCONT)
        stage.ended(drivers)
        return stage.verdict()

    return play


SLEEPS = (
    "mark_sending:after",
    "create_batch:before",
    "create_batch:after",
    "upload_file:before",
    "upload_file:after",
    "write_artifact:after",
    "get_batch:after",
    "download_file:after",
    "take_artifact:before",
    "take_artifact:after",
    "delete_file:before",
    "register:after",
)
"""Where a driver can fall asleep without a lock in its hands."""


def zombies(*, rounds: int, seed: int, fences: bool = True, sleeps: Sequence[str] = SLEEPS) -> Iterator[Case]:
    """A driver falls asleep, another one takes over, and then the first one wakes."""
    draw = random.Random(seed)
    for number in range(rounds):
        place = f"{sleeps[number % len(sleeps)]}:{draw.choice((1, 2)) if fences else 1}"
        awake_after = draw.choice((None, draw.uniform(0.5, 1.5)))
        yield Case(
            f"#{number} asleep at {place}, awake {awake_after or 'last'}",
            SCENARIOS["plain"],
            zombie(place, awake_after, fences=fences),
        )


def zombie(place: str, awake_after: float | None, *, fences: bool) -> Play:
    """Asleep at ``place``; awake after so many seconds of the other driver, or when that one has finished."""

    def play(stage: Round) -> Verdict:
        how = {"lease_ttl_sec": SHORT_LEASE_SEC, "fences": fences, "exports": False}
        sleeper = stage.start(stop=place, **how)
        stage.reached.meant += 1
        stage.reached.happened += sleeper.wait_stopped()
        other = stage.start(**how)
        # one who sleeps in the midst of renewing his lease keeps the database's lock: in the end he has to wake
        other.wait(LONGEST_SLEEP_SEC if awake_after is None else awake_after)
        sleeper.send(signal.SIGCONT)
        stage.ended([other, sleeper])
        return stage.verdict(fences=fences)

    return play


# --- the provider's list, the database, the clock --------------------------------------------------------------------


def lags(*, rounds: int, seed: int, above_grace: bool = False) -> Iterator[Case]:
    """The provider lists a new batch late, and its creator has been killed."""
    draw = random.Random(seed)
    for number in range(rounds):
        lag = GRACE_SEC * (draw.uniform(8.0, 12.0) if above_grace else draw.uniform(0.1, 0.7))
        scenario = Scenario("unlisted", (batch("unlisted", seconds=lag),))
        yield Case(f"#{number} listed after {lag:.2f} s", scenario, lagging(draw.choice(("after", "before"))))


def lagging(when: str) -> Play:
    """Killed when the create has come back, or before it could be registered."""

    def play(stage: Round) -> Verdict:
        place = "create_batch:after" if when == "after" else "register:before"
        stage.reached.count(stage.live(kill=place))
        stage.arena.books()  # at the provider the batch goes on, whether it is listed or not
        return stage.verdict()

    return play


def wrong_clocks(*, rounds: int, seed: int) -> Iterator[Case]:
    """Drivers whose clocks differ by an hour or a day follow each other, with a kill between them."""
    draw = random.Random(seed)
    places = (
        "create_batch:before",
        "create_batch:after",
        "mark_sending:after",
        "claim:after",
        "apply_outcome:after",
        "record_look_up:after",
    )
    for number in range(rounds):
        offset = draw.choice((-86_400.0, -3_600.0, 3_600.0, 86_400.0))
        place = draw.choice(places)
        scenario = SCENARIOS[draw.choice(("plain", "request-lost"))]
        yield Case(f"#{number} {scenario.name}, {place}, {offset:+.0f} s", scenario, jumping(place, offset))


def jumping(place: str, offset: float) -> Play:
    """Killed by the right clock, finished by the wrong one."""

    def play(stage: Round) -> Verdict:
        stage.reached.count(stage.live(kill=place))
        return stage.verdict(clock_offset=offset)

    return play


SUBMITTING = (
    "append_items:after",
    "claim:after",
    "mark_uploaded:after",
    "mark_sending:after",
    "create_batch:after",
    "register:after",
    "record_batch_files:after",
    "apply_outcome:after",
)


def time_travels(*, rounds: int, seed: int) -> Iterator[Case]:
    """A backup is put back: batches that were created since are unknown to the store, and their rows seem unsent."""
    draw = random.Random(seed)
    for number in range(rounds):
        kept = f"{SUBMITTING[number % len(SUBMITTING)]}:1"
        lost = draw.choice((None, "register:after:2", "apply_outcome:after:2", "create_batch:after:2"))
        yield Case(
            f"#{number} kept at {kept}, put back at {lost or 'the end'}",
            replace(SCENARIOS["plain"], forgets=True),
            travelled(kept, lost, goes_on=draw.random() < 0.5),
        )


def travelled(kept: str, lost: str | None, *, goes_on: bool) -> Play:
    """The database is kept at one place and put back at another, where a driver dies.

    At the first place the driver dies too, or, with ``goes_on``, the backup is taken behind its back.
    """

    def play(stage: Round) -> Verdict:
        stage.reached.meant += 1
        if goes_on:
            driver = stage.start(stop=kept, kill=lost or "", exports=False)
            stage.reached.happened += driver.wait_stopped()
            stage.snapshot()
            driver.send(signal.SIGCONT)
            stage.ended([driver])
        else:
            stage.reached.happened += stage.live(kill=kept).report() is None
            stage.snapshot()
            stage.live(kill=lost or "", exports=False)
        stage.restore()
        return stage.verdict()

    return play


CONNECTION_ERRORS = (
    "connection",
    "terminating",
    "shut down",
    "starting up",
    "not yet accepting",
    "recovery mode",
)


def lost_connections(*, rounds: int, seed: int, disturb: Callable[[], None]) -> Iterator[Case]:
    """The database loses its connections, or restarts, again and again while drivers work."""
    draw = random.Random(seed)
    for number in range(rounds):
        scenario = replace(SCENARIOS[draw.choice(PAIRED)], tolerates=CONNECTION_ERRORS)
        pauses = [draw.uniform(0.05, 0.4) for _ in range(draw.randint(1, 4))]
        yield Case(f"#{number} {scenario.name}", scenario, disturbed(pauses, disturb))


def disturbed(pauses: Sequence[float], disturb: Callable[[], None]) -> Play:
    """Two drivers, whose database is disturbed after each pause."""

    def play(stage: Round) -> Verdict:
        drivers = [stage.start(exports=False, lease_ttl_sec=SHORT_LEASE_SEC) for _ in range(2)]
        for pause in pauses:
            time.sleep(pause)
            disturb()
        stage.ended(drivers)
        return stage.verdict()

    return play


# --- negative controls: what must go wrong, or else the harness is blind ---------------------------------------------


def naive(arena: Arena) -> Iterator[Case]:
    """The documented order of calls, killed before and after each of its boundaries."""
    scenario = replace(SCENARIOS["plain"], forgets=True)  # it writes nothing down before it sends
    with arena.round(scenario) as stage:
        places = sorted(set(stage.live(naive=True, trace=True).trace()))
    for place in places:
        yield Case(f"naive {place}", scenario, naive_killed_at(place))


def naive_killed_at(place: str) -> Play:
    """Killed once, and started again as its user would."""

    def play(stage: Round) -> Verdict:
        stage.reached.count(stage.live(naive=True, kill=place))
        return stage.verdict(naive=True, deadline_sec=5.0)

    return play
