"""Components whose resources agree share one; others have their own, or are told what they disagree about."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest

from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster import BatchAsset, BatchorResource, build_batch_definitions
from batchor_dagster.components.resource import Resource
from batchor_dagster.components.resource_sharing import Asked, resource_keys


def asked(name: str, settings: Mapping[str, Any] | None = None, key: str | None = None) -> Asked:
    return Asked(name, None if settings is None else Resource(**settings).model_dump(), key)


HERE: dict[str, Any] = {"root": "here"}
THERE: dict[str, Any] = {"root": "there"}


@pytest.mark.parametrize(
    ("components", "keys"),
    [
        ([asked("a", HERE)], ["batchor"]),
        ([asked("a")], ["batchor"]),
        ([asked("a", HERE), asked("b", HERE)], ["batchor", "batchor"]),
        ([asked("a"), asked("b", HERE)], ["batchor", "batchor"]),
        ([asked("a", HERE), asked("b", {"root": "./x/../here"})], None),
        ([asked("a", HERE), asked("b", THERE)], ["batchor", "batchor_b"]),
        ([asked("a", HERE), asked("b", THERE), asked("c", THERE)], ["batchor_a", "batchor", "batchor"]),
        ([asked("a", HERE, "batchor"), asked("b", THERE), asked("c")], ["batchor", "batchor_b", "batchor"]),
        (
            [asked("a", HERE), asked("b", HERE), asked("c"), asked("d", THERE)],
            [*["batchor"] * 3, "batchor_d"],
        ),
        ([asked("a", HERE, "llm"), asked("b", THERE)], ["llm", "batchor"]),
        ([asked("a", HERE, "llm"), asked("b", HERE)], ["llm", "llm"]),
        ([asked("a", HERE, "llm"), asked("b", None, "llm")], ["llm", "llm"]),
        ([asked("a", HERE), asked("b", THERE, "batchor")], ["batchor_a", "batchor"]),
        ([asked("a", None, "mine")], ["mine"]),
        (
            [
                asked("a", {"storage": "postgres", "postgres_schema": "a"}),
                asked("b", {"storage": "postgres", "postgres_schema": "b"}),
            ],
            ["batchor", "batchor_b"],
        ),
        ([asked("a", HERE, "llm"), asked("b", THERE, "llm")], None),
        ([asked("a", HERE), asked("b", {**HERE, "base_url": "https://example.com/v1"})], None),
        ([asked("a", HERE, "x"), asked("b", {**HERE, "artifacts": "elsewhere"}, "y")], None),
        (
            [
                asked("a", {"storage": "postgres", "root": "a"}),
                asked("b", {"storage": "postgres", "root": "b"}),
            ],
            None,
        ),
    ],
)
def test_who_shares_with_whom(components: list[Asked], keys: list[str] | None) -> None:
    if keys is None:
        with pytest.raises(
            InvalidInputError, match=r"components of 'a' and 'b' use .* with different settings"
        ):
            resource_keys(components)
    else:
        assert resource_keys(components) == keys
        backwards = resource_keys(components[::-1])
        assert backwards[::-1] == keys  # whichever Dagster comes by first


def test_the_resource_of_a_component_is_not_guessed() -> None:
    with pytest.raises(
        InvalidInputError, match=r"'c' has no `resource`, and could use that of 'a' or of 'b'"
    ):
        resource_keys([asked("c"), asked("b", THERE), asked("a", HERE)])


def test_the_same_settings_make_the_same_object() -> None:
    assert Resource(root="a").made() is Resource(root="a").made()
    assert Resource(root="a").made() is not Resource(root="b").made()


def test_a_provider_in_yaml_has_its_key_from_a_variable() -> None:
    made = Resource(root="a", providers={"acme": {"api_key": {"env": "ACME_KEY"}, "region": "eu"}}).made()
    settings = made.providers["acme"].settings
    assert isinstance(settings["api_key"], dg.EnvVar)
    assert settings["region"] == "eu"


def test_prices_and_caps_are_those_of_the_resource() -> None:
    caps: list[dict[str, Any]] = [{"usd": 5, "scope": "asset", "per": "day"}, {"rows": 100}]
    made = Resource(root="a", prices="prices.toml", caps=caps).made()
    assert (made.prices, made.caps) == ("prices.toml", caps)


@pytest.mark.filterwarnings(
    "ignore:Parameter .owners. of initializer:dagster.BetaWarning"
)  # Dagster's own doing
@pytest.mark.parametrize("drive", ["tick", "job"])
def test_definitions_of_several_resources_can_be_merged(
    make_asset: Any, resource: BatchorResource, instance: dg.DagsterInstance, tmp_path: Any, drive: str
) -> None:
    assets: list[BatchAsset] = [
        make_asset(),
        make_asset(name="others", resource_key="llm", partitions_def=None),
    ]
    other = BatchorResource(root=str(tmp_path / "other"), base_url=resource.base_url)
    merged = dg.Definitions.merge(
        *(
            build_batch_definitions(assets=[asset], resources={asset.resource_key: its_own}, drive=drive)
            for asset, its_own in zip(assets, [resource, other], strict=True)
        )
    )
    dg.Definitions.validate_loadable(merged)
    submitted = merged.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("others_submission")]
    )
    assert submitted.success
    # the links of its metadata go to its own control job, which takes the same run config as the usual one
    [event] = submitted.asset_materializations_for_node("others_submission")
    assert "/jobs/batchor_control_llm/" in str(event.metadata["batchor/controls"].value) or (
        "/guess/batchor_control_llm/" in str(event.metadata["batchor/controls"].value)
    )
    paused = merged.resolve_job_def("batchor_control_llm").execute_in_process(
        instance=instance,
        run_config={"ops": {"apply_batchor_control": {"config": {"run_id": "others", "action": "pause"}}}},
    )
    assert paused.success
    with other.runner() as runner:
        assert runner.get_run("others").control_state.value == "paused"
    assert merged.resolve_sensor_def("batchor_sensor_llm").name == "batchor_sensor_llm"
