"""``batchor report``: what a run brought, what it cost, how long its batches took and why rows failed."""

from __future__ import annotations

from rich.markdown import Markdown

from batchor_core.cli.commands import AsJson, RunId, takes_stores
from batchor_core.cli.console import show, show_json, stdout
from batchor_core.cli.printable import printable
from batchor_core.cli.stores import Stores
from batchor_core.runtime.report import report_of_run


@takes_stores
def report(stores: Stores, run_id: RunId, as_json: AsJson = False) -> None:
    """Report on a run, also while it goes on: rows, tokens, cost, turnaround, errors. In a pipe or a file it is Markdown."""
    with stores.runner() as runner:
        found = report_of_run(runner.storage, run_id, runner.get_run(run_id).rates)
    if as_json:
        show_json(found.to_payload())
    elif (console := stdout()).is_terminal:
        console.print(Markdown("\n".join(map(printable, found.markdown().split("\n")))))
    else:
        show(*found.markdown().rstrip().split("\n"))
