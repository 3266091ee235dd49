"""``batchor watch``: a live table of all runs of a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Column, Table

from batchor_core.cli.commands import AsJson, takes_stores
from batchor_core.cli.console import show, show_json, show_json_line, stdout, text
from batchor_core.cli.looking import number
from batchor_core.cli.progress import Pace, line, phase
from batchor_core.cli.stores import Stores
from batchor_core.cli.tables import fitted, show_table
from batchor_core.cli.views import share, summary_json
from batchor_core.core.enums import RunLifecycleStatus
from batchor_core.core.models import RunSummary
from batchor_core.core.pricing import cost_text
from batchor_core.core.words import duration
from batchor_core.storage.records import RunListing
from batchor_core.storage.state import StateStore


@takes_stores
def watch(
    stores: Stores,
    once: Annotated[bool, typer.Option("--once", help="Print the table once and exit.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, help="Seconds between two updates.")
    ] = 2.0,
    active: Annotated[bool, typer.Option("--active", help="Leave finished runs out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show all runs live until Ctrl-C, without driving them. Without a terminal, changes are printed as lines.

    With --json, each change of a run is a line; with --once, all runs are one list.
    """
    with stores.store() as store:
        watching = _Watching(store, active=active)
        if once:
            listings = watching.look()
            if as_json:
                show_json([summary_json(one.summary) for one in listings])
            else:
                show_table(watching.table(listings), stdout())
            return
        try:
            _follow(watching, interval, as_json=as_json)
        except KeyboardInterrupt:
            return  # the way to leave it


def _follow(watching: _Watching, interval: float, *, as_json: bool) -> None:
    console = stdout()
    if console.is_terminal and not as_json:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(fitted(watching.table(watching.look()), console), refresh=True)
                time.sleep(interval)
    before: dict[str, RunSummary] = {}
    while True:
        for listing in reversed(watching.look()):
            if before.get(listing.run_id) != listing.summary:
                before[listing.run_id] = listing.summary
                if as_json:
                    show_json_line(summary_json(listing.summary))
                else:
                    show(f"{time.strftime('%H:%M:%S')} {listing.run_id}: {line(listing.summary, None)}")
        time.sleep(interval)


class _Watching:
    def __init__(self, store: StateStore, *, active: bool) -> None:
        self._store = store
        self._active = active
        self._paces: dict[str, Pace] = {}

    def look(self) -> Sequence[RunListing]:
        found = self._store.list_runs()
        if self._active:
            found = [one for one in found if one.summary.status is RunLifecycleStatus.RUNNING]
        return found

    def table(self, listings: Sequence[RunListing]) -> Table:
        table = Table(
            Column("Run", no_wrap=True), "State", *map(number, ("Ended", "Failed", "Tokens", "Cost")), "Left"
        )
        for listing in listings:
            summary = listing.summary
            ended = summary.completed_items + summary.failed_items
            left = self._paces.setdefault(listing.run_id, Pace()).left(summary, time.monotonic())
            is_over = summary.status is not RunLifecycleStatus.RUNNING
            table.add_row(
                text(listing.run_id),
                text(": ".join(filter(None, [phase(summary), summary.control_reason or summary.trouble]))),
                f"{ended:,} of {summary.total_items:,} ({share(ended, summary.total_items)})",
                f"{summary.failed_items:,}",
                f"{summary.usage.total_tokens:,}",
                cost_text(summary.cost),
                f"about {duration(left)}" if left and not is_over else "",
            )
        return table
