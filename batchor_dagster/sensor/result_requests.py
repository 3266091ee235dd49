"""Which finished runs lack results in Dagster, and the run requests that write them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg

from batchor_core.storage.state import RunListing
from batchor_dagster.backfills import BACKFILL_TAG, release
from batchor_dagster.control import NO_RETRIES, RUN_ID_TAG, tagged_run_ids
from batchor_dagster.dagster_runs import UNFINISHED, all_records, latest_materialization
from batchor_dagster.facts import BatchFacts
from batchor_dagster.metadata import results_end
from batchor_dagster.revisions import revision_of
from batchor_dagster.run_states import is_finished
from batchor_dagster.sensor.tick import Found, Tick

RUN_KEY_TAG = "dagster/run_key"

ATTEMPTS = 3
"""How many attempts are made to write the results of a run before a person has to act."""


def results_job(asset: BatchFacts) -> Any:
    """The job that writes an asset's results: one each, since a job's assets must share their partitions."""
    return dg.define_asset_job(
        asset.results_job,
        selection=dg.AssetSelection.assets(asset.key),
        description=f"Writes the results of finished batch runs of {asset.key.to_user_string()}; the sensor launches it.",
    )


def result_requests(tick: Tick, lacking: Sequence[Found], *, limit: int) -> list[dg.RunRequest]:
    """Run requests for finished runs whose results are not materialized; at most ``limit``, the rest in later ticks."""
    instance = tick.context.instance
    launched = _launched(instance, [found.listing for found in lacking])
    waiting = _waiting_run_ids(instance) if any(f.asset.submission_key is None for f in lacking) else set()
    requests: list[dg.RunRequest] = []
    left = 0
    for found in lacking:
        run_id = found.listing.run_id
        attempt = next_attempt([run.status for run in launched.get(run_id, [])])
        if attempt is None:
            _tell_launched(tick, run_id, launched[run_id][-1])
        elif found.asset.submission_key is None and run_id in waiting:
            continue  # its own Dagster run is about to write them
        elif not _has_partition(found, instance):
            tick.problem(
                f"{run_id}: {found.asset.key.to_user_string()} has no partition {found.partition_key!r} any more; "
                "its results stay in the store"
            )
        elif len(requests) < limit:
            requests.append(_request(found, attempt, backfill_id=tick.held.get(run_id)))
        else:
            left += 1
    if left:
        tick.note(f"the next ticks request the results of {left} more finished runs")
    return requests


def release_backfills(tick: Tick, listings: Iterable[RunListing], lacking: Iterable[Found]) -> None:
    """Release backfills whose results are all there, or will not come without a person."""
    unfinished = {
        found.listing.run_id for found in tick.found(listings) if not is_finished(found.listing.summary)
    }
    awaited = unfinished | {found.listing.run_id for found in lacking} - tick.given_up
    release(tick.context.instance, tick.results, tick.held, awaited=awaited)


def next_attempt(earlier: Sequence[dg.DagsterRunStatus]) -> int | None:
    """Which attempt at writing a run's results is due, given how the earlier ones stand; None if none is.

    A failed attempt is repeated, since its machine may have gone down. A cancelled one is not, nor one that succeeded before
    somebody wiped the partition.
    """
    if not earlier:
        return 1
    failed = earlier[-1] is dg.DagsterRunStatus.FAILURE
    return len(earlier) + 1 if failed and len(earlier) < ATTEMPTS else None


def run_key(listing: RunListing, attempt: int = 1) -> str:
    """Identifies a run and its latest results: a run whose failed rows were retried has a new key."""
    key = f"{listing.run_id}:{listing.last_sequence}"
    return key if attempt == 1 else f"{key}:attempt-{attempt}"


def lacking_results(tick: Tick, listings: Iterable[RunListing]) -> Iterator[Found]:
    """Finished runs whose latest results are not materialized."""
    materialized = _Materialized(tick.context.instance)
    for found in tick.found(listings):
        if is_finished(found.listing.summary) and not materialized(found):
            yield found


class _Materialized:
    """Whether the results of a finished run are the partition's latest materialization; one look-up per asset and tick."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._partitions: dict[dg.AssetKey, set[str]] = {}

    def __call__(self, found: Found) -> bool:
        key, summary = found.asset.key, found.listing.summary
        if found.partition_key is not None:
            if key not in self._partitions:
                self._partitions[key] = self._instance.get_materialized_partitions(key)
            if found.partition_key not in self._partitions[key]:
                return False
        # a run whose rows all ended once has given out as many sequences as it has rows: its results have never changed
        written_once = found.listing.last_sequence == summary.completed_items + summary.failed_items
        is_first = revision_of(found.listing.extras) == 1
        if found.partition_key is not None and written_once and is_first:
            return True
        return self._latest(key, found.partition_key) == (found.listing.run_id, found.listing.last_sequence)

    def _latest(self, key: dg.AssetKey, partition_key: str | None) -> tuple[object, object] | None:
        record = latest_materialization(self._instance, key, partition_key)
        materialization = record.asset_materialization if record else None
        if materialization is None:
            return None
        shown = {name: entry.value for name, entry in materialization.metadata.items()}
        return shown.get("batchor/run_id"), results_end(shown)


def _launched(instance: dg.DagsterInstance, listings: Sequence[RunListing]) -> dict[str, list[dg.DagsterRun]]:
    """The Dagster runs that were launched for the present results of batch runs, oldest first."""
    keys = {
        run_key(listing, attempt): listing.run_id
        for listing in listings
        for attempt in range(1, ATTEMPTS + 1)
    }
    launched: dict[str, list[dg.DagsterRun]] = {}
    if keys:
        for record in reversed(all_records(instance, dg.RunsFilter(tags={RUN_KEY_TAG: list(keys)}))):
            run: dg.DagsterRun = record.dagster_run
            launched.setdefault(keys[run.tags[RUN_KEY_TAG]], []).append(run)
    return launched


def _tell_launched(tick: Tick, run_id: str, run: dg.DagsterRun) -> None:
    if run.status in UNFINISHED:
        tick.note(f"{run_id}: its results are being written by Dagster run {run.run_id[:8]}")
        return
    tick.given_up.add(run_id)
    if run.status is not dg.DagsterRunStatus.SUCCESS:  # after a success, somebody has wiped the partition
        tick.problem(
            f"{run_id}: Dagster run {run.run_id[:8]} should have written its results, and ended as "
            f"{run.status.value}; fix what its log reports, and re-execute it"
        )


def _waiting_run_ids(instance: dg.DagsterInstance) -> set[str]:
    """Batch runs that are named by Dagster runs which have not ended."""
    records = all_records(instance, dg.RunsFilter(statuses=UNFINISHED))
    return {run_id for record in records for run_id in tagged_run_ids(record.dagster_run.tags)}


def _has_partition(found: Found, instance: dg.DagsterInstance) -> bool:
    """Whether the partition still exists: dynamic ones can be deleted, and definitions change."""
    partitions = found.asset.partitions_def
    if partitions is None or found.partition_key is None:
        return partitions is None and found.partition_key is None
    with dg.partition_loading_context(dynamic_partitions_store=instance):
        return partitions.has_partition_key(found.partition_key)


def _request(found: Found, attempt: int, *, backfill_id: str | None) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run_key(found.listing, attempt),
        job_name=found.asset.results_job,
        partition_key=found.partition_key,
        asset_selection=[found.asset.key],
        tags={
            RUN_ID_TAG: found.listing.run_id,
            **NO_RETRIES,
            **({BACKFILL_TAG: backfill_id} if backfill_id else {}),
        },
    )
