"""What a batch's two assets look like in Dagster: by arguments, by a translator of one's own, from YAML."""

import dataclasses
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from pydantic import ValidationError

from batchor_core import BatchItem, BatchJob, ChunkPolicy, OpenAIProviderConfig
from batchor_core.core.exceptions import InvalidInputError
from batchor_dagster import (
    BatchAsset,
    BatchComponent,
    BatchorResource,
    BatchPart,
    BatchTranslator,
    BatchTranslatorData,
    batch_asset,
    build_results_io_manager,
)
from batchor_dagster.components import Batch

OF_DAGSTER = pytest.mark.filterwarnings("ignore:.parse_obj_as. is deprecated")


def made(**arguments: Any) -> BatchAsset:
    @batch_asset(**arguments)
    def reviews() -> BatchJob[Any, Any]:
        """What customers say."""
        return BatchJob(
            items=[BatchItem("a", "fine")],
            build_prompt=lambda item: str(item.payload),
            provider_config=OpenAIProviderConfig(model="gpt-4.1-mini"),
        )

    return reviews


def by_part(asset: BatchAsset) -> dict[str, dg.AssetSpec]:
    return {("results" if spec.key == asset.key else "submission"): spec for spec in asset.specs}


class ByTeam(BatchTranslator):
    def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
        spec = super().get_asset_spec(data)
        return spec.replace_attributes(
            key=spec.key.with_prefix("judged"), group_name="opinions", owners=["team:reviews"]
        ).merge_attributes(metadata={"part": str(data.part)}, tags={"cost": "paid"})


def test_without_a_translator_the_arguments_say_it_all() -> None:
    specs = by_part(
        made(
            key_prefix="shop",
            group_name="g",
            owners=["team:a"],
            tags={"k": "v"},
            metadata={"m": 1},
            deps=["up"],
            automation_condition=dg.AutomationCondition.eager(),
            code_version="3",
        )
    )
    submission, results = specs["submission"], specs["results"]
    assert (submission.key.path, results.key.path) == (["shop", "reviews_submission"], ["shop", "reviews"])
    for spec in (submission, results):
        assert (spec.group_name, spec.owners, spec.code_version) == ("g", ["team:a"], "3")
        assert spec.tags["k"] == "v"
    assert results.description == "What customers say."
    assert str(submission.description).startswith("Starts the batch run of reviews")
    assert (submission.kinds, results.kinds) == ({"openai"}, {"openai", "parquet"})
    assert (submission.metadata, results.metadata) == ({}, {"m": 1})
    assert [dep.asset_key.path for dep in submission.deps] == [["up"]]
    assert [dep.asset_key for dep in results.deps] == [submission.key]
    assert submission.automation_condition is not None
    assert results.automation_condition is None


def test_the_submission_has_the_kinds_of_the_results_but_not_of_their_file() -> None:
    specs = by_part(made(kinds=(kind for kind in ("acme", "parquet"))))
    assert (specs["submission"].kinds, specs["results"].kinds) == ({"acme"}, {"acme", "parquet"})


def test_a_batch_that_waits_has_one_spec_with_everything() -> None:
    [spec] = made(wait=True, deps=["up"], automation_condition=dg.AutomationCondition.eager()).specs
    assert spec.key.path == ["reviews"]
    assert [dep.asset_key.path for dep in spec.deps] == [["up"]]
    assert spec.automation_condition is not None


def test_a_translator_wins_over_the_arguments() -> None:
    asset = made(translator=ByTeam(), group_name="mine", tags={"k": "v"}, metadata={"m": 1})
    specs = by_part(asset)
    assert asset.key == dg.AssetKey(["judged", "reviews"])
    assert asset.submission_key == dg.AssetKey(["judged", "reviews_submission"])
    assert asset.run_id() == "judged.reviews"
    assert [dep.asset_key for dep in specs["results"].deps] == [asset.submission_key]
    for part, spec in specs.items():
        assert (spec.group_name, spec.owners) == ("opinions", ["team:reviews"])
        assert (spec.tags["k"], spec.tags["cost"], spec.metadata["part"]) == ("v", "paid", part)
    assert specs["results"].metadata["m"] == 1
    [check] = asset.checks
    assert {one.asset_key for one in check.check_specs} == {asset.key}


def test_results_that_name_their_submission_depend_on_it_once() -> None:
    class Naming(BatchTranslator):
        def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
            spec = super().get_asset_spec(data)
            if data.part is BatchPart.submission:
                return spec
            return spec.merge_attributes(deps=["reviews_submission", "prices"])

    deps = [dep.asset_key.to_user_string() for dep in by_part(made(translator=Naming()))["results"].deps]
    assert sorted(deps) == ["prices", "reviews_submission"]


def test_translated_assets_run_and_are_loaded(
    resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    class Loaded(ByTeam):
        def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
            spec = super().get_asset_spec(data)
            return spec.with_io_manager_key("results") if data.part is BatchPart.results else spec

    asset = made(translator=Loaded(), wait=True)
    seen: list[str] = []

    @dg.asset(ins={"opinions": dg.AssetIn(key=asset.key)})
    def count(opinions: pl.DataFrame) -> None:
        seen.extend(opinions["item_id"])

    result = dg.materialize(
        [*asset.assets, *asset.checks, count],
        instance=instance,
        resources={"batchor": resource, "results": build_results_io_manager()},
    )
    assert result.success
    assert seen == ["a"]
    with resource.runner() as runner:
        assert runner.has_run("judged.reviews")


def changing(**attributes: Any) -> BatchTranslator:
    class Changing(BatchTranslator):
        def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
            return super().get_asset_spec(data).replace_attributes(**attributes)

    return Changing()


class Forgetful(BatchTranslator):
    def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
        super().get_asset_spec(data)
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("translator", "message"),
    [
        (changing(key="opinions"), "submission and results of reviews the same key, opinions"),
        (changing(partitions_def=dg.StaticPartitionsDefinition(["a"])), "partitions can't be changed here"),
        (changing(skippable=True), "results of reviews: an asset of a batch is never skippable"),
        (Forgetful(), r"Forgetful.get_asset_spec, results of reviews: it must return an AssetSpec, not None"),
    ],
)
def test_a_spec_that_a_batch_can_not_have_is_refused(translator: BatchTranslator, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        made(translator=translator)


def test_a_misspelt_argument_is_named() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'groupname'; did you mean 'group_name'"):
        made(groupname="g")


# --- from YAML -------------------------------------------------------------------------------------------------------

BATCHES = """
batches:
  - name: shop/reviews
    openai: {model: gpt-5-nano}
    prompt: "{text}"
    source: {path: rows.csv}
    owners: ["team:a"]
    tags: {k: v}
resource: {root: .batchor}
"""

TRANSLATION = """
translation:
  key: "judged/{{ spec.key.path[-1] }}"
  key_prefix: [all]
  group_name: "{{ data.name }}_group"
  description: "{{ data.part }} of {{ data.name }}"
  owners: ["team:{{ data.name }}"]
  kinds: [acme]
  tags: {year: 2026}
  metadata: {runbook: "https://wiki.example/{{ data.name }}"}
  code_version: 7
"""


def specs_of(component: BatchComponent, folder: Path) -> dict[str, dg.AssetSpec]:
    class Context:
        path = folder

    definitions = component.build_defs(Context())  # type: ignore[arg-type]
    found = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    results = dg.AssetKey.from_user_string(min(found, key=len))
    # the sensor's own view of the batch has the translated key too
    writing = definitions.resolve_job_def(f"batchor_results__{results.to_python_identifier()}")
    assert writing.asset_layer.executable_asset_keys == {results}
    return found


@OF_DAGSTER
def test_yaml_changes_the_specs_of_both_assets(tmp_path: Path) -> None:
    specs = specs_of(BatchComponent.resolve_from_yaml(BATCHES + TRANSLATION), tmp_path)
    assert sorted(specs) == ["all/judged/reviews", "all/judged/reviews_submission"]
    for key, part in (("all/judged/reviews", "results"), ("all/judged/reviews_submission", "submission")):
        spec = specs[key]
        assert (spec.group_name, spec.owners) == ("reviews_group", ["team:reviews"])
        assert (spec.description, spec.code_version) == (f"{part} of reviews", "7")
        assert (spec.kinds, spec.tags["k"], spec.tags["year"]) == ({"acme"}, "v", "2026")
        assert spec.metadata["runbook"] == "https://wiki.example/reviews"


@OF_DAGSTER
def test_a_subclass_of_the_component_has_rules_of_its_own(tmp_path: Path) -> None:
    class Shop(BatchComponent):
        def get_asset_spec(self, data: BatchTranslatorData) -> dg.AssetSpec:
            spec = super().get_asset_spec(data)
            return spec.merge_attributes(metadata={"columns": len(getattr(data.output, "model_fields", []))})

    with_output = BATCHES.replace("    owners:", "    output: {mood: [good, bad]}\n    owners:")
    specs = specs_of(Shop.resolve_from_yaml(f"{with_output}\ntranslation: {{group_name: g}}"), tmp_path)
    assert {spec.metadata["columns"] for spec in specs.values()} == {1}
    assert {spec.group_name for spec in specs.values()} == {"g"}


@OF_DAGSTER
def test_a_subclass_of_the_component_makes_the_jobs(tmp_path: Path) -> None:
    class Shop(BatchComponent):
        def execute(
            self, context: dg.AssetExecutionContext, batch: Batch, folder: Path
        ) -> BatchJob[Any, Any]:
            job = super().execute(context, batch, folder)
            return dataclasses.replace(job, chunk_policy=ChunkPolicy(max_requests=7))

    (tmp_path / "rows.csv").write_text("id,text\n1,fine\n")
    [asset] = Shop.resolve_from_yaml(BATCHES)._assets(tmp_path, resource_key="batchor")
    job = asset(dg.build_asset_context())
    assert job.chunk_policy.max_requests == 7


@OF_DAGSTER
def test_a_misspelt_key_of_a_translation_is_named() -> None:
    with pytest.raises(ValidationError, match=r"unknown key 'translation.group'; did you mean 'group_name'"):
        BatchComponent.resolve_from_yaml(f"{BATCHES}\ntranslation: {{group: g}}")
