"""Assets of vectors and of bodies: written, checked and loaded again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

from batchor_core import BatchItem, BatchJob, BodyOutput, OpenAIProviderConfig, ToolOutput, VectorOutput
from batchor_core.tables.parquet_file import parquet_facts
from batchor_core.tables.result_columns import result_schema
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, Provider, batch_asset, build_results_io_manager
from tests.support.stranger import StrangerApi, StrangerConfig, routes, vector_of


@pytest.fixture
def url() -> Iterator[str]:
    with OpenAIServer(batch_seconds=0, protocols=[routes]) as server:
        server.responder = lambda body, endpoint, custom_id: Reply.answer(body["messages"][-1]["content"])
        yield server.base_url.removesuffix("/v1")


@pytest.fixture
def resource(tmp_path: Path) -> BatchorResource:
    providers = {"stranger": Provider(StrangerApi, StrangerConfig.from_payload)}
    return BatchorResource(root=str(tmp_path / "root"), poll_interval_sec=0.01, providers=providers)


def answers(url: str, *, model: str = "stranger-1", output: Any = None, of_job: Any = None) -> BatchAsset:
    @batch_asset(name="answers", wait=True, output=output, io_manager_key="results")
    def made(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return BatchJob(
            items=[BatchItem("1", "hey"), BatchItem("2", "you")],
            build_prompt=lambda item: item.payload,
            provider_config=StrangerConfig(url, model=model),
            output=of_job,
        )

    return made


def materialized(
    asset: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> list[pa.Table]:
    """What an asset downstream is given."""
    seen: list[pa.Table] = []

    @dg.asset(ins={"answers": dg.AssetIn("answers")})
    def reader(answers: pa.Table) -> None:
        seen.append(answers)

    result = dg.materialize(
        [*asset.assets, *asset.checks, reader],
        resources={"batchor": resource, "results": build_results_io_manager()},
        instance=instance,
    )
    assert all(check.passed for check in result.get_asset_check_evaluations())
    return seen


@pytest.mark.parametrize("of_job", [None, VectorOutput(4)])
@pytest.mark.parametrize("model", ["stranger-numbers", "stranger-packed"])
def test_vectors_are_a_column_of_fixed_size_lists(
    url: str, model: str, of_job: Any, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = answers(url, model=model, output=VectorOutput(4), of_job=of_job)
    [table] = materialized(asset, resource, instance)
    rows = dict(zip(table["item_id"].to_pylist(), table["vector"].to_pylist(), strict=True))
    assert rows == {"1": vector_of("hey"), "2": vector_of("you")}
    facts = parquet_facts(asset.result_path(resource))
    assert facts is not None
    assert facts.schema.equals(result_schema(VectorOutput(4)))
    assert pl.read_parquet(asset.result_path(resource)).schema["vector"] == pl.Array(pl.Float32, 4)


@pytest.mark.parametrize(("output", "of_job"), [(None, BodyOutput()), (BodyOutput(), None)])
def test_bodies_are_a_column_of_json(
    url: str, output: Any, of_job: Any, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    [table] = materialized(answers(url, output=output, of_job=of_job), resource, instance)
    bodies = pl.from_arrow(table)["body"].str.json_decode(pl.Struct({"words": pl.List(pl.String)}))  # type: ignore[index]
    assert sorted("".join(body["words"]) for body in bodies) == ["hey", "you"]


class Refund(BaseModel):
    order: int


class Escalate(BaseModel):
    reason: str


@pytest.mark.parametrize("is_of_job", [True, False])
def test_calls_are_a_column_of_names_and_one_for_each_tool(
    is_of_job: bool, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ToolOutput([Refund, Escalate])
    monkeypatch.setenv("OPENAI_API_KEY", "any")

    @batch_asset(name="answers", wait=True, output=None if is_of_job else output, io_manager_key="results")
    def asset(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return BatchJob(
            items=[BatchItem(str(number), f"mail {number}") for number in range(6)],
            build_prompt=lambda item: item.payload,
            provider_config=OpenAIProviderConfig(model="gpt-5-mini"),
            output=output if is_of_job else None,
        )

    with OpenAIServer(batch_seconds=0) as server:
        resource = BatchorResource(
            root=str(tmp_path / "root"), base_url=server.base_url, poll_interval_sec=0.01
        )
        [table] = materialized(asset, resource, instance)
    for row in table.to_pylist():
        assert [name for name in ("refund", "escalate") if row[name] is not None] == [row["tool"]]


def test_two_outputs_are_one_too_many(
    url: str, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = answers(url, model="stranger-numbers", output=VectorOutput(4), of_job=VectorOutput(8))
    result = dg.materialize(
        asset.assets,
        resources={"batchor": resource, "results": dg.mem_io_manager},
        instance=instance,
        raise_on_error=False,
    )
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert (
        "has output=VectorOutput(dimensions=4, dtype='float32'), and its job has VectorOutput(dimensions=8"
        in str(failed.step_failure_data.error)
    )
