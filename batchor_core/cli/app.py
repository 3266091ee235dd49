"""The commands, by name."""

from __future__ import annotations

from typing import Annotated

import typer

from batchor_core.cli import (
    caps,
    controls,
    doctor,
    export,
    looking,
    plan,
    report,
    results,
    row,
    run,
    serve,
    spending,
    watch,
)

app = typer.Typer(
    help="Run LLM batches from a terminal: start, watch, control and read runs that survive the process.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"batchor {version('batchor-core')}")
        raise typer.Exit


@app.callback()
def batchor(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run LLM batches from a terminal: start, watch, control and read runs that survive the process."""


app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("runs")(looking.list_runs)
app.command("status")(looking.status)
app.command("show", help="The same as status.")(looking.status)
app.command("watch")(watch.watch)
app.command("report")(report.report)
app.command("results")(results.results)
app.command("row")(row.row)
app.command("spending")(spending.spending)
app.command("export")(export.export)
app.command("pause")(controls.pause)
app.command("resume")(controls.resume)
app.command("cap")(caps.cap)
app.command("cancel")(controls.cancel)
app.command("retry")(controls.retry)
app.command("doctor")(doctor.doctor)
app.command("prune")(controls.prune)
app.command("delete")(controls.delete)
app.command("serve")(serve.serve)
