"""Each partition of a batch asset has its own check result, however many of them one Dagster run checks."""

import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg
import pytest

from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, build_batch_definitions
from batchor_dagster.testing import materialize_batch
from tests.dagster.conftest import TOPICS

MakeAsset = Callable[..., BatchAsset]

COMPLETION, SCHEMA = "all_items_completed", "schema_conforms"
BOTH_CHECKS_OF_BOTH = {(topic, name) for topic in ("birds", "fish") for name in (COMPLETION, SCHEMA)}
RANGE = {"dagster/asset_partition_range_start": "birds", "dagster/asset_partition_range_end": "fish"}


@pytest.fixture
def land(resource: BatchorResource, instance: dg.DagsterInstance) -> Callable[..., dg.ExecuteInProcessResult]:
    """Materializes partitions of an asset, checks included, as the sensor does; returns the last Dagster run."""

    def act(asset: BatchAsset, topics: Iterable[str] = ("birds", "fish")) -> dg.ExecuteInProcessResult:
        done = [
            materialize_batch(asset, topic, resources={"batchor": resource}, instance=instance)
            for topic in topics
        ]
        return done[-1].landed

    return act


def refuse_birds(server: OpenAIServer) -> None:
    """Make every row about birds fail."""
    answer = server.responder

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Any:
        return Reply.refusal() if "birds" in custom_id else answer(body, endpoint, custom_id)

    server.responder = respond


def evaluations(result: dg.ExecuteInProcessResult) -> dict[tuple[str | None, str], dg.AssetCheckEvaluation]:
    return {(found.partition, found.check_name): found for found in result.get_asset_check_evaluations()}


def check_alone(
    asset: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance, **settings: Any
) -> dg.ExecuteInProcessResult:
    """A Dagster run of checks that materializes nothing."""
    return dg.materialize(
        [asset],
        selection=dg.AssetSelection.checks(*asset.check_keys),
        instance=instance,
        resources={"batchor": resource},
        raise_on_error=False,
        **settings,
    )


def current(instance: dg.DagsterInstance, asset: BatchAsset) -> dict[tuple[str | None, str], str]:
    """What the UI shows of each partition, where that is a check of its latest materialization."""
    infos = instance.event_log_storage.get_asset_check_partition_info(list(asset.check_keys))
    return {
        (info.partition_key, info.check_key.name): info.latest_execution_status.value
        for info in infos
        if info.partition_key is not None and info.is_current
    }


def test_a_partition_that_lands_has_results_of_its_own(
    make_asset: MakeAsset,
    land: Callable[..., dg.ExecuteInProcessResult],
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
) -> None:
    refuse_birds(openai_server)
    asset = make_asset()
    landed = evaluations(land(asset))
    assert set(landed) == {("fish", COMPLETION), ("fish", SCHEMA)}
    assert landed["fish", COMPLETION].description == "facts--fish: all 3 rows were answered"
    shown = current(instance, asset)
    assert set(shown) == BOTH_CHECKS_OF_BOTH
    assert {partition for (partition, _), status in shown.items() if status == "FAILED"} == {"birds"}


def test_one_partition_is_checked_by_itself(
    make_asset: MakeAsset,
    land: Callable[..., dg.ExecuteInProcessResult],
    resource: BatchorResource,
    instance: dg.DagsterInstance,
) -> None:
    asset = make_asset()
    land(asset)
    checked = check_alone(asset, resource, instance, tags={"dagster/partition": "birds"})
    assert checked.success
    assert set(evaluations(checked)) == {("birds", COMPLETION), ("birds", SCHEMA)}
    assert not checked.get_asset_materialization_events()


@pytest.mark.parametrize("tags", [RANGE, {}], ids=["range", "no partition"])
def test_a_dagster_run_of_several_partitions_checks_each(
    make_asset: MakeAsset,
    land: Callable[..., dg.ExecuteInProcessResult],
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
    tags: dict[str, str],
) -> None:
    refuse_birds(openai_server)
    asset = make_asset()
    land(asset)
    checked = check_alone(asset, resource, instance, tags=tags)
    assert checked.success
    found = evaluations(checked)
    assert set(found) == BOTH_CHECKS_OF_BOTH
    assert not found["birds", COMPLETION].passed
    assert found["fish", COMPLETION].passed
    assert set(current(instance, asset)) == BOTH_CHECKS_OF_BOTH


def test_a_job_of_checks_judges_what_is_finished(
    make_asset: MakeAsset,
    land: Callable[..., dg.ExecuteInProcessResult],
    resource: BatchorResource,
    instance: dg.DagsterInstance,
) -> None:
    asset = make_asset()
    defs = dg.Definitions.merge(
        build_batch_definitions(assets=[asset], resources={"batchor": resource}),
        dg.Definitions(
            jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.checks(*asset.check_keys))]
        ),
    )
    job = defs.resolve_job_def("check")
    nothing = job.execute_in_process(instance=instance)
    assert nothing.success
    assert not evaluations(nothing)
    land(asset, ["birds"])
    found = evaluations(job.execute_in_process(instance=instance))
    assert set(found) == {("birds", COMPLETION), ("birds", SCHEMA)}


def test_a_blocking_check_fails_for_one_partition_of_a_range(
    make_asset: MakeAsset,
    land: Callable[..., dg.ExecuteInProcessResult],
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    openai_server: OpenAIServer,
) -> None:
    refuse_birds(openai_server)
    asset = make_asset(blocking=True)
    with pytest.raises(Exception, match="1 blocking asset check failed"):
        land(asset, ["birds"])
    land(asset, ["fish"])
    assert not check_alone(asset, resource, instance, tags=RANGE).success


def test_an_asset_without_partitions_has_checks_without_partitions(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = make_asset(partitions_def=None)
    assert all(spec.partitions_def is None for spec in asset.check_specs)
    landed = materialize_batch(asset, resources={"batchor": resource}, instance=instance).landed
    assert set(evaluations(landed)) == {(None, COMPLETION), (None, SCHEMA)}
    assert set(evaluations(check_alone(asset, resource, instance))) == {(None, COMPLETION), (None, SCHEMA)}


def test_definitions_load_without_a_warning_also_where_dagster_copies_them(
    make_asset: MakeAsset, resource: BatchorResource
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shop = types.ModuleType("shop")
        shop.facts = make_asset()  # type: ignore[attr-defined]
        [copied] = dg.load_assets_from_modules([shop], key_prefix="shop", group_name="judged")
        assert isinstance(copied, dg.AssetsDefinition)
        assert {spec.partitions_def for spec in copied.check_specs} == {TOPICS}
        build_batch_definitions(assets=[make_asset()], resources={"batchor": resource}).get_repository_def()
