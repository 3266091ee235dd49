"""Downstream assets get the results as the frame they ask for, and SQL reads the folder as it is."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, build_results_io_manager
from tests.dagster.test_assets import refuse_one

MakeAsset = Callable[..., BatchAsset]


def rows(frame: Any) -> int:
    match frame:
        case pads.Dataset():
            return int(frame.count_rows())
        case pl.LazyFrame():
            return frame.collect().height
        case pa.Table():
            return int(frame.num_rows)
        case _:
            return len(frame)


@pytest.fixture
def facts(
    make_asset: MakeAsset,
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
) -> BatchAsset:
    """Two partitions of three rows; the first row of each is a refusal."""
    refuse_one(openai_server)
    asset = make_asset(wait=True, io_manager_key="results", failure_threshold=1.0)
    for partition in ("birds", "fish"):
        assert dg.materialize(
            asset.assets,
            partition_key=partition,
            instance=instance,
            resources={"batchor": resource, "results": build_results_io_manager()},
        ).success
    return asset


def load(
    facts: BatchAsset,
    downstream: Any,
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    **settings: Any,
) -> dg.ExecuteInProcessResult:
    manager = build_results_io_manager(completed_only=settings.pop("completed_only", False))
    return dg.materialize(
        [*facts.assets, downstream],
        selection=dg.AssetSelection.assets(downstream),
        instance=instance,
        resources={"batchor": resource, "results": manager},
        **settings,
    )


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (Any, pads.Dataset),
        (pads.Dataset, pads.Dataset),
        (pa.Table, pa.Table),
        (pl.LazyFrame, pl.LazyFrame),
        (pl.DataFrame, pl.DataFrame),
        (pd.DataFrame, pd.DataFrame),
    ],
)
def test_the_annotation_says_what_a_downstream_asset_gets(
    facts: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance, wanted: Any, given: type
) -> None:
    got: list[Any] = []

    def downstream(facts: Any) -> None:
        got.append((isinstance(facts, given), rows(facts)))

    downstream.__annotations__["facts"] = wanted
    asset = dg.asset(partitions_def=facts.partitions_def)(downstream)
    assert load(facts, asset, resource, instance, partition_key="birds").success
    assert got == [(True, 3)]


def test_an_asset_of_all_partitions_gets_them_as_one(
    facts: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    got: list[int] = []

    @dg.asset
    def downstream(facts: pl.LazyFrame) -> None:
        got.append(rows(facts))

    assert load(facts, downstream, resource, instance).success
    assert load(facts, downstream, resource, instance, completed_only=True).success
    assert got == [6, 4]


def test_without_partitions_of_its_own_a_reader_gets_those_that_are_there(
    facts: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance, make_asset: MakeAsset
) -> None:
    partitions = dg.StaticPartitionsDefinition(["birds", "fish", "newts"])
    wider = make_asset(wait=True, io_manager_key="results", partitions_def=partitions)
    got: list[int] = []

    @dg.asset
    def downstream(facts: pa.Table) -> None:
        got.append(facts.num_rows)

    @dg.asset_check(asset=wider)
    def is_there(facts: pa.Table) -> dg.AssetCheckResult:
        got.append(facts.num_rows)
        return dg.AssetCheckResult(passed=True)

    assert load(wider, downstream, resource, instance).success
    checked = dg.materialize(
        [wider, is_there],
        selection=dg.AssetSelection.checks(is_there),
        instance=instance,
        resources={"batchor": resource, "results": build_results_io_manager()},
    )
    assert checked.success
    assert got == [6, 6]


def test_a_partition_without_results_is_named(
    resource: BatchorResource, instance: dg.DagsterInstance, make_asset: MakeAsset
) -> None:
    empty = make_asset(wait=True, io_manager_key="results")

    @dg.asset
    def downstream(facts: pa.Table) -> None:
        raise AssertionError

    with pytest.raises(
        dg.DagsterInvariantViolationError,
        match=r"facts has no results yet for birds \(.*birds.parquet\), fish .* Materialize them first",
    ):
        load(empty, downstream, resource, instance)


def test_it_stores_nothing_for_others(resource: BatchorResource, instance: dg.DagsterInstance) -> None:
    @dg.asset(io_manager_key="results")
    def other() -> int:
        return 1

    with pytest.raises(dg.DagsterInvariantViolationError, match="give that asset another io_manager_key"):
        dg.materialize(
            [other], instance=instance, resources={"batchor": resource, "results": build_results_io_manager()}
        )


def test_duckdb_reads_the_folder_as_it_is(facts: BatchAsset, resource: BatchorResource) -> None:
    folder = resource.results_base()
    found = duckdb.execute(
        f"""
        select filename.parse_filename(true) as partition, status, count(*), sum(output_tokens) > 0,
               any_value(len(sources)) is not null
        from read_parquet('{folder}/facts/*.parquet', filename = true)
        group by all order by all
        """
    ).fetchall()
    assert found == [
        ("birds", "completed", 2, True, True),
        ("birds", "failed_permanent", 1, True, False),
        ("fish", "completed", 2, True, True),
        ("fish", "failed_permanent", 1, True, False),
    ]
