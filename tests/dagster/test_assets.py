"""A batch job becomes two assets that submit once, write typed results, and say clearly what is missing."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from pydantic import BaseModel

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig, VectorOutput
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchConfig, BatchorResource, batch_asset, build_batch_definitions
from batchor_dagster.control import ACTION_TAG, APPLIED_TAG, RUN_ID_TAG
from tests.dagster.conftest import job_of

MakeAsset = Callable[..., BatchAsset]


class Answer(BaseModel):
    text: str


def materialize(
    selection: list[Any],
    resource: BatchorResource,
    instance: dg.DagsterInstance,
    partition: str | None = "birds",
    **settings: Any,
) -> dg.ExecuteInProcessResult:
    resources = {"batchor": resource, **settings.pop("resources", {})}
    return dg.materialize(
        selection,
        partition_key=partition,
        instance=instance,
        resources=resources,
        raise_on_error=False,
        **settings,
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    told = event.step_failure_data.user_failure_data
    return "" if told is None else str(told.description)


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    assert result.success
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def finish(asset: BatchAsset, resource: BatchorResource, partition: str | None = "birds") -> None:
    with resource.runner() as runner:
        runner.get_run(asset.newest_run_id(runner, partition)).wait(timeout=60, poll_interval=0.01)


def submit(
    asset: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance, **settings: Any
) -> Any:
    return materialize([asset.assets[0]], resource, instance, **settings)


def write(asset: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance, **settings: Any) -> Any:
    return materialize([asset.assets[1], *asset.checks], resource, instance, **settings)


class TestTwoAssets:
    def test_a_partition_is_submitted_driven_and_written(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset()
        submitted = metadata_of(submit(asset, resource, instance))
        assert submitted["batchor/run_id"] == "facts--birds"
        assert submitted["batchor/items"] == 3
        assert "batchor_control/playground/setup" in submitted["batchor/controls"]

        finish(asset, resource)
        result = write(asset, resource, instance)
        written = metadata_of(result)
        assert written["dagster/partition_row_count"] == 3
        assert written["batchor/failed"] == 0
        assert written["batchor/input_tokens"] > 0
        assert written["batchor/results_up_to"] == "3"
        path = Path(written["dagster/uri"])
        assert path == Path(resource.root) / "results" / "facts" / "birds.parquet"
        frame = pl.read_parquet(path)
        assert frame.schema["sources"] == pl.List(pl.String)
        assert sorted(frame["item_id"]) == ["birds-0", "birds-1", "birds-2"]
        assert set(frame["kind"]) <= {"true", "false"}
        check = checks_of(result)["all_items_completed"]
        assert check.passed
        assert check.description == "facts--birds: all 3 rows were answered"

    def test_the_dagster_runs_are_tagged_with_the_batch_run(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset()
        first = submit(asset, resource, instance)
        finish(asset, resource)
        second = write(asset, resource, instance)
        for result in (first, second):
            run = instance.get_run_by_id(result.run_id)
            assert run is not None
            assert run.tags[RUN_ID_TAG] == "facts--birds"

    def test_partitions_are_runs_of_their_own(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset()
        for partition in ("birds", "fish"):
            assert submit(asset, resource, instance, partition=partition).success
        with resource.runner() as runner:
            assert {listing.run_id for listing in runner.list_runs()} == {"facts--birds", "facts--fish"}

    def test_submitting_twice_buys_once(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        openai_server: OpenAIServer,
    ) -> None:
        asset = make_asset()
        assert submit(asset, resource, instance).success
        assert submit(asset, resource, instance).success
        finish(asset, resource)
        assert submit(asset, resource, instance).success
        assert len(openai_server.books.batches) == 1
        assert not openai_server.books.bodies_executed_twice

    def test_assets_without_partitions_work(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset(partitions_def=None)
        assert submit(asset, resource, instance, partition=None).success
        finish(asset, resource, None)
        written = metadata_of(write(asset, resource, instance, partition=None))
        assert written["dagster/uri"] == str(Path(resource.root) / "results" / "facts.parquet")

    def test_a_text_job_has_its_answers_as_text(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset(output=None)
        submit(asset, resource, instance)
        finish(asset, resource)
        frame = pl.read_parquet(metadata_of(write(asset, resource, instance))["dagster/uri"])
        assert frame["output_text"].null_count() == 0
        assert "statement" not in frame.columns

    def test_odd_partition_keys_become_safe_paths(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset(partitions_def=dg.StaticPartitionsDefinition(["a/../b c"]))
        submit(asset, resource, instance, partition="a/../b c")
        finish(asset, resource, "a/../b c")
        path = Path(metadata_of(write(asset, resource, instance, partition="a/../b c"))["dagster/uri"])
        assert path.parent == Path(resource.root) / "results" / "facts"

    def test_results_can_go_to_a_url(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        resource = BatchorResource(**{**_settings(resource), "parquet_base": "memory://warehouse"})
        asset = make_asset()
        submit(asset, resource, instance)
        finish(asset, resource)
        assert (
            metadata_of(write(asset, resource, instance))["dagster/uri"]
            == "memory://warehouse/facts/birds.parquet"
        )


DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-02-01")
KINDS_OF_PARTITIONS: dict[str, tuple[dg.PartitionsDefinition[str], str, str]] = {
    "static": (dg.StaticPartitionsDefinition(["birds"]), "birds", "birds"),
    "daily": (DAYS, "2026-01-05", "2026-01-05"),
    "hourly": (
        dg.HourlyPartitionsDefinition(start_date="2026-01-01-00:00"),
        "2026-01-05-07:00",
        r"2026_01_05_07_00--[0-9a-f]{16}",
    ),
    "dynamic": (dg.DynamicPartitionsDefinition(name="topics"), "birds", "birds"),
    "multi": (
        dg.MultiPartitionsDefinition({"day": DAYS, "topic": dg.StaticPartitionsDefinition(["birds"])}),
        str(dg.MultiPartitionKey({"day": "2026-01-05", "topic": "birds"})),
        r"2026_01_05_birds--[0-9a-f]{16}",
    ),
}


class TestPartitions:
    @pytest.mark.parametrize("kind", KINDS_OF_PARTITIONS)
    def test_every_kind_of_partitions_has_a_run_and_a_file_each(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance, kind: str
    ) -> None:
        partitions_def, key, spelled = KINDS_OF_PARTITIONS[kind]
        if isinstance(partitions_def, dg.DynamicPartitionsDefinition):
            instance.add_dynamic_partitions("topics", [key])
        asset = make_asset(partitions_def=partitions_def)
        submitted = metadata_of(submit(asset, resource, instance, partition=key))
        assert re.fullmatch(f"facts--{spelled}", submitted["batchor/run_id"])
        finish(asset, resource, key)
        written = metadata_of(write(asset, resource, instance, partition=key))
        name = Path(written["dagster/uri"]).name
        in_run_id = submitted["batchor/run_id"].removeprefix("facts--")
        assert name == ("2026-01-05--birds.parquet" if kind == "multi" else f"{in_run_id}.parquet")
        assert instance.get_materialized_partitions(asset.key) == {key}

    @pytest.mark.filterwarnings("ignore:Parameter .backfill_policy.:dagster.BetaWarning")
    @pytest.mark.parametrize("wait", [False, True])
    def test_a_range_in_one_dagster_run_is_a_run_and_a_file_for_each_partition(
        self, resource: BatchorResource, instance: dg.DagsterInstance, wait: bool
    ) -> None:
        windows: list[tuple[str, str]] = []

        @batch_asset(
            name="facts", partitions_def=DAYS, wait=wait, backfill_policy=dg.BackfillPolicy.single_run()
        )
        def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            windows.append((context.partition_key, context.partition_time_window.start.date().isoformat()))
            return job_of(context.partition_key)

        tags = {
            "dagster/asset_partition_range_start": "2026-01-03",
            "dagster/asset_partition_range_end": "2026-01-05",
        }
        keys = ["2026-01-03", "2026-01-04", "2026-01-05"]
        started = materialize([facts.assets[0]], resource, instance, partition=None, tags=tags)
        assert started.success
        assert windows == [(key, key) for key in keys]
        if not wait:
            for key in keys:
                finish(facts, resource, key)
            started = materialize([facts.assets[1]], resource, instance, partition=None, tags=tags)
            assert started.success
        written = {
            str(event.partition): event.materialization.metadata
            for event in started.get_asset_materialization_events()
        }
        assert sorted(written) == keys
        for key, metadata in written.items():
            assert metadata["batchor/run_id"].value == f"facts--{key}"
            assert metadata["dagster/uri"].value == facts.result_path(resource, key)
            assert sorted(pl.read_parquet(facts.result_path(resource, key))["item_id"]) == [
                f"{key}-{row}" for row in range(3)
            ]

    @pytest.mark.filterwarnings("ignore:Parameter .backfill_policy.:dagster.BetaWarning")
    @pytest.mark.parametrize("wait", [False, True])
    def test_in_a_range_one_bad_partition_is_named_and_stops_no_other(
        self, resource: BatchorResource, instance: dg.DagsterInstance, wait: bool
    ) -> None:
        @batch_asset(
            name="facts", partitions_def=DAYS, wait=wait, backfill_policy=dg.BackfillPolicy.single_run()
        )
        def facts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            if context.partition_key == "2026-01-03":
                raise InvalidInputError("that day has no rows")
            return job_of(context.partition_key)

        tags = {
            "dagster/asset_partition_range_start": "2026-01-03",
            "dagster/asset_partition_range_end": "2026-01-05",
        }
        message = failure(materialize([facts.assets[0]], resource, instance, partition=None, tags=tags))
        assert "1 of 3 partitions failed; the others are done. 2026-01-03: that day has no rows" in message
        with resource.runner() as runner:
            runs = {listing.run_id for listing in runner.list_runs()}
        assert runs == {"facts--2026-01-04", "facts--2026-01-05"}
        if wait:
            assert pl.read_parquet(facts.result_path(resource, "2026-01-05")).height == 3


def _settings(resource: BatchorResource) -> dict[str, Any]:
    return {
        "root": resource.root,
        "api_key": dg.EnvVar("OPENAI_API_KEY"),
        "base_url": resource.base_url,
        "poll_interval_sec": resource.poll_interval_sec,
    }


class TestUnfinished:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {"manual": True}

    def test_results_of_a_running_run_are_refused_and_nothing_changes(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset()
        submit(asset, resource, instance)
        with resource.runner() as runner:
            before = runner.get_run("facts--birds").summary()
        message = failure(write(asset, resource, instance))
        assert "facts--birds is not finished (running: 0 of 3 items done, 1 batch at the provider)" in message
        assert "The sensor materializes this asset when it is" in message
        with resource.runner() as runner:
            assert runner.get_run("facts--birds").summary() == before

    def test_results_without_a_submission_name_what_to_materialize(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        message = failure(write(make_asset(), resource, instance))
        assert "There is no batch run facts--birds yet. Materialize facts_submission first." in message


class TestMistakes:
    def test_a_missing_key_is_named(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("OPENAI_API_KEY")
        keyless = BatchorResource(root=resource.root)
        assert "OPENAI_API_KEY" in failure(submit(make_asset(), keyless, instance))

    def test_results_need_no_key(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asset = make_asset()
        submit(asset, resource, instance)
        finish(asset, resource)
        monkeypatch.delenv("OPENAI_API_KEY")
        assert write(asset, BatchorResource(root=resource.root), instance).success

    def test_repeated_item_ids_are_named(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        @batch_asset()
        def doubles(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            return BatchJob(
                items=[BatchItem("same", "a"), BatchItem("same", "b")],
                build_prompt=lambda item: str(item.payload),
                provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
            )

        assert "'same'" in failure(submit(doubles, resource, instance, partition=None))

    def test_a_function_that_returns_no_job_is_told_so(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        @batch_asset()
        def nothing(context: dg.AssetExecutionContext) -> Any:
            return None

        message = failure(submit(nothing, resource, instance, partition=None))
        assert "the function of nothing must return a BatchJob, not NoneType" in message

    def test_two_models_are_one_too_many(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        class Other(BaseModel):
            text: str

        @batch_asset(output=Answer)
        def torn(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            return BatchJob(
                items=[],
                build_prompt=str,
                provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
                structured_output=Other,
            )

        assert "in one place" in failure(submit(torn, resource, instance, partition=None))

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"failure_threshold": 5}, "share from 0 to 1, not 5"),
            ({"failure_threshold": "5%"}, "share from 0 to 1, not '5%'"),
            ({"wait": "yes"}, "wait must be True or False"),
            ({"on_change": "ignore"}, "on_change is one of new_revision, refuse, not 'ignore'"),
            ({"on_termination": "stop"}, "on_termination is one of detach, pause, cancel, not 'stop'"),
            ({"output": "Review"}, "output must be one of TextOutput, ModelOutput"),
            ({"output": VectorOutput}, "output is the class VectorOutput; give VectorOutput"),
        ],
    )
    def test_a_setting_that_can_not_be_used_is_refused_at_once(
        self, setting: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=message):
            batch_asset(**setting)


class TestSignature:
    def test_the_function_may_ask_for_resources_and_upstream_assets(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        class Prefix(dg.ConfigurableResource[Any]):
            text: str

        @dg.asset
        def words() -> list[str]:
            return ["one", "two"]

        seen: list[str] = []

        @batch_asset(output=Answer)
        def spoken(
            context: dg.AssetExecutionContext, words: list[str], prefix: Prefix, batchor: BatchorResource
        ) -> BatchJob[Any, Any]:
            seen.append(batchor.root)
            return BatchJob(
                items=[BatchItem(word, word) for word in words],
                build_prompt=lambda item: f"{prefix.text} {item.payload}",
                provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
            )

        result = materialize(
            [words, spoken.assets[0]],
            resource,
            instance,
            partition=None,
            resources={"prefix": Prefix(text="say"), "io_manager": dg.mem_io_manager},
        )
        assert result.success
        assert seen == [resource.root]
        with resource.runner() as runner:
            assert runner.get_run("spoken").summary().total_items == 2

    def test_a_config_class_of_its_own_is_shown_in_the_launchpad(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        class Choice(BatchConfig):
            rows: int = 2

        @batch_asset(partitions_def=None)
        def chosen(context: dg.AssetExecutionContext, config: Choice) -> BatchJob[Any, Any]:
            return job_of(None, rows=config.rows)

        def run(**config: Any) -> dict[str, Any]:
            return metadata_of(
                materialize(
                    [chosen.assets[0]],
                    resource,
                    instance,
                    partition=None,
                    run_config={"ops": {"chosen_submission": {"config": config}}},
                )
            )

        assert run()["batchor/items"] == 2
        finish(chosen, resource, None)
        changed = run(rows=4)
        assert (changed["batchor/items"], changed["batchor/run_id"]) == (4, "chosen--g2")
        finish(chosen, resource, None)
        with resource.runner() as runner:
            assert chosen.newest_revision(runner) == 2
        assert run(rows=4, rerun="all")["batchor/run_id"] == "chosen--g3"

    @pytest.mark.filterwarnings("ignore:Parameter .backfill_policy.:dagster.BetaWarning")
    def test_specs_carry_what_the_decorator_was_given(self) -> None:
        @batch_asset(
            key_prefix=["shop", "de"],
            name="reviews",
            partitions_def=DAYS,
            group_name="language",
            tags={"domain": "shop"},
            owners=["team:data"],
            deps=["raw"],
            metadata={"source": "shop"},
            kinds={"anthropic", "parquet"},
            code_version="7",
            backfill_policy=dg.BackfillPolicy.multi_run(5),
            automation_condition=dg.AutomationCondition.eager(),
            pool="llm",
            op_tags={"dagster/priority": "3"},
            retry_policy=dg.RetryPolicy(max_retries=2),
        )
        def anything(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
            """Reviews, judged."""
            raise AssertionError

        submission, result = anything.specs
        assert submission.key == dg.AssetKey(["shop", "de", "reviews_submission"])
        assert result.key == dg.AssetKey(["shop", "de", "reviews"])
        assert {dep.asset_key for dep in submission.deps} == {dg.AssetKey("raw")}
        assert {dep.asset_key for dep in result.deps} == {submission.key}
        assert result.description == "Reviews, judged."
        assert result.kinds == {"anthropic", "parquet"}
        assert submission.kinds == {"anthropic"}
        assert result.metadata["source"] == "shop"
        assert submission.automation_condition is not None
        assert result.automation_condition is None
        for definition in anything.assets:
            assert definition.backfill_policy == dg.BackfillPolicy.multi_run(5)
            assert definition.op.pool == "llm"
            assert definition.op.tags["dagster/priority"] == "3"
            assert definition.op.retry_policy == dg.RetryPolicy(max_retries=2)
        for spec in (submission, result):
            assert spec.group_name == "language"
            assert spec.code_version == "7"
            assert spec.tags["domain"] == "shop"
            assert spec.owners == ["team:data"]
        assert anything.run_id() == "shop.de.reviews"


class TestCheck:
    @pytest.mark.parametrize(
        ("threshold", "severity"), [(0.5, dg.AssetCheckSeverity.WARN), (0.1, dg.AssetCheckSeverity.ERROR)]
    )
    def test_failed_rows_are_judged_by_the_threshold(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        openai_server: OpenAIServer,
        threshold: float,
        severity: dg.AssetCheckSeverity,
    ) -> None:
        refuse_one(openai_server)
        asset = make_asset(failure_threshold=threshold)
        submit(asset, resource, instance)
        finish(asset, resource)
        result = write(asset, resource, instance)
        assert result.success
        check = checks_of(result)["all_items_completed"]
        assert (check.passed, check.severity) == (False, severity)
        assert check.metadata["failed"].value == 1
        [error] = metadata_of(result)["batchor/errors"].records
        assert (error.data["error_class"], error.data["rows"]) == ("refusal", 1)
        frame = pl.read_parquet(metadata_of(result)["dagster/uri"])
        assert frame.filter(pl.col("error_class") == "refusal").height == 1

    @pytest.mark.parametrize(("blocking", "reached"), [(True, False), (False, True)])
    def test_a_blocking_check_keeps_bad_results_from_downstream(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        openai_server: OpenAIServer,
        blocking: bool,
        reached: bool,
    ) -> None:
        refuse_one(openai_server)
        asset = make_asset(failure_threshold=0.0, blocking=blocking)
        ran = []

        @dg.asset(deps=[asset.key], partitions_def=asset.partitions_def)
        def downstream() -> None:
            ran.append(True)

        submit(asset, resource, instance)
        finish(asset, resource)
        result = materialize([asset.assets[1], *asset.checks, downstream], resource, instance)
        assert bool(ran) is reached
        assert result.success is reached


def refuse_one(server: OpenAIServer) -> None:
    answer = server.responder

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Any:
        return Reply.refusal() if custom_id.rsplit("-", 3)[1] == "0" else answer(body, endpoint, custom_id)

    server.responder = respond


class TestWait:
    def test_one_step_submits_waits_and_writes(
        self, make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        asset = make_asset(wait=True)
        assert asset.submission_key is None
        [definition] = asset.assets
        result = materialize([definition, *asset.checks], resource, instance)
        assert metadata_of(result)["dagster/partition_row_count"] == 3
        check = checks_of(result)["all_items_completed"]
        assert check.passed

    def test_it_can_be_paused_and_resumed_by_tag(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        openai_server: OpenAIServer,
    ) -> None:
        asset = make_asset(wait=True)
        # submitted by the two-asset form of the same asset, which shares its run id
        twin = make_asset()
        submit(twin, resource, instance)
        with resource.runner() as runner:
            assert runner.get_run(asset.run_id("birds")).is_finished is False
        paused = materialize(asset.assets, resource, instance, tags={ACTION_TAG: "pause"})
        assert "is paused, as asked" in failure(paused)
        assert "is paused" in failure(materialize(asset.assets, resource, instance))
        resumed = materialize(asset.assets, resource, instance, tags={ACTION_TAG: "resume"})
        assert metadata_of(resumed)["dagster/partition_row_count"] == 3
        assert APPLIED_TAG in (instance.get_run_by_id(resumed.run_id) or resumed.dagster_run).tags


class TestProgress:
    @pytest.fixture
    def openai_server_options(self) -> dict[str, Any]:
        return {"batch_seconds": 1}

    def test_progress_is_observed_when_there_is_some(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        openai_server: OpenAIServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("batchor_dagster.steps.waiting._PROGRESS_EVERY_SEC", 0.0)
        result = materialize(make_asset(wait=True).assets, resource, instance)
        assert result.success
        seen = [
            event.asset_observation_data.asset_observation
            for event in result.all_events
            if event.event_type_value == "ASSET_OBSERVATION"
        ]
        assert seen
        assert {(event.asset_key, event.partition) for event in seen} == {(dg.AssetKey("facts"), "birds")}
        done = [int(str(event.metadata["batchor/completed"].value)) for event in seen]
        assert done == sorted(set(done))


class TestSecrets:
    def test_the_key_is_nowhere_to_be_found(
        self,
        make_asset: MakeAsset,
        resource: BatchorResource,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        secret = os.environ["OPENAI_API_KEY"]
        asset = make_asset()
        home = tmp_path / "dagster"
        home.mkdir()
        with dg.instance_for_test(temp_dir=str(home)) as instance:
            defs = build_batch_definitions(assets=[asset], resources={"batchor": resource})
            job = defs.resolve_implicit_global_asset_job_def()
            selection = [asset.submission_key or asset.key]
            assert job.execute_in_process(
                instance=instance, partition_key="birds", asset_selection=selection, run_config={}
            ).success
            finish(asset, resource)
            assert write(asset, resource, instance).success
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(path.suffix == ".db" for path in files)
        assert any(path.name == "batchor.sqlite3" for path in files)
        for path in files:
            assert secret.encode() not in path.read_bytes(), path
        out, err = capfd.readouterr()
        assert secret not in out + err
        assert secret not in repr(resource)
