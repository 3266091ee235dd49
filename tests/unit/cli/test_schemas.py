"""``--schema``: a Pydantic model from a file, a module or a plain JSON schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from batchor_core.cli.schemas import model_named
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.structured import closed_model_schema

MODULE = "from pydantic import BaseModel\nclass Review(BaseModel):\n    mood: str\nclass Other: pass\n"

SCHEMA: dict[str, Any] = {
    "title": "review of a product",
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"], "description": "how it is meant"},
        "score": {"type": "integer"},
        "price": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "shop": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
    "required": ["mood", "score", "price", "tags"],
}


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_model_of_a_file_is_known_by_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "cli_reviews.py").write_text(MODULE)
    model = model_named("cli_reviews.py:Review")
    assert (model.__module__, model.__qualname__) == ("cli_reviews", "Review")
    assert model_named("./cli_reviews.py:Review") is model
    assert model_named("cli_reviews:Review") is model


def test_a_file_never_takes_the_place_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(MODULE)
    assert model_named("json.py:Review").__module__ == "batchor_schema_json"
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("cli_reviews.py:Reviw", "did you mean 'Review'?"),
        ("cli_reviews.py:Other", "not a Pydantic model"),
        ("cli_reviews.py", "does not name a model"),
        ("cli_nothing.py:Review", "there is no file"),
        ("cli_nothing:Review", "can't be imported"),
        ("cli_broken.py:Review", "ZeroDivisionError"),
    ],
)
def test_what_names_no_model_is_an_error(tmp_path: Path, schema: str, said: str) -> None:
    (tmp_path / "cli_reviews.py").write_text(MODULE)
    (tmp_path / "cli_broken.py").write_text("1 / 0")
    with pytest.raises(InvalidInputError) as caught:
        model_named(schema)
    assert said in str(caught.value)


def test_a_plain_json_schema_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "review.json").write_text(json.dumps(SCHEMA))
    model = model_named("review.json")
    assert model.__name__ == "ReviewOfAProduct"
    good = {"mood": "good", "score": 3, "price": None, "tags": ["x"], "shop": {"name": "y"}}
    assert model.model_validate(good).model_dump() == good
    changes: list[dict[str, Any]] = [{"mood": "other"}, {"score": "x"}, {"shop": {}}, {"tags": [1]}]
    for bad in changes:
        with pytest.raises(ValidationError):
            model.model_validate(good | bad)
    assert model.model_json_schema()["properties"]["mood"]["description"] == "how it is meant"


def test_the_schema_of_a_file_stays_as_it_was(tmp_path: Path) -> None:
    """The run id is made of it: another schema would be another run, paid for again."""
    opening = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}
    shop = {"type": "object", "properties": {"openHours": {"type": "array", "items": opening}}}
    (tmp_path / "answer.json").write_text(
        json.dumps({**SCHEMA, "properties": {"shop": shop}, "required": []})
    )
    sent = closed_model_schema(model_named("answer.json"))
    assert sent.name == "review_of_a_product"
    assert list(sent.schema["$defs"]) == ["ReviewOfAProductShop", "ReviewOfAProductShopOpenHoursItem"]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "the JSON schema of an object"),
        ({"type": "object"}, "needs properties"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "format": "date"}}},
            "review.json.a: 'format' can't be a field of a model. For anything else, write a Pydantic model",
        ),
        ({"type": "object", "properties": {"a": {"anyOf": []}}}, "review.json.a: it allows no type at all"),
        ({"type": "object", "properties": {"model_fields": {"type": "string"}}}, "Pydantic has an attribute"),
        (
            {"type": "object", "properties": {"a": {"type": "array"}}},
            "a.items: a schema is a mapping, and this is None",
        ),
    ],
)
def test_what_a_json_file_can_not_say_is_an_error(tmp_path: Path, schema: Any, said: str) -> None:
    (tmp_path / "review.json").write_text(json.dumps(schema))
    with pytest.raises(InvalidInputError) as caught:
        model_named("review.json")
    assert said in str(caught.value)
