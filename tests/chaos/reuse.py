"""Overlapping runs that reuse each other's answers: what a driver does with them, what happens to drivers, and the verdict.

Several runs of one store ask for partly the same, as partitions of a table do, and one of them has equal rows itself. By the
provider's books no request may be executed twice, and every row has to have its answer in the end.
"""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.boundaries import Boundary
from batchor_core.core.enums import ItemStatus, RunControlState
from batchor_core.core.exceptions import BatchorError, RunNotFoundError, RunStateError
from batchor_core.core.models import BatchJob, ChunkPolicy, RetryPolicy
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.runner import BatchRunner
from batchor_core.sources.files import CsvItemSource
from tests.chaos.arena import Arena, Round, patiently
from tests.chaos.driver import PAUSE_SEC, open_store, provider_config
from tests.chaos.profile import profile
from tests.chaos.scenario import PER_BATCH, Life, Place, Scenario
from tests.chaos.suites import Case
from tests.chaos.verdict import Verdict

OVERLAPPING = Scenario("overlapping")
RUNS = 4
ROWS = 6
STEP = 3
"""Rows by which the next run is ahead: each shares half of its rows with the next."""


def run_id(number: int) -> str:
    return f"overlap-{number}"


def texts(number: int) -> list[str]:
    """What a run asks; its first row twice."""
    own = [f"question {row}" for row in range(number * STEP, number * STEP + ROWS)]
    return [*own, own[0]]


def write_rows(folder: Path) -> None:
    """The runs' rows as files."""
    for number in range(RUNS):
        with (folder / f"{run_id(number)}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text"])
            writer.writerows((f"row-{n}", text) for n, text in enumerate(texts(number)))


class OverlappingDriver:
    """One process that drives all runs, beginning with one of them."""

    def __init__(self, place: Place, life: Life) -> None:
        self.place, self.life = place, life
        self.shown: list[str] = []
        self.gives_up_at = time.monotonic() + life.deadline_sec

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
        runner = BatchRunner(
            storage=store,
            artifact_store=LocalArtifactStore(self.place.folder / "artifacts"),
            provider_factory=lambda config: profile(self.place.provider).api(
                provider_config(self.place, OVERLAPPING)
            ),
            settings=EngineSettings(lease_ttl_sec=self.life.lease_ttl_sec, grace_sec=self.life.grace_sec),
        )
        try:
            order = [((self.life.overlaps or 0) + step) % RUNS for step in range(RUNS)]
            runs = [runner.start(self._job(number), run_id=run_id(number)) for number in order]
            while not all(run.is_finished for run in runs):
                if time.monotonic() >= self.gives_up_at:
                    return False
                for run in runs:
                    run.refresh()
                    if run.control_state is RunControlState.PAUSED:
                        with suppress(RunStateError):
                            run.resume()
                time.sleep(PAUSE_SEC)
            return True
        finally:
            runner.close()
            store.close()

    def _job(self, number: int) -> BatchJob[Any, Any]:
        return BatchJob(
            items=CsvItemSource(
                self.place.folder / f"{run_id(number)}.csv",
                item_id_from_row=lambda row: row["id"],
                payload_from_row=lambda row: row["text"],
            ),
            build_prompt=lambda item: item.payload,
            provider_config=provider_config(self.place, OVERLAPPING),
            chunk_policy=ChunkPolicy(max_requests=PER_BATCH),
            retry_policy=RetryPolicy(max_attempts=4, base_backoff_sec=0.02, max_backoff_sec=0.05),
            reuse="store",
        )


# --- rounds ----------------------------------------------------------------------------------------------------------


def judged(stage: Round) -> Verdict:
    """What came of a round."""
    books = stage.arena.books()
    report = stage.drivers[-1].report()
    stuck = int(report is None or report["end"] != "finished")
    why = [f"executed {times} times: {body}" for body, times in books["bodies_executed_twice"].items()]
    paid_twice = len(why)
    lost = patiently(lambda: _lost(stage.place))
    told = [f"the last driver: {report}"] if stuck else []
    return Verdict(paid_twice=paid_twice, lost=len(lost), stuck=stuck, why=[*why, *lost, *told])


def _lost(place: Place) -> list[str]:
    """Rows without the answer that they should have."""
    store, lost = open_store(place), []
    try:
        for number in range(RUNS):
            with suppress(RunNotFoundError):
                records = {record.item_id: record for record in store.get_item_records(run_id=run_id(number))}
                for row, text in enumerate(texts(number)):
                    record = records.get(f"row-{row}")
                    if (
                        record is None
                        or record.status is not ItemStatus.COMPLETED
                        or record.output_text != text
                    ):
                        lost.append(
                            f"{run_id(number)} row-{row}: {record and (record.status, record.output_text)}"
                        )
                continue
            lost.append(f"{run_id(number)}: there is no such run")
    finally:
        store.close()
    return lost


def _play(stage: Round, kills: Sequence[str], **how: Any) -> Verdict:
    """One driver after the other, each killed at its place; then one that finishes."""
    write_rows(stage.place.folder)
    for number, kill in enumerate(kills):
        stage.reached.count(stage.live(kill=kill, overlaps=number, **how))
    stage.live(overlaps=0, **how)
    return judged(stage)


def _crowd(stage: Round, kills: Sequence[str], **how: Any) -> Verdict:
    """Several drivers at once, each killed somewhere; then one that finishes."""
    write_rows(stage.place.folder)
    drivers = [stage.start(kill=kill, overlaps=number, **how) for number, kill in enumerate(kills)]
    stage.ended(drivers)
    for driver in drivers:
        stage.reached.count(driver)
    stage.live(overlaps=0, **how)
    return judged(stage)


def passages(arena: Arena) -> dict[str, int]:
    """What an undisturbed driver passes, with how often."""
    with arena.round(OVERLAPPING) as stage:
        write_rows(stage.place.folder)
        driver = stage.live(trace=True, overlaps=0)
        verdict = judged(stage)
        assert verdict.is_good, f"goes wrong by itself: {verdict}, {driver.report()}"
        passed: dict[str, int] = {}
        for place in driver.trace():
            passed[place] = passed.get(place, 0) + 1
        return passed


MATTERING = (
    Boundary.APPEND_ITEMS,
    Boundary.CLAIM,
    Boundary.MARK_SENDING,
    Boundary.CREATE_BATCH,
    Boundary.REGISTER,
    Boundary.APPLY_OUTCOME,
    Boundary.FOLLOW,
)
"""Where it is settled who is sent, who follows and who is answered; at all others the engine's own suites kill."""


def each_boundary(arena: Arena) -> Iterator[Case]:
    """A kill before and after each boundary that matters here, the second time that a driver passes it if there is one."""
    for place, times in passages(arena).items():
        if place.partition(":")[0] not in MATTERING:
            continue
        kill = f"{place}:{min(times, 2)}"
        yield Case(f"overlapping {kill}", OVERLAPPING, partial(_play, kills=(kill,)))


def crowds(*, rounds: int, seed: int, diverts: bool = True) -> Iterator[Case]:
    """Three drivers at once, killed anywhere."""
    rng = random.Random(seed)
    for number in range(rounds):
        kills = [f"#{rng.randint(10, 250)}" for _ in range(3)]
        yield Case(
            f"overlapping crowd {number} {' '.join(kills)}",
            OVERLAPPING,
            partial(_crowd, kills=kills, diverts=diverts),
        )
