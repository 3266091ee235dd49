"""The handle of one run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import RunNotFinishedError
from batchor_core.core.models import (
    ArtifactExportResult,
    ArtifactPruneResult,
    BatchResultItem,
    RunSnapshot,
    RunSummary,
    TerminalResultsExportResult,
    TerminalResultsPage,
)
from batchor_core.core.outputs import OutputSpec
from batchor_core.runtime.peek import is_driven
from batchor_core.storage.rows import record_of
from batchor_core.storage.state import PersistedItemRecord, PersistedRunConfig, ResultRow

if TYPE_CHECKING:  # a handle names its runner and a runner makes handles: the documented signatures of both
    from batchor_core.runtime.runner import BatchRunner
if TYPE_CHECKING:  # pyarrow is imported when a table is asked for, and frames are extras
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from batchor_core.tables.report import TableReport
    from batchor_core.tables.stream import Order, ResultStream


class Run:
    """A durable run: wait for it, look at it, control it, read it.

    A handle holds nothing but the run's id and the last summary; make as many as you like.

    Args:
        runner: The runner it belongs to.
        run_id: The run.
        summary: What is known of it now.
    """

    def __init__(self, *, runner: BatchRunner, run_id: str, summary: RunSummary) -> None:
        self._runner = runner
        self.run_id = run_id
        self._summary = summary

    def __repr__(self) -> str:
        return f"<Run {self.run_id} {self.status.value}: {self._summary.completed_items} of {self._summary.total_items} done>"

    @property
    def status(self) -> RunLifecycleStatus:
        """Running, or how it ended, as of the last summary. Asks nobody."""
        return self._summary.status

    @property
    def control_state(self) -> RunControlState:
        """What the operator wants, as of the last summary. Asks nobody."""
        return self._summary.control_state

    @property
    def is_finished(self) -> bool:
        """Whether every item had ended, as of the last summary. Asks nobody."""
        return self.status is not RunLifecycleStatus.RUNNING

    @property
    def config(self) -> PersistedRunConfig:
        """The job as it is stored, without secrets."""
        return self._runner.storage.get_run_config(run_id=self.run_id)

    def refresh(self, *, time_limit_sec: float | None = None) -> RunSummary:
        """Do one cycle: recover, poll, read on, submit; then return the new summary.

        Returns at once, doing nothing, if the run is finished, paused, or driven by another process.

        Args:
            time_limit_sec: Begin no further step after so many seconds. Steps that have begun are finished.

        Raises:
            MissingCredentialsError: The provider is needed, and there is no key.
        """
        self._summary = self._runner._refresh(self.run_id, time_limit_sec=time_limit_sec)
        return self._summary

    def is_driven(self) -> bool:
        """Whether some process drives the run just now. Writes nothing."""
        return is_driven(self._runner.storage, self.run_id)

    def has_work(self) -> bool:
        """Whether a cycle would find something to do now, or only wait. Writes nothing.

        Asks the provider after the batches in flight. For schedulers that give out work, and want no worker to sit and wait.

        Raises:
            MissingCredentialsError: The provider is needed, and there is no key.
        """
        return self._runner._has_work(self.run_id)

    def wait(self, *, timeout: float | None = None, poll_interval: float | None = None) -> Run:
        """Refresh until the run is finished.

        Args:
            timeout: Seconds; None waits as long as it takes, which may be a day.
            poll_interval: Seconds between two cycles; by default the provider config's.

        Raises:
            RunPausedError: The run is paused; its ``reason`` says why if the engine did it.
            QuarantinedBatchError: All that is left waits for a decision about batches of unknown outcome, or late ones.
            RunIngestionSourceRequiredError: All that is left has yet to be read, and this process has no source for it.
            StorageError: The store can't be used, or has been out of reach for ten minutes.
            TimeoutError: The time is up. The run goes on with the next ``wait()`` or ``refresh()``.
        """
        self._runner._wait(self, timeout=timeout, poll_interval=poll_interval)
        return self

    def summary(self) -> RunSummary:
        """Read the latest counts from the store. Writes nothing and needs no key."""
        self._summary = self._runner.storage.get_run_summary(run_id=self.run_id)
        return self._summary

    def snapshot(self) -> RunSnapshot:
        """The summary with every terminal result so far, in item order. Grows with the run."""
        return self._runner._snapshot(self)

    def results(self) -> list[BatchResultItem]:
        """Every result in item order. Grows with the run; ``iter_results()`` does not.

        Raises:
            RunNotFinishedError: The run still goes on.
            ModelResolutionError: The output model can't be imported in this process.
        """
        return self._runner._results(self)

    def iter_results(self, *, after_sequence: int = 0, page_size: int = 1_000) -> Iterator[BatchResultItem]:
        """Stream terminal results in the order in which they ended; works while the run goes on.

        Args:
            after_sequence: Cursor of an earlier reading.
            page_size: Rows held in memory at a time.
        """
        return self._runner._iter_results(self.run_id, after_sequence=after_sequence, page_size=page_size)

    def iter_record_pages(
        self, *, after_sequence: int = 0, page_size: int = 1_000
    ) -> Iterator[list[PersistedItemRecord]]:
        """Stream terminal results as records: untyped, without raw responses."""
        pages = self.iter_row_pages(after_sequence=after_sequence, page_size=page_size)
        return ([record_of(row) for row in page] for page in pages)

    def iter_row_pages(self, *, after_sequence: int = 0, page_size: int = 1_000) -> Iterator[list[ResultRow]]:
        """Stream terminal results as stored, JSON as text; see ``storage.rows``. The fastest way to read a run."""
        return self._runner._iter_row_pages(self.run_id, after_sequence=after_sequence, page_size=page_size)

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        order: Order = "input",
        output: type[BaseModel] | OutputSpec | None = None,
        allow_unfinished: bool = False,
    ) -> TableReport:
        """Write every result to one Parquet file, typed; replaces what was there, whole or not at all.

        The columns are ``item_id``, ``status``, ``attempt_count``; a column for each field of the model, ``vector`` or ``body``;
        ``output_text``, ``error_class``, ``error_message``, tokens by kind, and ``metadata`` as JSON. Failed rows are among
        them. Memory does not grow with the run.

        Args:
            path: A local path, or a URL that fsspec knows. Folders are created.
            order: ``"input"``, or ``"ended"`` for the order in which items became terminal, which saves the sorting.
            output: A model or output to read the answers with; by default that which the run was started with.
            allow_unfinished: Write what is terminal so far of a run that still goes on.

        Raises:
            RunNotFinishedError: The run still goes on.
            ModelResolutionError: The output model can't be imported in this process; give ``output``.
            InvalidInputError: There is no such order, or fsspec does not know the URL.
            ImportError: The URL needs a package that is missing.
            OSError: The file can't be written; what was there before is untouched.
        """
        from batchor_core.tables.parquet_file import write_parquet

        return write_parquet(self._stream(order, output, allow_unfinished), path)

    def to_arrow(
        self,
        *,
        order: Order = "input",
        output: type[BaseModel] | OutputSpec | None = None,
        allow_unfinished: bool = False,
    ) -> pa.Table:
        """Every result as a pyarrow Table, in memory; see :meth:`to_parquet` for columns, arguments and errors."""
        return self._stream(order, output, allow_unfinished).table()

    def to_polars(
        self,
        *,
        order: Order = "input",
        output: type[BaseModel] | OutputSpec | None = None,
        allow_unfinished: bool = False,
    ) -> pl.DataFrame:
        """The same as a Polars DataFrame; needs Polars, the extra ``polars``."""
        from batchor_core.tables.frames import polars_frame

        return polars_frame(self._stream(order, output, allow_unfinished).table)

    def to_pandas(
        self,
        *,
        order: Order = "input",
        output: type[BaseModel] | OutputSpec | None = None,
        allow_unfinished: bool = False,
    ) -> pd.DataFrame:
        """The same as a pandas DataFrame; needs pandas, the extra ``pandas``. Integers and bools are nullable ones."""
        from batchor_core.tables.frames import pandas_frame

        return pandas_frame(self._stream(order, output, allow_unfinished).table)

    def _stream(
        self, order: Order, output: type[BaseModel] | OutputSpec | None, allow_unfinished: bool
    ) -> ResultStream:
        from batchor_core.tables.stream import ResultStream

        self.summary()
        if not (self.is_finished or allow_unfinished):
            raise RunNotFinishedError(self.run_id)
        wanted = self._runner._output(self.run_id) if output is None else output
        return ResultStream(self, wanted, order=order)

    def read_terminal_results(
        self, *, after_sequence: int = 0, limit: int | None = None
    ) -> TerminalResultsPage:
        """Read a page of terminal results; see :meth:`BatchRunner.read_terminal_results`."""
        return self._runner.read_terminal_results(self.run_id, after_sequence=after_sequence, limit=limit)

    def export_terminal_results(
        self,
        destination: str | Path,
        *,
        after_sequence: int = 0,
        append: bool = True,
        limit: int | None = None,
    ) -> TerminalResultsExportResult:
        """Write terminal results as JSON lines; see :meth:`BatchRunner.export_terminal_results`."""
        return self._runner.export_terminal_results(
            self.run_id, destination=destination, after_sequence=after_sequence, append=append, limit=limit
        )

    def export_artifacts(self, destination_dir: str | Path) -> ArtifactExportResult:
        """Export a finished run's bundle; see :meth:`BatchRunner.export_artifacts`."""
        return self._runner.export_artifacts(self.run_id, destination_dir=destination_dir)

    def prune_artifacts(self, *, include_raw_output_artifacts: bool = False) -> ArtifactPruneResult:
        """Delete a finished run's artifacts; see :meth:`BatchRunner.prune_artifacts`."""
        return self._runner.prune_artifacts(
            self.run_id, include_raw_output_artifacts=include_raw_output_artifacts
        )

    def pause(self) -> RunSummary:
        """Stop polling, submitting and reading, in whatever process drives the run; batches at the provider go on.

        Raises:
            RunStateError: The run is finished or being cancelled.
        """
        return self._keep(self._runner.pause_run(self.run_id))

    def resume(self) -> RunSummary:
        """Let a paused run go on.

        Raises:
            RunStateError: The run is being cancelled; a ValueError.
        """
        return self._keep(self._runner.resume_run(self.run_id))

    def cancel(self) -> RunSummary:
        """Cancel for good: the next cycles cancel the remote batches, keep what they bring and end the rest.

        Raises:
            RunStateError: The run is finished.
        """
        return self._keep(self._runner.cancel_run(self.run_id))

    def _keep(self, run: Run) -> RunSummary:
        self._summary = run._summary
        return self._summary
