"""A plan from the launchpad: it sends nothing, materializes nothing and ends the Dagster run green."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource
from batchor_dagster.testing import materialize_batch


def planned(
    asset: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance, step: str, **settings: Any
) -> dg.ExecuteInProcessResult:
    """Everything is materialized with the switch on."""
    config = {"ops": {"facts__batch": {"ops": {step: {"config": {"plan": True}}}}}}
    return dg.materialize(
        [asset], resources={"batchor": resource}, instance=instance, run_config=config, **settings
    )


@pytest.mark.parametrize("wait", [False, True])
def test_a_plan_materializes_nothing(
    make_asset: Callable[..., BatchAsset],
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    wait: bool,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    without_key = BatchorResource(root=resource.root, base_url=resource.base_url)
    asset = make_asset(wait=wait)
    step = "facts" if wait else "facts_submission"
    done = planned(asset, without_key, instance, step, partition_key="birds")
    assert done.success
    assert done.get_asset_materialization_events() == []
    [event] = done.get_asset_observation_events()
    shown = event.asset_observation_data.asset_observation
    assert (shown.asset_key.path[-1], shown.partition) == (step, "birds")
    assert shown.description is not None
    assert shown.description.startswith("A plan. Nothing was sent")
    found = {name.removeprefix("batchor/"): entry.value for name, entry in shown.metadata.items()}
    assert (found["planned_rows_new"], found["planned_batches"]) == (3, 1)
    assert found["planned_cost"] == "no list price: no batch price known for the server 127.0.0.1"
    assert openai_server.books.rows_executed == len(openai_server.books.batches) == 0
    assert not Path(resource.root).exists()


def test_a_plan_of_a_changed_partition_counts_what_is_answered(
    make_asset: Callable[..., BatchAsset],
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
) -> None:
    materialize_batch(make_asset(), "birds", resources={"batchor": resource}, instance=instance)
    done = planned(make_asset(rows=5), resource, instance, "facts_submission", partition_key="birds")
    [event] = done.get_asset_observation_events()
    shown = event.asset_observation_data.asset_observation.metadata
    found = [shown[f"batchor/planned_rows_{name}"].value for name in ("new", "reused")]
    assert found == [2, 3]
    assert "3 earlier answers of this asset" in str(shown["batchor/planned_output_tokens"].value)
    assert "continued or kept unless the job has changed" in str(shown["batchor/plan_warnings"].value)
    assert openai_server.books.rows_executed == 3
