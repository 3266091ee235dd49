"""Driving a run from the command line: start or continue it, wait, and report how it ended."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import Any

import typer

from batchor_core.cli.console import say, show_json
from batchor_core.cli.exits import ExitCode, fail
from batchor_core.cli.interrupts import Interrupted, Interrupts
from batchor_core.cli.jobs import NamedJob
from batchor_core.cli.progress import Progress, ProgressMode, line, phase
from batchor_core.cli.result_files import ResultOrder, write_results
from batchor_core.cli.stoppable import stoppable
from batchor_core.cli.stores import Stores
from batchor_core.cli.views import summary_json
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.exceptions import QuarantinedBatchError, RunItemsMismatchError, RunPausedError
from batchor_core.core.models import ProviderConfig, RunSummary
from batchor_core.core.outputs import OutputSpec
from batchor_core.core.prompt_cache import cache_warning
from batchor_core.core.server_address import normal_address
from batchor_core.core.words import counted, usd_text
from batchor_core.runtime.run import Run
from batchor_core.runtime.runner import BatchRunner
from batchor_core.sources.locations import shown_url


@dataclass(frozen=True, slots=True)
class Driving:
    """What is done with a job.

    Attributes:
        stores: Where its run lives.
        out: The file for its results.
        order: Of the rows in it.
        detach: Leave when everything that may be sent has been sent.
        progress: How progress is shown.
        as_json: Whether the end is printed as JSON.
    """

    stores: Stores
    out: str | None
    order: ResultOrder
    detach: bool
    progress: ProgressMode
    as_json: bool

    def drive(self, named: NamedJob) -> None:
        """Do it; ends the command with its exit code."""
        with Interrupts() as interrupts, self.stores.runner(create=True, sleep=interrupts.sleep) as runner:
            run_id = named.run_id
            is_new = not runner.has_run(run_id)
            if not is_new:
                _announce_stored(runner, named)
            # a new run is not announced until it has a key and the prompt of a row, since either may be missing
            begun = (lambda: _announce_new(runner, named)) if is_new else None
            try:
                with Progress(lambda: runner.storage.get_run_summary(run_id=run_id), self.progress):
                    run = runner.start(stoppable(named.job, interrupts.check, begun=begun), run_id=run_id)
                    if not self.detach:
                        run.wait()
                self._finish(run, named.job.output_spec)
            except Interrupted as stopped:
                self._interrupted(runner, run_id, stopped)
            except RunPausedError as paused:
                say(f"run {run_id} is paused" + (f": {paused.reason}" if paused.reason else ""))
                say(f"  resume it:      batchor resume {run_id}{self._options()}")
                say(f"  then continue:  {_same_command()}")
                self._end(runner.storage.get_run_summary(run_id=run_id), ExitCode.ATTENTION)
            except QuarantinedBatchError as held:
                say(f"{held}")
                say(f"  what to look for, and the choices: batchor doctor {run_id}{self._options()}")
                self._end(runner.storage.get_run_summary(run_id=run_id), ExitCode.ATTENTION)
            except RunItemsMismatchError as changed:
                fail(
                    f"{str(changed).rstrip('.')}. To run the rows as they are now, and pay for them, give a new --run-id"
                )

    def _finish(self, run: Run, output: OutputSpec) -> None:
        summary = run.summary()
        if summary.status is RunLifecycleStatus.RUNNING:
            self._left(summary)
            return
        written = None
        if self.out is not None:
            written = write_results(run, self.out, output=output, order=self.order)
        say(f"run {run.run_id}: {line(summary, None)}")
        if summary.reused_items:
            say(f"  {summary.reused_items:,} of {summary.total_items:,} rows reused from other runs")
        if summary.deduplicated_items:
            equal = counted(summary.deduplicated_items, "row is equal to another", "rows are equal to others")
            say(f"  {equal} of this run, and sent once")
        if summary.usd_saved:
            say(f"  that saved {usd_text(summary.usd_saved)}")
        if summary.repairs:
            say(
                f"  {counted(summary.repairs, 'answer')} sent back with the reason for the rejection; "
                f"{counted(summary.repaired_items, 'row')} then completed"
            )
        if warning := cache_warning(summary.usage, run.rates):
            say(f"  {warning}")
        options = self._options()
        if summary.failed_items:
            say(f"  why rows failed:  batchor results {run.run_id} --failed{options}")
            if summary.control_state.value == "running":
                say(f"  try them again:   batchor retry {run.run_id}{options}")
                say(f"  then send them:   {_same_command()}")
        if written is not None:
            say(f"  results: {self.out} ({written:,} rows)")
        else:
            say(
                f"  results: batchor results {run.run_id}{options}, or batchor export {run.run_id} FILE{options}"
            )
        all_done = summary.status is RunLifecycleStatus.COMPLETED
        self._end(summary, ExitCode.DONE if all_done else ExitCode.ATTENTION, written)

    def _left(self, summary: RunSummary) -> None:
        """Report a detached run, whose batches keep running at the provider."""
        say(f"run {summary.run_id}: {line(summary, None)}")
        if waiting := summary.items_to_send:
            say(f"  {waiting:,} rows are not sent yet, and will not be until a process drives the run again")
        if summary.following_items:
            say(
                f"  {counted(summary.following_items, 'row waits', 'rows wait')} for the answer of an equal row"
            )
        say(
            f"  collect its results with the same command without --detach: {_same_command(without='--detach')}"
        )
        needs_a_person = phase(summary) == "paused" or summary.quarantined_batches
        self._end(summary, ExitCode.ATTENTION if needs_a_person else ExitCode.DONE)

    def _interrupted(self, runner: BatchRunner, run_id: str, stopped: Interrupted) -> None:
        if not runner.has_run(run_id):
            say("interrupted before anything was stored or sent")
            raise typer.Exit(128 + stopped.signal_number)
        summary = runner.storage.get_run_summary(run_id=run_id)
        say(f"interrupted: run {run_id}: {line(summary, None)}")
        if summary.active_batches:
            say("  batches at the provider keep running, and their results will be there")
        say(f"  continue, without paying for anything twice: {_same_command()}")
        self._end(summary, 128 + stopped.signal_number)

    def _end(self, summary: RunSummary, code: int, written: int | None = None) -> None:
        if self.as_json:
            out: dict[str, Any] = {"out": self.out if written is not None else None, "rows_written": written}
            show_json(summary_json(summary) | out)
        raise typer.Exit(code)

    def _options(self) -> str:
        return self.stores.typed_again()


def _announce_stored(runner: BatchRunner, named: NamedJob) -> None:
    """Report how far the run is, and whether anything more will be paid for."""
    summary = runner.storage.get_run_summary(run_id=named.run_id)
    is_over = summary.status is not RunLifecycleStatus.RUNNING
    what = "is already finished; nothing is sent" if is_over else f"continues ({line(summary, None)})"
    say(f"run {named.run_id}: {what}")
    _warn_of_other_server(runner, named)


def _announce_new(runner: BatchRunner, named: NamedJob) -> None:
    """Report the new run's id, where its requests go, and which runs are like it."""
    run_id, config = named.run_id, named.job.provider_config
    tells_accounts = type(config).account_fingerprint is not ProviderConfig.account_fingerprint
    if tells_accounts and config.account_fingerprint() is None:
        return  # there is no key: the run ends with that error, unless all its answers are reused
    say(f"run {run_id}: new; type the same command again at any time to continue it")
    if (server := config.server_url()) is not None:
        say(f"  its requests and the API key go to {server}")
    if not named.is_derived:
        return
    others = run_id.rpartition("-")[0]
    for listing in runner.list_runs():
        is_alike = listing.run_id != run_id and listing.run_id.rpartition("-")[0] == others
        if is_alike and listing.summary.status is RunLifecycleStatus.RUNNING:
            say(
                f"  {listing.run_id}, over rows of the same name, is still active: this run has other rows, another prompt or "
                "other settings, so it is a separate run and is paid for separately"
            )


def _warn_of_other_server(runner: BatchRunner, named: NamedJob) -> None:
    stored = runner.get_run(named.run_id).config.provider_config
    before, now = stored.server_url(), named.job.provider_config.server_url()
    is_other = normal_address(before or "") != normal_address(now or "")
    if is_other and not named.is_derived:
        say(f"  it was started at {before or 'the provider itself'}, not at {now or 'the provider itself'}")


def _same_command(*, without: str | None = None) -> str:
    return shlex.join(["batchor", *(_without_secrets(word) for word in sys.argv[1:] if word != without)])


def _without_secrets(word: str) -> str:
    """A word without the user, password and query of a URL, since what is printed ends up in logs."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    has_secrets = "://" in value and ("@" in value or "?" in value)
    return f"{option}{equals}{shown_url(value)}" if has_secrets else word
