"""``batchor doctor``: which submissions need a decision, and the decision."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any, assert_never

import typer

from batchor_core.cli.commands import AsJson, Yes, takes_stores
from batchor_core.cli.console import show, show_json
from batchor_core.cli.exits import ExitCode, fail
from batchor_core.cli.findings import Quarantined, chosen, quarantined
from batchor_core.cli.findings import waiting as being_waited_for
from batchor_core.cli.printable import printable
from batchor_core.cli.stores import Stores
from batchor_core.cli.views import choices, state
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.records import RunListing
from batchor_core.storage.state import StateStore


class Decision(StrEnum):
    """The choices for a submission of unknown outcome, or for a late batch."""

    ADOPT = "adopt"
    WAIT = "wait"
    RESUBMIT = "resubmit"
    FAIL = "fail"


@takes_stores
def doctor(
    stores: Stores,
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="One run. Default: all runs.")] = None,
    decision: Annotated[
        Decision | None, typer.Argument(help="What to do with a batch in quarantine.")
    ] = None,
    provider_batch_id: Annotated[str | None, typer.Argument(help="With adopt: the provider's id.")] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Which submission, if several are in quarantine.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """List what needs a decision, or decide: adopt PROVIDER_BATCH_ID, wait, resubmit or fail.

    Exits with 1 while something waits for a decision.
    """
    with stores.store() as store:
        if decision is not None and run_id is not None:
            _settle(store, run_id, decision, provider_batch_id, batch=batch, yes=yes)
            return
        run_ids = [run_id] if run_id is not None else [one.run_id for one in _troubled(store.list_runs())]
        findings = [_finding(store, each) for each in run_ids]
        if as_json:
            show_json(findings)
        else:
            _show(store, run_ids, options=stores.typed_again())
    waiting = any(one["quarantined"] for one in findings)
    raise typer.Exit(ExitCode.ATTENTION if waiting else ExitCode.DONE)


def _finding(store: StateStore, run_id: str) -> dict[str, Any]:
    summary = store.get_run_summary(run_id=run_id)
    return {
        "run_id": run_id,
        "state": state(summary),
        "trouble": summary.trouble,
        "quarantined": [asdict(one) for one in quarantined(store, run_id)],
        "waited_for": being_waited_for(store, run_id),
        "orphan_batches": summary.orphan_batches,
    }


def _show(store: StateStore, run_ids: list[str], *, options: str) -> None:
    show(*_about_store(store))
    for run_id in run_ids:
        summary = store.get_run_summary(run_id=run_id)
        show(f"{run_id}: {state(summary)}")
        if summary.trouble:
            show(f"  retried automatically: {summary.trouble}")
        show(*choices(run_id, quarantined(store, run_id), options=options))
        show(*(f"  {reason}; the engine waits for it" for reason in being_waited_for(store, run_id)))
        if summary.orphan_batches:
            show(
                f"  {summary.orphan_batches} batches at the provider belong to no submission of this run; look for them "
                "in its console (metadata batchor_run_id) and cancel those that still run"
            )
    if not run_ids:
        show("Nothing needs a decision.")


def _troubled(listings: list[RunListing]) -> Iterator[RunListing]:
    for listing in listings:
        summary = listing.summary
        late = summary.late_batches or summary.overdue_batches
        needs_a_person = summary.quarantined_batches or summary.orphan_batches or summary.control_reason
        if needs_a_person or summary.trouble or late:
            yield listing


def _settle(
    store: StateStore,
    run_id: str,
    decision: Decision,
    provider_batch_id: str | None,
    *,
    batch: str | None,
    yes: bool,
) -> None:
    found = quarantined(store, run_id)
    one = chosen(found, batch)
    if one is None:
        if batch is not None or not found:
            fail(f"run {run_id} has no such submission in quarantine")
        names = ", ".join(each.local_batch_id for each in found)
        fail(f"several submissions are in quarantine, name one with --batch: {names}")
    if decision is Decision.ADOPT and not provider_batch_id:
        fail("adopt needs the provider's batch id")
    if decision is Decision.ADOPT and one.is_late:
        fail("the provider knows this batch, there is nothing to adopt: choose wait, resubmit or fail")
    if decision is Decision.WAIT and not one.is_late:
        fail("there is no batch to wait for: choose adopt, resubmit or fail")
    if not yes:
        typer.confirm(_question(one, decision, provider_batch_id), abort=True, err=True)
    run = BatchRunner(storage=store).get_run(run_id)
    match decision:
        case Decision.ADOPT:
            run.adopt(one.local_batch_id, provider_batch_id or "")
        case Decision.WAIT:
            run.keep_waiting(one.local_batch_id)
        case Decision.RESUBMIT:
            run.resubmit(one.local_batch_id)
        case Decision.FAIL:
            run.fail(one.local_batch_id)
        case _:
            assert_never(decision)
    show(f"{one.local_batch_id}: {decision.value}; the run continues with its next refresh")


def _question(one: Quarantined, decision: Decision, provider_batch_id: str | None) -> str:
    rows = f"the {one.item_count} rows of {printable(one.local_batch_id)}"
    match decision:
        case Decision.ADOPT:
            return f"Adopt {printable(provider_batch_id)} as the batch with {rows}?"
        case Decision.WAIT:
            return f"Keep waiting for {rows}?"
        case Decision.RESUBMIT if one.is_late:
            return f"Send {rows} again? They may have been paid for, and will be paid for again."
        case Decision.RESUBMIT:
            return f"Send {rows} again? If their batch exists after all, they are paid for twice."
        case Decision.FAIL:
            return f"End {rows} as failed?"
        case _:
            assert_never(decision)


def _about_store(store: StateStore) -> Iterator[str]:
    from batchor_core.storage.sqlite import SQLiteStorage, has_wal_reset_bug

    if not isinstance(store, SQLiteStorage):
        return
    yield f"Database: {store.path} (SQLite {sqlite3.sqlite_version})"
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        yield (
            "  This SQLite has the WAL-reset bug, which can lose commits of processes that write at the same moment. batchor "
            "avoids it; let no other program write to this file, or use 3.51.3, 3.50.7, 3.44.6 or Postgres."
        )
