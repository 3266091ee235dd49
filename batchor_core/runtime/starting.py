"""Starting a run: creating it, or resuming the stored one with the same job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batchor_core.core.caps import Cap
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import RunStateError, StorageError
from batchor_core.core.models import BatchJob, RunSummary
from batchor_core.core.types import JSONObject
from batchor_core.runtime.capping import check_caps
from batchor_core.runtime.driving import refresh
from batchor_core.runtime.ingest import (
    Reader,
    check_same_source,
    first_checkpoint,
    is_read_once,
    is_resumable,
)
from batchor_core.runtime.lease import check_lease_term
from batchor_core.runtime.live import LiveRun, LiveRuns
from batchor_core.runtime.outputs import check_kept, check_provided
from batchor_core.runtime.queue_limit import queue_key
from batchor_core.runtime.repair import check_repair
from batchor_core.runtime.reuse import check_reused, reuse_of
from batchor_core.runtime.row_comparison import KnownRows, OnChange, check_same_builder
from batchor_core.runtime.snapshots import forget_snapshots, with_snapshots
from batchor_core.runtime.stored_job import check_same_job, persisted_config
from batchor_core.storage.state import IngestCheckpoint


def start(
    runs: LiveRuns, job: BatchJob[Any, Any], run_id: str, *, extras: JSONObject | None, on_change: OnChange
) -> RunSummary:
    """Create the run or resume it, and do its first cycle; what ``BatchRunner.start`` documents."""
    store = runs.engine.store
    check_lease_term(runs.engine.settings.lease_ttl_sec, job.provider_config)
    created = not store.has_run(run_id=run_id) and create(runs, job, run_id, extras)
    if not created:
        resume(runs, job, run_id, on_change)
    try:
        return refresh(runs, run_id)
    except StorageError:
        raise  # says nothing about the items: the run stays, for the next try and for drivers that have joined
    except Exception:
        created_at = store.get_run_summary(run_id=run_id).created_at if created else 0.0
        if created and store.discard_unsent_run(run_id=run_id):
            runs.drop(run_id)
            forget_snapshots(runs.engine, run_id, created_at)
        raise


def create(runs: LiveRuns, job: BatchJob[Any, Any], run_id: str, extras: JSONObject | None = None) -> bool:
    """Store a new run; False if another process was faster. A job that is invalid raises before."""
    store = runs.engine.store
    provider = runs.provider(job.provider_config)
    check_provided(job, provider.get().limits)
    check_repair(job, provider.get().limits, store)
    reuse = reuse_of(job, extras or {})
    check_reused(store, reuse)
    key = queue_key(job.provider_config, api=provider.get())
    config = persisted_config(job, budget_key=key, extras=extras, reuse=reuse)
    check_caps(runs.engine, run_id, config, caps_of(job, run_id))
    checkpoint = first_checkpoint(job.items)
    try:
        store.create_run(run_id=run_id, config=config, items=[])
    except RunStateError:
        provider.close()
        return False
    if not store.supports_leases:
        check_kept(config, store.get_run_config(run_id=run_id), store=type(store).__name__)
    store.set_ingest_checkpoint(run_id=run_id, checkpoint=checkpoint)
    job = with_snapshots(runs.engine, run_id, job)
    reader = Reader(job.items, job.build_prompt, checkpoint)
    live = LiveRun(config, provider, job.output_spec, job, reader, KnownRows.of_new_run(job))
    live.sweeping.done()  # a run that has just been created has no batches
    runs.put(run_id, live)
    runs.engine.emit(run_id, "run_created", provider_kind=job.provider_config.provider_kind)
    return True


def resume(runs: LiveRuns, job: BatchJob[Any, Any], run_id: str, on_change: OnChange) -> None:
    """Resume a stored run with the job that it was started with; a difference raises before anything is done."""
    store = runs.engine.store
    stored = store.get_run_config(run_id=run_id)
    # a run goes on in the scope that it began in
    config = persisted_config(job, budget_key=stored.budget_key, extras=stored.extras, reuse=stored.reuse)
    check_same_job(run_id, stored, config)
    if store.get_run_summary(run_id=run_id).status is RunLifecycleStatus.RUNNING:
        check_caps(runs.engine, run_id, config, caps_of(job, run_id))
        if job.retry_policy.repair != stored.retry_policy.repair:
            check_repair(job, runs.provider_of(runs.get(run_id), job.provider_config).get().limits, store)
    job = with_snapshots(runs.engine, run_id, job)
    checkpoint = _checkpoint(runs, job, run_id)
    before = runs.get(run_id)
    if _needs_source(before, job, checkpoint, on_change):
        check_same_source(run_id, job.items, checkpoint)
    is_same_job = before is not None and before.job is job
    if before is not None and is_same_job:
        live = before
    else:
        live = LiveRun(config, runs.provider_of(before, job.provider_config), job.output_spec, job)
    # of what can be read once only, this process may have read a part: it can't be compared, but it is the same
    is_settled = _has_items(before, job) and is_read_once(job.items)
    live.rows = KnownRows(job, on_change, is_settled=is_settled)
    try:
        if before is not None and before.job is not None and is_settled and on_change == "refuse":
            check_same_builder(run_id, before.job.build_prompt, job.build_prompt)
        live.check_rows(store, run_id, checkpoint)
    except BaseException:
        if before is None or live.provider is not before.provider:
            live.provider.close()
        raise
    if not is_same_job:
        live.reader = _reader_kept(before, job, checkpoint, on_change)
        runs.put(run_id, live)
    runs.engine.emit(run_id, "run_resumed", provider_kind=job.provider_config.provider_kind)


def caps_of(job: BatchJob[Any, Any], run_id: str) -> list[Cap]:
    """The caps of a job; a cap for each run becomes one for this run."""
    return [replace(cap, scope=f"run:{run_id}") if cap.scope == "run" else cap for cap in job.caps]


def _checkpoint(runs: LiveRuns, job: BatchJob[Any, Any], run_id: str) -> IngestCheckpoint:
    """The place up to which the run has been read."""
    store = runs.engine.store
    checkpoint = store.get_ingest_checkpoint(run_id=run_id)
    if checkpoint is None:  # the process died between creating the run and this
        checkpoint = first_checkpoint(job.items)
        store.set_ingest_checkpoint(run_id=run_id, checkpoint=checkpoint)
    return checkpoint


def _has_items(before: LiveRun | None, job: BatchJob[Any, Any]) -> bool:
    """Whether this process already reads the same object of items."""
    return before is not None and before.job is not None and before.job.items is job.items


def _needs_source(
    before: LiveRun | None, job: BatchJob[Any, Any], checkpoint: IngestCheckpoint, on_change: OnChange
) -> bool:
    """Whether the job's items must come from the stored source: if that can be checked, and if reading continues with them."""
    if checkpoint.ingestion_complete:
        return on_change == "refuse" and is_resumable(job.items, checkpoint)
    # an iterable that this process is reading can go on; any other that was interrupted can't
    goes_on = before is not None and before.reader is not None and not before.reader.is_broken
    return not goes_on or is_resumable(job.items, checkpoint)


def _reader_kept(
    before: LiveRun | None, job: BatchJob[Any, Any], checkpoint: IngestCheckpoint, on_change: OnChange
) -> Reader | None:
    """The reader that continues an iterable that this process has begun to read. A source is read from its checkpoint instead."""
    if before is None or before.reader is None or is_resumable(job.items, checkpoint):
        return None
    if on_change == "refuse" and not _has_items(before, job):
        # what was read of the items before is the same, so reading goes on with these
        return Reader(job.items, job.build_prompt, checkpoint)
    before.reader.build_prompt = job.build_prompt
    return before.reader
