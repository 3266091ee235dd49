"""``batchor runs`` and ``batchor status``: all runs, and the state of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Column, Table

from batchor_core.cli.commands import AsJson, RunId, takes_stores
from batchor_core.cli.console import show, show_json, stdout, text
from batchor_core.cli.findings import quarantined
from batchor_core.cli.stores import Stores
from batchor_core.cli.tables import show_table
from batchor_core.cli.views import choices, created, state, summary_json, summary_lines
from batchor_core.core.pricing import cost_text
from batchor_core.storage.records import RunListing


@takes_stores
def list_runs(stores: Stores, as_json: AsJson = False) -> None:
    """List every run, newest first."""
    with stores.store() as store:
        listings = store.list_runs()
    if as_json:
        show_json([summary_json(listing.summary) for listing in listings])
        return
    show_table(run_table(listings), stdout())


def run_table(listings: Sequence[RunListing]) -> Table:
    """A line for each run."""
    table = Table(
        Column("Run", no_wrap=True),
        "State",
        *map(number, ("Rows", "Done", "Failed", "Batches", "Cost")),
        "Created",
    )
    for listing in listings:
        summary = listing.summary
        table.add_row(
            text(listing.run_id),
            text(state(summary)),
            f"{summary.total_items:,}",
            f"{summary.completed_items:,}",
            f"{summary.failed_items:,}",
            f"{summary.active_batches:,}",
            cost_text(summary.cost),
            created(listing.created_at),
        )
    return table


def number(name: str) -> Column:
    """A column of numbers."""
    return Column(name, justify="right")


@takes_stores
def status(stores: Stores, run_id: RunId, as_json: AsJson = False) -> None:
    """Show the state of one run."""
    with stores.store() as store:
        summary = store.get_run_summary(run_id=run_id)
        found = quarantined(store, run_id)
        lease = store.get_lease(run_id=run_id)
        standings = store.get_cap_standings(run_id=run_id)
    if as_json:
        show_json(summary_json(summary) | {"quarantined": [asdict(one) for one in found]})
        return
    table = Table(show_header=False)
    for name, value in summary_lines(summary):
        table.add_row(name, text(value))
    for standing in standings:
        table.add_row("cap", text(f"{standing.cap}: {standing.used()} used"))
    if lease is not None:
        table.add_row("driven by", text(f"process {lease.owner.pid} on {lease.owner.host}"))
    stdout().print(table)
    show(*choices(run_id, found, options=stores.typed_again()))
