"""``batchor row``: everything that is stored about one row."""

from __future__ import annotations

import json
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any

import typer

from batchor_core.cli.commands import AsJson, RunId, takes_stores
from batchor_core.cli.console import show, show_json
from batchor_core.cli.raw_lines import RawLine, raw_lines
from batchor_core.cli.stores import Stores
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.pricing import PICODOLLARS
from batchor_core.core.request_lines import named_line
from batchor_core.core.words import usd_text
from batchor_core.runtime.outputs import declared_output
from batchor_core.runtime.results import json_lines
from batchor_core.runtime.run import Run
from batchor_core.storage.rows import response_json, usage_of
from batchor_core.storage.state import ResultRow, StateStore, StoredItem


@takes_stores
def row(
    stores: Stores,
    run_id: RunId,
    item_id: Annotated[str, typer.Argument(metavar="ID", help="The row's id.")],
    as_json: AsJson = False,
) -> None:
    """Show one row: its request, every attempt with its raw lines, its answer, its tokens."""
    with stores.runner() as runner:
        run, store = runner.get_run(run_id), runner.storage
        item = _stored(store, run, item_id)
        ended = _ended(run, item.item_index)
        artifacts = stores.artifact_store(store)
        lines = (
            []
            if artifacts is None
            else raw_lines(store, artifacts, run_id, item_id=item_id, item_index=item.item_index)
        )
        known: dict[str, Any] = {
            "run_id": run_id,
            "item_id": item_id,
            "item_index": item.item_index,
            "metadata": item.metadata,
            "request": _request(item),
            "lines": [asdict(line) for line in lines],
            "result": None if ended is None else _result(run, ended),
        }
    if as_json:
        show_json(known)
    else:
        _show(known, lines)


def _stored(store: StateStore, run: Run, item_id: str) -> StoredItem:
    total = run.summary().total_items
    for item in store.iter_stored_items(run_id=run.run_id, first_index=0, count=total):
        if item.item_id == item_id:
            return item
    raise InvalidInputError(f"run {run.run_id} has no row {item_id!r}")


def _ended(run: Run, item_index: int) -> ResultRow | None:
    """The row's result; None until it has ended."""
    return next((one for page in run.iter_row_pages() for one in page if one.item_index == item_index), None)


def _request(item: StoredItem) -> Any:
    """The request without the attempt's custom_id; or the prompts, if the store keeps those instead."""
    if item.request_line is not None:
        line = json.loads(named_line(item.request_line, item.item_id, is_first=True))
        return {key: line[key] for key in line if key != "custom_id"}
    if not item.prompt:
        return None  # answered before it was ever sent
    return {"prompt": item.prompt, "system_prompt": item.system_prompt}


def _result(run: Run, ended: ResultRow) -> dict[str, Any]:
    (line,) = json_lines(None, [ended], declared_output(run.config).kind)
    usage, raw = usage_of(ended), response_json(ended)
    saved = {} if ended.saved is None else {"saved_usd": ended.saved / PICODOLLARS}
    return {
        **json.loads(line),
        **saved,
        "usage": None if usage is None else asdict(usage),
        "raw_response": None if raw is None else json.loads(raw),
    }


def _show(known: dict[str, Any], lines: list[RawLine]) -> None:
    show(f"row {known['item_id']}, number {known['item_index'] + 1:,} of run {known['run_id']}")
    _show_value("metadata", known["metadata"])
    if known["request"] is not None:
        _show_value("request", known["request"])
    for line in lines:
        batch = f", batch {line.provider_batch_id}" if line.provider_batch_id else ""
        _show_value(f"attempt {line.attempt}, {line.kind}{batch} ({line.artifact})", line.line)
    if known["result"] is not None and "reused_from" in known["result"]:
        paid, saved = known["result"]["reused_from"], known["result"].get("saved_usd")
        show(
            ("" if lines else "it was not sent: ")
            + f"it has the answer of row {paid['item_id']} of run {paid['run_id']}"
            + (f", which cost {usd_text(Decimal(str(saved)))}" if saved else "")
        )
    elif not lines:
        show(
            "no files of this run are kept here: they were pruned, are not to be kept, or are elsewhere (--artifacts)"
        )
    if known["result"] is None:
        show("it has not ended yet")
    else:
        _show_value("result", {key: known["result"][key] for key in known["result"] if key != "metadata"})


def _show_value(name: str, value: Any) -> None:
    show(f"{name}:", *(f"  {line}" for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n")))
