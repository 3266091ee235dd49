"""Collects a run's report: counts from its row, batches from their table, errors and cost from one pass over its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime

from batchor_core.core.enqueue_budget import account_of, earlier_accounts_of
from batchor_core.core.enums import ItemStatus
from batchor_core.core.error_counts import ErrorCount, ErrorCounts
from batchor_core.core.models import ProviderConfig, RunSummary
from batchor_core.core.pricing import BatchRates, Cost, CostTally, Rates, Unpriced
from batchor_core.core.run_report import RunReport
from batchor_core.core.turnaround import BatchTime
from batchor_core.runtime.results import row_pages
from batchor_core.storage.rows import failure_of
from batchor_core.storage.state import StateStore

_FAILED = ItemStatus.FAILED_PERMANENT.value


def report_of_run(store: StateStore, run_id: str) -> RunReport:
    """What is known of a run, which may still go on. Memory is bounded, and no key is needed.

    A job may leave its server to the environment, and the store keeps no address then. So batches are linked only if this
    process has the run's key and server, and nothing is priced if it has others.
    """
    summary = store.get_run_summary(run_id=run_id)
    config = store.get_run_config(run_id=run_id).provider_config
    is_own = _is_own_account(store, run_id, config)
    rates: Rates = Unpriced("this process uses another key or server than the run did")
    if is_own is not False:
        rates = rates_of_run(config, summary, has_row_options=has_row_options(store, run_id))
    cost, errors = _read(store, summary, rates)
    batches = batch_times(store, run_id, config if is_own else None)
    model = getattr(config, "model", None)
    return RunReport(summary, cost, errors, batches, str(model) if model else None)


def _is_own_account(store: StateStore, run_id: str, config: ProviderConfig) -> bool | None:
    """Whether this process has the key and the server that the run's batches were sent with; None if it has no key."""
    used = {submission.key_fingerprint for submission in store.list_submissions(run_id=run_id)} - {None}
    if not used:
        return True
    own = account_of(config)
    return None if own is None else not used.isdisjoint({own, *earlier_accounts_of(config)})


def batch_times(store: StateStore, run_id: str, config: ProviderConfig | None) -> list[BatchTime]:
    """A run's batches, oldest first, as far as the store keeps them; with a config, linked to the provider's console."""
    return [
        BatchTime(
            batch.provider_batch_id,
            batch.status,
            batch.item_count,
            batch.created_at,
            batch.ended_at,
            None if config is None else config.batch_url(batch.provider_batch_id),
        )
        for batch in store.get_batches(run_id=run_id)
    ]


def has_row_options(store: StateStore, run_id: str) -> bool:
    """Whether some rows have request options of their own, as far as is stored."""
    return any(chunk.has_options for chunk in store.get_rendered_chunks(run_id=run_id))


def rates_of_run(config: ProviderConfig, summary: RunSummary, *, has_row_options: bool = False) -> Rates:
    """What the run's tokens cost on the day it was created."""
    created = datetime.fromtimestamp(summary.created_at, UTC) if summary.created_at else datetime.now(UTC)
    rates = config.batch_rates(at=created)
    if has_row_options and isinstance(rates, BatchRates):
        return replace(rates, unseen=(*rates.unseen, "what options of single rows add to the price"))
    return rates


def _read(
    store: StateStore, summary: RunSummary, rates: Rates
) -> tuple[Cost | Unpriced, Mapping[str, ErrorCount]]:
    from batchor_core.tables.stream import add_costs  # pyarrow takes half a second to import

    costs, errors = CostTally(rates), ErrorCounts()
    if isinstance(rates, BatchRates) or summary.failed_items:
        for page in row_pages(store, summary.run_id):
            add_costs(costs, page)
            for row in page:
                if row.status == _FAILED:
                    errors.add(row.item_id, failure_of(row))
    return costs.cost(asdict(summary.usage)), errors.by_class()
