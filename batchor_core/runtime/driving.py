"""Driving a run: one cycle under its lease, unless another process drives it."""

from __future__ import annotations

from collections.abc import Callable

from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import InvalidInputError, LeaseLostError
from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.models import RunSummary
from batchor_core.runtime.cycle import run_cycle
from batchor_core.runtime.drive import Drive
from batchor_core.runtime.forgotten_batches import LATE_SEC, sweep_ended, sweep_is_due
from batchor_core.runtime.ingest import Reader, check_same_source
from batchor_core.runtime.lease import LeaseKeeper, check_lease_term
from batchor_core.runtime.live import LiveRun, LiveRuns
from batchor_core.runtime.poll import look_at
from batchor_core.storage.identity import driver_done, is_certainly_gone, new_driver


def refresh(runs: LiveRuns, run_id: str, *, time_limit_sec: float | None = None) -> RunSummary:
    """Do one cycle, if there is one to do; what ``Run.refresh`` documents."""
    summary = runs.engine.store.get_run_summary(run_id=run_id)
    if summary.status is not RunLifecycleStatus.RUNNING:
        _check_rows_of_others(runs, run_id)
        return _look_after(runs, summary)
    if summary.control_state is RunControlState.PAUSED:
        return summary
    live = runs.of(run_id)
    if _drive(runs, run_id, lambda drive: _cycle(drive, live), time_limit_sec=time_limit_sec):
        return _after_cycle(runs, run_id)
    _check_rows_of_others(runs, run_id)
    return summary


def sweep_ended_runs(runs: LiveRuns) -> list[str]:
    """Look for late batches of runs that have ended; what ``BatchRunner.sweep_ended_runs`` documents."""
    store = runs.engine.store
    run_ids = store.runs_with_doubtful_past(sent_after=store.now() - LATE_SEC)
    for run_id in run_ids:
        summary = store.get_run_summary(run_id=run_id)
        if summary.status is not RunLifecycleStatus.RUNNING:
            _look_after(runs, summary)
    return run_ids


def take_last_look(runs: LiveRuns, run_id: str, provider_batch_id: str) -> bool:
    """Take in what a batch has brought by now, before its other rows are given up; False while somebody else drives the run.

    Raises what keeps the provider from being asked, such as a missing key or a batch that it does not know.
    """

    def look(drive: Drive) -> None:
        drive.api.poll(provider_batch_id)  # an operator's question that fails says nothing about the run
        known = drive.session.remembered(drive.store.get_active_batches(run_id=run_id))
        look_at(drive, [one for one in known if one.provider_batch_id == provider_batch_id], gives_up=False)

    return _drive(runs, run_id, look)


def _drive(
    runs: LiveRuns, run_id: str, step: Callable[[Drive], object], *, time_limit_sec: float | None = None
) -> bool:
    """Take a step under the run's lease; False if somebody else drives it."""
    live, engine, ttl_sec = runs.of(run_id), runs.engine, runs.engine.settings.lease_ttl_sec
    check_lease_term(ttl_sec, live.config.provider_config)
    owner = new_driver()
    try:
        session = engine.store.open_session(
            run_id=run_id, owner=owner, ttl_sec=ttl_sec, owner_is_dead=is_certainly_gone
        )
        if session is None:
            return False
        drive = Drive(
            engine,
            run_id=run_id,
            config=live.config,
            session=session,
            provider=live.provider,
            sweeping=live.sweeping,
            output=live.output,
            time_limit_sec=time_limit_sec,
        )
        try:
            with LeaseKeeper(session, ttl_sec=ttl_sec):
                step(drive)
        finally:
            session.close()
    except LeaseLostError:
        pass  # another driver took over, and goes on from what is stored
    finally:
        driver_done(owner)
    return True


def _cycle(drive: Drive, live: LiveRun) -> None:
    with collecting_less():
        run_cycle(drive, _reader(drive, live))


def _reader(drive: Drive, live: LiveRun) -> Reader | None:
    """The job's reader at the stored checkpoint; None if there is nothing to read."""
    checkpoint = drive.store.get_ingest_checkpoint(run_id=drive.run_id)
    if checkpoint is not None:
        live.check_rows(drive.store, drive.run_id, checkpoint)
    if live.job is None or checkpoint is None or checkpoint.ingestion_complete:
        live.reader = None
        return None
    reader, job = live.reader, live.job
    if reader is None or reader.is_broken or reader.next_item_index != checkpoint.next_item_index:
        check_same_source(drive.run_id, job.items, checkpoint)
        reader = live.reader = Reader(job.items, job.build_prompt, checkpoint)
    return reader


def _check_rows_of_others(runs: LiveRuns, run_id: str) -> None:
    """Compare the rows that another driver stores while this process waits."""
    live = runs.get(run_id)
    if live is not None and live.rows is not None and not live.rows.is_settled:
        checkpoint = runs.engine.store.get_ingest_checkpoint(run_id=run_id)
        if checkpoint is not None:
            live.check_rows(runs.engine.store, run_id, checkpoint)


def _after_cycle(runs: LiveRuns, run_id: str) -> RunSummary:
    summary = runs.engine.store.get_run_summary(run_id=run_id)
    if summary.status is not RunLifecycleStatus.RUNNING:
        runs.engine.emit(
            run_id,
            "run_finished",
            status=summary.status.value,
            completed=summary.completed_items,
            failed=summary.failed_items,
        )
        live = runs.get(run_id)
        if live is not None:
            live.provider.close()
    return summary


def _look_after(runs: LiveRuns, summary: RunSummary) -> RunSummary:
    """Once an hour, look for batches of a finished run if one of its submissions was given up in doubt; otherwise do nothing."""
    store, run_id = runs.engine.store, summary.run_id
    if not sweep_is_due(store.list_submissions(run_id=run_id), now=store.now()):
        return summary
    try:
        _drive(runs, run_id, sweep_ended)
    except InvalidInputError:
        return summary  # reading an ended run needs neither its key nor its provider
    return store.get_run_summary(run_id=run_id)
