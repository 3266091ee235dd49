"""``batchor results``: the answers of a run, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer
from rich.table import Table

from batchor_core.cli.commands import AsJson, RunId, takes_stores
from batchor_core.cli.console import say, show_json_line, stdout, text
from batchor_core.cli.looking import number
from batchor_core.cli.stores import Stores
from batchor_core.cli.tables import show_table
from batchor_core.core.enums import ItemStatus
from batchor_core.core.outputs import OutputSpec, VectorOutput
from batchor_core.core.pricing import dollars_of
from batchor_core.core.words import usd_text
from batchor_core.runtime.outputs import declared_output
from batchor_core.runtime.results import json_lines
from batchor_core.runtime.run import Run
from batchor_core.storage.rows import failure_of
from batchor_core.storage.state import ResultRow

_FAILED = ItemStatus.FAILED_PERMANENT.value
_SHOWN_CHARACTERS = 300
_SHOWN_ELEMENTS = 4


@takes_stores
def results(
    stores: Stores,
    run_id: RunId,
    failed: Annotated[bool, typer.Option("--failed", help="Failed rows only.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows on the page.")] = 20,
    after: Annotated[
        int, typer.Option("--after", min=0, help="Begin after this number, which the previous page prints.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show results in the order in which rows ended, also while the run is active. --json prints JSON lines."""
    with stores.runner() as runner:
        run = runner.get_run(run_id)
        output = declared_output(run.config)
        page = list(islice(_rows(run, after=after, failed=failed), limit + 1))
        more, page = len(page) > limit, page[:limit]
        if as_json:
            for row, line in zip(page, json_lines(None, page, output.kind), strict=True):
                _print_line(row, line)
        elif page:
            show_table(_table(page, output), stdout())
        else:
            say("no failed rows" if failed else "no results yet")
    if more:
        words = f"{' --failed' if failed else ''} --limit {limit} --after {page[-1].sequence}"
        say(f"more: batchor results {run_id}{words}{stores.typed_again()}")


def _rows(run: Run, *, after: int, failed: bool) -> Iterator[ResultRow]:
    for page in run.iter_row_pages(after_sequence=after):
        yield from (row for row in page if not failed or row.status == _FAILED)


def _print_line(row: ResultRow, line: bytes) -> None:
    """Print a line of results.jsonl with the row's sequence number, in ASCII like all JSON here."""
    show_json_line({"sequence": row.sequence, **json.loads(line)})


def _table(page: list[ResultRow], output: OutputSpec) -> Table:
    table = Table("No.", "Row", "Attempts", number("Cost"), "Answer or error")
    for row in page:
        failure = failure_of(row)
        if failure is not None:
            said = f"{failure.error_class}: {failure.message}"
        elif row.output_data is not None:
            said = _vector(row.output_data, output)
        else:
            said = row.output_text or row.output_json or ""
        if len(said) > _SHOWN_CHARACTERS:
            said = f"{said[:_SHOWN_CHARACTERS]}…"
        table.add_row(str(row.sequence), text(row.item_id), str(row.attempt_count), _cost(row), text(said))
    return table


def _vector(data: bytes, output: OutputSpec) -> str:
    """The beginning of a vector, and what it is."""
    if not isinstance(output, VectorOutput):
        return f"{len(data):,} bytes"
    vector = output.value(data)
    shown = ", ".join(f"{element:.4g}" for element in vector[:_SHOWN_ELEMENTS])
    return f"{output.dtype}[{len(vector)}]: {shown}{', …' if len(vector) > _SHOWN_ELEMENTS else ''}"


def _cost(row: ResultRow) -> str:
    return "" if row.cost is None else usd_text(dollars_of(row.cost))
