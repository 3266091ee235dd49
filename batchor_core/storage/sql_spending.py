"""What the batches of a store have cost."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from batchor_core.core.spending import SpentBatch, SpentRun
from batchor_core.core.usage import TokenUsage
from batchor_core.providers.registry import ProviderRegistry
from batchor_core.storage.schema import batches, runs
from batchor_core.storage.sql_costs import CHARGED
from batchor_core.storage.sql_engine import plain_rows
from batchor_core.storage.sql_runs import config_from


def spent(
    connection: Connection, registry: ProviderRegistry, *, since: float | None, until: float | None
) -> Iterator[SpentBatch]:
    """What each batch has cost that was created in this time, run by run."""
    columns = [batches.c[column] for column in CHARGED.values()]
    wanted = select(batches.c.run_key, batches.c.created_at, *columns)
    if since is not None:
        wanted = wanted.where(batches.c.created_at >= since)
    if until is not None:
        wanted = wanted.where(batches.c.created_at < until)
    found = list(plain_rows(connection, wanted.order_by(batches.c.run_key, batches.c.intent_key)))
    known: tuple[int, SpentRun] | None = None
    for run_key, created_at, cost, unpriced, *tokens in found:
        if known is None or known[0] != run_key:
            known = (run_key, _spent_run(connection, registry, run_key))
        yield SpentBatch(known[1], created_at, cost, unpriced, TokenUsage(*tokens))


def _spent_run(connection: Connection, registry: ProviderRegistry, run_key: int) -> SpentRun:
    row = connection.execute(select(runs).where(runs.c.run_key == run_key)).one()
    job = config_from(row, registry)
    model = getattr(job.provider_config, "model", None)
    return SpentRun(
        row.run_id,
        str(job.provider_config.provider_kind),
        None if model is None else str(model),
        job.batch_metadata,
        job.extras,
    )
