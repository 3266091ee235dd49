"""An IO manager that hands result files to downstream assets, as whatever frame they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg
import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from batchor_core.core.enums import ItemStatus
from batchor_dagster.parquet import partition_path
from batchor_dagster.resource import BatchorResource


def build_results_io_manager(
    *, resource_key: str = "batchor", completed_only: bool = False
) -> dg.IOManagerDefinition:
    """An IO manager that loads the result files of batch assets: nothing is read until the asset does.

    The annotation of the downstream asset's parameter says what it gets: a pyarrow ``Dataset`` or ``Table``, a Polars
    ``LazyFrame`` or ``DataFrame``, or a pandas ``DataFrame``; without one, a Dataset. An asset that depends on several
    partitions gets them as one::

        @batch_asset(output=Review, io_manager_key="results")
        def reviews(context) -> BatchJob: ...

        @dg.asset
        def praise(reviews: pl.LazyFrame) -> None: ...

        defs = build_batch_definitions(
            assets=[reviews], other_assets=[praise],
            resources={"batchor": BatchorResource(...), "results": build_results_io_manager()},
        )

    Args:
        resource_key: Name of the :class:`BatchorResource`, which knows where the files are.
        completed_only: Leave failed rows out.
    """

    @dg.io_manager(required_resource_keys={resource_key})
    def results(context: dg.InitResourceContext) -> ResultsIOManager:
        return ResultsIOManager(getattr(context.resources, resource_key), completed_only=completed_only)

    return results


class ResultsIOManager(dg.IOManager):
    """Loads result files; see :func:`build_results_io_manager`."""

    def __init__(self, resource: BatchorResource, *, completed_only: bool = False) -> None:
        self._resource = resource
        self._completed_only = completed_only

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Batch assets write their files themselves; anything else does not belong here.

        Raises:
            DagsterInvariantViolationError: Another asset uses this IO manager for what it returns.
        """
        if obj is not None:
            raise dg.DagsterInvariantViolationError(
                f"this IO manager only reads what batch assets have written, and {'.'.join(context.get_identifier())} "
                f"returned a {type(obj).__name__}; give that asset another io_manager_key"
            )

    def load_input(self, context: dg.InputContext) -> Any:
        """The results of the partitions that the input stands for.

        Raises:
            DagsterInvariantViolationError: A partition has no result file yet; names it.
        """
        keys: Sequence[str | None] = [None]
        if context.has_asset_partitions:
            keys = list(context.asset_partition_keys)
        base, path = self._resource.results_base(), context.asset_key.path
        dataset = _dataset(context, {key: partition_path(base, path, key) for key in keys})
        if self._completed_only:
            dataset = dataset.filter(pc.field("status") == ItemStatus.COMPLETED.value)
        return _shaped(dataset, context.dagster_type.typing_type)


def _dataset(context: dg.InputContext, files: dict[str | None, str]) -> pads.Dataset:
    found = [fsspec.core.url_to_fs(path) for path in files.values()]
    missing = [
        f"{name or 'its file'} ({path})"
        for (name, path), (filesystem, target) in zip(files.items(), found, strict=True)
        if not filesystem.exists(target)
    ]
    if missing:
        raise dg.DagsterInvariantViolationError(
            f"{context.asset_key.to_user_string()} has no results yet for {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        )
    return pads.dataset([target for _, target in found], filesystem=found[0][0], format="parquet")


def _shaped(dataset: pads.Dataset, wanted: Any) -> Any:
    """The dataset as the type that was asked for; types are told by name, so that no library is imported in vain."""
    package = getattr(wanted, "__module__", "").partition(".")[0]
    shape = _SHAPES.get((package, getattr(wanted, "__name__", "")))
    return dataset if shape is None else shape(dataset)


def _lazy_frame(dataset: pads.Dataset) -> Any:
    import polars as pl

    # by way of the dataset, so that whatever credentials have written the files read them too
    return pl.scan_pyarrow_dataset(dataset)


def _polars_frame(dataset: pads.Dataset) -> Any:
    import polars as pl

    return pl.from_arrow(dataset.to_table())


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
