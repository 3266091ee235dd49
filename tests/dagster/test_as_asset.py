"""What ``@batch_asset`` returns is an ``AssetsDefinition``, and Dagster takes it wherever it takes one."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import dagster as dg
import pytest

from batchor_core import BatchJob
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster import (
    BatchAsset,
    BatchorResource,
    batch_asset,
    build_batch_definitions,
    build_batch_operations,
    build_batch_sensor,
)
from tests.dagster.conftest import TOPICS, Fact, job_of

RESULTS, SUBMISSION = dg.AssetKey("reviews"), dg.AssetKey("reviews_submission")
READ: list[str] = []


@dg.asset(partitions_def=TOPICS)
def rows(context: dg.AssetExecutionContext) -> list[str]:
    return [context.partition_key]


class LoadedRows(dg.IOManager):
    """Notes who loads the rows."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None: ...

    def load_input(self, context: dg.InputContext) -> list[str]:
        READ.append(context.asset_key.to_user_string())
        return [context.partition_key]


@batch_asset(partitions_def=TOPICS, output=Fact, group_name="shop", tags={"team": "reviews"})
def reviews(context: dg.AssetExecutionContext, rows: list[str]) -> BatchJob[Any, Any]:
    """What customers think."""
    return job_of(context.partition_key)


@dg.asset(deps=[reviews.key], partitions_def=TOPICS)
def report() -> None: ...


@dg.asset(deps=[reviews], partitions_def=TOPICS)
def audit() -> None: ...


@dg.asset_check(asset=reviews)
def polite() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


everything = dg.define_asset_job("everything", selection=[reviews])
the_same = dg.define_asset_job("the_same", selection=dg.AssetSelection.assets(reviews))


def module() -> ModuleType:
    shop = ModuleType("shop")
    found = {"rows": rows, "reviews": reviews, "report": report, "audit": audit, "polite": polite}
    vars(shop).update(found, everything=everything, the_same=the_same)
    return shop


def listed() -> dg.Definitions:
    return dg.Definitions(
        assets=[rows, reviews, report, audit], asset_checks=[polite], jobs=[everything, the_same]
    )


def materialize(
    resource: BatchorResource, instance: dg.DagsterInstance, *selected: dg.AssetKey, **settings: Any
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [rows, reviews],
        selection=dg.AssetSelection.assets(*selected),
        instance=instance,
        partition_key="birds",
        resources={"batchor": resource, "io_manager": LoadedRows()},
        **settings,
    )


def finish(resource: BatchorResource) -> None:
    with resource.runner() as runner:
        runner.get_run(reviews.run_id("birds")).wait(timeout=60, poll_interval=0.01)


def steps_of(result: dg.ExecuteInProcessResult) -> set[str]:
    return {str(event.step_key).rpartition(".")[2] for event in result.all_events if event.is_step_success}


@pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")  # of load_definitions_from_module
@pytest.mark.parametrize("load", [lambda: dg.load_definitions_from_module(module()), listed])
def test_dagster_takes_it_for_an_asset(load: Callable[[], dg.Definitions], resource: BatchorResource) -> None:
    operations = build_batch_operations(assets=[reviews], resources={"batchor": resource})
    defs = dg.Definitions.merge(load(), operations)
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    assert graph.get(RESULTS).parent_keys == {SUBMISSION}
    assert graph.get(SUBMISSION).parent_keys == {rows.key}
    assert graph.get(report.key).parent_keys == {RESULTS}
    assert graph.get(audit.key).parent_keys == {RESULTS, SUBMISSION}
    assert graph.get(RESULTS).group_name == "shop"
    assert graph.get(SUBMISSION).tags["team"] == "reviews"
    assert {check.name for check in graph.get(RESULTS).check_keys} == {
        "polite",
        "all_items_completed",
        "schema_conforms",
    }
    for job in ("everything", "the_same"):
        assert defs.resolve_job_def(job).asset_layer.selected_asset_keys == {RESULTS, SUBMISSION}


def test_each_step_runs_alone_and_only_the_submission_loads_rows(
    resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    READ.clear()
    config = {"ops": {"reviews__batch": {"ops": {"reviews_submission": {"config": {"rerun": "all"}}}}}}
    assert steps_of(materialize(resource, instance, SUBMISSION, run_config=config)) == {"reviews_submission"}
    assert READ == ["rows"]
    finish(resource)
    landed = materialize(resource, instance, RESULTS)
    assert steps_of(landed) == {"reviews", "reviews_checks"}
    assert READ == ["rows"]
    assert all(check.passed for check in landed.get_asset_check_evaluations())
    [event] = landed.get_asset_materialization_events()
    assert event.materialization.asset_key == RESULTS
    assert event.materialization.metadata["dagster/partition_row_count"].value == 3


def test_the_function_is_asked_in_the_name_of_the_asset_that_starts_the_run(
    resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asked: list[dg.AssetKey] = []

    @batch_asset()
    def named(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        asked.append(context.asset_key)
        return job_of(None, rows=1)

    assert dg.materialize([named], instance=instance, resources={"batchor": resource}).success
    assert asked == [named.submission_key]


def test_called_like_a_function_it_returns_the_job(resource: BatchorResource) -> None:
    job = reviews(dg.build_asset_context(partition_key="birds"), rows=["birds"])
    assert job.structured_output is Fact
    assert len(list(job.items)) == 3


def without_sensor() -> dg.JobDefinition:
    """As a worker's process makes it: from code, with a code location around it."""
    defs = dg.Definitions(
        assets=[rows, reviews],
        jobs=[everything],
        resources={"batchor": BatchorResource(storage="memory"), "io_manager": LoadedRows()},
        executor=dg.in_process_executor,
    )
    return defs.resolve_job_def("everything")


def test_a_project_without_the_sensor_is_told_before_anything_is_sent(instance: dg.DagsterInstance) -> None:
    with dg.execute_job(
        dg.reconstructable(without_sensor), instance=instance, tags={"dagster/partition": "birds"}
    ) as result:
        assert not result.success
        [failed] = [event for event in result.all_events if event.is_step_failure]
    told = failed.step_failure_data.user_failure_data
    assert told is not None
    assert "Nothing was sent: no sensor of this code location writes the results of reviews" in str(
        told.description
    )
    assert "build_batch_operations(assets=[reviews]" in str(told.description)


def test_a_project_without_the_resource_is_told_when_it_is_loaded() -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="resource with key 'batchor'"):
        dg.Definitions.validate_loadable(dg.Definitions(assets=[rows, reviews]))


def test_the_usual_builder_takes_it_with_the_steps_as_they_were(resource: BatchorResource) -> None:
    defs = build_batch_definitions(assets=[reviews], other_assets=[rows], resources={"batchor": resource})
    assert [definition.op.name for definition in reviews.assets] == ["reviews_submission", "reviews"]
    assert defs.resolve_asset_graph().get(RESULTS).parent_keys == {SUBMISSION}


def test_dagsters_copies_are_no_batch_assets(resource: BatchorResource) -> None:
    [copy] = dg.with_resources([reviews], {"batchor": resource.get_resource_definition()})
    assert isinstance(copy, BatchAsset)
    with pytest.raises(InvalidInputError, match="Use the one that @batch_asset returned"):
        copy.run_id("birds")


def test_two_assets_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="two batch assets have the key reviews"):
        build_batch_operations(assets=[reviews, batch_asset(name="reviews")(job_of)])


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        (
            {"batchor": object()},
            r"resources\['batchor'\] must be a BatchorResource.* it is of the type object",
        ),
        ({"batchor": BatchorResource}, "it is the class itself"),
        (
            {"llm": BatchorResource(root="data")},
            "use the resource 'batchor', and resources has .* under 'llm'",
        ),
    ],
)
def test_a_resource_that_no_run_could_use_is_refused(resources: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        build_batch_definitions(assets=[reviews], resources=resources)


def test_a_resource_may_be_configured_at_launch() -> None:
    build_batch_operations(assets=[reviews], resources={"batchor": BatchorResource.configure_at_launch()})


def rows_instead() -> list[str]:
    return []


def nothing() -> None: ...


@pytest.mark.parametrize(("function", "said"), [(rows_instead, "list"), (nothing, "NoneType")])
def test_a_function_that_says_it_returns_no_job_is_refused(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=f"returns a BatchJob, and its annotation says {said}"):
        batch_asset()(function)


def unannotated():  # type: ignore[no-untyped-def]
    return job_of(None)


def anything() -> Any: ...


def some_object() -> object: ...


def maybe() -> BatchJob[Any, Any] | None: ...


def elsewhere() -> "Unknown":  # type: ignore[name-defined]  # noqa: F821
    ...


@pytest.mark.parametrize("function", [unannotated, anything, some_object, maybe, elsewhere, job_of])
def test_an_annotation_that_may_mean_a_job_is_taken(function: Callable[..., Any]) -> None:
    made = batch_asset(ins={"topic": dg.AssetIn("rows")} if function is job_of else None)(function)
    assert made.key.path


@pytest.mark.parametrize("build", [build_batch_definitions, build_batch_operations, build_batch_sensor])
@pytest.mark.parametrize("assets", [reviews, "reviews", None, [rows], ["reviews"]])
def test_what_is_no_list_of_batch_assets_is_refused(build: Callable[..., Any], assets: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"no batch asset|must be a list of batch assets"):
        build(assets=assets)


def test_the_assets_may_come_from_a_generator(resource: BatchorResource) -> None:
    found: Any = (asset for asset in [reviews])
    defs = build_batch_definitions(assets=found, other_assets=[rows], resources={"batchor": resource})
    assert RESULTS in defs.resolve_asset_graph().get_all_asset_keys()
