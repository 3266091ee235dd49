"""The sensor drives every run in turn, reports what is wrong with one without stopping others, and asks for results once."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from batchor_core import (
    BatchItem,
    BatchJob,
    BatchRunner,
    ItemStatus,
    RunControlState,
    RunLifecycleStatus,
    RunSummary,
    SQLiteStorage,
)
from batchor_core.testing import FakeProvider
from batchor_core.testing.fake_config import FakeProviderConfig
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, build_batch_definitions, build_batch_sensor
from batchor_dagster.control import ACTION_TAG, RUN_ID_TAG, STATE_TAG
from batchor_dagster.run_states import standing, state_of
from batchor_dagster.sensor.active_runs import turn
from batchor_dagster.sensor.drive_job import is_worth_a_worker
from batchor_dagster.sensor.result_requests import next_attempt
from batchor_dagster.sensor.tick import Cursor, headline, in_turn

MakeAsset = Callable[..., BatchAsset]


IDLE = "no active batch runs, next look in 30 s"


class Deployment:
    """Definitions on an instance, ticked as Dagster's daemon would."""

    def __init__(
        self, assets: list[BatchAsset], resource: BatchorResource, instance: dg.DagsterInstance, **sensor: Any
    ):
        self.assets = assets
        self.resource = resource
        self.instance = instance
        self.defs = build_batch_definitions(assets=assets, resources={"batchor": resource}, **sensor)
        self.cursor: str | None = None

    def submit(
        self,
        partition: str | None = "birds",
        asset: BatchAsset | None = None,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        asset = asset or self.assets[0]
        result = dg.materialize(
            [asset.assets[0]],
            partition_key=partition,
            instance=self.instance,
            resources={"batchor": self.resource},
            tags=tags,
        )
        return result.run_id

    def tick(self) -> dg.SensorResult:
        sensor = self.defs.resolve_sensor_def("batchor_sensor")
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.defs.get_repository_def(),
            resources={"batchor": self.resource},
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result

    def tick_until_requests(self, ticks: int = 50) -> list[dg.RunRequest]:
        for _ in range(ticks):
            requests = self.tick().run_requests
            if requests:
                return list(requests)
        raise AssertionError(f"nothing requested in {ticks} ticks")

    def launch(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        assert request.job_name is not None
        return self.defs.resolve_job_def(request.job_name).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            run_config=request.run_config,
            tags=request.tags,
        )

    def runner(self) -> Any:
        return self.resource.runner()

    def tag(self, dagster_run_id: str) -> str | None:
        run = self.instance.get_run_by_id(dagster_run_id)
        return run.tags.get(STATE_TAG) if run is not None else None

    def state(self, run_id: str) -> RunControlState:
        with self.runner() as runner:
            state: RunControlState = runner.get_run(run_id).control_state
            return state


def asked(result: dg.SensorResult) -> Sequence[dg.RunRequest]:
    return result.run_requests or []


def said(result: dg.SensorResult) -> str:
    return result.skip_reason.skip_message if result.skip_reason and result.skip_reason.skip_message else ""


@pytest.fixture
def deploy(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> Callable[..., Deployment]:
    def make(assets: list[BatchAsset] | None = None, **sensor: Any) -> Deployment:
        return Deployment(assets or [make_asset()], resource, instance, **sensor)

    return make


Deploy = Callable[..., Deployment]


def test_a_tick_without_runs_says_so(deploy: Deploy) -> None:
    assert said(deploy().tick()) == IDLE


def test_a_finished_run_becomes_a_request_for_its_partition(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.submit("fish")
    [request] = deployment.tick_until_requests()
    assert request.run_key == "facts--fish:3"
    assert request.partition_key == "fish"
    assert request.asset_selection == [dg.AssetKey("facts")]
    assert request.tags[RUN_ID_TAG] == "facts--fish"


def test_a_request_that_was_not_fulfilled_is_repeated_under_the_same_key(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.submit()
    [first] = deployment.tick_until_requests()
    [second] = asked(deployment.tick())
    assert first.run_key == second.run_key  # Dagster launches a key once


@pytest.mark.parametrize(
    ("earlier", "attempt"),
    [
        ([], 1),
        (["STARTED"], None),
        (["FAILURE"], 2),
        (["FAILURE", "QUEUED"], None),
        (["FAILURE", "FAILURE"], 3),
        (["FAILURE", "FAILURE", "FAILURE"], None),
        (["CANCELED"], None),
        (["SUCCESS"], None),
    ],
)
def test_writing_results_is_tried_again_after_failures_but_not_for_ever(
    earlier: list[str], attempt: int | None
) -> None:
    assert next_attempt([dg.DagsterRunStatus(status) for status in earlier]) == attempt


def test_results_whose_run_failed_are_asked_for_again_then_a_person_is_told(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.submit()
    [request] = deployment.tick_until_requests()
    job = deployment.defs.resolve_job_def(str(request.job_name))

    def launched_and(status: dg.DagsterRunStatus, key: str | None) -> dg.SensorResult:
        tags = {**request.tags, "dagster/run_key": str(key)}
        deployment.instance.create_run_for_job(job, tags=tags, status=status)
        return deployment.tick()

    keys = [request.run_key]
    for _ in range(2):
        [again] = asked(launched_and(dg.DagsterRunStatus.FAILURE, keys[-1]))
        keys.append(again.run_key)
    assert keys == ["facts--birds:3", "facts--birds:3:attempt-2", "facts--birds:3:attempt-3"]
    given_up = launched_and(dg.DagsterRunStatus.FAILURE, keys[-1])
    assert given_up.run_requests == []
    assert "ended as FAILURE; fix what its log reports, and re-execute it" in said(given_up)


def test_results_that_are_being_written_are_told_and_not_asked_for_again(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.submit()
    [request] = deployment.tick_until_requests()
    job = deployment.defs.resolve_job_def(str(request.job_name))
    tags = {**request.tags, "dagster/run_key": str(request.run_key)}
    deployment.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    result = deployment.tick()
    assert result.run_requests == []
    assert "its results are being written by Dagster run" in said(result)


def test_run_requests_are_capped_and_the_rest_follows(deploy: Deploy, make_asset: MakeAsset) -> None:
    partitions = dg.StaticPartitionsDefinition([f"p{number}" for number in range(5)])
    deployment = deploy([make_asset(partitions_def=partitions, rows=1)], max_run_requests=2)
    for key in partitions.get_partition_keys():
        deployment.submit(key)
    landed: list[str | None] = []
    while len(landed) < 5:
        requests = asked(deployment.tick())
        assert 1 <= len(requests) <= 2
        for request in requests:
            deployment.launch(request)
            landed.append(request.partition_key)
    assert sorted(map(str, landed)) == partitions.get_partition_keys()


def test_a_dynamic_partition_that_was_deleted_is_reported_and_stops_no_other(
    deploy: Deploy, make_asset: MakeAsset
) -> None:
    asset = make_asset(partitions_def=dg.DynamicPartitionsDefinition(name="topics"), rows=1)
    deployment = deploy([asset])
    deployment.instance.add_dynamic_partitions("topics", ["bees", "cats"])
    for key in ("bees", "cats"):
        deployment.submit(key)
    deployment.instance.delete_dynamic_partition("topics", "bees")
    [request] = deployment.tick_until_requests()
    assert request.partition_key == "cats"
    assert deployment.launch(request).success
    assert "facts has no partition 'bees' any more" in said(deployment.tick())


def test_rows_that_were_tried_again_while_no_tick_looked_land_all_the_same(
    deploy: Deploy, openai_server: OpenAIServer
) -> None:
    answer = openai_server.responder
    openai_server.responder = lambda body, endpoint, custom_id: Reply.refusal()
    deployment = deploy()
    deployment.submit()
    deployment.launch(deployment.tick_until_requests()[0])
    openai_server.responder = answer
    with deployment.runner() as runner:
        runner.retry_failed("facts--birds").wait(poll_interval=0.01, timeout=20)
    [request] = asked(deployment.tick())
    assert request.run_key == "facts--birds:6"
    assert deployment.launch(request).success
    assert said(deployment.tick()) == IDLE


def test_launching_the_request_materializes_checks_and_settles_it(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.submit()
    [request] = deployment.tick_until_requests()
    result = deployment.launch(request)
    assert result.success
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [dg.AssetKey("facts")]
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True, True]
    assert said(deployment.tick()) == IDLE


def test_assets_with_different_partitions_share_a_sensor(deploy: Deploy, make_asset: MakeAsset) -> None:
    days = make_asset(name="daily", partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
    plain = make_asset(name="plain", partitions_def=None)
    deployment = deploy([make_asset(), days, plain])
    for asset, partition in zip(deployment.assets, ["birds", "2026-01-02", None], strict=True):
        deployment.submit(partition, asset)
    requests: dict[str, dg.RunRequest] = {}
    for _ in range(20):
        requests |= {str(request.run_key): request for request in asked(deployment.tick())}
        if len(requests) == 3:
            break
    assert {
        (r.asset_selection[0].to_user_string(), r.partition_key)
        for r in requests.values()
        if r.asset_selection
    } == {
        ("facts", "birds"),
        ("daily", "2026-01-02"),
        ("plain", None),
    }
    for request in requests.values():
        assert deployment.launch(request).success


def test_runs_that_dagster_did_not_start_are_driven_and_not_requested(
    deploy: Deploy, make_asset: MakeAsset, openai_server: OpenAIServer
) -> None:
    deployment = deploy()
    job = BatchJob(
        items=[BatchItem("a", "b")],
        build_prompt=lambda item: str(item.payload),
        provider_config=_openai_config(),
    )
    with deployment.runner() as runner:
        runner.start(job, run_id="from-a-script")
    for _ in range(20):
        assert asked(deployment.tick()) == []
        with deployment.runner() as runner:
            if runner.get_run("from-a-script").is_finished:
                return
    raise AssertionError("the sensor did not drive the run")


def _openai_config() -> Any:
    from batchor_core import OpenAIProviderConfig

    return OpenAIProviderConfig(model="gpt-4.1-mini")


def test_a_superseded_revision_is_not_materialized(deploy: Deploy, make_asset: MakeAsset) -> None:
    old = deploy()
    old.submit()
    old.tick_until_requests()  # finished, and its results not written yet
    renewed = deploy([make_asset(model="gpt-4.1")])
    renewed.submit()
    [request] = renewed.tick_until_requests()
    assert request.run_key == "facts--birds--g2:3"


def test_a_new_revision_replaces_results_that_are_there(deploy: Deploy, make_asset: MakeAsset) -> None:
    old = deploy()
    old.submit()
    [request] = old.tick_until_requests()
    assert old.launch(request).success
    renewed = deploy([make_asset(model="gpt-4.1")])
    renewed.submit()
    [second] = renewed.tick_until_requests()
    assert second.run_key == "facts--birds--g2:3"
    assert renewed.launch(second).success
    for _ in range(3):
        assert renewed.tick().run_requests == []


class TestRetries:
    def test_failed_items_that_were_retried_are_requested_again(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        answer = openai_server.responder
        openai_server.responder = lambda body, endpoint, custom_id: (
            Reply.refusal() if custom_id.rsplit("-", 3)[1] == "0" else answer(body, endpoint, custom_id)
        )
        deployment = deploy()
        deployment.submit()
        [first] = deployment.tick_until_requests()
        assert (
            deployment.launch(first)
            .get_asset_materialization_events()[0]
            .materialization.metadata["batchor/failed"]
            .value
            == 1
        )

        openai_server.responder = answer
        deployment.submit(tags={ACTION_TAG: "retry_failed"})
        [second] = deployment.tick_until_requests()
        assert (first.run_key, second.run_key) == ("facts--birds:3", "facts--birds:4")
        metadata = deployment.launch(second).get_asset_materialization_events()[0].materialization.metadata
        assert metadata["batchor/failed"].value == 0
        assert said(deployment.tick()) == IDLE


class TestTrouble:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {"manual": True}

    def test_progress_is_shown_while_nothing_is_finished(self, deploy: Deploy) -> None:
        deployment = deploy()
        deployment.submit()
        assert said(deployment.tick()).splitlines() == [
            "1 run active, 0 of 3 rows done, next look in 30 s",
            "· facts--birds: running: 0 of 3 items done, 1 batch at the provider",
        ]

    def test_a_server_that_is_down_is_reported_and_fails_no_tick(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        deployment = deploy()
        deployment.submit()
        openai_server.stop()
        result = deployment.tick()
        assert result.run_requests == []
        assert "facts--birds: running" in said(result)
        assert "the provider can't be polled (1 polls failed in a row), trying again" in said(result)

    def test_one_broken_run_stops_no_other(self, deploy: Deploy, resource: BatchorResource) -> None:
        deployment = deploy()
        with contextlib.closing(SQLiteStorage(path=f"{resource.root}/batchor.sqlite3")) as store:
            _start_with_another_provider(store, "a-broken-run")
        deployment.submit()
        lines = said(deployment.tick()).splitlines()
        assert lines[1].startswith("· a-broken-run: InvalidInputError: no provider is registered as 'fake'")
        assert lines[2] == "· facts--birds: running: 0 of 3 items done, 1 batch at the provider"

    def test_a_run_that_paused_itself_is_reported_with_its_reason(
        self, deploy: Deploy, openai_server: OpenAIServer, resource: BatchorResource
    ) -> None:
        deployment = deploy()
        deployment.submit()
        with deployment.runner() as runner:
            session = runner.storage.open_session(run_id="facts--birds", owner=_owner(), ttl_sec=60)
            session.pause(reason="insufficient_quota: pay your bill")
            session.close()
        assert said(deployment.tick()).splitlines() == [
            "no active batch runs, 1 paused, next look in 30 s",
            "· facts--birds is paused: insufficient_quota: pay your bill",
        ]

    def test_a_submission_that_died_while_reading_is_pointed_out(
        self, deploy: Deploy, resource: BatchorResource
    ) -> None:
        deployment = deploy()

        def broken() -> Iterator[BatchItem[str]]:
            for index in range(3_000):
                yield BatchItem(str(index), "x")
            raise OSError("the disk went away")

        job = BatchJob(
            items=broken(), build_prompt=lambda item: item.payload, provider_config=_openai_config()
        )
        job = _small_batches(job)
        with deployment.runner() as runner, pytest.raises(OSError, match="the disk went away"):
            runner.start(job, run_id="half-read")
        assert "half-read: running" in said(deployment.tick())
        assert "its items are not all read: materialize the submission again" in said(deployment.tick())

    def test_time_that_is_up_leaves_the_rest_to_the_next_tick(
        self, deploy: Deploy, make_asset: MakeAsset
    ) -> None:
        deployment = deploy(time_budget_seconds=1e-9)
        for topic in ("birds", "fish"):
            deployment.submit(topic)
        assert "2 of 2 active runs wait for the next tick" in said(deployment.tick())


def _small_batches(job: BatchJob[Any, Any]) -> BatchJob[Any, Any]:
    import dataclasses

    from batchor_core import ChunkPolicy

    return dataclasses.replace(job, chunk_policy=ChunkPolicy(max_requests=1_000))


def _owner() -> Any:
    from batchor_core.storage.state import DriverIdentity

    return DriverIdentity(session="a test", host=socket.gethostname())


def _start_with_another_provider(store: Any, run_id: str) -> None:
    provider = FakeProvider()
    with BatchRunner(storage=store, provider_factory=lambda config: provider) as runner:
        job = BatchJob(
            items=[BatchItem("a", "b")],
            build_prompt=lambda item: str(item.payload),
            provider_config=FakeProviderConfig(),
        )
        runner.start(job, run_id=run_id)


class TestTags:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {"manual": True}

    def test_an_action_added_to_a_finished_dagster_run_is_applied_once(self, deploy: Deploy) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        deployment.instance.add_run_tags(dagster_run, {ACTION_TAG: "pause"})
        assert "pause requested by a tag" in said(deployment.tick())
        assert deployment.state("facts--birds") is RunControlState.PAUSED
        with deployment.runner() as runner:
            runner.resume_run("facts--birds")
        deployment.tick()
        assert deployment.state("facts--birds") is RunControlState.RUNNING

    def test_another_action_on_the_same_run_is_applied_too(self, deploy: Deploy) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        for action, state in [
            ("pause", RunControlState.PAUSED),
            ("resume", RunControlState.RUNNING),
            ("cancel", RunControlState.CANCEL_REQUESTED),
        ]:
            deployment.instance.add_run_tags(dagster_run, {ACTION_TAG: action})
            deployment.tick()
            assert deployment.state("facts--birds") is state

    def test_an_action_that_was_obeyed_by_the_submission_is_not_repeated(self, deploy: Deploy) -> None:
        deployment = deploy()
        deployment.submit()
        deployment.submit(tags={ACTION_TAG: "pause"})
        with deployment.runner() as runner:
            runner.resume_run("facts--birds")
        deployment.tick()
        assert deployment.state("facts--birds") is RunControlState.RUNNING

    def test_an_action_that_does_not_fit_is_reported_once(self, deploy: Deploy) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        with deployment.runner() as runner:
            runner.cancel_run("facts--birds")
        deployment.instance.add_run_tags(dagster_run, {ACTION_TAG: "resume"})
        assert "resume requested by a tag" in said(deployment.tick())
        assert "resume requested by a tag" not in said(deployment.tick())

    def test_an_unknown_action_is_reported_once_with_the_known_ones(self, deploy: Deploy) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        deployment.instance.add_run_tags(dagster_run, {ACTION_TAG: "explode"})
        assert "'explode' is not an action; use one of pause, resume, cancel, retry_failed" in said(
            deployment.tick()
        )
        assert "explode" not in said(deployment.tick())

    def test_a_tag_is_found_though_many_ticks_have_passed(self, deploy: Deploy) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        for _ in range(3):
            deployment.tick()
        deployment.instance.add_run_tags(dagster_run, {ACTION_TAG: "pause"})
        deployment.tick()
        assert deployment.state("facts--birds") is RunControlState.PAUSED


class TestShowing:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {"manual": True}

    def test_a_paused_run_says_so_in_an_observation_and_in_the_tags_of_its_dagster_run(
        self, deploy: Deploy
    ) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        assert deployment.tick().asset_events == []
        with deployment.runner() as runner:
            runner.pause_run("facts--birds")  # by whatever way
        paused = deployment.tick()
        [observation, of_results] = paused.asset_events
        assert (of_results.asset_key, of_results.partition) == (dg.AssetKey("facts"), "birds")
        for event in (observation, of_results):
            controls = str(event.metadata["batchor/controls"].value)
            assert "[resume]" in controls
            assert "[pause]" not in controls
        assert (observation.asset_key, observation.partition) == (dg.AssetKey("facts_submission"), "birds")
        assert str(observation.metadata["batchor/status"].value).startswith("paused: 0 of 3 items done")
        assert deployment.tag(dagster_run) == "paused"
        assert "facts--birds is paused: an operator requested it" in said(paused)
        assert deployment.tick().asset_events == []
        with deployment.runner() as runner:
            runner.resume_run("facts--birds")
        assert len(deployment.tick().asset_events) == 2
        assert deployment.tag(dagster_run) == "running"

    def test_a_cancelled_run_says_so_until_its_end(self, deploy: Deploy, openai_server: OpenAIServer) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        with deployment.runner() as runner:
            runner.cancel_run("facts--birds")
        deployment.tick()
        assert deployment.tag(dagster_run) == "cancelling"
        openai_server.advance(3600)
        [request] = deployment.tick_until_requests()
        assert deployment.tag(dagster_run) == "cancelled"
        assert deployment.launch(request).success

    def test_a_run_that_ends_says_so_in_the_tags(self, deploy: Deploy, openai_server: OpenAIServer) -> None:
        deployment = deploy()
        dagster_run = deployment.submit()
        deployment.tick()
        openai_server.advance(3600)
        deployment.tick_until_requests()
        assert deployment.tag(dagster_run) == "completed"

    @pytest.mark.filterwarnings("ignore:Parameter .backfill_policy.:dagster.BetaWarning")
    def test_the_dagster_run_of_a_range_says_where_all_its_partitions_stand(
        self, deploy: Deploy, make_asset: MakeAsset, openai_server: OpenAIServer
    ) -> None:
        deployment = deploy([make_asset(backfill_policy=dg.BackfillPolicy.single_run())])
        ends = {"start": "birds", "end": "fish"}
        tags = {f"dagster/asset_partition_range_{which}": key for which, key in ends.items()}
        earlier = deployment.submit("fish")
        dagster_run = deployment.submit(None, tags=tags)
        with deployment.runner() as runner:
            runner.pause_run("facts--fish")
        deployment.tick()
        assert deployment.tag(dagster_run) == "1 running, 1 paused"
        assert deployment.tag(earlier) is None  # the newest that submitted tells
        alone = deployment.submit(
            "fish", tags={ACTION_TAG: "resume"}
        )  # from now on this one tells of the fish
        deployment.tick()
        assert deployment.tag(alone) == "running"
        openai_server.advance(3600)
        deployment.tick_until_requests()
        assert deployment.tag(alone) == "completed"
        assert deployment.tag(dagster_run) == "completed"


# Dagster 1.13 warns about itself when it binds resources to the job of a sensor
@pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer `SensorDefinition")
class TestDriveJob:
    def test_each_active_run_gets_a_dagster_run_that_drives_it(self, deploy: Deploy) -> None:
        deployment = deploy(drive="job")
        deployment.submit()
        [request] = asked(deployment.tick())
        assert request.job_name == "batchor_drive"
        assert request.tags[RUN_ID_TAG] == "facts--birds"
        assert deployment.launch(request).success
        [result] = asked(deployment.tick())
        assert (result.job_name, result.run_key) == ("batchor_results__facts", "facts--birds:3")
        assert deployment.launch(result).success

    def test_a_run_is_driven_by_one_dagster_run_at_a_time(self, deploy: Deploy) -> None:
        deployment = deploy(drive="job")
        deployment.submit()
        [request] = asked(deployment.tick())
        job = deployment.defs.resolve_job_def("batchor_drive")
        deployment.instance.create_run_for_job(job, run_config=request.run_config, tags=request.tags)
        result = deployment.tick()
        assert result.run_requests == []
        assert "facts--birds: driven by Dagster run" in said(result)


@pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer `SensorDefinition")
class TestDriveJobOfWaitingRuns:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {"manual": True}

    def test_a_run_that_waits_at_the_provider_gets_no_worker(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        deployment = deploy(drive="job")
        deployment.submit()
        waiting = deployment.tick()
        assert waiting.run_requests == []
        assert "running: 0 of 3 items done, 1 batch at the provider" in said(waiting)
        openai_server.advance(3600)
        [request] = asked(deployment.tick())
        assert request.job_name == "batchor_drive"

    def test_a_worker_that_gives_no_sign_of_life_is_replaced(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        deployment = deploy(drive="job", worker_patience_seconds=0)
        deployment.submit()
        openai_server.advance(3600)
        [request] = asked(deployment.tick())
        job = deployment.defs.resolve_job_def("batchor_drive")
        deployment.instance.create_run_for_job(
            job, run_config=request.run_config, tags=request.tags, status=dg.DagsterRunStatus.STARTED
        )
        [again] = asked(deployment.tick())
        assert (again.job_name, again.tags) == (request.job_name, request.tags)
        assert again.run_key != request.run_key

    def test_workers_are_capped_and_come_in_turn(self, deploy: Deploy, openai_server: OpenAIServer) -> None:
        deployment = deploy(drive="job", max_run_requests=1)
        for topic in ("birds", "fish"):
            deployment.submit(topic)
        openai_server.advance(3600)
        first, second = asked(deployment.tick()), asked(deployment.tick())
        assert [request.tags[RUN_ID_TAG] for request in [*first, *second]] == ["facts--birds", "facts--fish"]


class TestTurns:
    @pytest.mark.parametrize(
        ("run_ids", "after", "turns"),
        [
            ([], "", []),
            (["c", "a", "b"], "", ["a", "b", "c"]),
            (["a", "b", "c"], "a", ["b", "c", "a"]),
            (["a", "b", "c"], "c", ["a", "b", "c"]),
            (["a", "c"], "b", ["c", "a"]),
        ],
    )
    def test_whoever_waited_longest_is_first(self, run_ids: list[str], after: str, turns: list[str]) -> None:
        assert in_turn(run_ids, after=after) == turns

    @pytest.mark.parametrize(
        "text", [None, "", "garbage", "[]", "null", "1", '{"shown": 5}', '{"driven": {"a": 1}}']
    )
    def test_any_cursor_can_be_read(self, text: str | None) -> None:
        assert Cursor.parse(text) == Cursor()

    def test_a_cursor_comes_back_as_it_was(self) -> None:
        cursor = Cursor(
            after="a", tags_read_until=12.5, shown={"b": "paused:1:0"}, driven={"c": ("running:0:0", 3.0)}
        )
        assert Cursor.parse(cursor.dump()) == cursor

    @pytest.mark.parametrize(
        ("left", "runs", "seconds"), [(30, 1, 30), (30, 3, 10), (30, 100, 5), (2, 100, 2), (30, 6, 5)]
    )
    def test_a_turn_is_a_share_of_the_time_but_not_a_crumb(
        self, left: float, runs: int, seconds: float
    ) -> None:
        assert turn(left, runs=runs) == seconds

    @pytest.mark.parametrize(
        ("pending", "last", "worth"),
        [
            (0, None, True),
            (0, ("running:0:0", 990.0), False),
            (0, ("running:0:0", 985.0), True),  # some time has passed
            (0, ("running:4:0", 999.0), True),  # it has moved
            (5, ("running:0:0", 985.0), False),  # it waits for token budget
            (5, ("running:0:0", 700.0), True),
        ],
    )
    def test_a_run_that_has_not_moved_gets_no_other_worker_at_once(
        self, pending: int, last: tuple[str, float] | None, worth: bool
    ) -> None:
        state = replace(summary(), status_counts=dict.fromkeys(ItemStatus, 0) | {ItemStatus.PENDING: pending})
        assert is_worth_a_worker(state, last, now=1_000.0) is worth

    @pytest.mark.parametrize("budget", [0, -1, 51, 60])
    def test_a_tick_must_end_before_dagster_cuts_it(self, make_asset: MakeAsset, budget: float) -> None:
        with pytest.raises(ValueError, match="at most 50"):
            build_batch_sensor(assets=[make_asset()], time_budget_seconds=budget)

    def test_a_tick_may_launch_something(self, make_asset: MakeAsset) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            build_batch_sensor(assets=[make_asset()], max_run_requests=0)


def summary(
    status: str = "running",
    control: str = "running",
    *,
    total: int = 0,
    done: int = 0,
    failed: int = 0,
    read: bool = True,
) -> RunSummary:
    return RunSummary(
        run_id="r",
        status=RunLifecycleStatus(status),
        control_state=RunControlState(control),
        total_items=total,
        completed_items=done,
        failed_items=failed,
        status_counts=dict.fromkeys(ItemStatus, 0),
        active_batches=0,
        backoff_remaining_sec=0.0,
        ingestion_complete=read,
    )


@pytest.mark.parametrize(
    ("summaries", "told"),
    [
        ([], "no active batch runs"),
        ([summary("completed", total=9, done=9)], "no active batch runs"),
        ([summary(control="paused", total=9)], "no active batch runs, 1 paused"),
        ([summary(total=10, done=4)], "1 run active, 4 of 10 rows done"),
        ([summary(total=10, read=False)], "1 run active, 0 of 10 rows so far done"),
        (
            [summary(total=20_000, done=20_000)] + [summary(total=20_000, done=10_000, failed=600)] * 2,
            "3 runs active, 41,200 of 60,000 rows done, 1,200 failed",
        ),
        (
            [summary(total=5), summary(control="paused", total=7), summary("completed", total=9)],
            "1 run active, 1 paused, 0 of 5 rows done",
        ),
    ],
)
def test_the_headline_tells_where_all_runs_stand(summaries: list[RunSummary], told: str) -> None:
    assert headline(summaries, next_look_sec=60) == f"{told}, next look in 60 s"


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (summary(), "running"),
        (summary(control="paused"), "paused"),
        (summary(control="cancel_requested"), "cancelling"),
        (summary("completed_with_failures", control="cancel_requested"), "cancelled"),
        (summary("completed"), "completed"),
        (summary("completed_with_failures"), "completed_with_failures"),
    ],
)
def test_the_state_of_a_run_is_one_word(state: RunSummary, word: str) -> None:
    assert state_of(state) == word
    assert standing(state) == f"{word}:0:0"


def test_a_tick_tells_of_a_batch_that_turns_up_after_its_run_has_ended(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.submit("fish")
    deployment.tick_until_requests()
    with deployment.runner() as runner:
        assert runner.get_run("facts--fish").is_finished
        # as if the batch, which the provider lists, had been looked for in vain and given up
        with runner.storage.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE submission_intents SET state = 'dropped', next_check_at = 0")
        assert runner.get_run("facts--fish").summary().orphan_batches == 0
        deployment.tick()
        assert runner.get_run("facts--fish").summary().orphan_batches == 1
