"""The suites: which rounds there are, and how each is played."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from typing import Any, TypeAlias

from batchor_core.core.boundaries import Boundary
from tests.chaos.arena import Arena, Driver, Round
from tests.chaos.profile import Profile, Request
from tests.chaos.scenario import GRACE_SEC, SCENARIOS, Scenario, Source, batch, http, row
from tests.chaos.verdict import Verdict, judge

SHORT_LEASE_SEC = 0.7
"""Of drivers that are stopped for longer: as short as the timeout of a request allows."""

TINY_LEASE_SEC = 0.45
"""The shortest that a driver accepts here, which it soon has to renew."""

LONGEST_SLEEP_SEC = 10.0

WOKEN_LATE = "a driver that woke after it was replaced had still to write it"

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
            began = time.monotonic()
            driver = stage.live(trace=True)
            arena.durations[scenario.name] = time.monotonic() - began
            verdict = stage.judged()
            assert verdict.is_good, f"{scenario.name} goes wrong by itself: {verdict}"
            arena.passages[scenario.name] = Counter(driver.trace())
    return arena.passages[scenario.name]


def scenarios(of: Profile, names: Sequence[str] = tuple(SCENARIOS)) -> list[Scenario]:
    """The scenarios that a provider can play."""
    return [SCENARIOS[name] for name in names if of.has(*SCENARIOS[name].requests())]


def each_boundary(arena: Arena, *, per_boundary: int) -> Iterator[Case]:
    """A kill before and after each boundary, in the first way of a run that passes it."""
    seen: set[str] = set()
    for scenario in scenarios(arena.profile):
        passed = passages(arena, scenario)
        for place, times in passed.items():
            if place not in seen:
                for nth in range(1, min(times, per_boundary) + 1):
                    yield Case(f"{scenario.name} {place}:{nth}", scenario, killed_at(f"{place}:{nth}"))
        seen |= passed.keys()
    for place in sorted({place for place in naive_passages(arena, BY_HAND) if place.startswith(HAND_MADE)}):
        yield Case(f"by hand {place}", BY_HAND, naive_killed_at(place))
    for place in ("update_batch:before", "update_batch:after"):
        # whether an undisturbed run's batch is looked at while it is in progress is a matter of chance
        yield Case(f"cancelled {place}", SCENARIOS["cancelled"], killed_at(place))
    for place in ("count_orphans:before", "count_orphans:after"):
        yield Case(f"stray batch {place}", STRAY, killed_beside_a_stray(place))
    for place in ("renew_lease:before", "renew_lease:after"):
        yield Case(f"plain {place}", SCENARIOS["plain"], killed_at(place, lease_ttl_sec=TINY_LEASE_SEC))


def killed_at(*places: str, **how: Any) -> Play:
    """One driver after the other, each killed at its place; then one that finishes."""

    def play(stage: Round) -> Verdict:
        for place in places:
            stage.reached.count(stage.live(kill=place, **how))
        return stage.verdict()

    return play


BY_HAND = Scenario(
    "by-hand",
    (batch("expire", after_rows=2),),
    forgets=True,
    leaves="a script with the documented methods alone removes nothing",
)
HAND_MADE = (
    Boundary.RELEASE_ITEMS,
    Boundary.RECORD_REQUEST_FILES,
    Boundary.MARK_SUBMITTED,
    Boundary.RESET_BATCH,
)
"""What the engine never passes: documented methods of the store for which its own drivers have others."""

ELSEWHERE = (Boundary.WRITE_TABLE, Boundary.FOLLOW, Boundary.KEEP_CAPS)
"""What only Dagster's workers pass, whom tests/acceptance/test_killed_deployment.py kills there, and what only runs with reuse
and caps pass, see reuse.py."""


def places(of: Profile) -> frozenset[str]:
    """Where drivers are killed, each at least once."""
    names = [name for name in Boundary if name not in ELSEWHERE and of.passes(name)]
    return frozenset(f"{name}:{when}" for name in names for when in ("before", "after"))


STRAY = Scenario("stray", forgets=True, leaves="the stray batch's input file is not ours")


def killed_beside_a_stray(place: str) -> Play:
    """A batch under the run's name that the store does not know has turned up, and who finds it is killed."""

    def play(stage: Round) -> Verdict:
        stage.reached.count(stage.live(kill="register:after"))
        stage.create_stray_batch()
        stage.reached.count(stage.live(kill=place))
        return stage.verdict()

    return play


AROUND_THE_CREATE = (
    "mark_sending:after",
    "create_batch:before",
    "create_batch:after",
    "register:before",
    "register:after",
    "mark_unknown:after",
    "record_look_up:after",
)


def around_the_create(of: Profile) -> Iterator[Case]:
    """A kill wherever it may be in doubt whether a batch was created: the part of all boundaries that costs money."""
    for scenario in scenarios(of, ("plain", "answer-lost", "request-lost")):
        for place in AROUND_THE_CREATE:
            yield Case(f"{scenario.name} {place}", scenario, killed_at(place))


AROUND_THE_SNAPSHOT = (
    ("write_artifact:before",),  # all rows are written, and there is no file yet
    ("rename_file:before",),
    ("rename_file:after",),
    ("write_artifact:after",),
    ("append_items:before",),
    ("append_items:after",),  # half of the rows are stored
    ("claim:after",),
    ("rename_file:before", "append_items:after"),
)


def around_the_snapshot(*sources: Source) -> Iterator[Case]:
    """Kills while the rows of a frame or query are written down, and after: all rows have to be of one reading."""
    for source, killed in product(sources, AROUND_THE_SNAPSHOT):
        yield Case(f"{source} {' then '.join(killed)}", Scenario(source, source=source), killed_at(*killed))


def without_snapshot() -> Iterator[Case]:
    """Rows of a source that is read anew after a crash."""
    scenario = Scenario("changed rows", source=Source.MEMORY_THAT_CHANGES)
    yield Case("changed rows append_items:after", scenario, killed_at("append_items:after"))


PAIRED = (
    "plain",
    "answer-lost",
    "request-lost",
    "expired",
    "rows-fail",
    "late",
    "cancelled",
    "cancelled-in-doubt",
)

RECOVERY_STEPS = 10
"""Boundaries that a driver passes at least before it is where another one has been killed."""


def pairs(arena: Arena, *, seed: int) -> Iterator[Case]:
    """Kills of two drivers in a row, without end.

    The first dies at any boundary that a scenario has. What the second one passes depends on that, so it dies at its n-th
    boundary, whichever that is: half of the time early, in the midst of recovering. Some finish before they come to it.
    """
    return _pairs({name: passages(arena, SCENARIOS[name]) for name in PAIRED}, random.Random(seed))


def _pairs(passed: Mapping[str, Counter[str]], draw: random.Random) -> Iterator[Case]:
    while True:
        name = draw.choice(PAIRED)
        place = draw.choice(sorted(passed[name]))
        first = f"{place}:{draw.randint(1, min(passed[name][place], 3))}"
        last = passed[name].total() // 2
        second = f"#{draw.randint(1, draw.choice((RECOVERY_STEPS, 3 * RECOVERY_STEPS, last)))}"
        yield Case(f"{name} {first} then {second}", SCENARIOS[name], killed_at(first, second))


def at_random(arena: Arena, *, seed: int) -> Iterator[Case]:
    """Kills at up to three random instants in a row, within what each scenario takes here, without end."""
    for scenario in scenarios(arena.profile, PAIRED):
        passages(arena, scenario)
    return _at_random(arena.durations, random.Random(seed))


def _at_random(durations: Mapping[str, float], draw: random.Random) -> Iterator[Case]:
    for number in count(1):
        name = draw.choice(PAIRED)
        shares = [draw.random() for _ in range(draw.randint(1, 3))]
        said = ", ".join(f"{share:.2f}" for share in shares)
        yield Case(f"#{number} {name} at {said}", SCENARIOS[name], killed_after(durations[name], shares))


def killed_after(duration: float, shares: Sequence[float]) -> Play:
    """One driver after the other, each killed after this share of the time that is left; then one that finishes."""

    def play(stage: Round) -> Verdict:
        left = duration
        for share in shares:
            driver = stage.start()
            driver.wait(share * left)
            driver.kill()
            stage.reached.count(driver)
            left = max(
                left * (1.0 - share), 0.3 * duration
            )  # whoever takes over has something to look up first
        return stage.verdict()

    return play


# --- disks -----------------------------------------------------------------------------------------------------------

BULKY = Scenario("bulky", bulk=20_000)
FULL_ERRORS = (
    "File too large",
    "disk I/O error",
    "disk is full",
    "unable to open database file",
    "No usable temporary directory",
)


def full_disks(arena: Arena, *, stride: int = 1) -> Iterator[Case]:
    """No room from the k-th boundary on, for every k: for the rest of the process's life, or until an error was shown."""
    for name in ("plain", "expired"):
        scenario = replace(SCENARIOS[name], tolerates=FULL_ERRORS)
        for step in range(1, passages(arena, scenario).total() + 1, stride):
            for for_life in (False, True) if name == "plain" else (step % 2 == 0,):
                how = "until the process ends" if for_life else "for a moment"
                yield Case(f"{name}, full from #{step} {how}", scenario, filled_at(step, for_life=for_life))
    if arena.store == "sqlite":
        scenario = replace(BULKY, tolerates=FULL_ERRORS)
        for pages in range(0, MOST_PAGES, 2 * stride):
            case = f"room for {pages} pages more"
            yield Case(case, scenario, filled_up(pages, for_life=pages % 4 == 0))


MOST_PAGES = 80
"""More than a bulky run's database grows by."""


def filled_at(step: int, *, for_life: bool) -> Play:
    """A driver whose disk is full from its so-many-th boundary on; then one that finishes."""

    def play(stage: Round) -> Verdict:
        report = stage.live(full_at=step, full_for_life=for_life).report()
        stage.reached.note(bool(report and report["was_full"]))
        return stage.verdict()

    return play


def filled_up(pages: int, *, for_life: bool) -> Play:
    """A driver whose database may grow by so many pages only; then one that finishes."""

    def play(stage: Round) -> Verdict:
        report = stage.live(spare_pages=pages, full_for_life=for_life).report()
        stage.reached.note(bool(report and report["was_full"]))
        return stage.verdict()

    return play


UNDONE = "a power cut undoes deletions that were not synced"


def power_cuts(arena: Arena, *, stride: int = 1) -> Iterator[Case]:
    """The power fails at the k-th boundary, for every k, and once more while the next driver recovers."""
    draw = random.Random(12)
    for name in ("plain", "request-lost"):
        scenario = replace(SCENARIOS[name], leaves=UNDONE)
        for step in range(1, passages(arena, scenario).total() + 1, stride):
            again = draw.randint(1, 3 * RECOVERY_STEPS)
            yield Case(f"{name}, power cut at #{step} and #{again}", scenario, powerless_at(step, again))


def powerless_at(*steps: int) -> Play:
    """One driver after the other, each with a power cut at its so-many-th boundary; then one that finishes."""

    def play(stage: Round) -> Verdict:
        for step in steps:
            stage.reached.count(stage.live(kill=f"#{step}", notes_syncs=True))
            stage.cut_power()
        return stage.verdict()

    return play


# --- faults of the provider ------------------------------------------------------------------------------------------

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
    of: Profile,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    occurrences: Sequence[int] = (1, 2),
    seed: int = 0,
    share: float = 1.0,
) -> Iterator[Case]:
    """Every kind of fault at every request, at its first and second occurrence."""
    draw = random.Random(seed)
    for name, kind, nth in product(filter(of.has, Request), kinds, occurrences):
        if draw.random() >= share:
            continue
        fields = dict(KINDS[kind])
        fault = http(str(fields.pop("kind")), name, nth=nth, **fields)
        # what is only asked in doubt, or on cancelling, needs a run that comes there
        before = {"list": "request-lost", "cancel": "cancelled"}.get(name, "plain")
        scenario = SCENARIOS[before]
        scenario = replace(
            scenario,
            name=f"{before}, {kind} at {name} {nth}",
            faults=(*scenario.faults, fault),
            leaves=_why_files_stay(name, kind),
        )
        yield Case(scenario.name, scenario, lambda stage: stage.verdict())


def _why_files_stay(request: str, kind: str) -> str:
    if request == "delete":
        return "its deletion failed; it expires by itself"
    if request == "upload" and kind.startswith("late"):
        return "it arrived after everybody had looked for it; it expires by itself"
    return ""


# --- several drivers -------------------------------------------------------------------------------------------------


def crowds(*, rounds: int, seed: int, sizes: Sequence[int] = (2, 4, 8)) -> Iterator[Case]:
    """Several drivers on one run, some of which are killed and replaced, or stopped for longer than the lease lasts."""
    draw = random.Random(seed)
    for number in range(rounds):
        size = sizes[number % len(sizes)]
        name = draw.choice(("plain", "answer-lost", "request-lost", "expired", "rows-fail"))
        scenario = replace(SCENARIOS[name], leaves=WOKEN_LATE)
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
                case _:
                    if stopped:
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


def zombies(
    of: Profile, *, rounds: int, seed: int, fences: bool = True, sleeps: Sequence[str] = SLEEPS
) -> Iterator[Case]:
    """A driver falls asleep, another one takes over, and then the first one wakes."""
    draw = random.Random(seed)
    sleeps = list(filter(of.passes, sleeps))
    for number in range(rounds):
        place = f"{sleeps[number % len(sleeps)]}:{draw.choice((1, 2)) if fences else 1}"
        awake_after = draw.choice((None, draw.uniform(0.5, 1.5)))
        yield Case(
            f"#{number} asleep at {place}, awake {awake_after or 'last'}",
            replace(SCENARIOS["plain"], leaves=WOKEN_LATE),
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


def lags(of: Profile, *, rounds: int, seed: int, above_grace: bool = False) -> Iterator[Case]:
    """The provider lists a new batch late, and its creator has been killed.

    Beyond the grace period, one that can fence creates has promised nothing. One that can't has to wait for so long that
    only a careless driver pays twice.
    """
    draw = random.Random(seed)
    can_fence = of.limits.can_fence
    for number in range(rounds):
        is_short = not above_grace and (can_fence or number % 2 == 0)
        lag = GRACE_SEC * (draw.uniform(0.1, 0.7) if is_short else draw.uniform(20.0, 30.0))
        scenario = Scenario("unlisted", (batch("unlisted", seconds=lag),))
        when, fences = draw.choice(("after", "before")), can_fence or not above_grace
        yield Case(f"#{number} listed after {lag:.2f} s", scenario, lagging(when, fences=fences))


def lagging(when: str, *, fences: bool = True) -> Play:
    """Killed when the create has come back, or before it could be registered."""

    def play(stage: Round) -> Verdict:
        place = "create_batch:after" if when == "after" else "register:before"
        stage.reached.count(stage.live(kill=place))
        stage.arena.books()  # at the provider the batch goes on, whether it is listed or not
        return stage.verdict(fences=fences)

    return play


ON_ITS_WAY = (
    "",
    "mark_unknown:before",
    "mark_unknown:after",
    "record_look_up:before",
    "record_look_up:after",
)


def arrivals(*, rounds: int, seed: int, fences: bool = True) -> Iterator[Case]:
    """A create arrives after its sender has given it up: within the grace period or after it, for the first batch or the second."""
    draw = random.Random(seed)
    for number in range(rounds):
        seconds = draw.uniform(0.5, 2.0) if fences else draw.uniform(1.5, 2.0)
        nth = 1 + number % 2
        place = draw.choice(ON_ITS_WAY) if fences else ""
        leaves = "" if fences else "a driver that does not fence leaves its files"
        scenario = Scenario(
            "arrives-late", (http("delay", "create", seconds=seconds, nth=nth),), leaves=leaves
        )
        said = f"#{number} create {nth} arrives after {seconds:.2f} s, killed at {place or 'no place'}"
        yield Case(said, scenario, arriving(place, fences=fences))


def arriving(place: str, *, fences: bool) -> Play:
    """Killed while the create is on its way, or not at all; then one that finishes."""

    def play(stage: Round) -> Verdict:
        if place:
            stage.reached.count(stage.live(kill=place, fences=fences))
        return stage.verdict(fences=fences)

    return play


def holds(arena: Arena, *, stride: int = 1) -> Iterator[Case]:
    """A request was lost, or its answer to a batch that nobody lists; its rows are held until no batch can come of it.

    Then a driver is killed at its k-th boundary, for every k, and once more while the next one recovers.
    """
    draw = random.Random(15)
    unlisted = Scenario(
        "unlisted", (http("cut", "create", after_work=True), batch("unlisted", seconds=3_600.0))
    )
    for scenario in (SCENARIOS["request-lost"], unlisted):
        for step in range(1, passages(arena, SCENARIOS["plain"]).total() + 1, stride):
            again = draw.randint(1, 3 * RECOVERY_STEPS)
            yield Case(
                f"{scenario.name}, held, then killed at #{step} and #{again}",
                scenario,
                held_then(step, again),
            )


def held_then(*steps: int) -> Play:
    """A driver ends in a hold; a day later others are killed, and one finishes."""

    def play(stage: Round) -> Verdict:
        ended = stage.live().report()
        stage.reached.note(bool(ended and ended["end"] == "held"))
        stage.pass_lifetime()
        for step in steps:
            stage.reached.count(stage.live(kill=f"#{step}"))
        return stage.verdict()

    return play


FILES = ("output", "error", "both")
LATE_PLACES = (
    "get_batch:after",
    "download_file:after",
    "take_artifact:after",
    "record_wait:before",
    "record_wait:after",
    "apply_outcome:before",
    "apply_outcome:after",
)
"""Where a driver dies that waits for results."""

MOST_LATE_SEC = 1.0


def late_results(*, rounds: int, seed: int, waits: bool = True) -> Iterator[Case]:
    """The result files of an ended batch come late, each by itself or both; drivers die while they wait.

    They are not named, not there, or short without a size, by polls or by time, of batches that completed, expired or were
    cancelled by the provider, with rows that fail among them.
    """
    draw = random.Random(seed)
    for number in range(rounds):
        kind = ("late_files", "late_files", "gone_files", "short_files")[number % 4]
        file = FILES[number % len(FILES)] if waits else draw.choice(("output", "both"))
        fault: dict[str, Any] = {"file": file, "times": None}
        if number % 2:
            fault["polls"] = draw.randint(1, 5)
        else:
            fault["seconds"] = draw.uniform(0.1, MOST_LATE_SEC)
        if kind == "short_files":
            fault["keep"] = draw.uniform(0.0, 0.99)
        ends = draw.choice(("completed", "completed", "expire", "cancel"))
        faults = [batch(kind, **fault), row("status", status=500, custom_id="*-0-*", rate=0.3)]
        if ends != "completed":
            faults.append(batch(ends, after_rows=draw.randint(1, 4), times=2))
        scenario = Scenario(f"{kind}, {file}, {ends}", tuple(faults))
        place = draw.choice(LATE_PLACES) if waits else ""
        nth = draw.randint(1, 3)
        said = f"#{number} {scenario.name} {fault.get('polls') or round(fault.get('seconds', 0.0), 2)}, {place}:{nth}"
        yield Case(said, scenario, waiting(f"{place}:{nth}" if place else "", waits=waits))


def waiting(place: str, *, waits: bool) -> Play:
    """Killed while it waits for results, or not at all; then one that waits to the end, unless it buys at once."""

    def play(stage: Round) -> Verdict:
        if place:
            stage.reached.count(stage.live(kill=place))
        return stage.verdict(waits=waits)

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
        "record_wait:after",
    )
    for number in range(rounds):
        offset = draw.choice((-86_400.0, -3_600.0, 3_600.0, 86_400.0))
        place = draw.choice(places)
        scenario = SCENARIOS[draw.choice(("plain", "request-lost", "late"))]
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
            replace(SCENARIOS["plain"], forgets=True, leaves="the restored database knows nothing of it"),
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


def lost_connections(*, rounds: int, seed: int, restarts: bool = False) -> Iterator[Case]:
    """The database loses its connections, or restarts, again and again while drivers work."""
    draw = random.Random(seed)
    for number in range(rounds):
        scenario = replace(SCENARIOS[draw.choice(PAIRED)], tolerates=CONNECTION_ERRORS)
        pauses = [draw.uniform(0.05, 0.4) for _ in range(draw.randint(1, 4))]
        yield Case(f"#{number} {scenario.name}", scenario, disturbed(pauses, restarts=restarts))


def disturbed(pauses: Sequence[float], *, restarts: bool) -> Play:
    """Two drivers, whose database is disturbed after each pause."""

    def play(stage: Round) -> Verdict:
        drivers = [stage.start(exports=False, lease_ttl_sec=SHORT_LEASE_SEC) for _ in range(2)]
        for pause in pauses:
            time.sleep(pause)
            stage.arena.disturb(restarts=restarts)
        stage.ended(drivers)
        return stage.verdict()

    return play


# --- negative controls: what must go wrong, or else the harness is blind ---------------------------------------------


def naive(arena: Arena) -> Iterator[Case]:
    """The documented order of calls, killed before and after each of its boundaries."""
    # it writes nothing down before it sends
    scenario = replace(SCENARIOS["plain"], name="naive", forgets=True, leaves=BY_HAND.leaves)
    for place in sorted(naive_passages(arena, scenario)):
        yield Case(f"naive {place}", scenario, naive_killed_at(place))


def naive_passages(arena: Arena, scenario: Scenario) -> set[str]:
    """The boundaries that it passes when nothing disturbs it."""
    with arena.round(scenario) as stage:
        driver = stage.live(naive=True, trace=True)
        verdict = judge(stage.facts(), scenario)
        assert verdict.is_good, f"{scenario.name} goes wrong by itself: {verdict}"
        return set(driver.trace())


def naive_killed_at(place: str) -> Play:
    """Killed once, and started again as its user would."""

    def play(stage: Round) -> Verdict:
        stage.reached.count(stage.live(naive=True, kill=place))
        return stage.verdict(naive=True, deadline_sec=5.0)

    return play
