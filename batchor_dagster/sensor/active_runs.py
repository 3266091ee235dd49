"""Advancing active runs within a tick: each gets its turn, and the reason is reported if one can't advance."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import dagster as dg

from batchor_core import BatchRunner, Run, RunSummary
from batchor_core.core.lateness import LOOKED_AT
from batchor_core.storage.state import RunListing, StateStore
from batchor_dagster.metadata import describe
from batchor_dagster.run_states import is_active, is_finished
from batchor_dagster.sensor.tick import Cursor, Tick, in_turn

_SHORTEST_TURN_SEC = 5.0


@dataclass
class Driven:
    """The result of driving.

    Attributes:
        last: The run that had the last turn; empty if none had.
        requests: Workers to launch.
        asked: The state of each run when a worker was last requested for it, and the time.
    """

    last: str = ""
    requests: list[dg.RunRequest] = field(default_factory=list)
    asked: dict[str, tuple[str, float]] = field(default_factory=dict)


def look_after_ended(tick: Tick) -> None:
    """Report batches that appear after their run has ended; asks the provider hourly, and only if one may exist."""
    try:
        tick.runner.sweep_ended_runs()
    except Exception as error:  # whatever it is, it must not cost the tick its results
        tick.problem(f"searching for late batches: {type(error).__name__}: {error}")


def drive_in_turn(tick: Tick, cursor: Cursor, listings: Sequence[RunListing], *, budget_sec: float) -> Driven:
    """Give each active run a cycle until the time is up."""
    run_ids = turns(cursor, listings)
    stop_at = time.monotonic() + budget_sec
    driven = Driven()
    for position, run_id in enumerate(run_ids):
        left = stop_at - time.monotonic()
        if left <= 0:
            tick.note(f"{len(run_ids) - position} of {len(run_ids)} active runs wait for the next tick")
            break
        driven.last = run_id
        try:
            run = tick.runner.get_run(run_id)
            summary = run.refresh(time_limit_sec=turn(left, runs=len(run_ids) - position))
        except Exception as error:  # one run's trouble, whatever it is, must not stop the others
            tick.problem(f"{run_id}: {type(error).__name__}: {error}")
        else:
            tell(tick, run, summary)
    return driven


def turn(left_sec: float, *, runs: int) -> float:
    """How long a run may begin further steps: its share of the remaining time, with a minimum."""
    return min(left_sec, max(_SHORTEST_TURN_SEC, left_sec / runs))


def turns(cursor: Cursor, listings: Sequence[RunListing]) -> list[str]:
    """Active runs in the order of their turns."""
    active = [listing.run_id for listing in listings if is_active(listing.summary)]
    return in_turn(active, after=cursor.after)


def tell(tick: Tick, run: Run, summary: RunSummary) -> None:
    """Report in the tick the state of a run, and what keeps it from advancing."""
    trouble = _trouble(tick.runner, run, summary)
    (tick.problem if trouble else tick.note)(f"{run.run_id}: {describe(summary)}{trouble}")


def _trouble(runner: BatchRunner, run: Run, summary: RunSummary) -> str:
    """What keeps a run from advancing, as far as the store shows; empty if it advances."""
    if is_finished(summary):
        return ""
    store = runner.storage
    failed_polls = max(
        (batch.poll_failures for batch in store.get_active_batches(run_id=run.run_id)), default=0
    )
    backoff = store.get_retry_backoff(run_id=run.run_id)
    if failed_polls:
        return f"; the provider can't be polled ({failed_polls} polls failed in a row), trying again"
    if backoff.consecutive_failures:
        return f"; the provider refuses or can't be reached ({backoff.last_error_class}), trying again"
    if not summary.ingestion_complete and not run.is_driven():
        return "; its items are not all read: materialize the submission again"
    if summary.quarantined_batches:
        return f"; {_choices(store, run.run_id)}"
    if summary.overdue_batches:
        return "; a batch should have ended by now and is polled less and less often"
    if summary.late_batches:
        return f"; waiting for {summary.late_rows} rows of batches that have ended"
    return ""


def _choices(store: StateStore, run_id: str) -> str:
    """What a person has to decide."""
    causes = {batch.quarantine_cause for batch in store.get_active_batches(run_id=run_id)} - {None}
    if causes and causes <= LOOKED_AT:
        return "a batch that is late needs keep_waiting, resubmit_batch or fail_batch: see batchor doctor"
    return "a batch of unknown outcome needs adopt_batch, resubmit_batch or fail_batch"
