"""The commands that control a run: pause, resume, cancel, retry; and those that remove its files: prune, delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from batchor_core.cli.caps import Usd, dollars_given
from batchor_core.cli.commands import AsJson, RunId, Yes, takes_stores
from batchor_core.cli.console import say, show, show_json
from batchor_core.cli.progress import line
from batchor_core.cli.stores import Stores
from batchor_core.cli.views import summary_json
from batchor_core.core.caps import Cap
from batchor_core.core.exceptions import MissingCredentialsError
from batchor_core.runtime.run import Run


@takes_stores
def pause(stores: Stores, run_id: RunId, as_json: AsJson = False) -> None:
    """Pause a run, whichever process drives it: it stops reading, sending and polling. Batches at the provider keep running."""
    _tell(stores, run_id, Run.pause, as_json=as_json)


@takes_stores
def resume(stores: Stores, run_id: RunId, cap: Usd = None, as_json: AsJson = False) -> None:
    """Resume a paused run. If no process drives it, type its batchor run command again.

    With --cap, the run may cost that much from now on.
    """
    if cap is not None:
        with stores.runner() as runner:
            runner.get_run(run_id)
            runner.set_cap(Cap(usd=dollars_given(cap), scope=f"run:{run_id}"))
    _tell(stores, run_id, Run.resume, as_json=as_json)


@takes_stores
def cancel(stores: Stores, run_id: RunId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Cancel a run for good: its batches are cancelled, answers that still arrive are kept, all other rows end as failed.

    If no process drives the run, the command itself asks the provider to cancel its batches, which takes the API key.
    """
    if not yes:
        typer.confirm(
            f"Cancel {run_id}? It can't be resumed. Rows that are answered already are paid for and stay.",
            abort=True,
            err=True,
        )
    _tell(stores, run_id, _cancel, as_json=as_json)


def _cancel(run: Run) -> None:
    """Cancel at the provider too: batches that are not cancelled there keep running, and cost money."""
    run.cancel()
    if run.is_driven():
        return
    try:
        run.refresh()
    except MissingCredentialsError as error:
        say(f"its batches keep running at the provider until a process with a key drives the run: {error}")


@takes_stores
def retry(stores: Stores, run_id: RunId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Give failed rows a new set of attempts, which cost money. Answered rows are not sent again."""
    with stores.runner() as runner:
        failed = runner.get_run(run_id).summary().failed_items
    if failed and not yes:
        typer.confirm(
            f"Send the {failed:,} failed rows of {run_id} again? Each attempt is paid for.",
            abort=True,
            err=True,
        )
    _tell(stores, run_id, Run.retry_failed, as_json=as_json)


def _tell(stores: Stores, run_id: str, verb: Callable[[Run], object], *, as_json: bool) -> None:
    with stores.runner() as runner:
        run = runner.get_run(run_id)
        verb(run)
        summary, is_driven = run.summary(), run.is_driven()
    if as_json:
        show_json(summary_json(summary) | {"is_driven": is_driven})
        return
    show(f"{run_id}: {line(summary, None)}")
    if not run.is_finished and not is_driven:
        show(
            "  no process drives it at the moment: type its batchor run command again, or call Run.wait() in Python"
        )


@takes_stores
def prune(
    stores: Stores,
    run_id: RunId,
    raw: Annotated[
        bool, typer.Option("--raw", help="Raw output files too, which must have been exported to a folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a finished run's request files and row snapshots. Its results stay."""
    with stores.runner() as runner:
        pruned = runner.prune_artifacts(run_id, include_raw_output_artifacts=raw)
    if as_json:
        show_json(asdict(pruned))
        return
    show(f"{run_id}: {len(pruned.removed_artifact_paths):,} files deleted")


@takes_stores
def delete(stores: Stores, run_id: RunId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a finished run with its results and files. Refused while any of its batches may be at the provider.

    The same batchor run command would then start it from the beginning, and pay for it again.
    """
    with stores.runner() as runner:
        summary = runner.get_run(run_id).summary()
        if not yes:
            typer.confirm(
                f"Delete {run_id} with the results of {summary.completed_items:,} rows? They are paid for, and can't be "
                "restored.",
                abort=True,
                err=True,
            )
        deleted = runner.delete_run(run_id)
    if as_json:
        show_json({"run_id": run_id, "deleted_artifact_paths": deleted})
        return
    show(f"{run_id}: deleted, with {len(deleted):,} files")
