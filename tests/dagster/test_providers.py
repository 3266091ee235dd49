"""The resource takes any registered provider: one of your own, one from a package, with keys that no job holds."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from batchor_core import (
    BatchItem,
    BatchJob,
    OpenAIProviderConfig,
    build_default_provider_registry,
)
from batchor_core.core.exceptions import InvalidInputError, MissingCredentialsError
from batchor_core.core.models import ProviderConfig
from batchor_core.providers.base import BatchProvider
from batchor_dagster import BatchAsset, BatchorResource, Provider, batch_asset
from batchor_dagster.providers import with_settings
from tests.support.shelf_provider import KEY, ShelfConfig, ShelfProvider, install_package

ROOT = Path(__file__).parents[2]


def as_provider(config: ShelfConfig) -> BatchProvider:
    return ShelfProvider(config)  # type: ignore[return-value]  # no subclass, which need not be


SHELF = Provider(as_provider, ShelfConfig.from_payload, settings={"api_key": dg.EnvVar("SHELF_KEY")})


def shelf_asset(folder: Path, **settings: Any) -> BatchAsset:
    @batch_asset(name="shouts", **settings)
    def shouts(context: dg.AssetExecutionContext) -> BatchJob[Any, Any]:
        return BatchJob(
            items=[BatchItem("1", "hey"), BatchItem("2", "you")],
            build_prompt=lambda item: item.payload,
            provider_config=ShelfConfig(str(folder / "shelf")),
        )

    return shouts


def materialize(
    asset: BatchAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [asset.assets[0]], resources={"batchor": resource}, instance=instance, raise_on_error=False
    )


def reason(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.error)


def resource_with(folder: Path, providers: Any, **settings: Any) -> BatchorResource:
    return BatchorResource(root=str(folder), poll_interval_sec=0.01, providers=providers, **settings)


class TestProviders:
    def test_a_provider_of_ones_own_answers_and_no_key_of_openai_is_wanted(
        self, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.setenv("SHELF_KEY", KEY)
        asset, resource = shelf_asset(tmp_path, wait=True), resource_with(tmp_path, {"shelf": SHELF})
        assert materialize(asset, resource, instance).success
        rows = pl.read_parquet(asset.result_path(resource))
        assert sorted(rows["output_text"]) == ["HEY!", "YOU!"]

    def test_a_registry_will_do_too(self, tmp_path: Path, instance: dg.DagsterInstance) -> None:
        registry = build_default_provider_registry()
        registry.register(
            kind="shelf",
            factory=lambda config: as_provider(ShelfConfig(config.folder, api_key=KEY)),
            loader=ShelfConfig.from_payload,
        )
        asset = shelf_asset(tmp_path, wait=True)
        assert materialize(asset, resource_with(tmp_path, registry), instance).success

    def test_the_key_is_nowhere_in_what_dagster_and_the_store_keep(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SHELF_KEY", KEY)
        (tmp_path / "dagster").mkdir()
        with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
            resource = resource_with(tmp_path / "batchor", {"shelf": SHELF})
            assert materialize(shelf_asset(tmp_path, wait=True), resource, instance).success
        assert KEY not in repr(resource)
        kept = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
        assert kept == []

    @pytest.mark.parametrize("providers", [None, {}])
    def test_an_unknown_kind_says_what_is_there_and_how_to_bring_it(
        self, providers: object, tmp_path: Path, instance: dg.DagsterInstance
    ) -> None:
        message = reason(materialize(shelf_asset(tmp_path), resource_with(tmp_path, providers), instance))
        assert (
            "no provider is registered as 'shelf' for this BatchorResource; known: 'anthropic', 'command', 'gemini', 'openai'."
            in message
        )
        assert "BatchorResource(providers={'shelf': Provider(factory, loader)})" in message
        assert "entry point group batchor.providers" in message

    def test_a_key_that_is_not_set_is_named_when_the_provider_is_needed_and_not_before(
        self, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SHELF_KEY", KEY)
        asset, resource = shelf_asset(tmp_path), resource_with(tmp_path, {"shelf": SHELF})
        assert materialize(asset, resource, instance).success
        with resource.runner() as runner:
            runner.get_run("shouts").wait()
        monkeypatch.delenv("SHELF_KEY")
        written = dg.materialize([asset.assets[1]], resources={"batchor": resource}, instance=instance)
        assert written.success
        message = reason(materialize(shelf_asset(tmp_path, key_prefix="other"), resource, instance))
        assert (
            "providers['shelf'].settings.api_key is EnvVar('SHELF_KEY'), and that variable is not set"
            in message
        )

    @pytest.mark.parametrize(
        "given",
        [
            [SHELF],
            {"shelf": ShelfProvider},
            {"": SHELF},
            {"shelf": {"api_key": "k"}},
            "shelf",
        ],
    )
    def test_what_is_no_provider_is_refused_where_it_is_written(self, given: object) -> None:
        with pytest.raises(InvalidInputError, match=r"must map kinds to Provider\(...\)"):
            BatchorResource(providers=given)

    def test_factory_and_loader_come_together(self) -> None:
        with pytest.raises(InvalidInputError, match="factory and loader together"):
            Provider(as_provider)


class Plain(ProviderConfig):
    provider_kind = "plain"

    def to_payload(self) -> dict[str, Any]:
        return {}


class TestSettings:
    @pytest.mark.parametrize(
        ("config", "settings", "expected"),
        [
            (ShelfConfig("f"), {}, ShelfConfig("f")),
            (ShelfConfig("f"), {"api_key": "k"}, ShelfConfig("f", api_key="k")),
            (ShelfConfig("f", api_key="job's"), {"api_key": "k"}, ShelfConfig("f", api_key="job's")),
            (ShelfConfig("f"), {"mark": "?"}, ShelfConfig("f", mark="?")),
            (ShelfConfig("f", mark="#"), {"mark": "?", "api_key": "k"}, ShelfConfig("f", "#", "k")),
            (Plain(), {}, None),
        ],
    )
    def test_a_setting_is_for_jobs_that_leave_it_out(
        self, config: ProviderConfig, settings: Mapping[str, Any], expected: ProviderConfig | None
    ) -> None:
        assert with_settings(config, settings, where="here") == (expected or config)

    @pytest.mark.parametrize(
        ("config", "settings", "message"),
        [
            (
                ShelfConfig("f"),
                {"api_kee": "k"},
                r"here.api_kee: ShelfConfig has no field .*did you mean 'api_key'\?",
            ),
            (ShelfConfig("f"), {"region": "k"}, "has no field 'region'; it has folder, mark, api_key"),
            (ShelfConfig("f"), {"folder": "g"}, "every ShelfConfig sets folder itself"),
            (ShelfConfig("f"), {"mark": ""}, "here.mark is empty"),
            (Plain(), {"api_key": "k"}, "Plain is not a dataclass"),
        ],
    )
    def test_a_setting_that_could_not_be_used_is_refused(
        self, config: ProviderConfig, settings: Mapping[str, Any], message: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=message):
            with_settings(config, settings, where="here")

    def test_openai_has_its_settings_by_either_way_but_not_by_both(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEAM_KEY", "sk-team")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        job = OpenAIProviderConfig(model="gpt-4.1")
        for resource in (
            BatchorResource(root=str(tmp_path), api_key=dg.EnvVar("TEAM_KEY")),
            resource_with(tmp_path, {"openai": Provider(settings={"api_key": dg.EnvVar("TEAM_KEY")})}),
        ):
            config = resource._in_use(build_default_provider_registry(), job)
            keyed = OpenAIProviderConfig(model="gpt-4.1", api_key="sk-team")
            assert config.account_fingerprint() == keyed.account_fingerprint()
        with pytest.raises(
            InvalidInputError, match=r"BatchorResource.api_key and providers\['openai'\].settings"
        ):
            resource_with(
                tmp_path, {"openai": Provider(settings={"api_key": "x"})}, api_key=dg.EnvVar("TEAM_KEY")
            )

    @pytest.mark.parametrize("setting", ["api_key", "base_url"])
    def test_a_variable_of_openais_that_is_not_set_never_falls_back_to_the_common_one(
        self, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-everybody")
        resource = BatchorResource(root=str(tmp_path), **{setting: dg.EnvVar("UNSET")})
        with pytest.raises(MissingCredentialsError, match=rf"BatchorResource.{setting} is EnvVar\('UNSET'\)"):
            resource._in_use(build_default_provider_registry(), OpenAIProviderConfig(model="gpt-4.1"))


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.acceptance
@pytest.mark.parametrize("registered_by", ["resource", "package"])
def test_a_run_goes_from_process_to_process_with_its_provider(tmp_path: Path, registered_by: str) -> None:
    install_package(tmp_path / "site") if registered_by == "package" else None
    (tmp_path / "dagster").mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OPENAI")},
        "PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}",
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "SHELF_HOME": str(tmp_path),
        "SHELF_FROM": registered_by,
        "SHELF_KEY": KEY,
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    project = "tests.support.shelf_project"
    submissions = ("--select", "ticked_submission,worked_submission", "--partition", "birds")
    run("-m", "dagster", "asset", "materialize", "-m", project, *submissions)
    told = run("-m", project)
    assert "launches batchor_sensor_workers_drive" in told
    assert "launches batchor_drive" not in told
    for result in ("batchor/results/ticked", "workers/results/worked"):
        rows = pl.read_parquet(tmp_path / result / "birds.parquet")
        assert sorted(rows["output_text"]) == ["FACT 0!", "FACT 1!", "FACT 2!"]
