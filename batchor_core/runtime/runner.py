"""The front door: start, resume, read and control runs."""

from __future__ import annotations

import functools
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, assert_never

from batchor_core.artifacts.at_boundaries import ArtifactsAtBoundaries
from batchor_core.artifacts.base import ArtifactStore
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.arguments import check_instance
from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus, StorageKind
from batchor_core.core.exceptions import (
    InvalidInputError,
    LeaseLostError,
    MissingCredentialsError,
    QuarantinedBatchError,
    RunIngestionSourceRequiredError,
    RunNotFinishedError,
    RunNotFoundError,
    RunPausedError,
    RunStateError,
    StorageError,
)
from batchor_core.core.garbage import collecting_less
from batchor_core.core.lateness import LOOKED_AT, needs_a_person
from batchor_core.core.lifecycle import IN_DOUBT
from batchor_core.core.models import (
    ArtifactExportResult,
    ArtifactPruneResult,
    BatchJob,
    BatchResultItem,
    ProviderConfig,
    RunEvent,
    RunSnapshot,
    RunSummary,
    TerminalResultsExportResult,
    TerminalResultsPage,
)
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.types import JSONObject
from batchor_core.core.validation import check_run_id
from batchor_core.providers.api import BatchApi
from batchor_core.providers.base import BatchProvider
from batchor_core.providers.registry import ProviderRegistry, build_default_provider_registry
from batchor_core.runtime import export
from batchor_core.runtime.arguments import check_runner_arguments
from batchor_core.runtime.config import check_same_job, persisted_config
from batchor_core.runtime.cycle import run_cycle
from batchor_core.runtime.engine import (
    Drive,
    Engine,
    EngineSettings,
    RunProvider,
    Sweeping,
    output_schema,
)
from batchor_core.runtime.ingest import Reader, check_same_source, first_checkpoint, is_read_once
from batchor_core.runtime.late import overdue_reason
from batchor_core.runtime.lease import LeaseKeeper, check_lease_term
from batchor_core.runtime.outputs import check_kept, check_provided, declared_output, stored_output
from batchor_core.runtime.peek import has_work
from batchor_core.runtime.results import check_cursor, row_pages, typed_page
from batchor_core.runtime.run import Run
from batchor_core.runtime.same_rows import BuildLine, KnownRows, OnChange, check_on_change
from batchor_core.runtime.snapshots import forget_snapshots, with_snapshots
from batchor_core.runtime.sweep import LATE_SEC, sweep_ended, sweep_is_due
from batchor_core.sources.base import CheckpointedItemSource
from batchor_core.storage.identity import driver_done, is_certainly_gone, new_driver
from batchor_core.storage.registry import StorageRegistry, build_default_storage_registry
from batchor_core.storage.state import (
    IngestCheckpoint,
    IntentDecision,
    PersistedRunConfig,
    ResultRow,
    RunListing,
    StateStore,
)

STORE_OUTAGE_SEC = 600.0
"""How long ``wait()`` puts up with a store that can't be reached."""

log = logging.getLogger("batchor_core")


@functools.cache
def _warn_of_single_driver(store: str) -> None:
    log.warning(
        "%s has no leases and keeps no submissions: only one process at a time may drive a run, and a crash while a batch is "
        "created can pay for that batch twice",
        store,
    )


@dataclass(slots=True)
class _Attached:
    """What this process knows of a run beyond the store: live objects that a database can't hold."""

    config: PersistedRunConfig
    provider: RunProvider
    output: OutputSpec | None = None
    job: BatchJob[Any, Any] | None = None
    reader: Reader | None = None
    rows: KnownRows | None = None
    sweeping: Sweeping = field(default_factory=Sweeping)


def _build_line(attached: _Attached) -> BuildLine | None:
    """How the run's provider builds lines; None where no provider can be made, since reading a run needs no key."""
    try:
        api = attached.provider.get()
    except MissingCredentialsError:
        return None
    schema = output_schema(attached.config)
    return lambda custom_id, prompt: api.request_line(custom_id=custom_id, prompt=prompt, output=schema)


class BatchRunner:
    """Starts, resumes, drives and reads runs.

    One runner serves any number of runs and threads. Several processes may use runners on one store: each run is driven
    by one of them at a time, and the others see where it stands. Use it as a context manager, or call :meth:`close`.

    Args:
        storage: A state store, or the name of a registered kind; by default SQLite at ``~/.batchor/default.sqlite3``.
        provider_registry: Where provider kinds are looked up; by default the built-in ones and those that installed packages register.
        storage_registry: Where storage kinds are looked up; by default SQLite, Postgres and memory.
        provider_factory: Makes every provider, whatever its kind; for tests.
        observer: Called with each :class:`RunEvent`, from the driving thread. What it raises is logged.
        sleep: Used by ``wait()`` between cycles instead of ``time.sleep``.
        artifact_store: Where request and output files are kept. Processes that share a store must share it too.
        temp_root: Folder of the default local artifact store; by default beside the SQLite file, or
            ``~/.batchor/artifacts`` for other durable stores, or a temporary folder for the memory store.
        settings: How the engine drives: leases, look-ups, parallel transfers.
    """

    def __init__(
        self,
        *,
        storage: str | StateStore | None = None,
        provider_registry: ProviderRegistry | None = None,
        storage_registry: StorageRegistry | None = None,
        provider_factory: Callable[[Any], BatchProvider | BatchApi] | None = None,
        observer: Callable[[RunEvent], None] | None = None,
        sleep: Callable[[float], None] | None = None,
        artifact_store: ArtifactStore | None = None,
        temp_root: str | Path | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        check_runner_arguments(
            storage=storage,
            provider_registry=provider_registry,
            storage_registry=storage_registry,
            provider_factory=provider_factory,
            observer=observer,
            sleep=sleep,
            artifact_store=artifact_store,
            temp_root=temp_root,
            settings=settings,
        )
        providers = provider_registry or build_default_provider_registry()
        self._make_provider = provider_factory or providers.create
        self._owns_storage = not isinstance(storage, StateStore)
        if isinstance(storage, StateStore):
            self.storage = storage
        else:
            stores = storage_registry or build_default_storage_registry(provider_registry=providers)
            self.storage = stores.create(storage or StorageKind.SQLITE)
        if not self.storage.supports_leases:
            _warn_of_single_driver(type(self.storage).__name__)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._engine = Engine(
            store=self.storage,
            artifacts=ArtifactsAtBoundaries(
                artifact_store or LocalArtifactStore(self._artifact_root(temp_root))
            ),
            observer=observer,
            settings=settings or EngineSettings(),
        )
        self._sleep = sleep or time.sleep
        self._attached: dict[str, _Attached] = {}
        self._outputs: dict[str, OutputSpec] = {}

    def _artifact_root(self, temp_root: str | Path | None) -> Path:
        if temp_root is not None:
            return Path(temp_root)
        root = self.storage.artifact_root()
        if root is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="batchor-")
            root = Path(self._temporary.name)
        return root

    def __enter__(self) -> BatchRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release connections: those of the providers, and of the store if the runner opened it itself."""
        for attached in self._attached.values():
            attached.provider.close()
        self._attached.clear()
        if self._owns_storage:
            self.storage.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    # --- starting ----------------------------------------------------------------------------------------------------

    def start(
        self,
        job: BatchJob[Any, Any],
        *,
        run_id: str | None = None,
        extras: JSONObject | None = None,
        on_change: OnChange = "refuse",
    ) -> Run:
        """Create a run, or carry on with the one of this id, and do its first cycle.

        Returns when all items are read and everything that may leave now has left; batches leave while the rest is
        still read. Safe to repeat: a run that exists is resumed where it stopped, a finished or paused one is returned
        as it is. If reading fails before anything was sent, a run that this call created is withdrawn again.

        Args:
            job: What to run. On resume it must give the same results as the stored one.
            run_id: 1 to 200 characters of ``A-Z a-z 0-9 _ . = @ + -``; a new UUID by default.
            extras: JSON stored with a new run, for integrations.
            on_change: What to do if the items, prompts or metadata of the job are not those that are stored. ``refuse``
                reads and renders every row that is stored, compares it and raises before anything else is done. ``keep``
                says that the stored run is meant: nothing is compared, stored rows stay as they are, and only rows that
                are not read yet are rendered by this job. A run that is read to its end does not look at the source then.

        Raises:
            InvalidInputError: A row, an id or the run id is not usable; says which and why.
            MissingCredentialsError: There is no key for the provider.
            RunConfigMismatchError: The run was started with another model, endpoint, schema or options.
            RunItemsMismatchError: The run was started with other items, prompts or metadata; names the first difference.
            SourceMismatchError: The run was started from another source, or its content has changed.
            RunIngestionSourceRequiredError: The items were a plain iterable and not all of them had been read.
        """
        check_instance("job", job, BatchJob)
        run_id = check_run_id(uuid.uuid4().hex if run_id is None else run_id)
        on_change = check_on_change(on_change)
        check_lease_term(self._engine.settings.lease_ttl_sec, job.provider_config)
        created = not self.storage.has_run(run_id=run_id) and self._create(job, run_id, extras)
        if not created:
            self._resume(job, run_id, on_change)
        run = self.get_run(run_id)
        try:
            run.refresh()
        except StorageError:
            raise  # says nothing about the items: the run stays, for the next try and for drivers that have joined
        except Exception:
            created_at = run.summary().created_at if created else 0.0
            if created and self.storage.discard_unsent_run(run_id=run_id):
                self._attached.pop(run_id).provider.close()
                forget_snapshots(self._engine, run_id, created_at)
            raise
        return run

    def run_and_wait(
        self, job: BatchJob[Any, Any], *, run_id: str | None = None, on_change: OnChange = "refuse"
    ) -> Run:
        """:meth:`start` a run and ``wait()`` for its end; raises what they raise."""
        return self.start(job, run_id=run_id, on_change=on_change).wait()

    def _create(self, job: BatchJob[Any, Any], run_id: str, extras: JSONObject | None) -> bool:
        """Store a new run; False if another process was faster. Whatever is wrong with the job shows before."""
        provider = self._provider(job.provider_config)
        check_provided(job, provider.get().limits)
        budget = provider.get().enqueue_budget()
        config = persisted_config(job, budget_key=budget.key if budget else None, extras=extras)
        checkpoint = first_checkpoint(job.items)
        try:
            self.storage.create_run(run_id=run_id, config=config, items=[])
        except RunStateError:
            provider.close()
            return False
        if not self.storage.supports_leases:
            check_kept(config, self.storage.get_run_config(run_id=run_id), store=type(self.storage).__name__)
        self.storage.set_ingest_checkpoint(run_id=run_id, checkpoint=checkpoint)
        job = with_snapshots(self._engine, run_id, job)
        reader = Reader(job.items, job.build_prompt, checkpoint)
        attached = _Attached(config, provider, job.output_spec, job, reader, KnownRows.of_new_run(job))
        attached.sweeping.done()  # a run that has just been created has no batches
        self._attached[run_id] = attached
        self._engine.emit(run_id, "run_created", provider_kind=job.provider_config.provider_kind)
        return True

    def _resume(self, job: BatchJob[Any, Any], run_id: str, on_change: OnChange) -> None:
        stored = self.storage.get_run_config(run_id=run_id)
        config = persisted_config(job, budget_key=stored.budget_key, extras=stored.extras)
        check_same_job(run_id, stored, config)
        job = with_snapshots(self._engine, run_id, job)
        checkpoint = self.storage.get_ingest_checkpoint(run_id=run_id)
        if checkpoint is None:  # the process died between creating the run and this
            checkpoint = first_checkpoint(job.items)
            self.storage.set_ingest_checkpoint(run_id=run_id, checkpoint=checkpoint)
        here = self._attached.get(run_id)
        # an iterable that this process is reading can go on; any other that was interrupted can't
        reader = None if here is None else here.reader
        interrupted = not checkpoint.ingestion_complete and (reader is None or reader.is_broken)
        comparable = isinstance(job.items, CheckpointedItemSource) and checkpoint.source_kind != "iterable"
        kept = on_change == "keep" and checkpoint.ingestion_complete
        if (interrupted or comparable) and not kept:
            check_same_source(run_id, job.items, checkpoint)
        if here is not None and here.job is job:
            attached = here
        else:
            provider = self._provider(job.provider_config)
            attached = _Attached(config, provider, job.output_spec, job)
        # of what can be read once only, this process may have read a part: it can't be compared, but it is the same
        is_in_hand = here is not None and here.job is not None and here.job.items is job.items
        attached.rows = KnownRows(job, on_change, is_settled=is_in_hand and is_read_once(job.items))
        try:
            self._check_rows(run_id, attached, checkpoint)
        except BaseException:
            if attached is not here:
                attached.provider.close()
            raise
        if attached is not here:
            if reader is not None and not comparable:
                if not is_in_hand and on_change == "refuse":
                    # what was read of the items before is the same, so reading goes on with these
                    reader = Reader(job.items, job.build_prompt, checkpoint)
                reader.build_prompt = job.build_prompt
                attached.reader = reader
            self._attached[run_id] = attached
        self._engine.emit(run_id, "run_resumed", provider_kind=job.provider_config.provider_kind)

    def _check_rows(self, run_id: str, attached: _Attached, checkpoint: IngestCheckpoint) -> None:
        """Raise RunItemsMismatchError if stored rows are not those of the job that this process has."""
        if attached.rows is None:
            return
        if attached.reader is not None:
            attached.rows.note_own(attached.reader)
        with collecting_less():
            attached.rows.check(self.storage, run_id, checkpoint, lambda: _build_line(attached))

    def _check_rows_of_others(self, run_id: str) -> None:
        """The same where another driver stores the rows, while this one looks on."""
        attached = self._attached.get(run_id)
        if attached is not None and attached.rows is not None and not attached.rows.is_settled:
            checkpoint = self.storage.get_ingest_checkpoint(run_id=run_id)
            if checkpoint is not None:
                self._check_rows(run_id, attached, checkpoint)

    # --- driving -----------------------------------------------------------------------------------------------------

    def _provider(self, config: ProviderConfig) -> RunProvider:
        return RunProvider(lambda: self._make_provider(config), config)

    def _attach(self, run_id: str) -> _Attached:
        attached = self._attached.get(run_id)
        if attached is None:
            config = self.storage.get_run_config(run_id=run_id)
            attached = _Attached(config, self._provider(config.provider_config))
            self._attached[run_id] = attached
        return attached

    def _refresh(self, run_id: str, *, time_limit_sec: float | None) -> RunSummary:
        summary = self.storage.get_run_summary(run_id=run_id)
        if summary.status is not RunLifecycleStatus.RUNNING:
            self._check_rows_of_others(run_id)
            return self._look_after(summary)
        if summary.control_state is RunControlState.PAUSED:
            return summary
        drove = self._drive(
            run_id,
            lambda drive: self._cycle(drive, self._attach(run_id)),
            time_limit_sec=time_limit_sec,
        )
        if drove:
            return self._after_cycle(run_id)
        self._check_rows_of_others(run_id)
        return summary

    def _drive(
        self, run_id: str, step: Callable[[Drive], object], *, time_limit_sec: float | None = None
    ) -> bool:
        """Take a step under the run's lease; False if somebody else drives it."""
        attached, settings = self._attach(run_id), self._engine.settings
        check_lease_term(settings.lease_ttl_sec, attached.config.provider_config)
        owner = new_driver()
        try:
            session = self.storage.open_session(
                run_id=run_id, owner=owner, ttl_sec=settings.lease_ttl_sec, owner_is_dead=is_certainly_gone
            )
            if session is None:
                return False
            drive = Drive(
                self._engine,
                run_id=run_id,
                config=attached.config,
                session=session,
                provider=attached.provider,
                sweeping=attached.sweeping,
                output=attached.output,
                time_limit_sec=time_limit_sec,
            )
            try:
                with LeaseKeeper(session, ttl_sec=settings.lease_ttl_sec):
                    step(drive)
            finally:
                session.close()
        except LeaseLostError:
            pass  # another driver took over, and goes on from what is stored
        finally:
            driver_done(owner)
        return True

    def _look_after(self, summary: RunSummary) -> RunSummary:
        """Look once an hour for batches of an ended run, if one of its submissions was given up in doubt; else do nothing."""
        run_id, now = summary.run_id, self.storage.now()
        if not sweep_is_due(self.storage.list_intents(run_id=run_id), now=now):
            return summary
        try:
            self._drive(run_id, sweep_ended)
        except InvalidInputError:
            return summary  # reading an ended run needs neither its key nor its provider
        return self.storage.get_run_summary(run_id=run_id)

    def sweep_ended_runs(self) -> list[str]:
        """Look for late batches of runs that have ended, where one may still turn up; call it now and then.

        A batch whose creation could not be confirmed is looked for, and at last taken for never created. Should it appear
        within a day after all, this finds it, cancels it if it can be, counts it in ``RunSummary.orphan_batches`` and emits
        ``orphan_batch``. Each run is looked up once an hour at most; without such runs the provider is not asked at all.

        Returns:
            The runs that such batches may belong to.
        """
        run_ids = self.storage.runs_with_doubtful_past(sent_after=self.storage.now() - LATE_SEC)
        for run_id in run_ids:
            summary = self.storage.get_run_summary(run_id=run_id)
            if summary.status is not RunLifecycleStatus.RUNNING:
                self._look_after(summary)
        return run_ids

    def _has_work(self, run_id: str) -> bool:
        return has_work(self.storage, run_id, self._attach(run_id).provider.get)

    def _cycle(self, drive: Drive, attached: _Attached) -> None:
        with collecting_less():
            run_cycle(drive, self._reader(drive.run_id, attached))

    def _reader(self, run_id: str, attached: _Attached) -> Reader | None:
        """The job's reader at the place where the store says that reading goes on; None if there is nothing to read."""
        checkpoint = self.storage.get_ingest_checkpoint(run_id=run_id)
        if checkpoint is not None:
            self._check_rows(run_id, attached, checkpoint)
        if attached.job is None or checkpoint is None or checkpoint.ingestion_complete:
            attached.reader = None
            return None
        reader, job = attached.reader, attached.job
        if reader is None or reader.is_broken or reader.next_item_index != checkpoint.next_item_index:
            check_same_source(run_id, job.items, checkpoint)
            reader = attached.reader = Reader(job.items, job.build_prompt, checkpoint)
        return reader

    def _after_cycle(self, run_id: str) -> RunSummary:
        summary = self.storage.get_run_summary(run_id=run_id)
        if summary.status is not RunLifecycleStatus.RUNNING:
            self._engine.emit(
                run_id,
                "run_finished",
                status=summary.status.value,
                completed=summary.completed_items,
                failed=summary.failed_items,
            )
            attached = self._attached.get(run_id)
            if attached is not None:
                attached.provider.close()
        return summary

    def _wait(self, run: Run, *, timeout: float | None, poll_interval: float | None) -> None:
        if poll_interval is None:
            poll_interval = self._attach(run.run_id).config.provider_config.poll_interval_sec
        began, slept = time.monotonic(), 0.0
        without_store = 0.0
        while True:
            try:
                summary = run.refresh()
                if run.is_finished:
                    return
                self._check_can_go_on(run.run_id, summary)
                without_store = 0.0
            except StorageError as error:
                # a database that restarts need not end a wait of a day; what was stored tells where to go on
                if not error.is_passing or without_store >= STORE_OUTAGE_SEC:
                    raise
                log.warning("run %s: the store can't be used just now, trying again: %s", run.run_id, error)
                without_store += max(poll_interval, 0.1)
            # a sleep that was handed in may take no time at all, and still counts
            elapsed = max(time.monotonic() - began, slept)
            if timeout is not None and elapsed >= timeout:
                raise TimeoutError(
                    f"run {run.run_id!r} is not finished after {timeout} s; it goes on with the next wait() or refresh()"
                )
            pause = poll_interval if without_store == 0.0 else max(poll_interval, 0.1)
            pause = pause if timeout is None else min(pause, timeout - elapsed)
            self._sleep(pause)
            slept += pause

    def _check_can_go_on(self, run_id: str, summary: RunSummary) -> None:
        """Waiting must have an end: raise what a person has to do where nothing moves by itself any more."""
        if summary.control_state is RunControlState.PAUSED:
            raise RunPausedError(run_id, self.storage.get_control_reason(run_id=run_id))
        counts = summary.status_counts
        moving = summary.unknown_batches + counts[ItemStatus.PENDING] + counts[ItemStatus.FAILED_RETRYABLE]
        active = self.storage.get_active_batches(run_id=run_id) if summary.quarantined_batches else []
        if summary.quarantined_batches:
            cancelling = summary.control_state is RunControlState.CANCEL_REQUESTED
            moving += sum(
                not needs_a_person(quarantine_cause=batch.quarantine_cause, is_cancelling=cancelling)
                for batch in active
            )
        else:
            moving += summary.active_batches + counts[ItemStatus.SUBMITTED]
        if moving or self.storage.get_lease(run_id=run_id) is not None:
            return
        if summary.quarantined_batches:
            intents = self.storage.list_intents(run_id=run_id)
            raise QuarantinedBatchError(
                run_id,
                [intent.local_batch_id for intent in intents if intent.state == "quarantined"],
                late={
                    batch.local_batch_id: overdue_reason(batch)
                    if batch.ended_at is None
                    else batch.wait_reason or ""
                    for batch in active
                    if batch.quarantine_cause in LOOKED_AT
                },
            )
        attached = self._attached.get(run_id)
        if not summary.ingestion_complete and (attached is None or attached.job is None):
            raise RunIngestionSourceRequiredError(run_id)

    # --- finding and controlling -------------------------------------------------------------------------------------

    def has_run(self, run_id: str) -> bool:
        """Whether the store has a run of this id."""
        return self.storage.has_run(run_id=run_id)

    def get_run(self, run_id: str) -> Run:
        """The handle of a stored run. Reads only, and needs no key.

        Raises:
            RunNotFoundError: There is none.
        """
        return Run(runner=self, run_id=run_id, summary=self.storage.get_run_summary(run_id=run_id))

    def list_runs(self) -> list[RunListing]:
        """Every run of the store, newest first."""
        return self.storage.list_runs()

    def pause_run(self, run_id: str) -> Run:
        """Pause a run; see :meth:`Run.pause`. Pausing a paused one changes nothing."""
        summary = self.storage.get_run_summary(run_id=run_id)
        self._check_open(summary, "pause")
        match summary.control_state:
            case RunControlState.CANCEL_REQUESTED:
                raise RunStateError(run_id, "can't pause it, it is being cancelled")
            case RunControlState.RUNNING:
                self.storage.set_run_control_state(run_id=run_id, control_state=RunControlState.PAUSED)
                self._engine.emit(run_id, "run_paused", by="operator")
            case RunControlState.PAUSED:
                pass
            case _:
                assert_never(summary.control_state)
        return self.get_run(run_id)

    def resume_run(self, run_id: str) -> Run:
        """Let a paused run go on; see :meth:`Run.resume`. A running or finished one is returned as it is."""
        summary = self.storage.get_run_summary(run_id=run_id)
        match summary.control_state:
            case RunControlState.CANCEL_REQUESTED:
                raise RunStateError(run_id, "can't resume it, it has been cancelled")
            case RunControlState.PAUSED:
                # whoever resumes has mended what the backoff was about
                self.storage.clear_batch_retry_backoff(run_id=run_id)
                self.storage.set_run_control_state(run_id=run_id, control_state=RunControlState.RUNNING)
                self._engine.emit(run_id, "run_resumed_by_operator")
            case RunControlState.RUNNING:
                pass
            case _:
                assert_never(summary.control_state)
        return self.get_run(run_id)

    def cancel_run(self, run_id: str) -> Run:
        """Cancel a run for good; see :meth:`Run.cancel`. Cancelling twice changes nothing."""
        summary = self.storage.get_run_summary(run_id=run_id)
        if summary.control_state is not RunControlState.CANCEL_REQUESTED:
            self._check_open(summary, "cancel")
            self.storage.set_run_control_state(run_id=run_id, control_state=RunControlState.CANCEL_REQUESTED)
            self._engine.emit(run_id, "run_cancel_requested")
        return self.get_run(run_id)

    def retry_failed(self, run_id: str) -> Run:
        """Give every permanently failed item a fresh set of attempts; their results are withdrawn until then.

        Raises:
            RunStateError: The run was cancelled, which is final.
        """
        if self.storage.get_run_control_state(run_id=run_id) is RunControlState.CANCEL_REQUESTED:
            raise RunStateError(run_id, "can't retry its failed items, it has been cancelled")
        count = self.storage.reopen_failed_items(run_id=run_id)
        self._engine.emit(run_id, "items_reopened", count=count)
        return self.get_run(run_id)

    def adopt_batch(self, run_id: str, local_batch_id: str, provider_batch_id: str) -> Run:
        """Say of a quarantined submission: this is its batch. Its results are then taken in."""
        return self._settle(run_id, local_batch_id, "adopt", provider_batch_id)

    def keep_waiting(self, run_id: str, local_batch_id: str) -> Run:
        """Say of a quarantined batch that is late: wait on. Patience with it begins again."""
        return self._settle(run_id, local_batch_id, "wait", None)

    def resubmit_batch(self, run_id: str, local_batch_id: str) -> Run:
        """Say of a quarantined submission: it was never created. Its items go into a new batch.

        Of a batch that is late: what it has brought stays, and its other items are sent, and paid for, again.

        Its input file is deleted first, if the provider lets us, so that a request still on its way can't create it now.
        """
        self._fence(run_id, local_batch_id)
        return self._settle(run_id, local_batch_id, "resubmit", None)

    def fail_batch(self, run_id: str, local_batch_id: str) -> Run:
        """Say of a quarantined submission: leave it. Its items end as failed, and its input file is deleted if possible."""
        self._fence(run_id, local_batch_id)
        return self._settle(run_id, local_batch_id, "fail", None)

    def _fence(self, run_id: str, local_batch_id: str) -> None:
        """Delete the files of a submission that an operator is about to give up, above all the one at the provider."""
        for intent in self.storage.list_intents(run_id=run_id):
            if intent.local_batch_id != local_batch_id or intent.state not in IN_DOUBT:
                continue
            if intent.artifact_key is not None and intent.provider_batch_id is None:
                with suppress(Exception):  # an operator's machine need not reach the run's folder
                    self._engine.artifacts.delete(intent.artifact_key)
            if not intent.input_file_id:
                continue
            try:
                api = self._attach(run_id).provider.get()
                if api.limits.can_fence:
                    api.fence(intent.input_file_id)
            except (
                Exception
            ) as error:  # the decision counts all the same: it is made where nobody can be asked
                log.warning(
                    "the input file of submission %s of run %s stays at the provider: %s",
                    local_batch_id,
                    run_id,
                    error,
                )

    def _settle(
        self, run_id: str, local_batch_id: str, decision: IntentDecision, provider_batch_id: str | None
    ) -> Run:
        self.storage.settle_intent(
            run_id=run_id,
            local_batch_id=local_batch_id,
            decision=decision,
            provider_batch_id=provider_batch_id,
        )
        event = "submission_recovered" if decision in ("adopt", "wait") else "submission_dropped"
        self._engine.emit(run_id, event, local_batch_id=local_batch_id, decision=decision, by="operator")
        return self.get_run(run_id)

    def _check_open(self, summary: RunSummary, verb: str) -> None:
        if summary.status is not RunLifecycleStatus.RUNNING:
            raise RunStateError(summary.run_id, f"can't {verb} it, it is finished ({summary.status.value})")

    # --- reading -----------------------------------------------------------------------------------------------------

    def read_terminal_results(
        self, run_id: str, *, after_sequence: int = 0, limit: int | None = None
    ) -> TerminalResultsPage:
        """Read a page of results in the order in which they ended, while the run goes on or after.

        Sequences begin at 1 and have no gaps, and a later commit never gets a smaller one: a reader that keeps
        ``next_after_sequence`` misses nothing.

        Args:
            run_id: The run.
            after_sequence: Cursor from the previous page, 0 to begin.
            limit: Rows at most; None reads all that are there, into memory.

        Raises:
            ValueError: ``after_sequence`` is negative, or ``limit`` below 1.
            ModelResolutionError: The output model can't be imported in this process.
        """
        check_cursor(after_sequence, limit)
        items: list[BatchResultItem] = []
        cursor = after_sequence
        output = self._output(run_id)
        with collecting_less():
            for page in row_pages(self._engine, run_id, after_sequence=after_sequence, limit=limit):
                items += typed_page(self._engine, page, output)
                cursor = page[-1].sequence or cursor
        if items:
            # Found again for every page, it would cost as much as a hundred rows. Runs that have results stay, and with
            # them what they were asked for.
            self._outputs[run_id] = output
        return TerminalResultsPage(run_id, items, cursor)

    def export_terminal_results(
        self,
        run_id: str,
        *,
        destination: str | Path,
        after_sequence: int = 0,
        append: bool = True,
        limit: int | None = None,
    ) -> TerminalResultsExportResult:
        """Write results as JSON lines, streaming; needs neither key nor model.

        A row holds item_id, status, attempt_count, metadata, output_text, output_json (runs of models and bodies),
        output_vector (runs of vectors, in base64), raw_response and error. A file that is not appended to is written under a
        temporary name and renamed.

        Raises:
            ValueError: ``after_sequence`` is negative, or ``limit`` below 1.
        """
        check_cursor(after_sequence, limit)
        config = self.storage.get_run_config(run_id=run_id)
        return export.export_terminal_results(
            self._engine,
            run_id,
            Path(destination),
            after_sequence=after_sequence,
            append=append,
            limit=limit,
            kind=declared_output(config).kind,
        )

    def export_artifacts(self, run_id: str, *, destination_dir: str | Path) -> ArtifactExportResult:
        """Copy a finished run's files and results to ``<destination_dir>/<run_id>/``, with a manifest of SHA-256 sums.

        Raises:
            RunNotFinishedError: The run still goes on.
        """
        self._check_finished(run_id)
        config = self.storage.get_run_config(run_id=run_id)
        result = export.export_artifacts(
            self._engine, run_id, Path(destination_dir), kind=declared_output(config).kind
        )
        self._engine.emit(
            run_id,
            "artifacts_exported",
            destination=result.destination_dir,
            count=len(result.exported_artifact_paths),
        )
        return result

    def prune_artifacts(
        self, run_id: str, *, include_raw_output_artifacts: bool = False
    ) -> ArtifactPruneResult:
        """Delete a finished run's request files, and on wish its raw outputs, which must have been exported.

        Afterwards ``raw_response`` of results is None where the raw outputs are gone.

        Raises:
            RunNotFinishedError: The run still goes on.
            RunStateError: Raw outputs are not in an exported bundle; nothing was deleted.
        """
        self._check_finished(run_id)
        result = export.prune_artifacts(
            self._engine, run_id, include_raw_outputs=include_raw_output_artifacts
        )
        self._engine.emit(run_id, "artifacts_pruned", count=len(result.removed_artifact_paths))
        return result

    def _check_finished(self, run_id: str) -> None:
        if self.storage.get_run_summary(run_id=run_id).status is RunLifecycleStatus.RUNNING:
            raise RunNotFinishedError(run_id)

    def _output(self, run_id: str) -> OutputSpec:
        """What a run's results are: the job's own, or with the model imported again by name."""
        attached = self._attached.get(run_id)
        if attached is not None and attached.output is not None:
            return attached.output
        if run_id in self._outputs:
            return self._outputs[run_id]
        config = self.storage.get_run_config(run_id=run_id)
        return stored_output(config, allowed_modules=self._engine.settings.model_modules)

    def _iter_row_pages(
        self, run_id: str, *, after_sequence: int, page_size: int
    ) -> Iterator[list[ResultRow]]:
        check_cursor(after_sequence, page_size)
        if not self.storage.has_run(run_id=run_id):
            raise RunNotFoundError(run_id)
        return row_pages(self._engine, run_id, after_sequence=after_sequence, page_size=page_size)

    def _iter_results(self, run_id: str, *, after_sequence: int, page_size: int) -> Iterator[BatchResultItem]:
        output = self._output(run_id)
        for page in self._iter_row_pages(run_id, after_sequence=after_sequence, page_size=page_size):
            yield from typed_page(self._engine, page, output)

    def _in_item_order(self, run_id: str) -> list[BatchResultItem]:
        output = self._output(run_id)
        with collecting_less():
            indexed = [
                (row.item_index, result)
                for page in self._iter_row_pages(run_id, after_sequence=0, page_size=1_000)
                for row, result in zip(page, typed_page(self._engine, page, output), strict=True)
            ]
        return [result for _, result in sorted(indexed, key=lambda entry: entry[0])]

    def _results(self, run: Run) -> list[BatchResultItem]:
        if run.summary().status is RunLifecycleStatus.RUNNING:
            raise RunNotFinishedError(run.run_id)
        return self._in_item_order(run.run_id)

    def _snapshot(self, run: Run) -> RunSnapshot:
        summary = run.summary()
        return RunSnapshot(
            run_id=summary.run_id,
            status=summary.status,
            control_state=summary.control_state,
            total_items=summary.total_items,
            completed_items=summary.completed_items,
            failed_items=summary.failed_items,
            status_counts=summary.status_counts,
            active_batches=summary.active_batches,
            backoff_remaining_sec=summary.backoff_remaining_sec,
            items=self._in_item_order(run.run_id),
        )
