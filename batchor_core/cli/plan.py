"""``batchor plan``: what a job would send and cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.table import Table

from batchor_core.cli.commands import AsJson, takes_stores
from batchor_core.cli.console import say, show, show_json, stdout, text
from batchor_core.cli.exits import ExitCode
from batchor_core.cli.job_options import RunName, takes_job
from batchor_core.cli.jobs import JobOptions, named_job
from batchor_core.cli.progress import ProgressMode
from batchor_core.cli.result_files import ResultOrder
from batchor_core.cli.stores import Stores
from batchor_core.core.plan import Plan, Range
from batchor_core.core.price_book import PriceBook
from batchor_core.core.pricing import Unpriced
from batchor_core.core.words import counted
from batchor_core.providers.registry import build_default_provider_registry
from batchor_core.runtime.engine import EngineSettings, RunProvider
from batchor_core.runtime.planning import Planning


@takes_stores
@takes_job
def plan(
    stores: Stores,
    given: JobOptions,
    run_id: RunName = None,
    as_json: AsJson = False,
    # what else ``batchor run`` takes, so that a plan is the same line with another first word
    out: Annotated[str | None, typer.Option("--out", "-o", hidden=True)] = None,
    order: Annotated[ResultOrder, typer.Option("--order", hidden=True)] = ResultOrder.INPUT,
    detach: Annotated[bool, typer.Option("--detach", "-d", hidden=True)] = False,
    progress: Annotated[ProgressMode, typer.Option("--progress", hidden=True)] = ProgressMode.AUTO,
) -> None:
    """Show what batchor run would send with the same options, and what that would cost.

    Sends nothing, writes nothing, needs no key. Takes every option of batchor run, so that a plan is the same line with another
    word. Exits with 1 if rows would be refused or the run would stop at a cap.
    """
    named = named_job(given, stores.profile, run_id)
    config, registry = named.job.provider_config, build_default_provider_registry()
    prices = PriceBook.of(stores.prices or stores.profile.prices)
    store, note = stores.to_read()
    try:
        planning = Planning(
            store,
            RunProvider(lambda: registry.create(config), config),
            prices,
            EngineSettings(),
            notes=[] if note is None else [note],
        )
        made = planning.plan(named.job, run_id=named.run_id, extras={})
    finally:
        store.close()
    if as_json:
        show_json(plan_json(made))
    else:
        table = Table(show_header=False)
        for name, value in plan_lines(made):
            table.add_row(name, text(value))
        stdout().print(table)
        show("Nothing was sent.")
        for warning in made.warnings:
            say(f"warning: {warning}")
    if made.rows_refused or any(cap.stops in ("yes", "unknown") for cap in made.caps):
        raise typer.Exit(ExitCode.ATTENTION)


def plan_lines(made: Plan) -> Iterator[tuple[str, str]]:
    """The plan as names and values."""
    yield "rows", f"{made.rows:,}"
    yield "  new", f"{made.rows_new:,}"
    for name in ("reused", "following", "duplicate", "refused"):
        if count := getattr(made, f"rows_{name}"):
            yield f"  {name}", f"{count:,}"
    for row in made.refused:
        yield f"    {row.item_id}", row.reason
    yield "tokens in", _range(made.input_tokens)
    yield "tokens out", f"{_range(made.output_tokens)}, by {made.output_basis}"
    yield "cost", made.cost_text
    if made.not_included:
        yield "  not included", "; ".join(made.not_included)
    waves = "" if made.queue_limit is None else f" in {counted(made.waves, 'wave')}"
    yield "batches", f"{made.batches:,}{waves}"
    if made.queue_limit is not None:
        yield "queue limit", f"{made.queue_limit:,} tokens in flight"
    for cap in made.caps:
        yield "cap", str(cap)


def plan_json(made: Plan) -> dict[str, Any]:
    """The plan as JSON; dollars are numbers, and ``cost`` is null without a list price."""
    cost = None if isinstance(made.cost, Unpriced) else {k: float(v) for k, v in asdict(made.cost).items()}
    reason = made.cost.reason if isinstance(made.cost, Unpriced) else None
    refused = [row._asdict() for row in made.refused]
    return {**asdict(made), "refused": refused, "cost": cost, "no_list_price": reason}


def _range(found: Range[int] | Range[Decimal]) -> str:
    return f"{found.expected:,} (from {found.low:,} to {found.high:,})"
