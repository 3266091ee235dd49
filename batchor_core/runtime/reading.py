"""Reading what a run has brought: streams, pages, or all of it in the order of the items. Needs no key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import BaseModel

from batchor_core.core.enqueue_budget import budget_of
from batchor_core.core.exceptions import RunNotFoundError
from batchor_core.core.garbage_collection import collecting_less
from batchor_core.core.models import RunSnapshot, RunSummary, TerminalResultsPage
from batchor_core.core.results import BatchResultItem
from batchor_core.runtime.engine import Engine
from batchor_core.runtime.live import LiveRuns
from batchor_core.runtime.results import check_cursor, row_pages, typed_page
from batchor_core.storage.state import ResultRow


def summary(runs: LiveRuns, run_id: str) -> RunSummary:
    """The counts of a run; its queue limit is that of the config, if this process has the config at hand and it has one."""
    found = runs.engine.store.get_run_summary(run_id=run_id)
    live = runs.get(run_id)
    budget = None if live is None else budget_of(live.config.provider_config)
    return found if budget is None or not budget.limit else replace(found, queue_limit=budget.limit)


def iter_row_pages(
    engine: Engine, run_id: str, *, after_sequence: int = 0, page_size: int = 1_000
) -> Iterator[list[ResultRow]]:
    """Results as they are stored, a page at a time; what ``Run.iter_row_pages`` documents."""
    check_cursor(after_sequence, page_size)
    if not engine.store.has_run(run_id=run_id):
        raise RunNotFoundError(run_id)
    return row_pages(engine.store, run_id, after_sequence=after_sequence, page_size=page_size)


def iter_result_pages(
    runs: LiveRuns, run_id: str, *, after_sequence: int, page_size: int, model: type[BaseModel] | None
) -> Iterator[list[BatchResultItem]]:
    """Results as objects in the order in which they ended, a page at a time; see ``Run.iter_results``."""
    output = runs.output(run_id, model)
    for page in iter_row_pages(runs.engine, run_id, after_sequence=after_sequence, page_size=page_size):
        yield list(typed_page(runs.engine, page, output))


def in_item_order(runs: LiveRuns, run_id: str, model: type[BaseModel] | None = None) -> list[BatchResultItem]:
    """The results that are there, in the order of the items."""
    output = runs.output(run_id, model)
    with collecting_less():
        indexed = [
            (row.item_index, result)
            for page in iter_row_pages(runs.engine, run_id)
            for row, result in zip(page, typed_page(runs.engine, page, output), strict=True)
        ]
    return [result for _, result in sorted(indexed, key=lambda entry: entry[0])]


def snapshot(runs: LiveRuns, summary: RunSummary) -> RunSnapshot:
    """The summary with the results that are there; what ``Run.snapshot`` documents."""
    return RunSnapshot(
        run_id=summary.run_id,
        status=summary.status,
        control_state=summary.control_state,
        total_items=summary.total_items,
        completed_items=summary.completed_items,
        failed_items=summary.failed_items,
        status_counts=summary.status_counts,
        active_batches=summary.active_batches,
        backoff_remaining_sec=summary.backoff_remaining_sec,
        items=in_item_order(runs, summary.run_id),
    )


def read_terminal_results(
    runs: LiveRuns, run_id: str, *, after_sequence: int, limit: int | None
) -> TerminalResultsPage:
    """A page of results; what ``Run.read_terminal_results`` documents."""
    check_cursor(after_sequence, limit)
    items: list[BatchResultItem] = []
    cursor = after_sequence
    output = runs.output(run_id)
    with collecting_less():
        for page in row_pages(runs.engine.store, run_id, after_sequence=after_sequence, limit=limit):
            items += typed_page(runs.engine, page, output)
            cursor = page[-1].sequence or cursor
    if items:
        # Found again for every page, it would cost as much as a hundred rows. Runs that have results stay, and with
        # them what they were asked for.
        runs.of(run_id).output = output
    return TerminalResultsPage(run_id, items, cursor)
