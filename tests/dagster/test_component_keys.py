"""A misspelt key of the YAML is named with its place and the key that was meant."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.models import ProviderConfig
from batchor_dagster import BatchComponent
from batchor_dagster.components.batch import Batch, OpenAI
from batchor_dagster.components.misspelt_keys import unknown_keys
from tests.support.fixtures import Install
from tests.support.shelf_provider import ShelfConfig

BATCH: dict[str, Any] = {
    "name": "reviews",
    "openai": {"model": "gpt-5-nano"},
    "prompt": "{text}",
    "source": {"path": "rows.csv"},
}


def component(**changes: Any) -> dict[str, Any]:
    return {"batches": [{**BATCH, **changes}]}


MISSPELT: list[tuple[dict[str, Any], str, str]] = [
    (component(openai={"model": "m", "temprature": 0}), "batches[0].openai.temprature", "temperature"),
    (component(source={"path": "a.csv", "id_colum": "x"}), "batches[0].source.id_colum", "id_column"),
    (
        component(partitions={"type": "daily", "startdate": "2026"}),
        "batches[0].partitions.startdate",
        "start_date",
    ),
    (component(promt="x"), "batches[0].promt", "prompt"),
    ({"batches": [BATCH, {**BATCH, "waits": True}]}, "batches[1].waits", "wait"),
    ({"batches": [BATCH], "resource": {"rot": "x"}}, "resource.rot", "root"),
    ({"batches": [BATCH], "sensor_nam": "x"}, "sensor_nam", "sensor_name"),
]


@pytest.mark.parametrize(("yaml", "place", "meant"), MISSPELT)
def test_the_key_that_was_meant_is_proposed(yaml: dict[str, Any], place: str, meant: str) -> None:
    assert list(unknown_keys(yaml, BatchComponent)) == [f"unknown key {place!r}; did you mean {meant!r}?"]
    with pytest.raises(ValidationError) as caught:
        BatchComponent.model().model_validate(yaml)
    [error] = caught.value.errors()
    assert error["msg"] == f"Value error, unknown key {place!r}; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("yaml", "lines"),
    [
        (
            component(openai={"model": 5}),
            ["batches[0].openai.model is 5: input should be a valid string"],
        ),
        (
            {"batches": [BATCH, {**BATCH, "openai": {"model": "m", "temperature": "hot"}, "wait": [1]}]},
            [
                "batches[1].openai.temperature is 'hot': input should be a valid number, unable to parse string as a number",
                "batches[1].wait is [1]: input should be a valid boolean",
            ],
        ),
        (
            component(output={1: "string"}),
            ["the key batches[0].output[1] is 1, which is not a string: put it in quotes"],
        ),
        (component(openai={}), ["batches[0].openai.model is missing"]),
        (
            {"batches": [BATCH], "resource": {"root": 7}},
            ["resource.root is 7: input should be a valid string"],
        ),
        ({}, ["batches is missing"]),
    ],
)
def test_a_wrong_value_is_reported_once_with_its_place(yaml: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        BatchComponent.model().model_validate(yaml)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {line}" for line in lines]


@pytest.mark.filterwarnings("ignore:.parse_obj_as. is deprecated")  # Dagster's own doing
def test_dagster_adds_the_line_of_a_wrong_value() -> None:
    text = yaml.safe_dump(component(openai={"model": 5}))
    with pytest.raises(ValidationError) as caught:
        BatchComponent.resolve_from_yaml(text)
    [error] = caught.value.errors()
    assert error["msg"] == "Value error, batches[0].openai.model is 5: input should be a valid string"
    assert "at <string>:4" in str(error["loc"])


@pytest.mark.parametrize(("yaml", "place", "meant"), MISSPELT)
def test_the_schema_points_at_the_key_and_lists_those_that_are_there(
    yaml: dict[str, Any], place: str, meant: str
) -> None:
    """This is what `dg check yaml` and editors go by."""
    model = BatchComponent.get_model_cls()
    assert model is not None
    schema = model.model_json_schema()
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(yaml))
    messages = [error.message for error in errors if error.validator == "enum"]
    assert any(message.startswith(f"{place.rsplit('.', 1)[-1]!r} is not one of [") for message in messages)
    assert any(repr(meant) in message for message in messages)
    assert "under any of the given schemas" not in str([error.message for error in errors])


@pytest.mark.parametrize(
    "yaml",
    [
        component(),
        component(openai="{{ llm }}", source="{{ rows }}"),
        component(openai={"model": "m", "temperature": 0.5, "request_options": {"anything": {"goes": 1}}}),
        component(output={"a_field": "string", "nested": {"further": "integer"}}),
        component(openai=None, provider={"kind": "acme", "whatever": 1}),
        {"batches": "{{ all_of_them }}", "resource": None},
        {"batches": [BATCH], "resource": {"root": "x", "providers": {"acme": {"api_key": {"env": "K"}}}}},
    ],
)
def test_what_is_spelt_right_passes_template_strings_included(yaml: dict[str, Any]) -> None:
    assert list(unknown_keys(yaml, BatchComponent)) == []
    BatchComponent.model().model_validate(yaml)
    model = BatchComponent.get_model_cls()
    assert model is not None
    jsonschema.Draft202012Validator(model.model_json_schema()).validate(yaml)


def test_a_key_like_no_other_gets_the_list() -> None:
    [line] = unknown_keys(component(zzz=1), BatchComponent)
    assert line.startswith("unknown key 'batches[0].zzz'; known here: name, openai, provider, prompt")


def test_all_misspelt_keys_are_told_at_once() -> None:
    yaml = component(promt="x", openai={"modle": "m"})
    assert len(list(unknown_keys(yaml, BatchComponent))) == 2


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"top_p": 0.5, "request_options": {"seed": 1}}, {"top_p": 0.5, "seed": 1}),
        ({}, {}),
    ],
)
def test_sampling_has_keys_of_its_own(settings: dict[str, Any], options: dict[str, Any]) -> None:
    assert OpenAI(model="gpt-4.1", **settings).config().request_options == options


def test_sampling_said_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="temperature is in request_options too"):
        OpenAI(model="gpt-4.1", temperature=0, request_options={"temperature": 1}).config()


class TestProvider:
    @staticmethod
    def config(**settings: Any) -> ProviderConfig:
        return Batch(**{**BATCH, "openai": None, **settings}).config()

    def test_a_batch_may_name_the_provider_of_a_package(self, install: Install, tmp_path: Path) -> None:
        install()
        batch = Batch(
            **{**BATCH, "openai": None, "provider": {"kind": "shelf", "folder": "there", "mark": "?"}}
        )
        assert batch.config() == ShelfConfig("there", "?")
        [spec, results] = batch.asset(tmp_path).specs
        assert spec.kinds == {"shelf"}
        assert results.kinds == {"shelf", "parquet"}
        assert results.description == "shelf on rows.csv"
        assert spec.key.path == ["reviews_submission"]
        with pytest.raises(
            InvalidInputError, match=r"provider 'shelf': .*unexpected keyword argument 'flder'"
        ):
            self.config(provider={"kind": "shelf", "flder": "there"})

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({}, "reviews: give either openai or provider"),
            ({"openai": {"model": "m"}, "provider": {"kind": "shelf"}}, "give either openai or provider"),
            ({"provider": {"folder": "x"}}, "provider needs a kind"),
            (
                {"provider": {"kind": "shelf"}},
                "no provider is registered as 'shelf'; known: 'anthropic', 'command', 'gemini', 'openai'",
            ),
        ],
    )
    def test_what_is_missing_is_named(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidInputError, match=message):
            self.config(**settings)
