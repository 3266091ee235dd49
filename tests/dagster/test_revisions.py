"""Materializing a partition again attaches, keeps, retries or starts anew, and never pays without a reason."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import polars as pl
import pytest

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig, PromptParts
from batchor_core.storage.state import RunListing
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, batch_asset
from batchor_dagster.revisions import (
    JobDigest,
    Move,
    Newest,
    OnChange,
    Rerun,
    decide,
    decide_changed,
    newest_revisions,
)
from batchor_dagster.steps.submission import RERUN_TAG
from tests.dagster.conftest import job_of

MakeAsset = Callable[..., BatchAsset]

ACTIVE = Newest(3, is_finished=False)
READING = Newest(3, is_finished=False, is_read=False)
FINISHED = Newest(3, is_finished=True)
FAILED = Newest(3, is_finished=True, failed_items=2)
CANCELLED = Newest(3, is_finished=True, is_cancelled=True, failed_items=2)
ASKED_FOR = Newest(3, is_finished=True, failed_items=2, is_asked_for=True)


@pytest.mark.parametrize(
    ("newest", "rerun", "move", "revision"),
    [
        (None, Rerun.auto, Move.create, 1),
        (None, Rerun.failed, Move.create, 1),
        (None, Rerun.all, Move.create, 1),
        (ACTIVE, Rerun.auto, Move.attach, 3),
        (ACTIVE, Rerun.failed, Move.attach, 3),
        (ACTIVE, Rerun.all, Move.attach, 3),
        (READING, Rerun.auto, Move.read_on, 3),
        (READING, Rerun.all, Move.read_on, 3),
        (FINISHED, Rerun.auto, Move.compare, 3),
        (FINISHED, Rerun.failed, Move.keep, 3),
        (FINISHED, Rerun.all, Move.create, 4),
        (FAILED, Rerun.auto, Move.compare, 3),
        (FAILED, Rerun.failed, Move.retry_failed, 3),
        (FAILED, Rerun.all, Move.create, 4),
        (CANCELLED, Rerun.auto, Move.compare, 3),
        (CANCELLED, Rerun.failed, Move.refuse, 3),
        (CANCELLED, Rerun.all, Move.create, 4),
        (ASKED_FOR, Rerun.auto, Move.keep, 3),
        (ASKED_FOR, Rerun.failed, Move.keep, 3),
        (ASKED_FOR, Rerun.all, Move.keep, 3),
    ],
)
def test_what_becomes_of_a_partition(newest: Newest | None, rerun: Rerun, move: Move, revision: int) -> None:
    decision = decide(newest, rerun)
    assert (decision.move, decision.revision) == (move, revision)
    assert decision.reason


@pytest.mark.parametrize(
    ("changes", "on_change", "move", "revision"),
    [
        ([], OnChange.new_revision, Move.keep, 3),
        ([], OnChange.refuse, Move.keep, 3),
        (["prompts"], OnChange.new_revision, Move.create, 4),
        (["prompts"], OnChange.refuse, Move.refuse, 3),
    ],
)
def test_a_changed_job_is_run_anew_unless_that_is_refused(
    changes: list[str], on_change: OnChange, move: Move, revision: int
) -> None:
    decision = decide_changed(3, changes, on_change)
    assert (decision.move, decision.revision) == (move, revision)
    assert all(change in decision.reason for change in changes)


def digest(*items: BatchItem[Any], prompt: Any = lambda item: str(item.payload)) -> JobDigest:
    return JobDigest.of(
        BatchJob(items=items, build_prompt=prompt, provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"))
    )


A, B = BatchItem("a", "x"), BatchItem("b", "y")


def test_a_digest_sees_rows_and_prompts_but_not_their_order_or_metadata() -> None:
    assert digest(A, B) == digest(B, A)
    assert digest(A) == digest(BatchItem("a", "x", {"line": 7}))
    assert digest(A).rows != digest(A, B).rows
    assert digest(A).rows != digest(A, A).rows
    assert digest(A).rows == digest(BatchItem("a", "z")).rows
    assert digest(A).prompts != digest(BatchItem("a", "z")).prompts
    swapped = digest(BatchItem("a", "y"), BatchItem("b", "x"))
    assert (swapped.rows, swapped.prompts != digest(A, B).prompts) == (digest(A, B).rows, True)
    with_system = digest(A, prompt=lambda item: PromptParts(str(item.payload), "be brief"))
    assert with_system.prompts != digest(A).prompts


def test_a_new_revision_has_its_earlier_name_too() -> None:
    assert {OnChange("new_generation"), OnChange.new_generation} == {OnChange.new_revision}


def listing(run_id: str, **extras: Any) -> RunListing:
    return RunListing(run_id, 0.0, summary=None, extras=extras)  # type: ignore[arg-type]


def test_only_the_newest_revision_of_a_partition_counts() -> None:
    own = {"dagster_asset_key": ["facts"], "dagster_partition_key": "birds"}
    kept = newest_revisions(
        [
            listing("facts--birds--g2", **own, generation=2),
            listing("facts--birds", **own, generation=1),
            listing("facts--fish", **{**own, "dagster_partition_key": "fish"}),
            listing("from-a-script"),
            listing("another-script"),
        ]
    )
    assert [kept_one.run_id for kept_one in kept] == [
        "facts--birds--g2",
        "facts--fish",
        "from-a-script",
        "another-script",
    ]


# --- with the engine -------------------------------------------------------------------------------------------------


class Partition:
    """One partition of an asset in a real store, materialized again and again."""

    def __init__(self, resource: BatchorResource, instance: dg.DagsterInstance, server: OpenAIServer) -> None:
        self.resource = resource
        self.instance = instance
        self.server = server

    def submit(
        self, asset: BatchAsset, *, rerun: str | None = None, finish: bool = True, **settings: Any
    ) -> dg.ExecuteInProcessResult:
        config = {"ops": {"facts_submission": {"config": {"rerun": rerun}}}} if rerun else {}
        result = dg.materialize(
            [asset.assets[0]],
            partition_key="birds",
            instance=self.instance,
            resources={"batchor": self.resource},
            run_config=config,
            raise_on_error=False,
            **settings,
        )
        if finish:
            with self.resource.runner() as runner:
                runner.get_run(asset.newest_run_id(runner, "birds")).wait(timeout=60, poll_interval=0.01)
        return result

    def decision(self, result: dg.ExecuteInProcessResult) -> tuple[str, str]:
        assert result.success, result
        [event] = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        return str(metadata["batchor/run_id"].value), str(metadata["batchor/decision"].value)

    @property
    def batches(self) -> int:
        return len(self.server.books.batches)


@pytest.fixture
def partition(
    resource: BatchorResource, instance: dg.DagsterInstance, openai_server: OpenAIServer
) -> Partition:
    return Partition(resource, instance, openai_server)


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    told = event.step_failure_data.user_failure_data
    return "" if told is None else str(told.description)


def test_a_finished_partition_with_the_same_job_is_kept(partition: Partition, make_asset: MakeAsset) -> None:
    partition.submit(make_asset())
    again = partition.submit(make_asset())
    assert partition.decision(again) == (
        "facts--birds",
        "the run is finished and the job has not changed, so nothing was sent",
    )
    assert partition.batches == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [({"model": "gpt-4.1"}, "model"), ({"rows": 4}, "rows"), ({"output": None}, "structured_output")],
)
def test_a_changed_job_starts_a_revision_whose_id_shows_it(
    partition: Partition, make_asset: MakeAsset, change: dict[str, Any], what: str
) -> None:
    partition.submit(make_asset())
    changed = make_asset(**change)
    run_id, reason = partition.decision(partition.submit(changed))
    assert run_id == "facts--birds--g2"
    assert reason == f"the job has changed since the last run: {what}"
    assert partition.batches == 2
    assert partition.decision(partition.submit(changed))[0] == "facts--birds--g2"
    assert partition.batches == 2


def test_a_changed_prompt_starts_a_revision(partition: Partition) -> None:
    def asking(question: str) -> BatchAsset:
        @batch_asset(name="facts", partitions_def=dg.StaticPartitionsDefinition(["birds"]))
        def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            return BatchJob(
                items=[BatchItem("a", "x")],
                build_prompt=lambda item: f"{question} {item.payload}",
                provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
            )

        return facts

    partition.submit(asking("What is"))
    assert partition.decision(partition.submit(asking("Why is"))) == (
        "facts--birds--g2",
        "the job has changed since the last run: prompts",
    )


def test_a_change_can_be_refused(partition: Partition, make_asset: MakeAsset) -> None:
    partition.submit(make_asset())
    refused = partition.submit(make_asset(model="gpt-4.1", on_change="refuse"))
    assert (
        "Batch run facts--birds: the job has changed since the last run (model), and on_change is refuse"
        in failure(refused)
    )
    assert partition.batches == 1


def test_the_results_are_those_of_the_newest_revision(
    partition: Partition, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    partition.submit(make_asset())
    asset = make_asset(rows=5)
    partition.submit(asset)
    result = dg.materialize(
        [asset.assets[1]], partition_key="birds", instance=instance, resources={"batchor": resource}
    )
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["batchor/partition_revision"].value == "2"
    assert pl.read_parquet(asset.result_path(resource, "birds")).height == 5


def test_the_operator_can_ask_for_all_rows_anew(partition: Partition, make_asset: MakeAsset) -> None:
    asset = make_asset()
    partition.submit(asset)
    by_config = partition.submit(asset, rerun="all")
    assert partition.decision(by_config) == (
        "facts--birds--g2",
        "an operator requested a new run of all rows",
    )
    by_tag = partition.submit(asset, tags={RERUN_TAG: "all"})
    assert partition.decision(by_tag)[0] == "facts--birds--g3"
    assert partition.batches == 3
    assert partition.decision(partition.submit(asset))[0] == "facts--birds--g3"


def test_the_operator_can_ask_for_the_failed_rows_only(partition: Partition, make_asset: MakeAsset) -> None:
    asset, answer = make_asset(), partition.server.responder
    partition.server.responder = lambda body, endpoint, custom_id: (
        Reply.refusal() if custom_id.rsplit("-", 3)[1] == "0" else answer(body, endpoint, custom_id)
    )
    partition.submit(asset)
    partition.server.responder = answer
    again = partition.submit(asset, rerun="failed")
    assert partition.decision(again) == ("facts--birds", "retrying 1 failed row, as requested")
    with partition.resource.runner() as runner:
        summary = runner.get_run("facts--birds").summary()
    assert (summary.completed_items, summary.failed_items) == (3, 0)
    sent = sorted(batch.total for batch in partition.server.books.batches)
    assert sent == [1, 3]
    assert (
        partition.decision(partition.submit(asset, rerun="failed"))[1]
        == "an operator requested a retry of the failed rows, but no row has failed"
    )


def test_a_misspelt_rerun_tag_is_told_and_costs_nothing(partition: Partition, make_asset: MakeAsset) -> None:
    asset = make_asset()
    partition.submit(asset)
    assert "batchor/rerun='everything' is none of auto, failed, all" in failure(
        partition.submit(asset, tags={RERUN_TAG: "everything"})
    )
    assert partition.batches == 1


def test_a_retry_of_the_dagster_run_does_not_ask_twice(
    partition: Partition, instance: dg.DagsterInstance
) -> None:
    falls = [True]

    @batch_asset(name="facts", wait=True, retry_policy=dg.RetryPolicy(max_retries=1), output=None)
    def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return job_of("birds")

    class Falls(BatchorResource):
        def results_base(self) -> str:
            if falls:
                falls.clear()
                raise OSError("the bucket is gone")
            return super().results_base()

    resource = Falls(
        root=partition.resource.root,
        api_key=dg.EnvVar("OPENAI_API_KEY"),
        base_url=partition.resource.base_url,
        poll_interval_sec=0.01,
    )
    settings: dict[str, Any] = {
        "instance": instance,
        "resources": {"batchor": resource},
        "run_config": {"ops": {"facts": {"config": {"rerun": "all"}}}},
    }
    assert dg.materialize(facts.assets, **settings).success
    assert partition.batches == 1
    assert not falls
    falls.append(True)
    second = dg.materialize(facts.assets, **settings)
    assert second.success
    assert [event.event_type_value for event in second.all_events].count("STEP_UP_FOR_RETRY") == 1
    assert partition.batches == 2
    with resource.runner() as runner:
        assert facts.newest_revision(runner) == 2


class TestActive:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {"manual": True}

    @pytest.mark.parametrize("change", [{}, {"model": "gpt-4.1"}, {"rows": 4}])
    @pytest.mark.parametrize("rerun", [None, "all", "failed"])
    def test_an_active_run_is_attached_to_and_never_doubled(
        self, partition: Partition, make_asset: MakeAsset, change: dict[str, Any], rerun: str | None
    ) -> None:
        partition.submit(make_asset(), finish=False)
        again = partition.submit(make_asset(**change), rerun=rerun, finish=False)
        assert partition.decision(again) == (
            "facts--birds",
            "the run is still active, so nothing new was started",
        )
        assert partition.batches == 1


def test_a_step_that_died_while_reading_reads_on(partition: Partition) -> None:
    dies = [True]

    @batch_asset(name="facts", partitions_def=dg.StaticPartitionsDefinition(["birds"]))
    def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        def ask(item: BatchItem[int]) -> str:
            if dies and item.payload == 2_500 and context.run.tags.get("die"):
                dies.append(True)
                if len(dies) > 2:  # the first reading is for the digest
                    raise KeyboardInterrupt
            return str(item.payload)

        return BatchJob(
            items=(BatchItem(str(index), index) for index in range(3_000)),
            build_prompt=ask,
            provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
        )

    assert not partition.submit(facts, finish=False, tags={"die": "yes"}).success
    with partition.resource.runner() as runner:
        assert runner.get_run("facts--birds").summary().total_items == 2_000
    again = partition.submit(facts)
    assert partition.decision(again) == (
        "facts--birds",
        "the run is still active; reading its rows continues where it stopped",
    )
    with partition.resource.runner() as runner:
        assert runner.get_run("facts--birds").summary().completed_items == 3_000
    assert not partition.server.books.bodies_executed_twice


def test_a_half_read_partition_is_not_read_on_with_other_prompts(partition: Partition) -> None:
    asked = ["{}"]

    @batch_asset(name="facts", partitions_def=dg.StaticPartitionsDefinition(["birds"]))
    def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        rendered: list[int] = []

        def ask(item: BatchItem[int]) -> str:
            rendered.append(item.payload)
            if rendered.count(2_500) == 2 and context.run.tags.get(
                "die"
            ):  # the first reading is for the digest
                raise KeyboardInterrupt
            return asked[-1].format(item.payload)

        return BatchJob(
            items=[BatchItem(f"fact-{index}", index) for index in range(3_000)],
            build_prompt=ask,
            provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
        )

    assert not partition.submit(facts, finish=False, tags={"die": "yes"}).success
    asked.append("tell me about {}")
    told = failure(partition.submit(facts, finish=False))
    assert told.startswith(
        "Batch run facts--birds: item 0 ('fact-0') has another prompt than when the run was started."
    )
    assert "cancel it with batchor/action=cancel" in told
    assert "on_change" not in told
    with partition.resource.runner() as runner:
        assert runner.get_run("facts--birds").summary().total_items == 2_000
    asked.pop()
    assert partition.submit(facts).success
    with partition.resource.runner() as runner:
        assert runner.get_run("facts--birds").summary().completed_items == 3_000
    assert not partition.server.books.bodies_executed_twice
