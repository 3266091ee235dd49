"""``batchor spending``: what the runs of a store have cost."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from batchor_core.cli.commands import AsJson, takes_stores
from batchor_core.cli.console import show_json, stdout, text
from batchor_core.cli.looking import number
from batchor_core.cli.stores import Stores
from batchor_core.cli.tables import show_table
from batchor_core.cli.views import cost_json
from batchor_core.core.pricing import Cost, cost_text


@takes_stores
def spending(
    stores: Stores,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="WHAT",
            help="run, day, month, model, asset, partition, or tag:NAME of batch_metadata.",
        ),
    ] = "day",
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since", metavar="DAY", formats=["%Y-%m-%d"], help="Batches from this day on, in UTC."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", metavar="DAY", formats=["%Y-%m-%d"], help="Batches before this day."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what runs have cost, by the days on which their batches were created."""
    with stores.runner() as runner:
        lines = runner.spending(by, since=_utc(since), until=_utc(until))
    if as_json:
        show_json([asdict(line) | {"cost": cost_json(line.cost)} for line in lines])
        return
    table = Table(by, *map(number, ("Cost", "Tokens in", "Tokens out", "Batches", "Runs")))
    for line in lines:
        table.add_row(
            text("(none)" if line.key is None else line.key),
            cost_text(line.cost) if isinstance(line.cost, Cost) else "unknown",
            f"{line.usage.input_tokens:,}",
            f"{line.usage.output_tokens:,}",
            f"{line.batches:,}",
            f"{line.runs:,}",
        )
    show_table(table, stdout())


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=UTC)
