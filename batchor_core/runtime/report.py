"""Collects a run's report: counts and cost from its row, batches from their table, errors from one pass over its results."""

from __future__ import annotations

from collections.abc import Mapping

from batchor_core.core.enqueue_budget import account_of, earlier_accounts_of
from batchor_core.core.enums import ItemStatus
from batchor_core.core.error_counts import ErrorCount, ErrorCounts
from batchor_core.core.models import ProviderConfig, RunSummary
from batchor_core.core.pricing import Rates
from batchor_core.core.prompt_cache import cache_warning
from batchor_core.core.run_report import RunReport
from batchor_core.core.turnaround import BatchTime
from batchor_core.runtime.results import row_pages
from batchor_core.storage.rows import failure_of
from batchor_core.storage.state import StateStore

_FAILED = ItemStatus.FAILED_PERMANENT.value


def report_of_run(store: StateStore, run_id: str, rates: Rates | None = None) -> RunReport:
    """What is known of a run, which may still be active. Memory is bounded, and no key is needed.

    A job may leave its server to the environment, and the store keeps no address then. So batches are linked only if this
    process has the run's key and server.
    """
    summary = store.get_run_summary(run_id=run_id)
    config = store.get_run_config(run_id=run_id).provider_config
    batches = batch_times(store, run_id, config if _is_own_account(store, run_id, config) else None)
    model = getattr(config, "model", None)
    return RunReport(
        summary,
        _errors(store, summary),
        batches,
        str(model) if model else None,
        provider=str(config.provider_kind),
        cache_warning="" if rates is None else cache_warning(summary.usage, rates),
    )


def _is_own_account(store: StateStore, run_id: str, config: ProviderConfig) -> bool:
    """Whether this process has the key and the server that the run's batches were sent with."""
    used = {submission.key_fingerprint for submission in store.list_submissions(run_id=run_id)} - {None}
    if not used:
        return True
    own = account_of(config)
    return own is not None and not used.isdisjoint({own, *earlier_accounts_of(config)})


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


def _errors(store: StateStore, summary: RunSummary) -> Mapping[str, ErrorCount]:
    errors = ErrorCounts()
    if summary.failed_items:
        for page in row_pages(store, summary.run_id):
            for row in page:
                if row.status == _FAILED:
                    errors.add(row.item_id, failure_of(row))
    return errors.by_class()
