"""The entry point: starting runs, finding them, and the operations of a handle by a run's id."""

from __future__ import annotations

import asyncio
import functools
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from batchor_core.artifacts.at_boundaries import ArtifactsAtBoundaries
from batchor_core.artifacts.base import ArtifactStore
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.arguments import check_instance
from batchor_core.core.caps import Cap, check_caps
from batchor_core.core.enums import StorageKind
from batchor_core.core.models import (
    AnswerT,
    ArtifactExportResult,
    ArtifactPruneResult,
    BatchJob,
    RunEvent,
    TerminalResultsExportResult,
    TerminalResultsPage,
)
from batchor_core.core.plan import Plan
from batchor_core.core.price_book import PriceBook, PricesGiven
from batchor_core.core.results import Order
from batchor_core.core.spending import Spending, add_up, seconds_of
from batchor_core.core.types import JSONObject
from batchor_core.core.validation import check_run_id
from batchor_core.providers.api import BatchApi
from batchor_core.providers.base import BatchProvider
from batchor_core.providers.registry import ProviderRegistry, build_default_provider_registry
from batchor_core.runtime import deletion, driving, export, reading, starting
from batchor_core.runtime.engine import Engine, EngineSettings
from batchor_core.runtime.estimate import TokenEstimate, estimate
from batchor_core.runtime.live import LiveRuns
from batchor_core.runtime.planning import Planning
from batchor_core.runtime.row_comparison import OnChange, check_on_change
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner_arguments import check_runner_arguments
from batchor_core.storage.registry import StorageRegistry, build_default_storage_registry
from batchor_core.storage.state import RunListing, StateStore

log = logging.getLogger("batchor_core")


@functools.cache
def _warn_of_single_driver(store: str) -> None:
    log.warning(
        "%s has no leases and keeps no submissions: only one process at a time may drive a run, and a crash while a batch is "
        "created can pay for that batch twice",
        store,
    )


class BatchRunner:
    """Starts, resumes, drives and reads runs.

    One runner serves any number of runs and threads. Several processes may use runners on one store: each run is driven
    by one of them at a time, and the others see its state. Use it as a context manager, or call :meth:`close`.

    Args:
        storage: A state store, or the name of a registered kind; by default SQLite at ``~/.batchor/default.sqlite3``.
        provider_registry: Where provider kinds are looked up; by default the built-in ones and those that installed packages register.
        storage_registry: Where storage kinds are looked up; by default SQLite, Postgres and memory.
        provider_factory: Makes every provider, whatever its kind; for tests.
        observer: Called with each :class:`RunEvent`, from the driving thread. Exceptions that it raises are logged.
        sleep: Used by ``wait()`` between cycles instead of ``time.sleep``.
        artifact_store: Where request and output files are kept. Processes that share a store must share it too.
        temp_root: Folder of the default local artifact store; by default beside the SQLite file, or
            ``~/.batchor/artifacts`` for other durable stores, or a temporary folder for the memory store.
        settings: Settings of the engine: leases, look-ups, parallel transfers.
        prices: Your own prices, which come before the public price list: the path of a ``prices.toml``, a mapping of the same
            shape, a function of provider, model and day, or a :class:`~batchor_core.PriceBook` of both.
        caps: The most that the runs of the store may spend: kept in the store, for all that drive its runs.
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
        prices: PricesGiven | None = None,
        caps: Sequence[Cap] = (),
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
        price_book = PriceBook.of(prices)
        check_caps("caps", caps)
        providers = provider_registry or build_default_provider_registry()
        self._owns_storage = not isinstance(storage, StateStore)
        if isinstance(storage, StateStore):
            self.storage = storage
        else:
            stores = storage_registry or build_default_storage_registry(provider_registry=providers)
            self.storage = stores.create(storage or StorageKind.SQLITE)
        if not self.storage.supports_leases:
            _warn_of_single_driver(type(self.storage).__name__)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        engine = Engine(
            store=self.storage,
            artifacts=ArtifactsAtBoundaries(
                artifact_store or LocalArtifactStore(self._artifact_root(temp_root))
            ),
            observer=observer,
            settings=settings or EngineSettings(),
            sleep=sleep or time.sleep,
            prices=price_book,
        )
        self.storage.keep_caps(caps)
        self._runs = LiveRuns(engine, provider_factory or providers.create)

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

    async def __aenter__(self) -> BatchRunner:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Wait for cycles of cancelled tasks, then release connections: those of the providers, and of the store if the runner opened it itself."""
        self._runs.close()
        if self._owns_storage:
            self.storage.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def start(
        self,
        job: BatchJob[Any, AnswerT],
        *,
        run_id: str | None = None,
        extras: JSONObject | None = None,
        on_change: OnChange = "refuse",
    ) -> Run[AnswerT]:
        """Create a run, or resume the one with this id, and do its first cycle.

        Returns when all items are read and everything that may be sent now has been sent; batches are sent while the rest is
        still being read. Safe to repeat: an existing run is resumed where it stopped, a finished or paused one is returned
        as it is. If reading fails before anything was sent, a run that this call created is removed again.

        Args:
            job: What to run. On resume it must give the same results as the stored one.
            run_id: 1 to 200 characters of ``A-Z a-z 0-9 _ . = @ + -``; a new UUID by default.
            extras: JSON stored with a new run, for integrations.
            on_change: What to do if the items, prompts or metadata of the job differ from the stored ones. ``refuse``
                reads and renders every stored row, compares it and raises before anything else is done. ``keep``
                continues the stored run: nothing is compared, stored rows stay as they are, and only rows that
                are not read yet are rendered by this job. If all rows were read, the source is not used.

        Raises:
            InvalidInputError: A row, an id or the run id is invalid; says which and why.
            MissingCredentialsError: There is no key for the provider.
            RunConfigMismatchError: The run was started with another model, endpoint, schema or options.
            RunItemsMismatchError: The run was started with other items, prompts or metadata; names the first difference.
            SourceMismatchError: The run was started from another source, or its content has changed.
            RunIngestionSourceRequiredError: The items were a plain iterable and not all of them had been read.
        """
        check_instance("job", job, BatchJob)
        check_instance("extras", extras or {}, dict)
        run_id = check_run_id(uuid.uuid4().hex if run_id is None else run_id)
        summary = starting.start(self._runs, job, run_id, extras=extras, on_change=check_on_change(on_change))
        return Run(runner=self, run_id=run_id, summary=summary)

    def run_and_wait(
        self, job: BatchJob[Any, AnswerT], *, run_id: str | None = None, on_change: OnChange = "refuse"
    ) -> Run[AnswerT]:
        """:meth:`start` a run and ``wait()`` for its end; raises what they raise."""
        return self.start(job, run_id=run_id, on_change=on_change).wait()

    async def start_async(
        self,
        job: BatchJob[Any, AnswerT],
        *,
        run_id: str,
        extras: JSONObject | None = None,
        on_change: OnChange = "refuse",
    ) -> Run[AnswerT]:
        """:meth:`start` in a thread, without blocking the event loop; ``build_prompt`` is called in that thread.

        If the task is cancelled, the start still finishes in its thread, so the run may exist: call it again with the same
        ``run_id``, which is why there is no default for it, and nothing is sent twice.
        """
        return await self._runs.threads.run(
            lambda: self.start(job, run_id=run_id, extras=extras, on_change=on_change)
        )

    async def run_and_wait_async(
        self, job: BatchJob[Any, AnswerT], *, run_id: str, on_change: OnChange = "refuse"
    ) -> Run[AnswerT]:
        """:meth:`start_async` a run and ``wait_async()`` for its end; raises what they raise."""
        run = await self.start_async(job, run_id=run_id, on_change=on_change)
        return await run.wait_async()

    def plan(
        self, job: BatchJob[Any, Any], *, run_id: str | None = None, extras: JSONObject | None = None
    ) -> Plan:
        """What :meth:`start` would send if the job was started as a new run now, and what that would cost.

        Reads and renders every row as :meth:`start` does, and looks into the store. Sends nothing, writes nothing, and needs
        no key. It takes some 200 bytes of memory a row, to find equal rows and repeated ids.

        Args:
            job: What to run.
            run_id: The id that the run would have, for its caps; the plan says if there is such a run already.
            extras: What would be stored with the run. Scopes of reuse and caps may depend on it.

        Raises:
            InvalidInputError: :meth:`start` would raise it too; or the rows can be read only once.
            SourceRowError: A row can't be read.
        """
        check_instance("job", job, BatchJob)
        check_instance("extras", extras or {}, dict)
        engine = self._runs.engine
        planning = Planning(
            engine.store, self._runs.provider(job.provider_config), engine.prices, engine.settings
        )
        return planning.plan(job, run_id=run_id, extras=extras or {})

    async def plan_async(
        self, job: BatchJob[Any, Any], *, run_id: str | None = None, extras: JSONObject | None = None
    ) -> Plan:
        """:meth:`plan` in a thread, without blocking the event loop; ``build_prompt`` is called in that thread."""
        return await self._runs.threads.run(lambda: self.plan(job, run_id=run_id, extras=extras))

    def has_run(self, run_id: str) -> bool:
        """Whether the store has a run with this id."""
        return self.storage.has_run(run_id=run_id)

    def get_run(self, run_id: str) -> Run:
        """Return the handle of a stored run. Only reads, and needs no key.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return Run(runner=self, run_id=run_id, summary=self.storage.get_run_summary(run_id=run_id))

    def estimate(self, run_id: str) -> TokenEstimate:
        """What the input of a run's requests in flight will be billed, from their texts alone to everything in them."""
        return estimate(self._runs.of(run_id), self._runs.engine.store.get_run_summary(run_id=run_id))

    def list_runs(self) -> list[RunListing]:
        """Every run of the store, newest first."""
        return self.storage.list_runs()

    def spending(
        self,
        by: str = "day",
        *,
        since: date | datetime | None = None,
        until: date | datetime | None = None,
    ) -> list[Spending]:
        """What the runs of the store have cost.

        Args:
            by: ``run``, ``day`` or ``month`` (in UTC, of the batch's creation), ``model``, ``asset`` or ``partition`` (of
                Dagster), or ``tag:NAME`` for a key of the jobs' ``batch_metadata``.
            since: Only batches that were created from this moment on; a date is its first moment in UTC.
            until: Only those that were created before it.

        Runs that were deleted are not in it, nor are batches that earlier versions collected.

        Raises:
            InvalidInputError: Nothing can be told apart by ``by``, or a moment has no time zone.
            NotImplementedError: The store keeps no amounts.
        """
        start, end = seconds_of("since", since), seconds_of("until", until)
        return add_up(self.storage.get_spent(since=start, until=end), by=by)

    def set_cap(self, cap: Cap) -> None:
        """Set a cap, or another limit of one that is there, as an operator: it counts before what the code says.

        Runs that have paused at a cap go on when they are resumed.
        """
        check_instance("cap", cap, Cap)
        self.storage.keep_caps([cap], by_operator=True)

    def remove_cap(self, cap: Cap) -> bool:
        """Remove a cap of this scope, measure and time, whatever its limit; says whether it was there."""
        check_instance("cap", cap, Cap)
        return self.storage.remove_cap(cap)

    def list_caps(self) -> list[Cap]:
        """Every cap of the store, with the limit that counts."""
        return self.storage.list_caps()

    def delete_run(self, run_id: str) -> list[str]:
        """Delete a run with its results and files; exported bundles and written tables stay.

        The answers, which were paid for, are gone then, and starting the same job again costs money again.

        Returns:
            The keys of the deleted files.

        Raises:
            RunNotFoundError: There is no such run.
            RunStateError: It is being driven, it is not finished, or one of its batches is or may be at the provider. Nothing was
                deleted.
            NotImplementedError: The store can't delete runs.
        """
        deleted = deletion.delete_run(self._runs.engine, run_id)
        self._runs.forget(run_id)
        return deleted

    def sweep_ended_runs(self) -> list[str]:
        """Look for batches that may still turn up after their runs have ended; call it from time to time.

        A batch whose creation could not be confirmed is searched for and finally counts as never created. If it appears
        within a day after all, this finds it, cancels it if possible, counts it in ``RunSummary.orphan_batches`` and emits
        ``orphan_batch``. Each run is looked up at most once an hour; without such runs no request is made.

        Returns:
            The runs that such batches may belong to.
        """
        return driving.sweep_ended_runs(self._runs)

    # --- what one run's handle does, by its id -----------------------------------------------------------------------

    def pause_run(self, run_id: str) -> Run:
        """Pause a run, by the run's id; see :meth:`Run.pause`."""
        return self._told(run_id, Run.pause)

    def resume_run(self, run_id: str) -> Run:
        """Resume a run, by the run's id; see :meth:`Run.resume`."""
        return self._told(run_id, Run.resume)

    def cancel_run(self, run_id: str) -> Run:
        """Cancel a run, by the run's id; see :meth:`Run.cancel`."""
        return self._told(run_id, Run.cancel)

    def retry_failed(self, run_id: str) -> Run:
        """Retry the failed items of a run, by the run's id; see :meth:`Run.retry_failed`."""
        return self._told(run_id, Run.retry_failed)

    def adopt_batch(self, run_id: str, local_batch_id: str, provider_batch_id: str) -> Run:
        """Adopt a batch, by the run's id; see :meth:`Run.adopt`."""
        return self._told(run_id, lambda run: run.adopt(local_batch_id, provider_batch_id))

    def keep_waiting(self, run_id: str, local_batch_id: str) -> Run:
        """Keep waiting for a late batch, by the run's id; see :meth:`Run.keep_waiting`."""
        return self._told(run_id, lambda run: run.keep_waiting(local_batch_id))

    def resubmit_batch(self, run_id: str, local_batch_id: str) -> Run:
        """Resubmit a submission, by the run's id; see :meth:`Run.resubmit`."""
        return self._told(run_id, lambda run: run.resubmit(local_batch_id))

    def fail_batch(self, run_id: str, local_batch_id: str) -> Run:
        """Give a submission up, by the run's id; see :meth:`Run.fail`."""
        return self._told(run_id, lambda run: run.fail(local_batch_id))

    def _told(self, run_id: str, verb: Callable[[Run], object]) -> Run:
        run = self.get_run(run_id)
        verb(run)
        return run

    def read_terminal_results(
        self, run_id: str, *, after_sequence: int = 0, limit: int | None = None
    ) -> TerminalResultsPage:
        """Read a page of results, by the run's id; see :meth:`Run.read_terminal_results`."""
        return reading.read_terminal_results(self._runs, run_id, after_sequence=after_sequence, limit=limit)

    def export_terminal_results(
        self,
        run_id: str,
        *,
        destination: str | Path,
        after_sequence: int = 0,
        append: bool = True,
        limit: int | None = None,
        order: Order | None = None,
        raw_responses: bool = True,
    ) -> TerminalResultsExportResult:
        """Write results as JSON lines, by the run's id; see :meth:`Run.export_terminal_results`."""
        return export.export_terminal_results(
            self._runs.engine,
            run_id,
            Path(destination),
            after_sequence=after_sequence,
            append=append,
            limit=limit,
            order=order,
            raw_responses=raw_responses,
        )

    def export_artifacts(self, run_id: str, *, destination_dir: str | Path) -> ArtifactExportResult:
        """Export a finished run, by the run's id; see :meth:`Run.export_artifacts`."""
        return export.export_artifacts(self._runs.engine, run_id, Path(destination_dir))

    def prune_artifacts(
        self, run_id: str, *, include_raw_output_artifacts: bool = False
    ) -> ArtifactPruneResult:
        """Delete files of a finished run, by the run's id; see :meth:`Run.prune_artifacts`."""
        return export.prune_artifacts(
            self._runs.engine, run_id, include_raw_outputs=include_raw_output_artifacts
        )
