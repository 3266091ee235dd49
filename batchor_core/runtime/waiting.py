"""Waiting for the end of a run: when to do the next cycle, and when waiting no longer helps.

:class:`Waiting` decides and does one step; who calls it sleeps in between, in a thread or on an event loop. Between two cycles
it looks into the store now and then: a run that an operator has cancelled, or that another process has brought forward, is not
left alone for minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from batchor_core.core.arguments import check_seconds, check_timeout
from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import (
    QuarantinedBatchError,
    RunIngestionSourceRequiredError,
    RunPausedError,
    StorageError,
)
from batchor_core.core.lateness import LOOKED_AT, needs_a_person
from batchor_core.core.models import RunSummary
from batchor_core.core.pace import FOLLOW_SEC, LOOK_SEC, UNSETTLED_SEC, own_pause, pause_at_age
from batchor_core.runtime.event_log import log
from batchor_core.runtime.late_results import overdue_reason
from batchor_core.runtime.live import LiveRuns
from batchor_core.runtime.progress import shown
from batchor_core.storage.state import ActiveBatchRecord

STORE_OUTAGE_SEC = 600.0
"""How long ``wait()`` tolerates a store that can't be reached."""

STORE_RETRY_SEC = 0.1
"""The shortest pause between two tries to reach it."""


@dataclass(slots=True)
class Waiting:
    """A caller that waits for the end of a run.

    Attributes:
        runs: The runner's runs.
        run_id: The run.
        refresh: Does one cycle.
        timeout: Seconds after which a step raises TimeoutError; None for never.
        poll_interval: Seconds between two cycles; None leaves them to the job's config, and that to the age of the batches.
        slice_sec: Seconds after which a cycle begins no further step, which is left to the next cycle; None for no limit.
        summary: Where the run stood when it was last looked at.
        next_cycle_in: Seconds until the next cycle.
    """

    runs: LiveRuns
    run_id: str
    refresh: Callable[..., RunSummary]
    timeout: float | None = None
    poll_interval: float | None = None
    slice_sec: float | None = None
    summary: RunSummary | None = None
    next_cycle_in: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _slept: float = 0.0
    _without_store: float = 0.0
    _pace: float = 0.0

    def __post_init__(self) -> None:
        check_timeout("timeout", self.timeout)
        if self.poll_interval is not None:
            check_seconds("poll_interval", self.poll_interval)

    def step(self) -> float | None:
        """Do a cycle if it is due; returns the seconds to sleep until the next step, None once the run is finished.

        Raises:
            RunPausedError: And what else ``Run.wait`` documents.
        """
        try:
            if self.next_cycle_in <= 0 or self._has_moved():
                self.summary = self._cycle()
                if self.summary.status is not RunLifecycleStatus.RUNNING:
                    return None
                check_can_go_on(self.runs, self.summary)
            self._without_store = 0.0
        except StorageError as error:
            # a database that restarts need not end a wait of a day; what was stored tells where to go on
            if not error.is_passing or self._without_store >= STORE_OUTAGE_SEC:
                raise
            if not self._without_store:
                log.warning(
                    "run %s: the store can't be used at the moment, trying again: %s", self.run_id, error
                )
            self.next_cycle_in = max(
                1.0 if self.poll_interval is None else self.poll_interval, STORE_RETRY_SEC
            )
            self._without_store += self.next_cycle_in
            return self._sleep(self.next_cycle_in)
        return self._sleep(max(LOOK_SEC, self.next_cycle_in / 24))

    def _cycle(self) -> RunSummary:
        began = time.monotonic()
        summary = self.refresh() if self.slice_sec is None else self.refresh(time_limit_sec=self.slice_sec)
        is_cut = self.slice_sec is not None and time.monotonic() - began >= self.slice_sec
        if summary.status is RunLifecycleStatus.RUNNING:
            self.next_cycle_in = 0.0 if is_cut else self._pause(summary)
        return summary

    def _sleep(self, longest: float) -> float:
        """Seconds until the next step. A sleep that takes no time, as in tests, still counts."""
        pause = min(self.next_cycle_in, longest)
        if self.timeout is not None:
            elapsed = max(time.monotonic() - self._began, self._slept)
            if elapsed >= self.timeout:
                raise TimeoutError(self._too_late())
            pause = min(pause, self.timeout - elapsed)
        self.next_cycle_in -= pause
        self._slept += pause
        return pause

    def _too_late(self) -> str:
        trouble = None if self.summary is None else self.summary.trouble
        why = f"; {trouble}" if trouble else ""
        return f"run {self.run_id!r} is not finished after {self.timeout} s{why}; it continues with the next wait() or refresh()"

    def _has_moved(self) -> bool:
        """Whether another process has advanced the run, or an operator has acted."""
        before, self.summary = self.summary, self.runs.engine.store.get_run_summary(run_id=self.run_id)
        return before is None or _standing(before) != _standing(self.summary)

    def _pause(self, summary: RunSummary) -> float:
        """Seconds until the run needs the next cycle."""
        config, store = self.runs.of(self.run_id).config.provider_config, self.runs.engine.store
        if self.poll_interval is None:
            self.poll_interval = own_pause(config)
        if self.poll_interval is not None:
            return self.poll_interval
        batches = store.get_active_batches(run_id=self.run_id)
        youngest = max((batch.created_at for batch in batches), default=None)
        pause = pause_at_age(None if youngest is None else store.now() - youngest)
        if summary.following_items and not batches and not summary.items_to_send:
            pause = FOLLOW_SEC
        self._say_pace(pause, len(batches))
        is_cancelling = summary.control_state is RunControlState.CANCEL_REQUESTED
        if is_cancelling or summary.unknown_batches or summary.status_counts[ItemStatus.QUEUED_LOCAL]:
            pause = min(pause, UNSETTLED_SEC)
        if summary.backoff_remaining_sec > 0:
            pause = min(pause, max(summary.backoff_remaining_sec, 1.0))
        return pause

    def _say_pace(self, pause: float, batches: int) -> None:
        if pause > self._pace and self._pace:
            log.info("run %s: %d in flight, polled every %.0f s from now on", self.run_id, batches, pause)
        self._pace = pause


def wait(waiting: Waiting, *, progress: bool) -> None:
    """Step until the run is finished; what ``Run.wait`` documents."""
    with shown(waiting.run_id, progress=progress) as show:
        while (pause := waiting.step()) is not None:
            show(waiting.summary, waiting.next_cycle_in + pause)
            waiting.runs.engine.sleep(pause)
        show(waiting.summary, 0.0)


def _standing(summary: RunSummary) -> tuple[object, ...]:
    """The state that changes only if somebody acts."""
    return (
        summary.status,
        summary.control_state,
        summary.status_counts,
        summary.active_batches,
        summary.unknown_batches,
        summary.quarantined_batches,
    )


def check_can_go_on(runs: LiveRuns, summary: RunSummary) -> None:
    """Raise what a person has to do if nothing moves on its own any more, so that waiting ends."""
    store, run_id = runs.engine.store, summary.run_id
    if summary.control_state is RunControlState.PAUSED:
        raise RunPausedError(run_id, store.get_control_reason(run_id=run_id))
    held = store.get_active_batches(run_id=run_id) if summary.quarantined_batches else []
    if _moves(summary, held) or store.get_lease(run_id=run_id) is not None:
        return
    if summary.quarantined_batches:
        raise QuarantinedBatchError(
            run_id,
            [
                one.local_batch_id
                for one in store.list_submissions(run_id=run_id)
                if one.state == "quarantined"
            ],
            late={
                batch.local_batch_id: _waits_for(batch)
                for batch in held
                if batch.quarantine_cause in LOOKED_AT
            },
        )
    live = runs.get(run_id)
    if not summary.ingestion_complete and (live is None or live.job is None):
        raise RunIngestionSourceRequiredError(run_id)


def _moves(summary: RunSummary, held: list[ActiveBatchRecord]) -> bool:
    """Whether anything continues on its own; ``held`` are the batches in flight if some need a decision."""
    if summary.unknown_batches or summary.items_to_send:
        return True
    if not summary.quarantined_batches:
        return bool(summary.active_batches or summary.status_counts[ItemStatus.SUBMITTED])
    cancelling = summary.control_state is RunControlState.CANCEL_REQUESTED
    return any(
        not needs_a_person(quarantine_cause=batch.quarantine_cause, is_cancelling=cancelling)
        for batch in held
    )


def _waits_for(batch: ActiveBatchRecord) -> str:
    return overdue_reason(batch) if batch.ended_at is None else batch.wait_reason or ""
