"""``batchor export``: a run's results as a file, or everything that is stored of it as a folder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from batchor_core.cli.commands import AsJson, RunId, takes_stores
from batchor_core.cli.console import say, show, show_json
from batchor_core.cli.result_files import ResultFormat, ResultOrder, write_results
from batchor_core.cli.schemas import model_named
from batchor_core.cli.stores import Stores
from batchor_core.core.exceptions import ModelResolutionError, RunNotFinishedError
from batchor_core.core.outputs import ModelOutput, OutputSpec
from batchor_core.runtime.outputs import declared_output, stored_output
from batchor_core.runtime.run import Run


@takes_stores
def export(
    stores: Stores,
    run_id: RunId,
    destination: Annotated[
        str,
        typer.Argument(
            help="A .parquet, .csv or .jsonl file for the results; any other name is a folder for a bundle."
        ),
    ],
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema", metavar="FILE.py:MODEL", help="The run's model, where it can't be imported by name."
        ),
    ] = None,
    order: Annotated[
        ResultOrder, typer.Option("--order", help="Order of the rows: as in the input, or as they ended.")
    ] = ResultOrder.INPUT,
    partial: Annotated[
        bool, typer.Option("--partial", help="Export what a run that is still active has so far.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's results to a file, or everything that is stored of it to a folder: RUN/ with a manifest of SHA-256 sums."""
    with stores.runner() as runner:
        run = runner.get_run(run_id)
        if not destination.lower().endswith((*ResultFormat, ".ndjson")):
            exported = run.export_artifacts(destination)
            if as_json:
                show_json(asdict(exported))
            else:
                show(f"{run_id}: exported to {exported.destination_dir}")
            return
        if not run.is_finished and not partial:
            raise RunNotFinishedError(run_id)
        count = write_results(run, destination, output=_output(run, schema), order=order)
    if as_json:
        show_json({"run_id": run_id, "out": destination, "rows_written": count})
        return
    show(f"{run_id}: {count:,} rows written to {destination}")


def _output(run: Run, schema: str | None) -> OutputSpec:
    if schema is not None:
        return ModelOutput(model_named(schema))
    try:
        return stored_output(run.config)
    except ModelResolutionError:
        say(
            "the run's model can't be imported here, so its answers are JSON in one column; name it with --schema"
        )
        return declared_output(run.config)
