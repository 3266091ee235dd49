"""A model that the drivers of a run can't import is an error where the sensor is defined; they import those of YAML."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import dagster as dg
import pytest
from pydantic import BaseModel

from batchor_core.core.exceptions import InvalidInputError
from batchor_core.testing.openai_server import OpenAIServer
from batchor_dagster import BatchAsset, BatchorResource, build_batch_definitions
from batchor_dagster.components.batch import Batch
from batchor_dagster.testing import materialize_batch
from tests.dagster.conftest import Fact

MakeAsset = Callable[..., BatchAsset]
T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    entries: list[T]


class FactPage(Page[Fact]): ...


class Twice(BaseModel):
    stars: int


AnotherName = Twice
del Twice


def local_model() -> type[BaseModel]:
    class Local(BaseModel):
        statement: str

    return Local


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            local_model(),
            r"model Local: it is defined inside local_model\(\). Move it to the top level of tests.dagster.test_models.",
        ),
        (Page[Fact], r"Derive a class at the top level of .*: class Answer\(Page\[Fact\]\)"),
        (AnotherName, "the module tests.dagster.test_models has no Twice. Define it at the top level"),
    ],
)
def test_one_that_cannot_be_imported_is_refused_with_the_way_out(
    make_asset: MakeAsset, model: type[BaseModel], message: str
) -> None:
    asset = make_asset(output=model)
    with pytest.raises(InvalidInputError, match=f"^facts: the sensor checks answers.*{message}"):
        build_batch_definitions(assets=[asset])


@pytest.mark.parametrize("output", [Fact, FactPage, None])
def test_one_of_a_module_is_taken(make_asset: MakeAsset, output: Any) -> None:
    assert build_batch_definitions(assets=[make_asset(output=output)]).sensors


def test_a_test_in_one_process_may_have_a_local_model(
    make_asset: MakeAsset, resource: BatchorResource, instance: dg.DagsterInstance
) -> None:
    asset = make_asset(output=local_model())
    birds = materialize_batch(asset, "birds", resources={"batchor": resource}, instance=instance)
    assert birds.success
    assert "statement" in birds.table.column_names


def test_a_driver_checks_answers_with_the_model_of_the_yaml(
    tmp_path: Path, resource: BatchorResource, instance: dg.DagsterInstance, openai_server: OpenAIServer
) -> None:
    """An answer that does not fit is asked for again, as with a model of a module."""
    answer, asked = openai_server.responder, []

    def respond(body: dict[str, Any], endpoint: str, custom_id: str) -> Any:
        asked.append(custom_id)
        return '{"mood": "angry"}' if len(asked) == 1 else answer(body, endpoint, custom_id)

    openai_server.responder = respond
    (tmp_path / "rows.csv").write_text("id,text\n1,good\n")
    batch = Batch.model_validate(
        {
            "name": "reviews",
            "openai": {"model": "gpt-5-mini"},
            "prompt": "{text}",
            "source": {"path": "rows.csv"},
            "output": {"mood": ["good", "bad"]},
        }
    )
    done = materialize_batch(batch.asset(tmp_path), resources={"batchor": resource}, instance=instance)
    assert done.success
    assert len(asked) == 2
    assert done.table["mood"].to_pylist()[0] in ("good", "bad")
