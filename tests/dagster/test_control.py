"""An operator's word is obeyed once, whichever way it comes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest
import yaml

from batchor_core import ItemStatus, RunControlState, RunLifecycleStatus, RunSummary
from batchor_core.core.exceptions import InvalidInputError, RunNotFoundError, RunStateError
from batchor_core.testing.local_server.replies import Reply
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import (
    BatchAsset,
    BatchorResource,
    ControlAction,
    apply_control,
    build_control_job,
    launchpad_url,
)
from batchor_dagster.control import (
    ACTION_TAG,
    APPLIED_TAG,
    RUN_ID_TAG,
    STATE_TAG,
    add_run_id_tag,
    already_so,
    control_links,
    is_applied,
    mark_applied,
    tagged_run_ids,
)

RUN = "facts--birds"


@pytest.fixture
def openai_server_options() -> dict[str, Any]:
    return {"manual": True}  # batches end when a test says so


def summary(status: str = "running", control: str = "running", failed: int = 0) -> RunSummary:
    return RunSummary(
        run_id="r",
        status=RunLifecycleStatus(status),
        control_state=RunControlState(control),
        total_items=10,
        completed_items=0,
        failed_items=failed,
        status_counts=dict.fromkeys(ItemStatus, 0),
        active_batches=0,
        backoff_remaining_sec=0.0,
    )


@pytest.mark.parametrize(
    ("action", "state", "settled"),
    [
        ("pause", summary(), None),
        ("pause", summary(control="paused"), "the run is paused"),
        ("pause", summary("completed"), "the run is finished"),
        ("pause", summary(control="cancel_requested"), None),  # the engine refuses it
        ("resume", summary(control="paused"), None),
        ("resume", summary(), "the run is active"),
        ("resume", summary("completed_with_failures"), "the run is finished"),
        ("resume", summary(control="cancel_requested"), None),
        ("cancel", summary(), None),
        ("cancel", summary(control="paused"), None),
        ("cancel", summary(control="cancel_requested"), "the run is being cancelled"),
        ("cancel", summary("completed"), "the run is finished"),
        ("retry_failed", summary("completed_with_failures", failed=2), None),
        ("retry_failed", summary(failed=2), None),
        ("retry_failed", summary("completed"), "no item has failed"),
    ],
)
def test_what_is_so_already_needs_no_action(action: str, state: RunSummary, settled: str | None) -> None:
    assert already_so(state, ControlAction(action)) == settled


@pytest.mark.parametrize("text", ["pause", " Pause ", "PAUSE"])
def test_actions_are_read_from_tags_with_good_will(text: str) -> None:
    assert ControlAction.parse(text) is ControlAction.pause


def test_an_unknown_action_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidInputError, match=r"'stop' is not an action; use one of pause, resume, cancel, retry_failed"
    ):
        ControlAction.parse("stop")


def test_several_runs_can_be_named_in_one_tag() -> None:
    assert tagged_run_ids({RUN_ID_TAG: "a, b,,c"}) == ["a", "b", "c"]
    assert tagged_run_ids({}) == []


def _submit(asset: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance, **tags: str) -> Any:
    return dg.materialize(
        [asset.assets[0]],
        partition_key="birds",
        instance=instance,
        resources={"batchor": resource},
        tags=tags,
        raise_on_error=False,
    )


def _control(
    resource: BatchorResource, instance: dg.DagsterInstance, **settings: Any
) -> dg.ExecuteInProcessResult:
    return build_control_job().execute_in_process(
        instance=instance, resources={"batchor": resource}, raise_on_error=False, **settings
    )


def _config(run_id: str, action: str) -> dict[str, Any]:
    return {"ops": {"apply_batchor_control": {"config": {"run_id": run_id, "action": action}}}}


def _state(resource: BatchorResource) -> RunControlState:
    with resource.runner() as runner:
        return runner.get_run(RUN).control_state


@pytest.fixture
def submitted(
    make_asset: Callable[..., BatchAsset], resource: BatchorResource, instance: dg.DagsterInstance
) -> BatchAsset:
    asset = make_asset()
    assert _submit(asset, resource, instance).success
    return asset


@pytest.mark.usefixtures("submitted")
class TestApplyControl:
    def test_pause_resume_and_cancel_may_be_repeated(self, resource: BatchorResource) -> None:
        with resource.runner() as runner:
            for action, state in [
                ("pause", RunControlState.PAUSED),
                ("resume", RunControlState.RUNNING),
                ("cancel", RunControlState.CANCEL_REQUESTED),
            ]:
                first, second = apply_control(runner, RUN, action), apply_control(runner, RUN, action)
                assert (first.changed, second.changed) == (True, False)
                assert first.summary.control_state is second.summary.control_state is state

    def test_a_cancelled_run_can_not_be_resumed(self, resource: BatchorResource) -> None:
        with resource.runner() as runner:
            apply_control(runner, RUN, "cancel")
            with pytest.raises(RunStateError, match="cancelled"):
                apply_control(runner, RUN, "resume")

    def test_an_unknown_run_is_an_error(self, resource: BatchorResource) -> None:
        with resource.runner() as runner, pytest.raises(RunNotFoundError, match="other"):
            apply_control(runner, "other", "pause")


@pytest.mark.usefixtures("submitted")
class TestControlJob:
    def test_it_takes_run_config(self, resource: BatchorResource, instance: dg.DagsterInstance) -> None:
        result = _control(resource, instance, run_config=_config(RUN, "pause"))
        assert result.success
        assert _state(resource) is RunControlState.PAUSED
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert (run.tags[RUN_ID_TAG], run.tags[APPLIED_TAG]) == (RUN, f"pause@{run.run_id[:8]}")

    def test_it_takes_tags(self, resource: BatchorResource, instance: dg.DagsterInstance) -> None:
        assert _control(resource, instance, tags={RUN_ID_TAG: RUN, ACTION_TAG: "cancel"}).success
        assert _state(resource) is RunControlState.CANCEL_REQUESTED

    @pytest.mark.parametrize("tags", [{}, {RUN_ID_TAG: RUN}, {ACTION_TAG: "pause"}])
    def test_it_says_what_it_needs(
        self, resource: BatchorResource, instance: dg.DagsterInstance, tags: dict[str, str]
    ) -> None:
        assert "Say which run and what to do" in _failure(_control(resource, instance, tags=tags))

    @pytest.mark.parametrize(
        ("tags", "told"),
        [
            ({ACTION_TAG: "cancel"}, "The run config says pause, and the tag batchor/action says cancel."),
            (
                {RUN_ID_TAG: "facts--fish"},
                f"This is about batch run {RUN}, and the tag batchor/run_id names facts--fish.",
            ),
        ],
    )
    def test_tags_that_contradict_the_config_stop_it(
        self, resource: BatchorResource, instance: dg.DagsterInstance, tags: dict[str, str], told: str
    ) -> None:
        result = _control(resource, instance, run_config=_config(RUN, "pause"), tags=tags)
        assert told in _failure(result)
        assert _state(resource) is RunControlState.RUNNING

    def test_tags_that_say_the_same_are_fine(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        tags = {RUN_ID_TAG: f"other, {RUN}", ACTION_TAG: "Pause"}
        assert _control(resource, instance, run_config=_config(RUN, "pause"), tags=tags).success

    def test_failed_rows_are_tried_again(
        self, resource: BatchorResource, instance: dg.DagsterInstance, openai_server: OpenAIServer
    ) -> None:
        openai_server.responder = lambda body, endpoint, custom_id: Reply.refusal()
        openai_server.advance(3600)
        with resource.runner() as runner:
            runner.get_run(RUN).wait(poll_interval=0.01, timeout=20)
        for _ in range(2):  # asking twice pays once
            assert _control(resource, instance, tags={RUN_ID_TAG: RUN, ACTION_TAG: "retry_failed"}).success
        with resource.runner() as runner:
            run = runner.get_run(RUN)
            assert (run.status, run.summary().failed_items) == (RunLifecycleStatus.RUNNING, 0)

    def test_a_run_that_is_not_there_fails_it_with_its_name(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        tags = {RUN_ID_TAG: f"{RUN},nowhere", ACTION_TAG: "pause"}
        assert "'nowhere'" in _failure(_control(resource, instance, tags=tags))
        assert _state(resource) is RunControlState.PAUSED  # the other one is obeyed all the same

    def test_unknown_actions_are_refused_before_the_run_starts(
        self, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        with pytest.raises(dg.DagsterInvalidConfigError, match="stop"):
            _control(resource, instance, run_config=_config(RUN, "stop"))


def _failure(result: Any) -> str:
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.user_failure_data.description)


@pytest.mark.usefixtures("submitted")
class TestTagOnTheSubmission:
    def test_it_is_obeyed_instead_of_submitting(
        self,
        submitted: BatchAsset,
        resource: BatchorResource,
        instance: dg.DagsterInstance,
        openai_server: OpenAIServer,
    ) -> None:
        batches = len(openai_server.books.batches)
        result = _submit(submitted, resource, instance, **{ACTION_TAG: "pause"})
        assert result.success
        assert _state(resource) is RunControlState.PAUSED
        assert len(openai_server.books.batches) == batches
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert is_applied(run.tags, run.run_id)

    def test_a_tag_that_names_another_run_stops_the_step(
        self, submitted: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        result = _submit(submitted, resource, instance, **{ACTION_TAG: "cancel", RUN_ID_TAG: "facts--fish"})
        assert f"This is about batch run {RUN}" in _failure(result)
        assert _state(resource) is RunControlState.RUNNING

    def test_an_unknown_action_fails_the_step(
        self, submitted: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance
    ) -> None:
        result = _submit(submitted, resource, instance, **{ACTION_TAG: "explode"})
        assert "'explode' is not an action" in _failure(result)


def test_a_tag_on_a_partition_without_a_run_fails_clearly(
    make_asset: Callable[..., BatchAsset], resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    result = _submit(make_asset(), resource, instance, **{ACTION_TAG: "pause"})
    assert RUN in _failure(result)


def test_run_ids_are_added_to_those_that_a_dagster_run_has(instance: dg.DagsterInstance) -> None:
    @dg.job
    def nothing() -> None: ...

    run_id = nothing.execute_in_process(instance=instance).run_id
    for batch_run in ("a", "b", "a"):
        add_run_id_tag(instance, run_id, batch_run)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.tags[RUN_ID_TAG] == "a,b"


def test_a_state_that_was_copied_from_an_earlier_run_is_not_left_standing(
    instance: dg.DagsterInstance,
) -> None:
    @dg.job
    def nothing() -> None: ...

    run_id = nothing.execute_in_process(instance=instance, tags={STATE_TAG: "paused"}).run_id
    add_run_id_tag(instance, run_id, "a")
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.tags[STATE_TAG] == "submitted"


def test_a_copied_mark_is_no_mark(instance: dg.DagsterInstance) -> None:
    @dg.job
    def nothing() -> None: ...

    first = nothing.execute_in_process(instance=instance, tags={ACTION_TAG: "pause"})
    mark_applied(instance, first.run_id, "pause")
    marked = instance.get_run_by_id(first.run_id)
    assert marked is not None
    assert is_applied(marked.tags, first.run_id)
    copied = nothing.execute_in_process(instance=instance, tags={**marked.tags})
    assert APPLIED_TAG in copied.dagster_run.tags
    assert not is_applied(copied.dagster_run.tags, copied.run_id)


class TestLinks:
    def test_a_link_fills_the_launchpad_in(self) -> None:
        parts = urlsplit(launchpad_url("facts--a&b", "retry_failed", location="my project.py"))
        assert parts.path == "/locations/my%20project.py/jobs/batchor_control/playground/setup"
        query = parse_qs(parts.query)
        assert yaml.safe_load(query["config"][0]) == _config("facts--a&b", "retry_failed")
        assert (query["tags[0][key]"], query["tags[0][value]"]) == ([RUN_ID_TAG], ["facts--a&b"])

    def test_its_config_is_one_that_the_job_takes(self) -> None:
        query = parse_qs(urlsplit(launchpad_url("r", "cancel")).query)
        assert dg.validate_run_config(build_control_job(), yaml.safe_load(query["config"][0]))

    def test_without_a_location_the_ui_looks_for_the_job(self) -> None:
        assert launchpad_url("r", "pause").startswith("/guess/batchor_control/playground/setup?")

    def test_a_webserver_url_goes_first(self) -> None:
        url = launchpad_url("r", "pause", webserver_url="https://dagster.example.org/prod/")
        assert url.startswith("https://dagster.example.org/prod/guess/")

    def test_there_is_one_for_every_action(self) -> None:
        links = control_links("r")
        assert [line.split("]")[0] for line in links.splitlines()] == [
            "- [pause",
            "- [resume",
            "- [cancel",
            "- [retry failed",
        ]
        assert " " not in links.split("](")[1].split(")")[0]
