"""A driver: what a user's process does with a run, from its start to the exported and pruned bundle.

Everything it does may be done again by the next driver after it was killed, wherever that was.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Engine, event

from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core import boundaries, lateness, retry
from batchor_core.core.custom_ids import mark_of
from batchor_core.core.enums import RunControlState
from batchor_core.core.exceptions import BatchorError, RunStateError
from batchor_core.core.lateness import Patience
from batchor_core.core.lifecycle import IN_DOUBT
from batchor_core.core.models import (
    BatchJob,
    ChunkPolicy,
    ProviderConfig,
    RetryPolicy,
    RunEvent,
    RunSummary,
)
from batchor_core.providers.api import BatchApi
from batchor_core.providers.base import BatchProvider
from batchor_core.runtime import collect, ingest, lookup
from batchor_core.runtime.engine import EngineSettings
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage import sql_caps, sql_following
from batchor_core.storage.postgres import PostgresStorage
from batchor_core.storage.sqlite import SQLiteStorage
from batchor_core.storage.state import StateStore
from tests.chaos.faults import Faults, FullDisk
from tests.chaos.power import noting
from tests.chaos.profile import profile
from tests.chaos.rows import source
from tests.chaos.scenario import (
    HOLD_SEC,
    PER_BATCH,
    RESULTS_SEC,
    RUN_ID,
    SLOW_SEC,
    UNCONFIRMED_SEC,
    Life,
    Place,
    Scenario,
    Source,
)

PAUSE_SEC = 0.01
CHUNK = 4
"""Rows per transaction, so that even a small run has several."""

engines: dict[str, Engine] = {}
"""By DSN, without a connection: those whose statements are compiled before this process is forked."""


class _HeldError(Exception):
    """Nothing is left to do but to wait for what a submission in doubt turns out to be."""


class _DiskStaysFullError(Exception):
    """The process ends, and its disk is still full."""


class Driver:
    """One process's way through a scenario."""

    def __init__(self, place: Place, life: Life, disk: FullDisk) -> None:
        self.place, self.life, self.scenario = place, life, life.scenario
        self.disk = disk
        self.events: list[str] = []
        self.shown: list[str] = []
        self.gives_up_at = time.monotonic() + life.deadline_sec
        self._breaks_after = self.scenario.breaks_source
        self._profile = profile(place.provider)
        self._idle: tuple[Any, float] = (None, 0.0)

    def drive(self) -> dict[str, Any]:
        """Until the run is finished, exported and pruned; on hold for a while; or the deadline has passed."""
        while True:
            try:
                self._drive()
            except TimeoutError:
                return self._report("stuck")
            except _DiskStaysFullError:
                return self._report("full")
            except _HeldError:
                return self._report("held")
            except (BatchorError, OSError) as error:  # what a user's supervisor restarts after
                self.shown.append(f"{type(error).__name__}: {error}")
                if self.disk.is_full():
                    if self.life.full_for_life:
                        return self._report("full")
                    self.disk.make_room()
                if time.monotonic() >= self.gives_up_at:
                    return self._report("stuck")
                time.sleep(PAUSE_SEC)
            else:
                return self._report("finished")

    def _report(self, end: str) -> dict[str, Any]:
        was_full = self.disk.was_full or (self.life.spare_pages is not None and bool(self.shown))
        return {"end": end, "events": self.events, "shown": self.shown, "was_full": was_full}

    def _drive(self) -> None:
        store = open_store(self.place, clock_offset=self.life.clock_offset, spare_pages=self.disk.spare_pages)
        runner = BatchRunner(
            storage=store,
            artifact_store=LocalArtifactStore(self.place.folder / "artifacts"),
            provider_factory=lambda config: self._provider(),
            observer=self._note,
            settings=EngineSettings(
                lease_ttl_sec=self.life.lease_ttl_sec,
                grace_sec=self.life.grace_sec,
                patience=Patience(
                    results_sec=RESULTS_SEC, unconfirmed_sec=UNCONFIRMED_SEC, cancelled_sec=RESULTS_SEC
                ),
            ),
        )
        try:
            breaks_after, self._breaks_after = self._breaks_after, 0  # once is enough
            run = runner.start(
                job(self.place, self.scenario, breaks_after=breaks_after),
                run_id=RUN_ID,
                # a finished run that is started again has no snapshot, and the rows have become others
                on_change="refuse" if self.scenario.source is Source.MEMORY else "keep",
            )
            self._until_finished(runner, run)
            if self.scenario.retries_failed and run.summary().failed_items:
                run = runner.retry_failed(RUN_ID)
                self._until_finished(runner, run)
            if self.life.exports:
                self._export(run)
        finally:
            runner.close()
            store.close()

    def _export(self, run: Run) -> None:
        for _ in range(2 if self.scenario.exports_again else 1):
            with suppress(RunStateError):  # an earlier driver has begun to prune, and the bundle is there
                run.export_artifacts(self.place.folder / "export")
        run.prune_artifacts(include_raw_output_artifacts=True)

    def _provider(self) -> BatchApi | BatchProvider:
        # a stored config has no key: each process has its own
        make = self._profile.api if self.life.fences else self._profile.careless
        return make(provider_config(self.place, self.scenario))

    def _note(self, event: RunEvent) -> None:
        self.events.append(event.event_type)

    def _until_finished(self, runner: BatchRunner, run: Run) -> None:
        while not run.is_finished:
            if time.monotonic() >= self.gives_up_at:
                raise TimeoutError
            if self.disk.is_over():
                if self.life.full_for_life:
                    raise _DiskStaysFullError
                self.disk.make_room()
            summary = run.refresh()
            if self.scenario.cancels and summary.active_batches and run.control_state == "running":
                run.cancel()
            if run.control_state is RunControlState.PAUSED:  # its reason is a fault that has passed
                with suppress(RunStateError):
                    run.resume()
            if summary.quarantined_batches or (self.life.decides and summary.unknown_batches):
                self._settle(runner)
            elif self._is_held(summary):
                raise _HeldError
            time.sleep(PAUSE_SEC)

    def _is_held(self, summary: RunSummary) -> bool:
        """Whether a submission is in doubt, no batch is under way, and nothing has changed for longer than a create may take."""
        if not summary.unknown_batches or summary.active_batches:
            self._idle = (None, 0.0)
            return False
        now, seen = time.monotonic(), (summary.status_counts, summary.unknown_batches)
        if self._idle[0] != seen:
            self._idle = (seen, now)
        # where a create can be fenced, nothing stays in doubt: only a slow machine looks like it
        patience = SLOW_SEC if self._profile.limits.can_fence else HOLD_SEC
        return now - self._idle[1] >= patience + self.scenario.arrives_within_sec()

    def _settle(self, runner: BatchRunner) -> None:
        """What an operator does: look at the provider's console, then say which it is."""
        with urllib.request.urlopen(f"{self.place.provider_url}/_control/books", timeout=30) as answer:
            batches = orjson.loads(answer.read())["batches"]
        for submission in runner.storage.list_submissions(run_id=RUN_ID):
            if submission.state == "quarantined" or (self.life.decides and submission.state in IN_DOUBT):
                names = (submission.local_batch_id, mark_of(submission.local_batch_id))
                mine = [
                    batch["id"]
                    for batch in batches
                    if (batch["metadata"] or {}).get("batchor_local_batch_id") in names
                ]
                with suppress(RunStateError):
                    if mine:
                        runner.adopt_batch(RUN_ID, submission.local_batch_id, mine[0])
                    else:
                        runner.resubmit_batch(RUN_ID, submission.local_batch_id)


def open_store(
    place: Place,
    *,
    clock_offset: float = 0.0,
    spare_pages: int | None = None,
    engine: Engine | None = None,
) -> StateStore:
    """The round's store, with the clock of this process where that is wrong, and little room where it has little."""
    now = (lambda: datetime.fromtimestamp(time.time() + clock_offset, UTC)) if clock_offset else None
    registry = profile(place.provider).registry()
    if place.store == "postgres":
        return PostgresStorage(
            dsn=place.dsn,
            schema=place.schema,
            now=now,
            engine=engine or engines.get(place.dsn),
            provider_registry=registry,
        )
    store = SQLiteStorage(path=place.folder / "runs.sqlite3", now=now, provider_registry=registry)
    if spare_pages is not None:
        _limit_growth(store, spare_pages)
    return store


def _limit_growth(store: SQLiteStorage, pages: int) -> None:
    with store.engine.connect() as connection:
        limit = connection.exec_driver_sql("PRAGMA page_count").scalar_one() + pages
    store.engine.dispose()

    def on_connect(raw: Any, record: object) -> None:
        raw.execute(f"PRAGMA max_page_count = {limit}")

    event.listen(store.engine, "connect", on_connect)


def provider_config(place: Place, scenario: Scenario) -> ProviderConfig:
    """The account."""
    return profile(place.provider).config(place.provider_url, scenario.token_limit)


def job(place: Place, scenario: Scenario, *, breaks_after: int = 0) -> BatchJob[Any, Any]:
    """The run's job, the same in every driver."""
    return BatchJob(
        items=source(place, scenario, breaks_after=breaks_after),
        build_prompt=lambda item: item.payload["text"],
        provider_config=provider_config(place, scenario),
        chunk_policy=ChunkPolicy(max_requests=PER_BATCH),
        retry_policy=RetryPolicy(max_attempts=4, base_backoff_sec=0.02, max_backoff_sec=0.05),
    )


def buys_at_once(**facts: Any) -> lateness.Decision:
    """What most scripts decide: a row without a line is missing. A negative control."""
    return lateness.Decision(lateness.Move.COLLECT)


def live(place: Place, life: Life, result: Path) -> None:
    """Be a driver process; leaves its report at ``result`` unless it is killed before."""
    for room in (ingest, collect):
        vars(room)["CHUNK"] = CHUNK
    retry.FILE_WAIT_SEC = (PAUSE_SEC, PAUSE_SEC)
    faults = Faults(life, result.with_suffix(".trace"))
    boundaries.install(faults)
    if not life.waits:
        lateness.judge_end = buys_at_once
    if not life.diverts:
        sql_following._divert = lambda run, indexes, terms: None
    if not life.checks_caps:
        vars(sql_caps)["fits"] = lambda run, reservation, *, rows, tokens: True
    if not life.fences:
        lookup.LATE_MARGIN_SEC = 0.0
    if life.notes_syncs:
        vars(os)["fsync"] = noting(os.fsync, place.folder / "synced")
    try:
        if life.naive:
            from tests.chaos.naive import NaiveDriver

            report = NaiveDriver(place, life).drive()
        elif life.overlaps is not None:
            from tests.chaos.reuse import OverlappingDriver

            report = OverlappingDriver(place, life).drive()
        else:
            report = Driver(place, life, faults.disk).drive()
    except BaseException:
        faults.disk.make_room()
        traceback.print_exc(file=sys.stderr)
        report = {"end": "crashed", "events": [], "shown": [traceback.format_exc()]}
    faults.disk.make_room()
    unfinished = result.with_suffix(".part")
    unfinished.write_bytes(orjson.dumps(report))
    unfinished.rename(result)
