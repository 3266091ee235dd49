"""Every setting of the resource is used, by itself, or refused with what to do about it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import Field

from batchor_core import PostgresStorage, SQLiteStorage
from batchor_core.core.enums import StorageKind
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.storage.postgres import DSN_VARIABLE, SCHEMA_VARIABLE
from batchor_dagster import (
    BatchAsset,
    BatchConfig,
    BatchorResource,
    build_batch_definitions,
    build_batch_sensor,
)
from batchor_dagster.control import ControlConfig
from batchor_dagster.resource import check_storage
from batchor_dagster.sensor.drive_job import DriveConfig, build_drive_job
from tests.postgres_server import postgres_dsn, postgres_schema


class TestPostgres:
    @pytest.mark.postgres
    @pytest.mark.parametrize("dsn_from", ["setting", "variable", "environment"])
    @pytest.mark.parametrize("schema_from", ["setting", "variable", "environment", "both"])
    def test_dsn_and_schema_are_each_honoured_wherever_they_come_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn_from: str, schema_from: str
    ) -> None:
        settings: dict[str, Any] = {}
        with postgres_schema() as schema:
            match dsn_from:
                case "setting":
                    settings["postgres_dsn"] = postgres_dsn()
                case "variable":
                    monkeypatch.setenv("TEAM_DSN", postgres_dsn())
                    settings["postgres_dsn"] = dg.EnvVar("TEAM_DSN")
                case _:
                    monkeypatch.setenv(DSN_VARIABLE, postgres_dsn())
            match schema_from:
                case "setting":
                    settings["postgres_schema"] = schema
                case "variable":
                    monkeypatch.setenv("TEAM_SCHEMA", schema)
                    settings["postgres_schema"] = dg.EnvVar("TEAM_SCHEMA")
                case "environment":
                    monkeypatch.setenv(SCHEMA_VARIABLE, schema)
                case _:
                    monkeypatch.setenv(SCHEMA_VARIABLE, "of_another_team")
                    settings["postgres_schema"] = schema
            resource = BatchorResource(root=str(tmp_path), storage="postgres", **settings)
            with resource.runner() as runner:
                assert isinstance(runner.storage, PostgresStorage)
                assert runner.storage.schema == schema

    @pytest.mark.postgres
    def test_two_schemas_are_two_stores_within_dagster_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DSN_VARIABLE, postgres_dsn())
        seen: list[str] = []

        @dg.asset
        def which(batchor: BatchorResource) -> None:
            with batchor.runner() as runner:
                assert isinstance(runner.storage, PostgresStorage)
                seen.append(runner.storage.schema)

        with postgres_schema() as one, postgres_schema() as another:
            for schema in (one, another):
                resource = BatchorResource(root=str(tmp_path), storage="postgres", postgres_schema=schema)
                assert dg.materialize([which], resources={"batchor": resource}).success
            assert seen == [one, another]


@pytest.mark.parametrize("storage", list(StorageKind))
@pytest.mark.parametrize(
    ("setting", "belongs_to"),
    [("sqlite_path", "sqlite"), ("postgres_dsn", "postgres"), ("postgres_schema", "postgres")],
)
def test_a_setting_of_another_store_is_refused(storage: StorageKind, setting: str, belongs_to: str) -> None:
    if storage == belongs_to:
        assert check_storage(storage, [setting]) is storage
        return
    advice = rf"BatchorResource.{setting} has no effect with storage='{storage}': leave it out, or set storage='{belongs_to}'"
    with pytest.raises(InvalidInputError, match=advice):
        check_storage(storage, [setting])
    with pytest.raises(InvalidInputError, match=advice):
        BatchorResource(storage=str(storage), **{setting: dg.EnvVar("WHATEVER")})


def test_a_store_that_a_variable_names_is_checked_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = BatchorResource(
        root=str(tmp_path), storage=dg.EnvVar("STORE"), sqlite_path=str(tmp_path / "a.sqlite3")
    )
    monkeypatch.setenv("STORE", "postgres")
    with pytest.raises(InvalidInputError, match="sqlite_path has no effect with storage='postgres'"):
        resource.get_runner()
    monkeypatch.setenv("STORE", "sqlite")
    with resource.runner() as runner:
        assert isinstance(runner.storage, SQLiteStorage)
    assert (tmp_path / "a.sqlite3").exists()


def test_an_unknown_store_is_refused_where_it_is_written() -> None:
    with pytest.raises(InvalidInputError, match="must be sqlite, postgres or memory, not 'mysql'"):
        BatchorResource(storage="mysql")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("root", "s3://bucket/batchor"),
        ("sqlite_path", "sqlite:///runs.sqlite3"),
    ],
)
def test_a_url_is_no_folder(setting: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match=f"BatchorResource.{setting} is a path on this machine"):
        BatchorResource(**{setting: value})
    monkeypatch.setenv("PLACE", value)
    with pytest.raises(InvalidInputError, match=f"BatchorResource.{setting} is a path on this machine"):
        BatchorResource(**{setting: dg.EnvVar("PLACE")}).get_runner()


class TestVariables:
    """Outside Dagster, in scripts and tests, nobody resolves an EnvVar before the resource sees it."""

    def test_every_setting_may_be_a_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("root", "artifacts", "results"):
            monkeypatch.setenv(f"THE_{name.upper()}", str(tmp_path / name))
        resource = BatchorResource(
            root=dg.EnvVar("THE_ROOT"),
            artifacts=dg.EnvVar("THE_ARTIFACTS"),
            parquet_base=dg.EnvVar("THE_RESULTS"),
        )
        assert resource.results_base() == str(tmp_path / "results")
        with resource.runner():
            pass
        assert (tmp_path / "root" / "batchor.sqlite3").exists()

    @pytest.mark.parametrize("value", [None, "", "  "])
    @pytest.mark.parametrize(
        ("settings", "use"),
        [
            ({"root": dg.EnvVar("UNSET")}, BatchorResource.get_runner),
            ({"sqlite_path": dg.EnvVar("UNSET")}, BatchorResource.get_runner),
            (
                {"storage": "postgres", "postgres_dsn": dg.EnvVar("UNSET")},
                BatchorResource.get_runner,
            ),
            (
                {"storage": "postgres", "postgres_schema": dg.EnvVar("UNSET")},
                BatchorResource.get_runner,
            ),
            ({"artifacts": dg.EnvVar("UNSET")}, BatchorResource.get_runner),
            ({"parquet_base": dg.EnvVar("UNSET")}, BatchorResource.results_base),
        ],
    )
    def test_one_that_is_not_set_is_named_and_nothing_takes_its_place(
        self,
        settings: dict[str, Any],
        use: Callable[[BatchorResource], object],
        value: str | None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(DSN_VARIABLE, "postgresql://somebody-elses")
        if value is not None:
            monkeypatch.setenv("UNSET", value)
        state = "not set" if value is None else "empty"
        with pytest.raises(InvalidInputError, match=rf"is EnvVar\('UNSET'\), and that variable is {state}"):
            use(BatchorResource(**settings))

    def test_an_empty_setting_is_not_taken_for_one_that_was_left_out(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match=r"BatchorResource\.parquet_base is empty"):
            BatchorResource(root=str(tmp_path), parquet_base="").results_base()


class TestElsewhere:
    """Arguments of the other constructions that one combination or another would leave without effect."""

    def test_a_worker_job_without_workers(self, make_asset: Callable[..., BatchAsset]) -> None:
        with pytest.raises(ValueError, match="drive_job has no effect with drive='tick'"):
            build_batch_sensor(assets=[make_asset()], drive_job=build_drive_job())
        with pytest.raises(ValueError, match="worker_patience_seconds has no effect with drive='tick'"):
            build_batch_sensor(assets=[make_asset()], worker_patience_seconds=5)
        with pytest.raises(ValueError, match="drive must be 'tick' or 'job', not 'jobs'"):
            build_batch_sensor(assets=[make_asset()], drive="jobs")  # type: ignore[arg-type]

    def test_settings_for_a_sensor_that_is_made_already(self, make_asset: Callable[..., BatchAsset]) -> None:
        asset = make_asset()
        sensor = build_batch_sensor(assets=[asset], name="mine")
        with pytest.raises(ValueError, match="drive, minimum_interval_seconds would have no effect"):
            build_batch_definitions(assets=[asset], sensor=sensor, minimum_interval_seconds=5, drive="job")

    def test_what_terminating_does_to_an_asset_that_does_not_wait(
        self, make_asset: Callable[..., BatchAsset]
    ) -> None:
        with pytest.raises(
            InvalidInputError, match="on_termination='cancel' has no effect without wait=True"
        ):
            make_asset(on_termination="cancel")
        make_asset(on_termination="cancel", wait=True)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (
            BatchorResource,
            {"storage": "postgres", "postgress_schema": "team_a"},
            "BatchorResource has no setting 'postgress_schema'; did you mean 'postgres_schema'?",
        ),
        (BatchorResource, {"zzz": dg.EnvVar("A")}, "no setting 'zzz'; known here: root, storage, "),
        (BatchorResource.configure_at_launch, {"rooot": "a"}, "did you mean 'root'?"),
        (BatchConfig, {"rerunn": "all"}, "BatchConfig has no setting 'rerunn'; did you mean 'rerun'?"),
        (ControlConfig, {"run": "x"}, "ControlConfig has no setting 'run'"),
        (DriveConfig, {"run_id": "x", "second": 3}, "did you mean 'seconds'?"),
    ],
)
def test_a_misspelt_setting_is_refused(
    make: Callable[..., Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        make(**settings)


class Regional(BatchorResource):
    region: str = Field(default="eu", alias="where")


class Seeded(BatchConfig):
    seed: int = 0


def test_settings_of_subclasses_pass_and_dagster_can_make_the_resource_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHOR_TEST_ROOT", str(tmp_path))
    seen: list[Any] = []

    @dg.asset
    def reads(batchor: Regional, launched: dg.ResourceParam[Any], config: Seeded) -> None:
        seen.extend([batchor.root, batchor.region, launched.root, config.seed])

    assert dg.materialize(
        [reads],
        resources={
            "batchor": Regional(root=dg.EnvVar("BATCHOR_TEST_ROOT"), where="us", providers={}),
            "launched": BatchorResource.configure_at_launch(),
        },
        run_config=dg.RunConfig(
            ops={"reads": Seeded(seed=3)}, resources={"launched": BatchorResource(root="there")}
        ),
    ).success
    assert seen == [str(tmp_path), "us", "there", 3]
