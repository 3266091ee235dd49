"""Results on S3, against a real server that speaks it: whole or not at all, and readable by what reads S3."""

from collections.abc import Iterator
from typing import Any

import boto3
import dagster as dg
import fsspec
import polars as pl
import pyarrow.dataset as pads
import pytest
from moto.server import ThreadedMotoServer

from batchor_core.tables import DeltaSink
from batchor_core.tables.parquet_file import parquet_facts
from batchor_dagster import BatchorResource, build_results_io_manager, write_results_parquet
from tests.support.result_pages import BrokenPages, Pages, Review, good


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of its own; everything is told by the environment, as in a deployment."""
    settings = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="warehouse")
    yield "warehouse"
    for entry in client.list_objects_v2(Bucket="warehouse").get("Contents", []):
        client.delete_object(Bucket="warehouse", Key=entry["Key"])
    client.delete_bucket(Bucket="warehouse")
    client.close()


def keys(bucket: str) -> list[str]:
    return [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_file_is_an_object_that_any_reader_takes(bucket: str) -> None:
    url = f"s3://{bucket}/results/reviews/2026-01-01.parquet"
    report = write_results_parquet(Pages([good(index) for index in range(100)]), url, Review)
    assert report.uri == url
    assert keys(bucket) == ["results/reviews/2026-01-01.parquet"]
    assert pl.read_parquet(url).height == 100
    folder = pads.dataset(f"{bucket}/results/reviews", filesystem=fsspec.filesystem("s3"))
    assert folder.count_rows() == 100
    footer = parquet_facts(url)
    assert footer is not None
    assert footer.answered == 100
    assert parquet_facts(f"s3://{bucket}/results/reviews/2026-01-02.parquet") is None


def test_a_failure_in_the_middle_leaves_the_old_object_and_no_other(bucket: str) -> None:
    url = f"s3://{bucket}/reviews.parquet"
    write_results_parquet(Pages([good(0)]), url, Review)
    with pytest.raises(ConnectionError):
        write_results_parquet(BrokenPages([good(0), good(1)]), url, Review)
    assert keys(bucket) == ["reviews.parquet"]
    assert pl.read_parquet(url).height == 1


def test_a_delta_table_lies_on_s3(bucket: str) -> None:
    table = DeltaSink(url=f"s3://{bucket}/lake").table("unused", ["reviews"])
    table.write(Pages([good(0), good(1)]), "a", Review)
    table.write(Pages([good(2)]), "b", Review)
    report = table.write(Pages([good(3)]), "a", Review)
    assert report.uri == f"s3://{bucket}/lake/reviews.delta"
    frame = pl.read_delta(report.uri)
    assert dict(zip(frame["partition_key"], frame["item_id"], strict=True)) == {"a": "row-3", "b": "row-2"}
    found = table.read(["a"]).dataset
    assert found is not None
    assert found.count_rows() == 1


def test_a_partition_goes_to_s3_with_its_artifacts(
    bucket: str, make_asset: Any, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    on_s3 = BatchorResource(
        root=resource.root,
        api_key=dg.EnvVar("OPENAI_API_KEY"),
        base_url=resource.base_url,
        poll_interval_sec=0.01,
        artifacts=f"s3://{bucket}/artifacts",
        parquet_base=f"s3://{bucket}/results",
    )
    asset = make_asset(wait=True)
    result = dg.materialize(
        [*asset.assets, *asset.checks], partition_key="birds", instance=instance, resources={"batchor": on_s3}
    )
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["dagster/uri"].value == f"s3://{bucket}/results/facts/birds.parquet"
    assert pl.read_parquet(f"s3://{bucket}/results/facts/*.parquet")["item_id"].len() == 3
    assert any(key.startswith("artifacts/") for key in keys(bucket))

    heights: list[int] = []

    @dg.asset(partitions_def=asset.partitions_def)
    def counted(facts: pl.LazyFrame) -> None:
        heights.append(facts.collect().height)

    loaded = dg.materialize(
        [*make_asset(wait=True, io_manager_key="results").assets, counted],
        selection=dg.AssetSelection.assets(counted),
        partition_key="birds",
        instance=instance,
        resources={"batchor": on_s3, "results": build_results_io_manager()},
    )
    assert loaded.success
    assert heights == [3]
