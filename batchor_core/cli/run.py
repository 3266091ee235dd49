"""``batchor run``: rows in, a prompt over each, results out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from batchor_core.cli.commands import AsJson, takes_stores
from batchor_core.cli.driving import Driving
from batchor_core.cli.job_options import RunName, takes_job
from batchor_core.cli.jobs import JobOptions, named_job
from batchor_core.cli.progress import ProgressMode
from batchor_core.cli.result_files import ResultOrder, format_of
from batchor_core.cli.stores import Stores
from batchor_core.core.exceptions import InvalidInputError


@takes_stores
@takes_job
def run(
    stores: Stores,
    given: JobOptions,
    run_id: RunName = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="Results: .parquet, .csv or .jsonl; a path or URL."),
    ] = None,
    order: Annotated[
        ResultOrder, typer.Option("--order", help="Order of the rows: as in the input, or as they ended.")
    ] = ResultOrder.INPUT,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Exit as soon as everything has been sent.")
    ] = False,
    progress: Annotated[
        ProgressMode, typer.Option("--progress", help="A bar on a terminal, lines elsewhere.")
    ] = ProgressMode.AUTO,
    as_json: AsJson = False,
) -> None:
    """Send a prompt, or a text to embed, for every row through the provider's Batch API, wait, and write the results.

    The same command continues the same run, or finds it finished: nothing is paid for twice. Ctrl-C ends the
    command, not the run. The API key comes from the environment (OPENAI_API_KEY).
    """
    if out is not None:
        _check_out(out, given.rows)
    named = named_job(given, stores.profile, run_id)
    Driving(stores, out=out, order=order, detach=detach, progress=progress, as_json=as_json).drive(named)


def _check_out(out: str, rows: str | None) -> None:
    """Refuse an output file that can't be written, before anything is paid for."""
    format_of(out)
    if "://" in out:
        return
    target = Path(out).expanduser().absolute()
    if target.is_dir():
        raise InvalidInputError(f"--out {out} is a folder; name a file in it")
    if rows is not None and "://" not in rows and target == Path(rows).expanduser().absolute():
        raise InvalidInputError(f"--out {out} is the file that the rows are read from; choose another one")
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InvalidInputError(f"--out {out}: this user can't write to {folder}")
