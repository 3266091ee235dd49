"""The example project's day: a schedule submits it, the sensor lands it, and the sheet is made by itself."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from batchor_core.testing.openai_server import OpenAIServer

DAY = "2026-11-02"


@pytest.fixture
def defs(openai_server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("OPENAI_BASE_URL", openai_server.base_url)
    from batchor_dagster import BatchorResource
    from examples.dagster_project import definitions

    resources = {
        **(definitions.defs.resources or {}),
        "batchor": BatchorResource(root=str(tmp_path / "batchor")),
    }
    return dg.Definitions(
        assets=definitions.defs.assets,
        asset_checks=definitions.defs.asset_checks,
        jobs=definitions.defs.jobs,
        schedules=definitions.defs.schedules,
        sensors=definitions.defs.sensors,
        resources=resources,
    )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "home").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "home")) as instance:
        yield instance


def tick(defs: dg.Definitions, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    with dg.build_sensor_context(
        instance=instance, resources=dict(defs.resources or {}), repository_def=defs.get_repository_def()
    ) as context:
        result: Any = defs.resolve_sensor_def("batchor_sensor")(context)
    return list(result.run_requests)


@pytest.mark.filterwarnings(
    "ignore:Parameter .include_sources.:dagster.BetaWarning"
)  # of Dagster's own helper
def test_a_day_goes_from_the_schedule_to_the_sheet_by_itself(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    schedule = defs.resolve_schedule_def("submit_daily")
    scheduled = schedule.evaluate_tick(
        dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=dt.datetime(2026, 11, 3, 3, tzinfo=dt.UTC),
            repository_def=defs.get_repository_def(),
        )
    )
    [request] = scheduled.run_requests or []
    assert request.partition_key == DAY
    submitted = defs.resolve_job_def("submit_quizzes").execute_in_process(
        instance=instance, partition_key=DAY, tags=request.tags
    )
    assert submitted.success

    automation = dg.evaluate_automation_conditions(defs, instance)
    assert automation.get_num_requested(dg.AssetKey("quiz_sheet")) == 0
    requests: list[dg.RunRequest] = []
    for _ in range(50):
        requests = tick(defs, instance)
        if requests:
            break
    [landing] = requests
    assert (landing.asset_selection, landing.partition_key) == ([dg.AssetKey("quizzes")], DAY)
    landed = defs.resolve_job_def(landing.job_name or "").execute_in_process(
        instance=instance,
        partition_key=DAY,
        asset_selection=list(landing.asset_selection or ()),
        tags=landing.tags,
    )
    assert landed.success
    assert all(check.passed for check in landed.get_asset_check_evaluations())

    automation = dg.evaluate_automation_conditions(defs, instance, cursor=automation.cursor)
    requested = automation.get_requested_partitions(dg.AssetKey("quiz_sheet"))
    assert requested == {DAY}
    sheet = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key=DAY, asset_selection=[dg.AssetKey("quiz_sheet")]
    )
    [made] = sheet.get_asset_materialization_events()
    assert made.materialization.metadata["questions"].value == 20


def test_the_levels_of_a_topic_are_counted(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    submission = dg.AssetKey("cards_submission")
    assert job.execute_in_process(
        instance=instance, partition_key="time", asset_selection=[submission]
    ).success
    requests: list[dg.RunRequest] = []
    while not requests:
        requests = tick(defs, instance)
    counted = job.execute_in_process(
        instance=instance,
        partition_key="time",
        asset_selection=[dg.AssetKey("cards"), dg.AssetKey("card_levels")],
    )
    [levels] = [
        event.materialization
        for event in counted.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey("card_levels")
    ]
    assert sum(int(str(value.value)) for value in levels.metadata.values()) == 1_028
