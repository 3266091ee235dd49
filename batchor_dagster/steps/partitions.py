"""Runs a step for each of its partitions: one, or a range that a backfill policy puts into one Dagster run."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from batchor_core.core.exceptions import BatchorError, InvalidInputError
from batchor_dagster.answers_digest import ANSWERS_DIGEST
from batchor_dagster.facts import BatchFacts
from batchor_dagster.metadata import Metadata


def partition_keys(asset: BatchFacts, context: dg.AssetExecutionContext) -> Sequence[str | None]:
    """The partitions of this Dagster run: several, if a backfill policy puts a range into one."""
    return list(context.partition_keys) if asset.partitions_def is not None else [None]


def each_partition(
    asset: BatchFacts,
    context: dg.AssetExecutionContext,
    act: Callable[[str | None], Metadata],
    *,
    asset_key: dg.AssetKey | None = None,
) -> dg.Output[None]:
    """Act on each partition, and attach the returned metadata to the results, or to ``asset_key``.

    In a range, failures are reported at the end and don't stop the other partitions.
    """
    asset_key = asset_key or asset.key
    keys = partition_keys(asset, context)
    if len(keys) == 1:
        metadata = act(keys[0])
        if (digest := metadata.get(ANSWERS_DIGEST)) is not None:
            # what is downstream is out of date only if an answer has changed
            context.set_data_version(asset_key, dg.DataVersion(str(digest.value)))
        return dg.Output(None, metadata=metadata)
    failed = []
    for key in keys:
        try:
            context.add_asset_metadata(dict(act(key)), asset_key=asset_key, partition_key=key)
        except dg.Failure as failure:
            failed.append(f"{key}: {failure.description}")
        except BatchorError as error:
            failed.append(f"{key}: {error}")
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(keys)} partitions failed; the others are done. " + " | ".join(failed)
        )
    return dg.Output(None)


class OneAsset:
    """The context of a step in a batch asset's graph, as it would be in a separate definition."""

    def __init__(self, context: dg.AssetExecutionContext, key: dg.AssetKey) -> None:
        self._context = context
        self.asset_key = key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class OnePartition:
    """The context of a step that has a range of partitions, as it would be in a run of one of them."""

    def __init__(self, context: dg.AssetExecutionContext, partition_key: str) -> None:
        self._context = context
        self.partition_key = partition_key
        self.partition_keys = [partition_key]
        self.has_partition_key = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    @property
    def partition_time_window(self) -> dg.TimeWindow:
        """The time window of this partition."""
        definition = self._context.assets_def.partitions_def
        if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
            raise InvalidInputError("only time partitions have a time window")
        return definition.time_window_for_partition_key(self.partition_key)
