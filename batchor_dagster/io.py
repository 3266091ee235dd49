"""An IO manager that loads results into downstream assets, as the type of their annotation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import InvalidInputError, StorageError
from batchor_core.tables.frames import polars_frame
from batchor_core.tables.registry import sink_of
from batchor_core.tables.sink import ResultSink, ResultTable
from batchor_dagster.facts import SINK_METADATA
from batchor_dagster.resource import BatchorResource

if TYPE_CHECKING:  # it imports pandas, if that is there, which takes a second of every process
    import pyarrow.dataset as pads

_NAMED = 5  # partitions that an error names


def build_results_io_manager(
    *, resource_key: str = "batchor", completed_only: bool = False
) -> dg.IOManagerDefinition:
    """An IO manager that loads the results of batch assets, whatever their sink: nothing is read until the asset does.

    The annotation of the downstream asset's parameter says what it gets: a pyarrow ``Dataset`` or ``Table``, a Polars
    ``LazyFrame`` or ``DataFrame``, or a pandas ``DataFrame``; without one, a Dataset. Several partitions are loaded as one table
    with the columns of all of them, even if the model has changed in between. An asset or a check without partitions gets all
    partitions that have results. An input with the metadata ``allow_missing_partitions`` skips partitions without results, and is
    None if none has any::

        @batch_asset(output=Review, io_manager_key="results")
        def reviews(context) -> BatchJob: ...

        @dg.asset
        def praise(reviews: pl.LazyFrame) -> None: ...

        defs = build_batch_definitions(
            assets=[reviews], other_assets=[praise],
            resources={"batchor": BatchorResource(...), "results": build_results_io_manager()},
        )

    Args:
        resource_key: Name of the :class:`BatchorResource`, which knows where the results are.
        completed_only: Leave failed rows out.
    """

    @dg.io_manager(required_resource_keys={resource_key})
    def results(context: dg.InitResourceContext) -> ResultsIOManager:
        return ResultsIOManager(getattr(context.resources, resource_key), completed_only=completed_only)

    return results


class ResultsIOManager(dg.IOManager):
    """Loads results; see :func:`build_results_io_manager`."""

    def __init__(self, resource: BatchorResource, *, completed_only: bool = False) -> None:
        self._resource = resource
        self._completed_only = completed_only

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Does nothing: batch assets write their results themselves.

        Raises:
            DagsterInvariantViolationError: Another asset uses this IO manager for what it returns.
        """
        if obj is not None:
            raise dg.DagsterInvariantViolationError(
                f"this IO manager only reads what batch assets have written, and {'.'.join(context.get_identifier())} "
                f"returned a {type(obj).__name__}; give that asset another io_manager_key"
            )

    def load_input(self, context: dg.InputContext) -> Any:
        """The results of the input's partitions.

        Raises:
            DagsterInvariantViolationError: A partition has no results yet or can't be read, or no type fits a column's values.
                Names the partitions.
        """
        dataset = _dataset(context, self._resource)
        if dataset is None:
            return None
        if self._completed_only:
            dataset = dataset.filter(pc.field("status") == ItemStatus.COMPLETED.value)
        return _shaped(dataset, context.dagster_type.typing_type)


def _dataset(context: dg.InputContext, resource: BatchorResource) -> pads.Dataset | None:
    """The partitions as one dataset; None if none has results, and that is allowed."""
    keys: Sequence[str | None] = [None]
    if context.has_asset_partitions:
        keys = list(context.asset_partition_keys)
    table = _sink(context).table(resource.results_base(), context.asset_key.path)
    try:
        found = table.read(keys)
    except (InvalidInputError, StorageError) as error:
        raise dg.DagsterInvariantViolationError(f"{_name(context)}: {error}") from error
    if found.missing:
        _tell_missing(context, table, keys, found.missing)
    return found.dataset


def _tell_missing(
    context: dg.InputContext, table: ResultTable, keys: Sequence[str | None], missing: Sequence[str | None]
) -> None:
    """Raise for partitions without results, or log them if the input can do without.

    It can if its metadata has ``allow_missing_partitions``, which Dagster's own IO managers use too. If that is not set, it can
    if it reads all partitions because the reader has none: an unpartitioned asset, or a check in the Dagster run of one partition.
    """
    named = [f"{'its results' if key is None else key} ({table.where(key)})" for key in missing]
    told = ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "")
    asked = (context.definition_metadata or {}).get("allow_missing_partitions")
    nothing = len(missing) == len(keys)
    if asked or (asked is None and not nothing and _are_all_partitions(context, keys)):
        why = "allow_missing_partitions is set" if asked else "all partitions are read that have results"
        context.log.warning(f"skipped, since {why}: {_name(context)} has no results yet for {told}")
        return
    how = "Materialize them first"
    if not nothing:
        how += ', or give the input the metadata {"allow_missing_partitions": True} to read the others without them'
    raise dg.DagsterInvariantViolationError(f"{_name(context)} has no results yet for {told}. {how}.")


def _are_all_partitions(context: dg.InputContext, keys: Sequence[str | None]) -> bool:
    if not context.has_asset_partitions or len(keys) < 2:
        return False
    with dg.partition_loading_context(dynamic_partitions_store=context.instance):
        return set(keys) == set(context.asset_partitions_def.get_partition_keys())


def _sink(context: dg.InputContext) -> ResultSink:
    upstream = context.upstream_output
    stored = ((upstream.definition_metadata if upstream else None) or {}).get(SINK_METADATA)
    return sink_of(stored.value if isinstance(stored, dg.MetadataValue) else stored)


def _name(context: dg.InputContext) -> str:
    return context.asset_key.to_user_string()


def _shaped(dataset: pads.Dataset, wanted: Any) -> Any:
    """The dataset as the requested type. Types are recognised by name, so that no library is imported needlessly."""
    if get_origin(wanted) in (Union, UnionType):  # of a frame and None, for partitions that may be missing
        wanted = next((member for member in get_args(wanted) if member is not NoneType), wanted)
    package = getattr(wanted, "__module__", "").partition(".")[0]
    shape = _SHAPES.get((package, getattr(wanted, "__name__", "")))
    return dataset if shape is None else shape(dataset)


def _lazy_frame(dataset: pads.Dataset) -> Any:
    import polars as pl

    # by way of the dataset, so that whatever credentials have written the files read them too
    return pl.scan_pyarrow_dataset(dataset)


def _polars_frame(dataset: pads.Dataset) -> Any:
    return polars_frame(dataset.to_table)


def _table(dataset: pads.Dataset) -> pa.Table:
    return dataset.to_table()


def _pandas_frame(dataset: pads.Dataset) -> Any:
    return dataset.to_table().to_pandas()


_SHAPES: dict[tuple[str, str], Callable[[pads.Dataset], Any]] = {
    ("polars", "LazyFrame"): _lazy_frame,
    ("polars", "DataFrame"): _polars_frame,
    ("pyarrow", "Table"): _table,
    ("pandas", "DataFrame"): _pandas_frame,
}
