"""The commands."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, assert_never

import typer
from rich.console import Console
from rich.table import Table

from batchor_core.cli.findings import Quarantined, chosen, quarantined
from batchor_core.cli.findings import waiting as being_waited_for
from batchor_core.cli.printable import printable
from batchor_core.cli.stores import open_store
from batchor_core.cli.views import choices, moment, state, summary_lines, text
from batchor_core.core.exceptions import BatchorError
from batchor_core.core.models import RunSummary
from batchor_core.runtime.runner import BatchRunner
from batchor_core.storage.records import RunListing
from batchor_core.storage.sqlite import SQLiteStorage, has_wal_reset_bug
from batchor_core.storage.state import StateStore

app = typer.Typer(
    help="Look at stored batch runs, and decide where a person has to. Needs no API key.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would show local variables
)

Db = Annotated[
    Path | None, typer.Option("--db", help="SQLite file; ~/.batchor/default.sqlite3 unless given.")
]
Postgres = Annotated[
    bool, typer.Option("--postgres", help="Use the database that BATCHOR_POSTGRES_DSN names.")
]
Schema = Annotated[
    str | None, typer.Option("--schema", help="Postgres schema; BATCHOR_POSTGRES_SCHEMA or batchor.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


class Decision(StrEnum):
    """What can be done about a submission of unknown outcome, or about a batch that is late."""

    ADOPT = "adopt"
    WAIT = "wait"
    RESUBMIT = "resubmit"
    FAIL = "fail"


@app.command("runs")
def list_runs(
    db: Db = None, postgres: Postgres = False, schema: Schema = None, as_json: AsJson = False
) -> None:
    """List every run, newest first."""
    with _store(db, postgres=postgres, schema=schema) as store:
        listings = store.list_runs()
    if as_json:
        _print_json([_as_json(listing.summary) for listing in listings])
        return
    table = Table("Run", "State", "Items", "Done", "Failed", "Batches", "Created")
    for listing in listings:
        summary = listing.summary
        table.add_row(
            text(listing.run_id),
            text(state(summary)),
            f"{summary.total_items:,}",
            f"{summary.completed_items:,}",
            f"{summary.failed_items:,}",
            f"{summary.active_batches:,}",
            moment(listing.created_at),
        )
    Console().print(table)


@app.command("show")
def show_run(
    run_id: str, db: Db = None, postgres: Postgres = False, schema: Schema = None, as_json: AsJson = False
) -> None:
    """Show where one run stands."""
    with _store(db, postgres=postgres, schema=schema) as store:
        summary = store.get_run_summary(run_id=run_id)
        found = quarantined(store, run_id)
        lease = store.get_lease(run_id=run_id)
    if as_json:
        _print_json(_as_json(summary) | {"quarantined": [asdict(one) for one in found]})
        return
    table = Table(show_header=False)
    for name, value in summary_lines(summary):
        table.add_row(name, text(value))
    if lease is not None:
        table.add_row("driven by", text(f"process {lease.owner.pid} on {lease.owner.host}"))
    console = Console()
    console.print(table)
    _print(console, choices(run_id, found, options=_options(db, postgres, schema)))


@app.command()
def doctor(
    run_id: Annotated[str | None, typer.Argument(help="One run; all of them unless given.")] = None,
    decision: Annotated[
        Decision | None, typer.Argument(help="What to do about a batch in quarantine.")
    ] = None,
    provider_batch_id: Annotated[str | None, typer.Argument(help="With adopt: the provider's id.")] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Which submission, where several are in quarantine.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    db: Db = None,
    postgres: Postgres = False,
    schema: Schema = None,
) -> None:
    """Find what a person has to see to, and settle it: adopt PROVIDER_BATCH_ID, wait, resubmit or fail.

    Exits with 1 while something waits for a decision.
    """
    console = Console()
    with _store(db, postgres=postgres, schema=schema) as store:
        if decision is not None and run_id is not None:
            _settle(console, store, run_id, decision, provider_batch_id, batch=batch, yes=yes)
            return
        _show_store(console, store)
        listings = store.list_runs() if run_id is None else []
        run_ids = [run_id] if run_id is not None else [listing.run_id for listing in _troubled(listings)]
        waiting = 0
        for each in run_ids:
            summary = store.get_run_summary(run_id=each)
            console.print(text(f"{each}: {state(summary)}"))
            if summary.trouble:
                console.print(text(f"  tries again by itself: {summary.trouble}"))
            found = quarantined(store, each)
            _print(console, choices(each, found, options=_options(db, postgres, schema)))
            _print(console, (f"  {reason}; it is waited for" for reason in being_waited_for(store, each)))
            if summary.orphan_batches:
                console.print(
                    f"  {summary.orphan_batches} batches at the provider belong to no submission of this run; look for them "
                    "in its console (metadata batchor_run_id) and cancel what still runs"
                )
            waiting += len(found)
    if not run_ids:
        console.print("Nothing waits for a person.")
    raise typer.Exit(1 if waiting else 0)


def _troubled(listings: list[RunListing]) -> Iterator[RunListing]:
    for listing in listings:
        summary = listing.summary
        late = summary.late_batches or summary.overdue_batches
        needs_a_person = summary.quarantined_batches or summary.orphan_batches or summary.control_reason
        if needs_a_person or summary.trouble or late:
            yield listing


def _settle(
    console: Console,
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
            _fail(f"run {run_id} has no such submission in quarantine")
        names = ", ".join(each.local_batch_id for each in found)
        _fail(f"several submissions are in quarantine, name one with --batch: {names}")
    if decision is Decision.ADOPT and not provider_batch_id:
        _fail("adopt needs the provider's batch id")
    if decision is Decision.ADOPT and one.is_late:
        _fail("the provider knows this batch, there is nothing to adopt: choose wait, resubmit or fail")
    if decision is Decision.WAIT and not one.is_late:
        _fail("there is no batch to wait for: choose adopt, resubmit or fail")
    if not yes:
        typer.confirm(_question(one, decision, provider_batch_id), abort=True)
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
    console.print(text(f"{one.local_batch_id}: {decision.value}; the run goes on with its next refresh"))


def _question(one: Quarantined, decision: Decision, provider_batch_id: str | None) -> str:
    rows = f"the {one.item_count} rows of {printable(one.local_batch_id)}"
    match decision:
        case Decision.ADOPT:
            return f"Take {printable(provider_batch_id)} for the batch with {rows}?"
        case Decision.WAIT:
            return f"Wait on for {rows}?"
        case Decision.RESUBMIT if one.is_late:
            return f"Send {rows} again? They may have been paid for, and will be paid for again."
        case Decision.RESUBMIT:
            return f"Send {rows} again? If their batch exists after all, they are paid for twice."
        case Decision.FAIL:
            return f"End {rows} as failed?"
        case _:
            assert_never(decision)


def _options(db: Path | None, postgres: bool, schema: str | None) -> str:
    """The store's options, to be typed again."""
    given = f" --db {shlex.quote(str(db))}" if db is not None else ""
    return (
        given + (" --postgres" if postgres else "") + (f" --schema {shlex.quote(schema)}" if schema else "")
    )


def _print(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(text(line))


def _show_store(console: Console, store: StateStore) -> None:
    if not isinstance(store, SQLiteStorage):
        return
    console.print(text(f"Database: {store.path} (SQLite {sqlite3.sqlite_version})"))
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        console.print(
            "  This SQLite has the WAL-reset bug, by which processes that write at the same moment can lose commits. batchor "
            "keeps clear of it; let no other program write to this file, or use 3.51.3, 3.50.7, 3.44.6 or Postgres."
        )


def _as_json(summary: RunSummary) -> dict[str, object]:
    return asdict(summary)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))  # ASCII, so that a terminal gets no control characters from it


@contextmanager
def _store(db: Path | None, *, postgres: bool, schema: str | None) -> Iterator[StateStore]:
    """The store; errors of ours become a line on stderr and exit status 2."""
    try:
        store = open_store(db, postgres=postgres, schema=schema)
        try:
            yield store
        finally:
            store.close()
    except BatchorError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(text(message))
    raise typer.Exit(2)
