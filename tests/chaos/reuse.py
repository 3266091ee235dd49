"""Overlapping runs that reuse each other's answers under caps: what their drivers do, what happens to these, and the verdict.

Several runs of one store ask for partly the same, as partitions of a table do, and each has equal rows itself. They share a cap in
rows and two in dollars, which an operator raises whenever a run has paused at one. By the provider's books no request may be
answered twice and no cap exceeded; in the end every row has its answer, and nothing is reserved.
"""

from __future__ import annotations

import csv
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.boundaries import Boundary
from batchor_core.core.caps import Cap, CapMeasure, CapStanding
from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.core.exceptions import BatchorError, RunNotFoundError, StorageError
from batchor_core.core.models import BatchJob, ChunkPolicy, ProviderConfig, RetryPolicy
from batchor_core.core.pricing import PICODOLLARS, dollars_of
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.runner import BatchRunner
from batchor_core.sources.files import CsvItemSource
from batchor_core.storage.state import StateStore
from tests.chaos.arena import Arena, Round, patiently
from tests.chaos.driver import open_store, provider_config
from tests.chaos.profile import profile
from tests.chaos.scenario import PER_BATCH, SCENARIOS, Life, Place, Scenario
from tests.chaos.suites import Case
from tests.chaos.verdict import Verdict

INPUT_PRICE, OUTPUT_PRICE = 100_000, 10_000_000
"""Picodollars for a token. A row whose answer is longer than it says reserves less than it costs."""

ANSWER_TOKENS = 16
"""Reserved for an answer: more than any has."""

PAUSE_SEC = 0.03


@dataclass(frozen=True)
class Overlap:
    """So many runs, each with some rows of the next.

    Attributes:
        runs: How many.
        rows: Of each, the first of which is there twice.
        step: Rows by which the next run is ahead.
        most_rows: The first cap of all runs together, in rows; an operator adds as much again.
        most_usd: The first caps of every second run, in dollars; the same.
    """

    runs: int
    rows: int
    step: int
    most_rows: int
    most_usd: float

    @property
    def deadline_sec(self) -> float:
        """When a driver of all of them gives up, on a busy machine."""
        return 60.0 + 6 * self.runs

    def texts(self, number: int) -> list[str]:
        """What a run asks."""
        own = [f"question {row}" for row in range(number * self.step, number * self.step + self.rows)]
        return [*own, own[0]]

    def write(self, folder: Path) -> None:
        """The runs' rows as files, whose names tell drivers which runs there are."""
        for number in range(self.runs):
            with (folder / f"{run_id(number)}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["id", "text"])
                writer.writerows((f"row-{n}", text) for n, text in enumerate(self.texts(number)))

    def first_caps(self, number: int) -> list[Cap]:
        """What a run's job says of caps."""
        return [
            Cap(rows=self.most_rows, scope="store"),
            Cap(usd=self.most_usd, scope=f"tag:side={side(number)}"),
        ]


NARROW = Overlap(runs=3, rows=4, step=2, most_rows=5, most_usd=0.0004)
WIDE = Overlap(runs=20, rows=6, step=3, most_rows=20, most_usd=0.0008)


def run_id(number: int) -> str:
    return f"overlap-{number}"


def side(number: int) -> str:
    return ("left", "right")[number % 2]


def prices(provider: str, model: str, day: date) -> dict[str, Any]:
    per_million = 1_000_000 / PICODOLLARS
    return {"input_tokens": INPUT_PRICE * per_million, "output_tokens": OUTPUT_PRICE * per_million}


class OverlappingDriver:
    """One process that drives all runs, beginning with one of them."""

    def __init__(self, place: Place, life: Life) -> None:
        self.place, self.life = place, life
        self.shown: list[str] = []
        self.gives_up_at = time.monotonic() + life.deadline_sec
        self.runs = len(list(place.folder.glob("overlap-*.csv")))

    def drive(self) -> dict[str, Any]:
        """Until all runs are finished, or the deadline has passed."""
        while time.monotonic() < self.gives_up_at:
            try:
                if self._drive():
                    return {"end": "finished", "events": [], "shown": self.shown}
            except (BatchorError, OSError) as error:  # what a user's supervisor restarts after
                self.shown.append(f"{type(error).__name__}: {error}")
                time.sleep(PAUSE_SEC)
        return {"end": "stuck", "events": [], "shown": self.shown}

    def _drive(self) -> bool:
        store = open_store(self.place)
        config = self._config()
        runner = BatchRunner(
            storage=store,
            artifact_store=LocalArtifactStore(self.place.folder / "artifacts"),
            provider_factory=lambda _: profile(self.place.provider).api(config),
            settings=EngineSettings(lease_ttl_sec=self.life.lease_ttl_sec, grace_sec=self.life.grace_sec),
            prices=prices,
        )
        try:
            order = [((self.life.overlaps or 0) + step) % self.runs for step in range(self.runs)]
            runs = [runner.start(self._job(number, config), run_id=run_id(number)) for number in order]
            while runs := [run for run in runs if not run.is_finished]:
                if time.monotonic() >= self.gives_up_at:
                    return False
                for run in runs:
                    run.refresh()
                time.sleep(PAUSE_SEC)
            return True
        finally:
            runner.close()
            store.close()

    def _config(self) -> ProviderConfig:
        config: Any = provider_config(self.place, self.life.scenario)
        given: ProviderConfig = replace(config, max_output_tokens=self.life.answer_tokens)
        return given

    def _job(self, number: int, config: ProviderConfig) -> BatchJob[Any, Any]:
        shape = SHAPES[self.runs]
        return BatchJob(
            items=CsvItemSource(
                self.place.folder / f"{run_id(number)}.csv",
                item_id_from_row=lambda row: row["id"],
                payload_from_row=lambda row: row["text"],
            ),
            build_prompt=lambda item: item.payload,
            provider_config=config,
            chunk_policy=ChunkPolicy(max_requests=PER_BATCH),
            retry_policy=RetryPolicy(max_attempts=4, base_backoff_sec=0.02, max_backoff_sec=0.05),
            batch_metadata={"side": side(number)},
            caps=shape.first_caps(number),
            reuse="store",
        )


SHAPES = {shape.runs: shape for shape in (NARROW, WIDE)}


# --- the operator ----------------------------------------------------------------------------------------------------


class Operator:
    """Raises a cap whenever a run has paused at it, and looks meanwhile how far caps are used. Use it as a context manager.

    Attributes:
        excess: By cap, the most that was spent beyond its limit at one time; negative if it never was.
    """

    def __init__(self, place: Place, shape: Overlap) -> None:
        self.place, self.shape = place, shape
        self.excess: dict[str, int] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        while not any(
            (self.place.folder / "artifacts").rglob("*.jsonl")
        ):  # the drivers are to create the tables
            if self._is_over.wait(PAUSE_SEC):
                return
        store = patiently(lambda: open_store(self.place))
        try:
            while not self._is_over.wait(PAUSE_SEC):
                with suppress(StorageError):
                    self.look(store)
        finally:
            store.close()

    def look(self, store: StateStore) -> list[CapStanding]:
        """One look at all runs; returns how far caps are used."""
        found = []
        for number in range(self.shape.runs):
            with suppress(RunNotFoundError):
                standings = store.get_cap_standings(run_id=run_id(number))
                found += standings
                for one in standings:
                    over = one.settled - one.cap.limit
                    self.excess[str(one.cap.label)] = max(over, self.excess.get(one.cap.label, over))
                if store.get_run_control_state(run_id=run_id(number)) is RunControlState.PAUSED:
                    self._raise(store, standings)
                    store.set_run_control_state(run_id=run_id(number), control_state=RunControlState.RUNNING)
        return found

    def _raise(self, store: StateStore, standings: Sequence[CapStanding]) -> None:
        for one in standings:
            cap, is_rows = one.cap, one.cap.measure is CapMeasure.ROWS
            if one.left < (1 if is_rows else int(_USD_OF_A_ROW * PICODOLLARS)):
                more: dict[str, Any] = (
                    {"rows": cap.limit + self.shape.most_rows}
                    if is_rows
                    else {"usd": float(dollars_of(cap.limit)) + self.shape.most_usd}
                )
                store.keep_caps([Cap(**more, scope=cap.label)], by_operator=True)


_USD_OF_A_ROW = 0.0003
"""More than a row reserves."""


# --- rounds ----------------------------------------------------------------------------------------------------------


def judged(stage: Round, operator: Operator) -> Verdict:
    """What came of a round."""
    report = stage.drivers[-1].report()
    is_stuck = report is None or report["end"] != "finished"
    why = [f"the last driver: {report}"] if is_stuck else []
    answered = Counter(row["body_sha256"] for row in stage.arena.executions() if row["outcome"] == "answer")
    twice = {body: times for body, times in answered.items() if times > 1}
    why += [f"answered {times} times: {body}" for body, times in twice.items()]
    lost = patiently(lambda: _lost(stage.place, operator.shape))
    over, largest = ([], 0) if is_stuck else patiently(lambda: _over_caps(stage, operator))
    return Verdict(
        paid_twice=len(twice),
        lost=len(lost),
        stuck=int(is_stuck),
        over_caps=len(over),
        excess=largest,
        why=[*why, *lost, *over],
    )


def _lost(place: Place, shape: Overlap) -> list[str]:
    """Rows without the answer that they should have."""
    store, lost = open_store(place), []
    try:
        for number in range(shape.runs):
            try:
                found = {one.item_id: one for one in store.get_item_records(run_id=run_id(number))}
            except RunNotFoundError:
                lost.append(f"{run_id(number)}: there is no such run")
                continue
            for row, text in enumerate(shape.texts(number)):
                record = found.get(f"row-{row}")
                if record is None or (record.status, record.output_text) != (ItemStatus.COMPLETED, text):
                    said = record and (record.status, record.output_text)
                    lost.append(f"{run_id(number)} row-{row}: {said}")
    finally:
        store.close()
    return lost


def _over_caps(stage: Round, operator: Operator) -> tuple[list[str], int]:
    """What is wrong with caps, by the books of the provider and by those of the store; and the largest excess that is not."""
    store = open_store(stage.place)
    try:
        standings = {one.cap.label: one for one in operator.look(store)}
    finally:
        store.close()
    wrong, largest = [], 0
    books = stage.arena.books()
    for label, one in standings.items():
        tag = label.removeprefix("tag:side=")
        batches = [
            batch for batch in books["batches"] if label == "store" or batch["metadata"]["side"] == tag
        ]
        rows = sum(batch["rows"] for batch in batches)
        answers = sum(batch["usage"]["output_tokens"] for batch in batches)
        asked = sum(batch["usage"]["input_tokens"] for batch in batches)
        if one.cap.measure is CapMeasure.ROWS:
            billed, error = rows, 0
        else:
            billed = asked * INPUT_PRICE + answers * OUTPUT_PRICE
            # prompts reserve more than they cost, and answers perhaps less
            short = answers - rows * stage.drivers[-1].life.answer_tokens
            error = max(0, short * OUTPUT_PRICE)
        if one.settled != billed:
            wrong.append(f"{one.cap}: the store has {one.settled}, and {billed} were billed")
        if one.reserved:
            wrong.append(f"{one.cap}: {one.reserved} are reserved for ever")
        excess = operator.excess[label]
        if excess > error:
            wrong.append(f"{one.cap}: exceeded by {excess}, of which {error} can be explained")
        elif one.cap.measure is CapMeasure.USD:
            largest = max(largest, excess)
    return wrong, largest


def _play(stage: Round, shape: Overlap, kills: Sequence[str], **how: Any) -> Verdict:
    """One driver after the other, each killed at its place; then one that finishes."""
    shape.write(stage.place.folder)
    how["deadline_sec"] = shape.deadline_sec
    with Operator(stage.place, shape) as operator:
        for number, kill in enumerate(kills):
            stage.reached.count(stage.live(kill=kill, overlaps=number, **how))
        stage.live(overlaps=0, **how)
    return judged(stage, operator)


def _crowd(stage: Round, shape: Overlap, kills: Sequence[str], **how: Any) -> Verdict:
    """Several drivers at once, each killed somewhere; then one that finishes."""
    shape.write(stage.place.folder)
    how["deadline_sec"] = shape.deadline_sec
    with Operator(stage.place, shape) as operator:
        drivers = [
            stage.start(kill=kill, overlaps=number * shape.runs // len(kills), **how)
            for number, kill in enumerate(kills)
        ]
        stage.ended(drivers)
        for driver in drivers:
            stage.reached.count(driver)
        stage.live(overlaps=0, **how)
    return judged(stage, operator)


OVERLAPPING = Scenario("overlapping")


def passages(arena: Arena) -> dict[str, int]:
    """What an undisturbed driver passes, with how often."""
    if OVERLAPPING.name not in arena.passages:
        with arena.round(OVERLAPPING) as stage:
            NARROW.write(stage.place.folder)
            with Operator(stage.place, NARROW) as operator:
                driver = stage.live(trace=True, overlaps=0)
            verdict = judged(stage, operator)
            assert verdict.is_good, f"goes wrong by itself: {verdict}, {driver.report()}"
            arena.passages[OVERLAPPING.name] = Counter(driver.trace())
    return arena.passages[OVERLAPPING.name]


MATTERING = (
    Boundary.KEEP_CAPS,
    Boundary.CLAIM,
    Boundary.REGISTER,
    Boundary.APPLY_OUTCOME,
    Boundary.FOLLOW,
)
"""Where it is settled who is sent, who follows, who is answered and what is reserved."""

ONLY_HERE = frozenset(
    f"{name}:{when}" for name in (Boundary.FOLLOW, Boundary.KEEP_CAPS) for when in ("before", "after")
)
"""What only drivers of these runs pass."""


def each_boundary(arena: Arena) -> Iterator[Case]:
    """A kill before and after each boundary that is passed, the second time that a driver does so if there is one."""
    for place, times in passages(arena).items():
        kill = f"{place}:{min(times, 2)}"
        yield Case(f"overlapping {kill}", OVERLAPPING, partial(_play, shape=NARROW, kills=(kill,)))


def where_it_matters() -> list[Case]:
    """Two rounds with a kill at each boundary that matters most here, before it in one of them and after it in the other."""
    sides = ("before", "after")
    chains = [[f"{name}:{sides[(at + turn) % 2]}" for at, name in enumerate(MATTERING)] for turn in (0, 1)]
    return [Case(" ".join(kills), OVERLAPPING, partial(_play, shape=NARROW, kills=kills)) for kills in chains]


FAULTY = ("plain", "answer-lost", "request-lost", "expired", "rows-fail")


def crowds(
    places: Iterable[str], *, rounds: int, seed: int, shape: Overlap = WIDE, size: int = 8, **how: Any
) -> Iterator[Case]:
    """Several drivers at once, killed at each of these places in turn, while things go wrong at the provider.

    In every second round, rows reserve less than their answers will cost.
    """
    draw = random.Random(seed)
    places = sorted(places)
    draw.shuffle(places)
    turn = count()
    for number in range(rounds):
        kills = [f"{places[next(turn) % len(places)]}:{draw.randint(1, 4)}" for _ in range(size)]
        scenario = replace(OVERLAPPING, faults=SCENARIOS[FAULTY[number % len(FAULTY)]].faults)
        given = {"answer_tokens": (ANSWER_TOKENS, 1)[number % 2]} | how
        said = f"#{number} {FAULTY[number % len(FAULTY)]}, {size} drivers of {shape.runs} runs, {given['answer_tokens']} tokens"
        yield Case(f"{said}, {' '.join(kills)}", scenario, partial(_crowd, shape=shape, kills=kills, **given))
