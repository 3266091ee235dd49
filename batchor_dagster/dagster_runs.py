"""Look-ups in Dagster's storage: all matching runs, and the newest materialization of a partition."""

from typing import Any

import dagster as dg

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def all_records(instance: dg.DagsterInstance, filters: dg.RunsFilter, *, page: int = 100) -> list[Any]:
    """Every matching run record, newest first."""
    records: list[Any] = []
    cursor: str | None = None
    while True:
        found = instance.get_run_records(filters, limit=page, cursor=cursor)
        records += found
        if len(found) < page:
            return records
        cursor = found[-1].dagster_run.run_id


def latest_materialization(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition_key: str | None
) -> dg.EventLogRecord | None:
    """The newest materialization of an asset, or of one of its partitions."""
    wanted = dg.AssetRecordsFilter(
        asset_key=key, asset_partitions=None if partition_key is None else [partition_key]
    )
    return next(iter(instance.fetch_materializations(wanted, limit=1).records), None)
