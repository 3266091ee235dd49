"""Waiting for the end of a run, and telling when no waiting helps any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import (
    QuarantinedBatchError,
    RunIngestionSourceRequiredError,
    RunPausedError,
    StorageError,
)
from batchor_core.core.lateness import LOOKED_AT, needs_a_person
from batchor_core.core.models import RunSummary
from batchor_core.runtime.late_results import overdue_reason
from batchor_core.runtime.live import LiveRuns
from batchor_core.storage.state import ActiveBatchRecord

STORE_OUTAGE_SEC = 600.0
"""How long ``wait()`` puts up with a store that can't be reached."""

STORE_RETRY_SEC = 0.1
"""Pauses between two tries to reach it are no shorter."""

log = logging.getLogger("batchor_core")


def wait(
    runs: LiveRuns,
    run_id: str,
    refresh: Callable[[], RunSummary],
    *,
    timeout: float | None,
    poll_interval: float | None,
) -> None:
    """Refresh until the run is finished; what ``Run.wait`` documents."""
    if poll_interval is None:
        poll_interval = runs.of(run_id).config.provider_config.poll_interval_sec
    began, slept = time.monotonic(), 0.0
    without_store = 0.0
    while True:
        pause = poll_interval
        try:
            summary = refresh()
            if summary.status is not RunLifecycleStatus.RUNNING:
                return
            _check_can_go_on(runs, summary)
            without_store = 0.0
        except StorageError as error:
            # a database that restarts need not end a wait of a day; what was stored tells where to go on
            if not error.is_passing or without_store >= STORE_OUTAGE_SEC:
                raise
            log.warning("run %s: the store can't be used just now, trying again: %s", run_id, error)
            pause = max(poll_interval, STORE_RETRY_SEC)
            without_store += pause
        # a sleep that was handed in may take no time at all, and still counts
        elapsed = max(time.monotonic() - began, slept)
        if timeout is not None:
            if elapsed >= timeout:
                raise TimeoutError(
                    f"run {run_id!r} is not finished after {timeout} s; it goes on with the next wait() or refresh()"
                )
            pause = min(pause, timeout - elapsed)
        runs.engine.sleep(pause)
        slept += pause


def _check_can_go_on(runs: LiveRuns, summary: RunSummary) -> None:
    """Waiting must have an end: raise what a person has to do where nothing moves by itself any more."""
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
    """Whether anything goes on by itself; ``held`` are the batches in flight if some wait for a person."""
    counts = summary.status_counts
    if summary.unknown_batches or counts[ItemStatus.PENDING] or counts[ItemStatus.FAILED_RETRYABLE]:
        return True
    if not summary.quarantined_batches:
        return bool(summary.active_batches or counts[ItemStatus.SUBMITTED])
    cancelling = summary.control_state is RunControlState.CANCEL_REQUESTED
    return any(
        not needs_a_person(quarantine_cause=batch.quarantine_cause, is_cancelling=cancelling)
        for batch in held
    )


def _waits_for(batch: ActiveBatchRecord) -> str:
    return overdue_reason(batch) if batch.ended_at is None else batch.wait_reason or ""
