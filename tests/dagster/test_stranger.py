"""A provider that is nothing like the built-in one in a Dagster project: submitted, driven by the sensor, landed as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from batchor_core import BatchItem, BatchJob
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchorResource, Provider, batch_asset, build_batch_definitions
from tests.support.stranger import StrangerApi, StrangerConfig, routes
from tests.support.waiting import until

ROWS = 3


def definitions(folder: Path, url: str) -> dg.Definitions:
    @batch_asset()
    def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return BatchJob(
            items=[BatchItem(f"fact {index}", f"question {index}") for index in range(ROWS)],
            build_prompt=lambda item: item.payload,
            provider_config=StrangerConfig(url),
        )

    providers = {"stranger": Provider(StrangerApi, StrangerConfig.from_payload, settings={"token": "t"})}
    return build_batch_definitions(
        assets=[facts], resources={"batchor": BatchorResource(root=str(folder), providers=providers)}
    )


def tick(defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None) -> Any:
    """One tick of the sensor, and the runs that it asks for."""
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=defs.get_repository_def(),
        resources={"batchor": dict(defs.resources or {})["batchor"]},
    ) as context:
        result: Any = defs.resolve_sensor_def("batchor_sensor")(context)
    for request in result.run_requests:
        done = defs.resolve_job_def(request.job_name).execute_in_process(
            instance=instance,
            run_config=request.run_config,
            tags=request.tags,
            asset_selection=request.asset_selection,
        )
        assert done.success
    return result


def test_a_submission_becomes_a_parquet_file(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with OpenAIServer(batch_seconds=0.2, protocols=[routes]) as server:
        server.responder = lambda body, endpoint, custom_id: Reply.answer(
            body["messages"][-1]["content"].upper()
        )
        defs = definitions(tmp_path, server.url)
        submitted = dg.materialize(
            [defs.get_assets_def("facts_submission")],
            resources={"batchor": dict(defs.resources or {})["batchor"]},
            instance=instance,
        )
        assert submitted.success
        cursor: list[str | None] = [None]
        path = tmp_path / "results" / "facts.parquet"

        def landed() -> bool:
            cursor[0] = tick(defs, instance, cursor[0]).cursor
            return path.exists()

        until(landed, "the results", seconds=60, every=0.1)
        rows = pl.read_parquet(path)
        assert sorted(rows["output_text"]) == [f"QUESTION {index}" for index in range(ROWS)]
        assert rows["input_tokens"].sum() > 0
        assert set(server.books.bodies_executed.values()) == {1}
        assert [request.path for request in server.books.requests if request.path.startswith("/v1")] == []
