"""An asset's results go to the sink that one line chooses, and its readers find them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from deltalake import DeltaTable

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.tables import DeltaSink, ParquetSink, write_results_parquet
from batchor_core.tables.safe_names import earlier_path_segment
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, build_results_io_manager
from tests.dagster.test_assets import materialize, metadata_of, refuse_one
from tests.support.result_pages import Pages, Review, good

MakeAsset = Callable[..., BatchAsset]
SINKS = {"parquet": ParquetSink(), "delta": DeltaSink()}


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def materialized(
    assets: list[Any], resource: BatchorResource, instance: dg.DagsterInstance, **settings: Any
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        assets,
        instance=instance,
        resources={"batchor": resource, "results": build_results_io_manager()},
        **settings,
    )


def test_a_downstream_asset_reads_partitions_of_either_sink(
    make_asset: MakeAsset,
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
    sink: str,
) -> None:
    refuse_one(openai_server)
    facts = make_asset(wait=True, io_manager_key="results", sink=sink, failure_threshold=1.0)
    got: list[tuple[int, int]] = []

    @dg.asset(partitions_def=facts.partitions_def)
    def one(facts: pl.LazyFrame) -> None:
        got.append((facts.collect().height, facts.filter(pl.col("status") == "completed").collect().height))

    @dg.asset
    def whole(facts: pa.Table) -> None:
        got.append((facts.num_rows, facts["statement"].null_count))

    for partition in ("birds", "fish"):
        result = materialized(
            [*facts.assets, *facts.checks, one], resource, instance, partition_key=partition
        )
        # of one row in three there is no answer, which is within the threshold; the schema is as promised
        checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
        assert checks == {"all_items_completed": False, "schema_conforms": True}
    selected = dg.AssetSelection.assets(whole)
    assert materialized([*facts.assets, whole], resource, instance, selection=selected).success
    assert got == [(3, 2), (3, 2), (6, 2)]


def test_materializing_a_partition_again_replaces_exactly_its_rows(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance, sink: str
) -> None:
    for rows in (3, 5):
        asset = make_asset(wait=True, rows=rows, sink=sink)
        for partition in ("birds", "fish") if rows == 3 else ("birds",):
            done = materialize(asset.assets, resource, instance, partition=partition)
    metadata = metadata_of(done)
    assert metadata["dagster/partition_row_count"] == 5
    assert metadata["dagster/uri"] == asset.result_path(resource, "birds")
    assert metadata["batchor/size_bytes"] > 0
    table = asset.result_table(resource)
    assert [facts.rows for facts in table.facts(["birds", "fish"])] == [5, 3]


def test_the_result_asset_names_its_format(make_asset: MakeAsset, sink: str) -> None:
    asset = make_asset(wait=True, sink=sink)
    [spec] = asset.specs
    assert spec.kinds == {"openai", sink}
    assert spec.metadata.get("batchor/sink") == (None if sink == "parquet" else {"kind": sink})


def test_parquet_is_the_default_and_leaves_no_trace(make_asset: MakeAsset) -> None:
    default, named = (make_asset(wait=True, **given).specs[0] for given in ({}, {"sink": "parquet"}))
    assert (default.metadata, default.kinds) == (named.metadata, named.kinds)
    assert "batchor/sink" not in default.metadata


def test_a_sink_with_a_url_of_its_own_is_found_there(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance, tmp_path: Path, sink: str
) -> None:
    url = str(tmp_path / "lake")
    facts = make_asset(
        wait=True, io_manager_key="results", sink={"kind": sink, "url": url}, partitions_def=None
    )
    seen: list[int] = []

    @dg.asset
    def reader(facts: pads.Dataset) -> None:
        seen.append(facts.count_rows())

    assert materialized([*facts.assets, reader], resource, instance).success
    assert seen == [3]
    assert facts.result_path(resource).startswith(url)
    assert not Path(resource.results_base()).exists()


def test_a_partition_that_the_table_lacks_is_named(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance, sink: str
) -> None:
    facts = make_asset(wait=True, io_manager_key="results", sink=sink)
    materialized(facts.assets, resource, instance, partition_key="birds")

    @dg.asset(ins={"facts": dg.AssetIn(metadata={"allow_missing_partitions": False})})
    def downstream(facts: pa.Table) -> None:
        raise AssertionError

    with pytest.raises(
        dg.DagsterInvariantViolationError, match=r"facts has no results yet for fish \(.*facts"
    ):
        materialized(
            [*facts.assets, downstream],
            resource,
            instance,
            selection=dg.AssetSelection.assets(downstream),
        )


def test_a_delta_table_has_a_version_for_each_materialization(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = make_asset(wait=True, sink=DeltaSink())
    for partition in ("birds", "fish"):
        materialize(asset.assets, resource, instance, partition=partition)
    table = DeltaTable(asset.result_path(resource))
    assert table.version() == 1
    assert table.metadata().partition_columns == ["partition_key"]


def test_a_sink_that_there_is_not_is_refused_where_it_is_given(make_asset: MakeAsset) -> None:
    with pytest.raises(InvalidInputError, match="no kind 'excel'; there are parquet, delta"):
        make_asset(sink="excel")


def test_materializing_a_partition_again_replaces_the_file_of_an_earlier_build(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    stale = f"{resource.results_base()}/facts/{earlier_path_segment('_US')}.parquet"
    write_results_parquet(Pages([good(index) for index in range(7)]), stale, Review)
    asset = make_asset(wait=True, partitions_def=dg.StaticPartitionsDefinition(["_US"]))
    metadata = metadata_of(materialize(asset.assets, resource, instance, partition="_US"))
    assert pads.dataset(f"{resource.results_base()}/facts").count_rows() == 3
    assert metadata["dagster/uri"] == asset.result_path(resource, "_US")
    assert not Path(stale).exists()
