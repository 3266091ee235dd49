"""``materialize_batch``: a user's pipeline test, without daemon, sensor or key."""

from typing import Any

import dagster as dg
import pytest

from batchor_core import BatchJob
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster import BatchorResource, batch_asset
from batchor_dagster.testing import materialize_batch
from tests.dagster.conftest import TOPICS, Fact, job_of


@dg.asset(partitions_def=TOPICS)
def topics(context: dg.AssetExecutionContext) -> str:
    return str(context.partition_key)


@batch_asset(partitions_def=TOPICS, output=Fact)
def facts(context: dg.AssetExecutionContext, topics: str) -> BatchJob[Any, Any]:
    return job_of(topics)


@batch_asset(wait=True)
def quick() -> BatchJob[Any, Any]:
    return job_of(None, rows=1)


def test_a_partition_lands_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    birds = materialize_batch(facts, "birds", upstream=[topics])
    assert birds.success
    assert sorted(birds.table["item_id"].to_pylist()) == ["birds-0", "birds-1", "birds-2"]
    assert set(birds.checks) == {"all_items_completed", "schema_conforms"}
    assert birds.summary.run_id == "facts--birds"


def test_a_resource_of_ones_own_and_an_asset_that_waits(
    resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    done = materialize_batch(quick, resources={"batchor": resource}, instance=instance)
    assert done.success
    assert done.submitted is done.landed
    assert done.table.num_rows == 1


@pytest.mark.parametrize("asset", [topics, None, "facts"])
def test_another_asset_is_refused(asset: Any) -> None:
    with pytest.raises(InvalidInputError, match="is no batch asset"):
        materialize_batch(asset)


@pytest.mark.parametrize(("asset", "partition"), [(facts, None), (quick, "birds")])
def test_a_missing_or_needless_partition_is_named(asset: Any, partition: str | None) -> None:
    with pytest.raises(InvalidInputError, match="partition_key is"):
        materialize_batch(asset, partition)
