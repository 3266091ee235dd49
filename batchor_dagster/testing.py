"""A batch asset in a test: submission, batch and results in one call, without daemon, sensor or key."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa

from batchor_core import RunSummary
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.asset import BatchAsset, checked_assets
from batchor_dagster.resource import BatchorResource, LiteralKeyWarning

__all__ = ["MaterializedBatch", "materialize_batch"]


@dataclass(frozen=True)
class MaterializedBatch:
    """The outcome of :func:`materialize_batch`.

    Attributes:
        summary: The final state of the batch run.
        table: The results of the partition, a row for each item, as the sink has stored them.
        checks: The asset's own checks by name.
        submitted: The Dagster run that submitted; with ``wait=True`` the only one.
        landed: The Dagster run that wrote the results and checked them; the same one with ``wait=True``.
    """

    summary: RunSummary
    table: pa.Table
    checks: Mapping[str, dg.AssetCheckEvaluation]
    submitted: dg.ExecuteInProcessResult
    landed: dg.ExecuteInProcessResult

    @property
    def success(self) -> bool:
        """Whether every row was answered and every check passed."""
        return not self.summary.failed_items and all(check.passed for check in self.checks.values())


def materialize_batch(
    asset: BatchAsset,
    partition_key: str | None = None,
    *,
    resources: Mapping[str, Any] | None = None,
    upstream: Sequence[Any] = (),
    instance: dg.DagsterInstance | None = None,
    run_config: Mapping[str, Any] | None = None,
    timeout: float = 60,
) -> MaterializedBatch:
    """Submit a partition of a batch asset, wait for its batch, write its results and check them.

    All of it happens in this process::

        def test_a_day_is_judged() -> None:
            day = materialize_batch(reviews, "2026-11-01")
            assert day.success
            assert day.table.num_rows == 4

    Args:
        asset: What ``@batch_asset`` returned.
        partition_key: The partition; None for an unpartitioned asset.
        resources: As for ``dg.materialize``. Without a :class:`~batchor_dagster.BatchorResource`, a local server answers (the
            ``emulator`` extra), and runs and results are in a folder that is deleted at the end.
        upstream: Assets that the batch reads; their partition is materialized first.
        instance: Keeps Dagster's records; by default a temporary one.
        run_config: Run config of the Dagster run that submits.
        timeout: Seconds to wait for the batch.

    Raises:
        TimeoutError: The batch has not ended in time.
        Exception: Whatever a step raises.
    """
    [asset] = checked_assets([asset])
    if (partition_key is None) is not (asset.partitions_def is None):
        has = "no partitions" if asset.partitions_def is None else "partitions: say which"
        raise InvalidInputError(
            f"{asset.key.to_user_string()} has {has}, and partition_key is {partition_key!r}"
        )
    with ExitStack() as stack:
        given = dict(resources or {})
        if asset.resource_key not in given:
            given[asset.resource_key] = stack.enter_context(_local_resource())
        resource: BatchorResource = given[asset.resource_key]
        records = instance or stack.enter_context(dg.DagsterInstance.ephemeral())

        def materialize(selection: dg.AssetSelection, **settings: Any) -> dg.ExecuteInProcessResult:
            return dg.materialize(
                [asset, *upstream],
                selection=selection,
                partition_key=partition_key,
                instance=records,
                resources=given,
                **settings,
            )

        results = dg.AssetSelection.assets(asset.key)
        first = results if asset.submission_key is None else dg.AssetSelection.assets(asset.submission_key)
        submitted = landed = materialize(
            first | dg.AssetSelection.assets(*upstream) if upstream else first, run_config=run_config
        )
        with resource.runner() as runner:
            run = runner.get_run(asset.newest_run_id(runner, partition_key))
            run.wait(timeout=timeout, poll_interval=0.01)
            summary = run.summary()
        if asset.submission_key is not None:
            landed = materialize(results)
        dataset = asset.result_table(resource).read([partition_key]).dataset
        return MaterializedBatch(
            summary=summary,
            table=pa.table({}) if dataset is None else dataset.to_table(),
            checks={check.check_name: check for check in landed.get_asset_check_evaluations()},
            submitted=submitted,
            landed=landed,
        )


@contextmanager
def _local_resource() -> Iterator[BatchorResource]:
    """A resource for one test, with a server of its own."""
    from batchor_core.testing.openai_server import OpenAIServer

    with (
        OpenAIServer() as server,
        tempfile.TemporaryDirectory(prefix="batchor-") as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", LiteralKeyWarning)  # no secret: the local server takes any key
        yield BatchorResource(root=folder, api_key="local", base_url=server.base_url, poll_interval_sec=0.01)
