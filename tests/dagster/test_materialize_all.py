"""Submission and results in one Dagster run: it ends green, and what it leaves out follows, for a backfill too."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource
from batchor_dagster.backfills import BACKFILL_TAG, HOLD_TAG
from tests.dagster.test_sensors import Deployment

MakeAsset = Callable[..., BatchAsset]


def materialize(
    deployment: Deployment, *assets: Any, partition: str | None = "birds", **tags: str
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        assets,
        partition_key=partition,
        instance=deployment.instance,
        resources={"batchor": deployment.resource},
        tags=tags,
        raise_on_error=False,
    )


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    events = result.get_asset_materialization_events()
    return {event.materialization.asset_key.to_user_string() for event in events}


def logged(deployment: Deployment, result: dg.ExecuteInProcessResult) -> str:
    records = deployment.instance.get_records_for_run(result.run_id).records
    return "\n".join(record.event_log_entry.user_message for record in records)


WAYS: list[Callable[[BatchAsset], list[Any]]] = [
    lambda asset: [asset],
    lambda asset: [*asset.assets, *asset.checks],
]


@pytest.fixture
def deployment(make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance) -> Deployment:
    return Deployment([make_asset()], resource, instance)


@pytest.mark.parametrize("parts", WAYS)
def test_it_ends_green_and_says_what_comes_next(
    deployment: Deployment, parts: Callable[[BatchAsset], list[Any]]
) -> None:
    [facts] = deployment.assets

    @dg.asset(deps=[facts.key], partitions_def=facts.partitions_def)
    def downstream() -> None: ...

    both = materialize(deployment, *parts(facts), downstream)
    assert both.success
    assert materialized(both) == {"facts_submission"}
    assert both.get_asset_check_evaluations() == []
    assert (
        "Next: the sensor looks after it, and materializes facts when it has ended. In a test, "
        "batchor_dagster.testing.materialize_batch does all of it. This Dagster run is done."
        in logged(deployment, both)
    )

    [request] = deployment.tick_until_requests()
    assert materialized(deployment.launch(request)) == {"facts"}
    again = materialize(deployment, *parts(facts), downstream)
    assert materialized(again) == {"facts_submission", "facts", "downstream"}


def test_results_alone_still_fail_where_there_are_none(deployment: Deployment) -> None:
    [facts] = deployment.assets
    materialize(deployment, facts.assets[0])
    alone = materialize(deployment, facts.assets[1])
    assert not alone.success


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # of backfill_policy
@pytest.mark.parametrize("parts", WAYS)
def test_a_range_in_one_run_waits_for_the_last_of_its_partitions(
    make_asset: MakeAsset,
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    parts: Callable[[BatchAsset], list[Any]],
) -> None:
    facts = make_asset(backfill_policy=dg.BackfillPolicy.single_run())
    deployment = Deployment([facts], resource, instance)
    span = {"dagster/asset_partition_range_start": "birds", "dagster/asset_partition_range_end": "fish"}
    both = materialize(deployment, *parts(facts), partition=None, **span)
    assert both.success
    assert materialized(both) == {"facts_submission"}


class TestABackfill:
    """Dagster ends a backfill when none of its runs is unfinished; what is not materialized by one of them has failed."""

    @pytest.fixture
    def backfill(self, deployment: Deployment) -> str:
        deployment.instance.add_backfill(
            PartitionBackfill(
                "both",
                status=BulkActionStatus.REQUESTED,
                from_failure=False,
                tags={},
                backfill_timestamp=datetime.now(UTC).timestamp(),
                asset_selection=[],
            )
        )
        return "both"

    def unfinished(self, deployment: Deployment, backfill: str) -> int:
        return deployment.instance.get_runs_count(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED], tags={BACKFILL_TAG: backfill})
        )

    def test_it_is_open_until_its_results_have_landed(
        self, deployment: Deployment, backfill: str, openai_server: OpenAIServer
    ) -> None:
        [facts] = deployment.assets
        for partition in ("birds", "fish"):
            assert materialize(deployment, facts, partition=partition, **{BACKFILL_TAG: backfill}).success
        assert self.unfinished(deployment, backfill) == 1
        landed = 0
        while landed < 2:
            for request in deployment.tick().run_requests or ():
                assert request.tags[BACKFILL_TAG] == backfill
                assert self.unfinished(deployment, backfill) == 1
                done = deployment.launch(request)
                assert done.success
                checked = {evaluation.partition for evaluation in done.get_asset_check_evaluations()}
                assert checked == {request.partition_key}
                landed += 1
        deployment.tick()
        assert self.unfinished(deployment, backfill) == 0
        assert deployment.instance.get_runs(dg.RunsFilter(tags={HOLD_TAG: "facts"})) == []

    def test_it_is_not_held_when_an_operator_has_cancelled_it(
        self, deployment: Deployment, backfill: str
    ) -> None:
        materialize(deployment, deployment.assets[0], **{BACKFILL_TAG: backfill})
        stored = deployment.instance.get_backfill(backfill)
        assert stored is not None
        cancelled = stored.with_status(BulkActionStatus.CANCELING)  # type: ignore[no-untyped-call]
        deployment.instance.update_backfill(cancelled)
        deployment.tick()
        assert self.unfinished(deployment, backfill) == 0

    def test_the_sensor_of_other_assets_leaves_it_alone(
        self, deployment: Deployment, backfill: str, make_asset: MakeAsset
    ) -> None:
        materialize(deployment, deployment.assets[0], **{BACKFILL_TAG: backfill})
        others = Deployment([make_asset(name="others")], deployment.resource, deployment.instance)
        others.tick()
        assert self.unfinished(deployment, backfill) == 1

    def test_a_backfill_of_submissions_alone_is_left_as_it_is(
        self, deployment: Deployment, backfill: str
    ) -> None:
        materialize(deployment, deployment.assets[0].assets[0], **{BACKFILL_TAG: backfill})
        assert self.unfinished(deployment, backfill) == 0
        [request] = deployment.tick_until_requests()
        assert BACKFILL_TAG not in request.tags
