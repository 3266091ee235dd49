"""An IO manager that hands result files to downstream assets, as whatever frame they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import dagster as dg
import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from batchor_core.core.enums import ItemStatus
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster.parquet import read_footer
from batchor_dagster.resource import BatchorResource
from batchor_dagster.result_files import ResultFiles
from batchor_dagster.schemas import integer_ranges, unified_schema

_FOOTERS_AT_ONCE = 16
_NAMED = 5  # partitions that an error names


def build_results_io_manager(
    *, resource_key: str = "batchor", completed_only: bool = False
) -> dg.IOManagerDefinition:
    """An IO manager that loads the result files of batch assets: nothing is read until the asset does.

    The annotation of the downstream asset's parameter says what it gets: a pyarrow ``Dataset`` or ``Table``, a Polars
    ``LazyFrame`` or ``DataFrame``, or a pandas ``DataFrame``; without one, a Dataset. An asset that depends on several
    partitions gets them as one, with every column of any of them, also where the model has grown or changed in between. An
    input with the metadata ``allow_missing_partitions`` skips those without a file, and is None where none has one::

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
            DagsterInvariantViolationError: A partition has no result file yet, or one that can't be read, or their columns
                have types that nothing holds together. Names the partitions.
        """
        keys: Sequence[str | None] = [None]
        if context.has_asset_partitions:
            keys = list(context.asset_partition_keys)
        files = ResultFiles(self._resource.results_base(), context.asset_key.path)
        dataset = _dataset(context, keys, files)
        if dataset is None:
            return None
        if self._completed_only:
            dataset = dataset.filter(pc.field("status") == ItemStatus.COMPLETED.value)
        return _shaped(dataset, context.dagster_type.typing_type)


def _dataset(context: dg.InputContext, keys: Sequence[str | None], files: ResultFiles) -> pads.Dataset | None:
    """The files of the partitions as one; None if there are none, and need not be any."""
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        looked = list(pool.map(lambda key: _look(context, files, key), keys))
    missing = [
        f"{_partition(key)} ({files.path(key)})" for key, found in zip(keys, looked, strict=True) if not found
    ]
    if missing:
        told = ", ".join(missing[:_NAMED]) + (
            f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        )
        # the metadata that Dagster's own IO managers look at
        if not (context.definition_metadata or {}).get("allow_missing_partitions", False):
            raise dg.DagsterInvariantViolationError(f"{_name(context)} has no results yet for {told}")
        context.log.warning(
            f"skipped, since allow_missing_partitions is set: {_name(context)} has no results yet for {told}"
        )
    found = {_partition(key): file for key, file in zip(keys, looked, strict=True) if file}
    if not found:
        return None
    try:
        schema = unified_schema(
            {name: file.schema for name, file in found.items()}, lambda name: integer_ranges(found[name].path)
        )
    except InvalidInputError as error:
        raise dg.DagsterInvariantViolationError(f"{_name(context)}: {error}") from error
    places = [fsspec.core.url_to_fs(file.path) for file in found.values()]
    return pads.dataset(
        [target for _, target in places], schema=schema, filesystem=places[0][0], format="parquet"
    )


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    schema: pa.Schema


def _look(context: dg.InputContext, files: ResultFiles, key: str | None) -> _File | None:
    path = files.existing(key)
    if path is None:
        return None
    try:
        footer = read_footer(path)
    except (OSError, pa.ArrowException) as error:
        raise dg.DagsterInvariantViolationError(
            f"{_name(context)}, {_partition(key)}: {path} can't be read ({error}); if the file is damaged, materialize it again"
        ) from error
    return None if footer is None else _File(path, footer.schema)


def _partition(key: str | None) -> str:
    return "its file" if key is None else key


def _name(context: dg.InputContext) -> str:
    return context.asset_key.to_user_string()


def _shaped(dataset: pads.Dataset, wanted: Any) -> Any:
    """The dataset as the type that was asked for; types are told by name, so that no library is imported in vain."""
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
