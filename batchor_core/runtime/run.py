"""The handle of one run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias

from pydantic import BaseModel

from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.models import (
    ArtifactExportResult,
    ArtifactPruneResult,
    RunSnapshot,
    RunSummary,
    TerminalResultsExportResult,
    TerminalResultsPage,
)
from batchor_core.core.outputs import OutputSpec, OutputT
from batchor_core.core.pricing import Rates
from batchor_core.core.results import ItemResult, Order
from batchor_core.runtime import control, driving, export, on_the_loop, reading, report, waiting
from batchor_core.runtime.live import LiveRuns
from batchor_core.runtime.outputs import chosen_output
from batchor_core.runtime.pending_work import has_work, is_driven
from batchor_core.runtime.results import check_finished
from batchor_core.runtime.waiting import Waiting
from batchor_core.storage.rows import record_of
from batchor_core.storage.state import PersistedItemRecord, PersistedRunConfig, ResultRow, SubmissionDecision

if TYPE_CHECKING:  # pyarrow is imported when a table is asked for, and frames are extras
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from batchor_core.tables.report import TableReport
    from batchor_core.tables.stream import ResultStream

AnyOutput: TypeAlias = "type[BaseModel] | OutputSpec | None"
"""What answers are read with; None for what the run was started with."""


class Runner(Protocol):
    """What a handle needs of its :class:`~batchor_core.BatchRunner`."""

    _runs: LiveRuns


class Run(Generic[OutputT]):
    """A durable run: wait for it, inspect it, control it, read its results.

    A handle holds only the run's id and the last summary; make as many as you like. To a type checker, ``Run[M]`` is a
    run whose results have an ``output`` of type M, taken from the job; a run that is found by its id is a ``Run[Any]``.

    Args:
        runner: The :class:`~batchor_core.BatchRunner` it belongs to.
        run_id: The run's id.
        summary: Its latest summary.
    """

    def __init__(self, *, runner: Runner, run_id: str, summary: RunSummary) -> None:
        self._runner = runner  # which takes its temporary folder with it when it goes
        self._runs = runner._runs
        self._engine = runner._runs.engine
        self.run_id = run_id
        self._summary = summary

    def __repr__(self) -> str:
        return f"<Run {self.run_id} {self.status.value}: {self._summary.completed_items} of {self._summary.total_items} done>"

    def _repr_html_(self) -> str:
        return self._summary._repr_html_()

    @property
    def status(self) -> RunLifecycleStatus:
        """Running, or how the run ended, as of the last summary. Makes no request."""
        return self._summary.status

    @property
    def control_state(self) -> RunControlState:
        """Running, paused or being cancelled, as of the last summary. Makes no request."""
        return self._summary.control_state

    @property
    def is_finished(self) -> bool:
        """Whether every item had ended, as of the last summary. Makes no request."""
        return self.status is not RunLifecycleStatus.RUNNING

    @property
    def config(self) -> PersistedRunConfig:
        """The job as it is stored, without secrets."""
        return self._engine.store.get_run_config(run_id=self.run_id)

    @property
    def rates(self) -> Rates:
        """What tokens cost in a batch that was created when the run was."""
        return self._engine.rates(self.config.provider_config, at=self._summary.created_at)

    def refresh(self, *, time_limit_sec: float | None = None) -> RunSummary:
        """Do one cycle: recover, poll, read on, submit; then return the new summary.

        Returns at once, doing nothing, if the run is finished, paused, or driven by another process.

        Args:
            time_limit_sec: Begin no further step after this many seconds. Steps that have begun are finished.

        Raises:
            MissingCredentialsError: The provider is needed, and there is no key.
        """
        self._summary = driving.refresh(self._runs, self.run_id, time_limit_sec=time_limit_sec)
        return self._summary

    def is_driven(self) -> bool:
        """Whether a process drives the run at the moment. Writes nothing."""
        return is_driven(self._engine.store, self.run_id)

    def has_work(self) -> bool:
        """Whether a cycle would do something now instead of only waiting. Writes nothing.

        Asks the provider for the state of batches in flight. For schedulers that must not occupy a worker with waiting.

        Raises:
            MissingCredentialsError: The provider is needed, and there is no key.
        """
        return has_work(self._engine.store, self.run_id, self._runs.of(self.run_id).provider.get)

    def wait(
        self, *, timeout: float | None = None, poll_interval: float | None = None, progress: bool = False
    ) -> Run[OutputT]:
        """Refresh until the run is finished.

        Args:
            timeout: Seconds; None waits until the run is finished, which may take a day.
            poll_interval: Seconds between two cycles; by default the provider config's, which grows with the age of the batches
                from one second to two minutes unless it is set.
            progress: Draw a bar. A terminal needs rich (the extra ``progress``), a notebook does not.

        Raises:
            RunPausedError: The run is paused; ``reason`` says why if the engine paused it.
            QuarantinedBatchError: Everything left needs a decision about batches of unknown outcome or late batches.
            RunIngestionSourceRequiredError: Everything left has yet to be read, and this process has no source for it.
            StorageError: The store can't be used, or has been unreachable for ten minutes.
            TimeoutError: The time is up; names what is being retried. The run continues with the next ``wait()`` or
                ``refresh()``.
        """
        steps = Waiting(self._runs, self.run_id, self.refresh, timeout, poll_interval)
        waiting.wait(steps, progress=progress)
        return self

    async def wait_async(
        self, *, timeout: float | None = None, poll_interval: float | None = None, progress: bool = False
    ) -> Run[OutputT]:
        """:meth:`wait` without blocking the event loop; one loop can wait for any number of runs.

        Cycles run in the runner's threads, and no thread is held between them. Cancelling the task leaves the run as
        it is: a step that has begun is finished in its thread, and the next wait continues from there. Arguments and errors are those of
        :meth:`wait`.
        """
        steps = Waiting(
            self._runs, self.run_id, self.refresh, timeout, poll_interval, slice_sec=on_the_loop.SLICE_SEC
        )
        await on_the_loop.wait(self._runs.threads, steps, progress=progress)
        return self

    def summary(self) -> RunSummary:
        """Read the latest counts from the store. Writes nothing and needs no key."""
        self._summary = reading.summary(self._runs, self.run_id)
        return self._summary

    def snapshot(self) -> RunSnapshot[OutputT]:
        """The summary with every terminal result so far, in item order. Its memory grows with the run."""
        return reading.snapshot(self._runs, self.summary())

    def report(self) -> str:
        """A report in Markdown: rows, tokens, cost, turnaround of the batches, the most frequent errors with an example.

        Reads every result once, in bounded memory; works while the run goes on.
        """
        return report.report_of_run(self._engine.store, self.run_id, self.rates).markdown()

    def results(self, *, model: type[BaseModel] | None = None) -> list[ItemResult[OutputT]]:
        """Every result in item order. The list grows with the run; ``iter_results()`` needs constant memory.

        Args:
            model: The model for the answers; see :meth:`iter_results`.

        Raises:
            RunNotFinishedError: The run is not finished.
            ModelResolutionError: The output model can't be imported in this process; give ``model``.
        """
        check_finished(self.summary())
        return reading.in_item_order(self._runs, self.run_id, model)

    def iter_results(
        self, *, after_sequence: int = 0, page_size: int = 1_000, model: type[BaseModel] | None = None
    ) -> Iterator[ItemResult[OutputT]]:
        """Stream terminal results in the order in which they ended, also while the run is active.

        Args:
            after_sequence: Cursor of an earlier read.
            page_size: Rows held in memory at a time.
            model: A Pydantic model for the answers; by default the one that the run was started with. For notebooks
                and other processes that can't import it.

        Raises:
            ModelResolutionError: The output model can't be imported in this process; give ``model``.
            InvalidInputError: ``model`` is not a model, or the answers are vectors or bodies.
        """
        pages = reading.iter_result_pages(
            self._runs, self.run_id, after_sequence=after_sequence, page_size=page_size, model=model
        )
        return (result for page in pages for result in page)

    def iter_results_async(
        self, *, after_sequence: int = 0, page_size: int = 1_000, model: type[BaseModel] | None = None
    ) -> AsyncIterator[ItemResult[OutputT]]:
        """:meth:`iter_results` for ``async for``: pages are read in a thread, without blocking the event loop."""
        pages = reading.iter_result_pages(
            self._runs, self.run_id, after_sequence=after_sequence, page_size=page_size, model=model
        )
        return on_the_loop.one_by_one(self._runs.threads, pages)

    def iter_record_pages(
        self, *, after_sequence: int = 0, page_size: int = 1_000
    ) -> Iterator[list[PersistedItemRecord]]:
        """Stream terminal results as records: untyped, without raw responses."""
        pages = self.iter_row_pages(after_sequence=after_sequence, page_size=page_size)
        return ([record_of(row) for row in page] for page in pages)

    def iter_row_pages(self, *, after_sequence: int = 0, page_size: int = 1_000) -> Iterator[list[ResultRow]]:
        """Stream terminal results as stored, JSON as text; see ``storage.rows``. The fastest way to read a run."""
        return reading.iter_row_pages(
            self._engine, self.run_id, after_sequence=after_sequence, page_size=page_size
        )

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        order: Order = "input",
        output: AnyOutput = None,
        allow_unfinished: bool = False,
    ) -> TableReport:
        """Write every result to one Parquet file, typed. An existing file is replaced completely or not at all.

        The columns are ``item_id``, ``status``, ``attempt_count``; a column for each field of the model, ``vector`` or ``body``;
        ``output_text``, ``error_class``, ``error_message``, tokens by kind, and ``metadata`` as JSON. Failed rows are among
        them. Takes up to about 200 MiB of memory for a run of any size.

        Args:
            path: A local path, or a URL that fsspec knows. Folders are created.
            order: ``"input"``, or ``"ended"`` for the order in which items became terminal, which saves the sorting.
            output: A model or output for the answers; by default the one that the run was started with.
            allow_unfinished: Write the terminal results so far of a run that is not finished.

        Raises:
            RunNotFinishedError: The run is not finished.
            ModelResolutionError: The output model can't be imported in this process; give ``output``.
            InvalidInputError: There is no such order, or fsspec does not know the URL.
            ImportError: The URL needs a package that is missing.
            OSError: The file can't be written; an existing file is unchanged.
        """
        from batchor_core.tables.parquet_file import write_parquet

        return write_parquet(self._stream(order, output, allow_unfinished), path)

    def to_arrow(
        self, *, order: Order = "input", output: AnyOutput = None, allow_unfinished: bool = False
    ) -> pa.Table:
        """Every result as a pyarrow Table, in memory; see :meth:`to_parquet` for columns, arguments and errors."""
        return self._stream(order, output, allow_unfinished).table()

    def to_polars(
        self, *, order: Order = "input", output: AnyOutput = None, allow_unfinished: bool = False
    ) -> pl.DataFrame:
        """Every result as a Polars DataFrame, as in :meth:`to_arrow`; needs Polars, the extra ``polars``."""
        from batchor_core.tables.frames import polars_frame

        return polars_frame(self._stream(order, output, allow_unfinished).table)

    def to_pandas(
        self, *, order: Order = "input", output: AnyOutput = None, allow_unfinished: bool = False
    ) -> pd.DataFrame:
        """Every result as a pandas DataFrame, as in :meth:`to_arrow`; needs pandas, the extra ``pandas``. Integers and bools are nullable."""
        from batchor_core.tables.frames import pandas_frame

        return pandas_frame(self._stream(order, output, allow_unfinished).table)

    def _stream(self, order: Order, output: AnyOutput, allow_unfinished: bool) -> ResultStream:
        from batchor_core.tables.stream import ResultStream

        if not allow_unfinished:
            check_finished(self.summary())
        wanted = self._runs.output(self.run_id) if output is None else chosen_output(self.config, output)
        return ResultStream(self, wanted, order=order)

    def read_terminal_results(
        self, *, after_sequence: int = 0, limit: int | None = None
    ) -> TerminalResultsPage[OutputT]:
        """Read a page of results in the order in which they ended, also while the run is active.

        Sequences begin at 1 and have no gaps, and a later commit never gets a smaller one: a reader that keeps
        ``next_after_sequence`` misses nothing.

        Args:
            after_sequence: Cursor from the previous page, 0 to begin.
            limit: Most rows to read; None reads all rows so far into memory.

        Raises:
            ValueError: ``after_sequence`` is negative, or ``limit`` below 1.
            ModelResolutionError: The output model can't be imported in this process.
        """
        return reading.read_terminal_results(
            self._runs, self.run_id, after_sequence=after_sequence, limit=limit
        )

    def export_terminal_results(
        self,
        destination: str | Path,
        *,
        after_sequence: int = 0,
        append: bool = True,
        limit: int | None = None,
        order: Order | None = None,
        raw_responses: bool = True,
    ) -> TerminalResultsExportResult:
        """Write results as JSON lines, streaming; needs neither key nor model.

        A row holds item_id, status, attempt_count, metadata, output_text, output_json (runs of models and bodies),
        output_vector (of vectors, base64), raw_response, error and cost_usd. A file not appended to is replaced as a whole.

        Args:
            order: ``"input"`` or ``"ended"``; by default input order for all of a finished run, and the order in which items
                ended for a part: with a cursor, a limit, or of an active run.
            raw_responses: Whether rows have ``raw_response``, which is most of the file.

        Raises:
            ValueError: ``after_sequence`` is negative, ``limit`` below 1, or ``order`` is ``"input"`` with either.
        """
        return export.export_terminal_results(
            self._engine,
            self.run_id,
            Path(destination),
            after_sequence=after_sequence,
            append=append,
            limit=limit,
            order=order,
            raw_responses=raw_responses,
        )

    def export_artifacts(self, destination_dir: str | Path) -> ArtifactExportResult:
        """Copy a finished run's files and results to ``<destination_dir>/<run_id>/``, with a manifest of SHA-256 sums.

        Raises:
            RunNotFinishedError: The run is not finished.
        """
        return export.export_artifacts(self._engine, self.run_id, Path(destination_dir))

    def prune_artifacts(self, *, include_raw_output_artifacts: bool = False) -> ArtifactPruneResult:
        """Delete a finished run's request files and, if asked, its raw outputs, which must have been exported.

        Afterwards ``raw_response`` of a result is None if its raw output was deleted.

        Raises:
            RunNotFinishedError: The run is not finished.
            RunStateError: Raw outputs are not in an exported bundle; nothing was deleted.
        """
        return export.prune_artifacts(
            self._engine, self.run_id, include_raw_outputs=include_raw_output_artifacts
        )

    def pause(self) -> RunSummary:
        """Stop polling, submitting and reading, whichever process drives the run. Batches at the provider keep running.

        Pausing a paused run changes nothing.

        Raises:
            RunStateError: The run is finished or being cancelled.
        """
        control.pause(self._engine, self.run_id)
        return self.summary()

    def resume(self) -> RunSummary:
        """Resume a paused run. A running or finished run is not changed.

        Raises:
            RunStateError: The run is being cancelled; a ValueError.
        """
        control.resume(self._engine, self.run_id)
        return self.summary()

    def cancel(self) -> RunSummary:
        """Cancel for good: the next cycles cancel the remote batches, keep their results and end all other items.

        Cancelling twice changes nothing.

        Raises:
            RunStateError: The run is finished.
        """
        control.cancel(self._engine, self.run_id)
        return self.summary()

    def retry_failed(self) -> RunSummary:
        """Give every permanently failed item a new set of attempts; its result is withdrawn until it ends again.

        Raises:
            RunStateError: The run was cancelled, which is final.
        """
        control.retry_failed(self._engine, self.run_id)
        return self.summary()

    def adopt(self, submission_id: str, provider_batch_id: str) -> RunSummary:
        """Decide that a batch belongs to a quarantined submission. Its results are then collected."""
        return self._settle(submission_id, "adopt", provider_batch_id)

    def keep_waiting(self, submission_id: str) -> RunSummary:
        """Decide to keep waiting for a late batch. The time until the next question begins again."""
        return self._settle(submission_id, "wait")

    def resubmit(self, submission_id: str) -> RunSummary:
        """Decide that a quarantined submission never became a batch. Its items go into a new batch.

        A late batch is checked once more: results that have arrived are kept, and its other items are sent again, and paid
        for, again.

        The input file is deleted first, if the provider allows it, so that a delayed request can't create the batch now.

        Raises:
            RunStateError: It needs no decision; or it is late, and another process drives the run at the moment.
        """
        return self._settle(submission_id, "resubmit")

    def fail(self, submission_id: str) -> RunSummary:
        """Give a quarantined submission up. Its items end as failed, and its input file is deleted if possible.

        A late batch is checked once more, and results that have arrived are kept.

        Raises:
            RunStateError: As in :meth:`resubmit`.
        """
        return self._settle(submission_id, "fail")

    def _settle(
        self, submission_id: str, decision: SubmissionDecision, provider_batch_id: str | None = None
    ) -> RunSummary:
        control.settle(self._runs, self.run_id, submission_id, decision, provider_batch_id=provider_batch_id)
        return self.summary()
