"""The last event of a partition says where its run stands, whatever ended it, and nothing is said twice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from batchor_core import BatchJob, RetryPolicy, RunControlState, RunLifecycleStatus, RunSummary
from batchor_core.core.exceptions import ProviderError
from batchor_core.testing.local_server.faults import BatchFault, HttpFault
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, batch_asset
from batchor_dagster.control import ACTION_TAG
from batchor_dagster.observations import tells
from batchor_dagster.run_states import shown_as
from batchor_dagster.sensor.shown_states import News, news
from batchor_dagster.sensor.tick import Cursor
from tests.dagster.conftest import TOPICS, job_of
from tests.dagster.test_sensors import Deployment as Ticked

MakeAsset = Callable[..., BatchAsset]


class Deployment(Ticked):
    """The same, whose daemon stores what a tick observes."""

    def tick(self) -> dg.SensorResult:
        result = super().tick()
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        return result

    def land(self) -> None:
        for request in self.tick_until_requests():
            assert self.launch(request).success

    def events(self, partition: str | None = "birds", key: str = "facts_submission") -> list[Any]:
        """Materializations and observations of a partition, oldest first."""
        wanted = dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(key), asset_partitions=None if partition is None else [partition]
        )
        records = [
            *self.instance.fetch_materializations(wanted, limit=100).records,
            *self.instance.fetch_observations(wanted, limit=100).records,
        ]
        records.sort(key=lambda record: record.timestamp)
        return [record.asset_observation or record.asset_materialization for record in records]

    def statuses(self, partition: str | None = "birds", key: str = "facts_submission") -> list[str]:
        return [
            str(event.metadata["batchor/status"].value)
            for event in self.events(partition, key)
            if "batchor/status" in event.metadata
        ]


Deploy = Callable[..., Deployment]


@pytest.fixture
def openai_server_options() -> dict[str, Any]:
    return {"manual": True}


@pytest.fixture
def deploy(make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance) -> Deploy:
    def make(assets: list[BatchAsset] | None = None, **sensor: Any) -> Deployment:
        return Deployment(assets or [make_asset()], resource, instance, **sensor)

    return make


SENT = "running: 0 of 3 items done, 1 batch at the provider"
DONE = "completed: 3 of 3 items done"


def impatient() -> BatchAsset:
    """Facts that are sent again at once."""

    @batch_asset(name="facts", partitions_def=TOPICS)
    def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        job = job_of(context.partition_key)
        return replace(job, retry_policy=RetryPolicy(base_backoff_sec=0.0, max_backoff_sec=0.0))

    return facts


class TestEnds:
    def test_a_completed_run(self, deploy: Deploy, openai_server: OpenAIServer) -> None:
        deployment = deploy()
        deployment.submit()
        for _ in range(3):
            deployment.tick()
        assert deployment.statuses() == [SENT]
        openai_server.advance(3600)
        deployment.land()
        for _ in range(3):
            deployment.tick()
        assert deployment.statuses() == [SENT, DONE]

    def test_a_run_with_failures_and_the_retry_of_them(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        answer = openai_server.responder

        def refuse_one(body: Any, endpoint: str, custom_id: str) -> Any:
            if "fact 1" in str(body):
                return Reply.http_error(400, message="no")
            return answer(body, endpoint, custom_id)

        openai_server.responder = refuse_one
        deployment = deploy()
        deployment.submit()
        deployment.tick()
        openai_server.advance(3600)
        deployment.land()
        deployment.tick()
        failed = "completed with failures: 3 of 3 items done, 1 failed"
        assert deployment.statuses() == [SENT, failed]
        openai_server.responder = answer
        deployment.submit(tags={ACTION_TAG: "retry_failed"})
        deployment.tick()  # sends what failed
        openai_server.advance(3600)
        deployment.land()
        deployment.tick()
        assert deployment.statuses()[-1] == DONE

    def test_a_cancelled_run(self, deploy: Deploy, openai_server: OpenAIServer) -> None:
        deployment = deploy()
        deployment.submit()
        deployment.tick()
        with deployment.runner() as runner:
            runner.cancel_run("facts--birds")
        deployment.tick()
        openai_server.advance(3600)
        deployment.land()
        deployment.tick()
        assert deployment.statuses() == [
            SENT,
            "cancelling: 0 of 3 items done, 1 batch at the provider",
            "cancelled: 3 of 3 items done, 3 failed",
        ]

    def test_a_run_that_paused_itself(self, deploy: Deploy, openai_server: OpenAIServer) -> None:
        openai_server.faults.add(BatchFault("expire"))
        deployment = deploy([impatient()])
        deployment.submit()
        deployment.tick()
        openai_server.faults.add(HttpFault("status", method="POST", path="/v1/batches", status=401))
        openai_server.advance(26 * 3600)  # the batch expires, and its rows are sent again
        for _ in range(4):
            deployment.tick()
        [sent, *_, paused] = deployment.statuses()
        assert sent == SENT
        assert paused.startswith("paused: 0 of 3 items done")
        assert "401" in paused

    def test_a_run_whose_batch_is_of_unknown_outcome(
        self, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from batchor_core.providers.openai import OpenAIBatchProvider

        def lost(self: object, **arguments: object) -> Any:
            raise ProviderError("the connection broke")

        deployment = deploy()
        with monkeypatch.context() as patched:
            patched.setattr(OpenAIBatchProvider, "create_batch", lost)
            deployment.submit()
        for _ in range(3):
            deployment.tick()
        [status] = deployment.statuses()
        assert status.startswith("running: 0 of 3 items done, 1 of unknown outcome being looked up")

    def test_a_run_that_lost_its_only_batch(self, deploy: Deploy, openai_server: OpenAIServer) -> None:
        openai_server.faults.add(BatchFault("expire"))
        deployment = deploy()
        deployment.submit()
        deployment.tick()
        openai_server.faults.add(
            HttpFault("status", method="POST", path="/v1/batches", status=503, times=None)
        )
        openai_server.advance(26 * 3600)  # the batch expires, and no other can be made
        deployment.tick()
        last = deployment.statuses()[-1]
        assert last.startswith("running: 0 of 3 items done")
        assert "at the provider" not in last


class TestWithoutSensor:
    """The end came while no sensor ran."""

    def test_a_sensor_that_comes_later_tells_it_once(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        deployment = deploy()
        deployment.submit()
        openai_server.advance(3600)
        with deployment.runner() as runner:
            runner.get_run("facts--birds").wait(timeout=30, poll_interval=0.01)
        deployment.land()
        deployment.tick()
        assert deployment.statuses() == [SENT, DONE]
        deployment.cursor = None  # a lost cursor repeats nothing
        deployment.tick()
        assert deployment.statuses() == [SENT, DONE]

    def test_results_that_a_person_materializes_bring_the_end_of_the_submission_with_them(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        deployment = deploy()
        deployment.submit()
        openai_server.advance(3600)
        with deployment.runner() as runner:
            runner.get_run("facts--birds").wait(timeout=30, poll_interval=0.01)
        for _ in range(2):
            written = dg.materialize(
                [deployment.assets[0].assets[1]],
                partition_key="birds",
                instance=deployment.instance,
                resources={"batchor": deployment.resource},
            )
            assert written.success
        assert deployment.statuses() == [SENT, DONE]
        deployment.tick()
        assert deployment.statuses() == [SENT, DONE]

    def test_a_run_that_ended_between_two_ticks_is_told(
        self, deploy: Deploy, openai_server: OpenAIServer
    ) -> None:
        deployment = deploy()
        deployment.submit("fish")
        deployment.tick()
        deployment.submit("birds")  # the cursor has never seen this one running
        openai_server.advance(3600)
        with deployment.runner() as runner:
            runner.get_run("facts--birds").wait(timeout=30, poll_interval=0.01)
        deployment.tick()
        assert deployment.statuses("birds") == [SENT, DONE]

    def test_thousands_of_ended_runs_are_looked_at_some_at_a_time(
        self,
        deploy: Deploy,
        make_asset: MakeAsset,
        monkeypatch: pytest.MonkeyPatch,
        openai_server: OpenAIServer,
    ) -> None:
        keys = [f"p{number}" for number in range(5)]
        deployment = deploy([make_asset(partitions_def=dg.StaticPartitionsDefinition(keys), rows=1)])
        for key in keys:
            deployment.submit(key)
        openai_server.advance(3600)
        with deployment.runner() as runner:
            for key in keys:
                runner.get_run(f"facts--{key}").wait(timeout=30, poll_interval=0.01)
        monkeypatch.setattr("batchor_dagster.sensor.shown_states._LOOKS", 2)
        told = [len(list(deployment.tick().asset_events)) for _ in range(4)]
        assert told == [2, 2, 1, 0]
        assert {deployment.statuses(key)[-1] for key in keys} == {"completed: 1 of 1 items done"}


class TestWaiting:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {}

    def wait(self, deployment: Deployment, **tags: str) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            deployment.assets[0].assets,
            partition_key="birds",
            instance=deployment.instance,
            resources={"batchor": deployment.resource},
            tags=tags,
            raise_on_error=False,
        )

    def test_an_asset_that_waits_tells_how_it_ended(self, deploy: Deploy, make_asset: MakeAsset) -> None:
        deployment = deploy([make_asset(wait=True)])
        assert self.wait(deployment).success
        assert deployment.statuses(key="facts") == [DONE]
        deployment.tick()
        assert self.wait(deployment).success
        deployment.tick()
        assert deployment.statuses(key="facts") == [DONE]

    def test_a_pause_of_the_engines_is_the_last_word_of_the_step(
        self, deploy: Deploy, make_asset: MakeAsset, openai_server: OpenAIServer
    ) -> None:
        openai_server.faults.add(HttpFault("status", method="POST", path="/v1/batches", status=401, times=1))
        deployment = deploy([make_asset(wait=True)])
        assert not self.wait(deployment).success
        [paused] = deployment.statuses(key="facts")
        assert paused.startswith("paused: 0 of 3 items done")
        deployment.tick()
        assert deployment.statuses(key="facts") == [paused]
        assert self.wait(deployment, **{ACTION_TAG: "resume"}).success
        assert deployment.statuses(key="facts")[-1] == DONE


# --- decisions --------------------------------------------------------------------------------------------------------


def summary(**changes: Any) -> RunSummary:
    base = RunSummary(
        run_id="r",
        status=RunLifecycleStatus.RUNNING,
        control_state=RunControlState.RUNNING,
        total_items=3,
        completed_items=0,
        failed_items=0,
        status_counts={},
        active_batches=1,
        backoff_remaining_sec=0.0,
    )
    return replace(base, **changes)


ENDED: dict[str, Any] = {"status": RunLifecycleStatus.COMPLETED, "completed_items": 3, "active_batches": 0}


@pytest.mark.parametrize(
    ("now", "before", "is_behind", "is_lacking", "what"),
    [
        ({}, {}, False, False, News.NONE),
        ({}, None, False, False, News.UNKNOWN),
        ({"completed_items": 1}, {}, False, False, News.CHANGED),
        ({"active_batches": 0}, {}, False, False, News.CHANGED),
        ({"quarantined_batches": 1}, {}, False, False, News.CHANGED),
        ({"unknown_batches": 1}, {}, False, False, News.CHANGED),
        ({"control_state": RunControlState.PAUSED}, {}, False, False, News.CHANGED),
        ({"backoff_remaining_sec": 9.0}, {}, False, False, News.NONE),
        (ENDED, {}, False, False, News.UNKNOWN),
        (ENDED, None, False, False, News.UNKNOWN),
        (ENDED, None, True, False, News.NONE),
        (ENDED, None, True, True, News.UNKNOWN),
        (ENDED, ENDED, True, True, News.NONE),
    ],
)
def test_what_is_news(
    now: dict[str, Any], before: dict[str, Any] | None, is_behind: bool, is_lacking: bool, what: News
) -> None:
    shown = None if before is None else shown_as(summary(**before))
    assert news(summary(**now), shown, is_behind=is_behind, is_lacking=is_lacking) is what


@pytest.mark.parametrize(
    ("shown", "now", "same"),
    [
        ({"batchor/status": SENT}, {}, True),
        ({"batchor/status": SENT + ", next submission in 12 s"}, {"backoff_remaining_sec": 3.0}, True),
        ({"batchor/status": SENT, "batchor/run_id": "r"}, {}, True),
        ({"batchor/status": SENT, "batchor/run_id": "r--g2"}, {}, False),
        ({"batchor/status": SENT}, ENDED, False),
        ({"batchor/status": DONE}, ENDED, True),
        ({"batchor/status": DONE}, {**ENDED, "orphan_batches": 1}, True),
        ({"batchor/results_up_to": "3", "batchor/completed": 3, "batchor/failed": 0}, ENDED, True),
        (
            {"batchor/revision": 3, "batchor/completed": 3, "batchor/failed": 0},
            ENDED,
            True,
        ),  # of earlier builds
        ({"batchor/revision": 3, "batchor/completed": 2, "batchor/failed": 1}, ENDED, False),
        ({"batchor/revision": 3, "batchor/completed": 0, "batchor/failed": 0}, {}, False),
        ({}, ENDED, False),
    ],
)
def test_what_an_event_tells(shown: dict[str, Any], now: dict[str, Any], same: bool) -> None:
    assert tells(shown, summary(**now)) is same


def test_an_old_cursor_is_read() -> None:
    cursor = Cursor.parse(
        '{"after": "a", "tags_read_until": 1.5, "shown": {"b": "running:0:0"}, "driven": {}}'
    )
    assert (cursor.after, cursor.shown, cursor.ended_until) == ("a", {"b": "running:0:0"}, (0.0, ""))
