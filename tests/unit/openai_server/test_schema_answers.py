"""Generated answers satisfy their schema, whatever the schema."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from batchor_core.testing.local_server.schema_answers import SchemaAnswers

WORDS = [
    "the",
    "kettle",
    "sings",
    "while",
    "the",
    "tea",
    "waits",
    "for",
    "two",
    "cups",
    "and",
    "a",
    "biscuit",
]


def valid(schema: dict[str, Any], seed: int, words: list[str] | None = None) -> Any:
    value = SchemaAnswers(schema).value(WORDS if words is None else words, seed)
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
    return value


# -- random schemas of the kind that structured outputs take -----------------------------


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _closed_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _bounded(low_key: str, high_key: str, kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(st.integers(-1_000, 1_000), st.integers(2, 500)).map(
        lambda pair: {"type": kind, low_key: pair[0], high_key: pair[0] + pair[1]}
    )


_strings = st.one_of(
    st.just({"type": "string"}),
    st.sampled_from(
        ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"]
    ).map(lambda name: {"type": "string", "format": name}),
    st.sampled_from([r"^[A-Z]{3}-\d{4}$", r"^(yes|no)$", r"^\+?[0-9]{7,12}$", r"^a.c\.d[^x-z]?$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(
        lambda pair: {"type": "string", "minLength": pair[0], "maxLength": pair[0] + pair[1]}
    ),
)
_numbers = st.one_of(
    st.sampled_from([{"type": "integer"}, {"type": "number"}]),
    _bounded("minimum", "maximum", "integer"),
    _bounded("exclusiveMinimum", "exclusiveMaximum", "integer"),
    _bounded("minimum", "maximum", "number"),
    _bounded("exclusiveMinimum", "exclusiveMaximum", "number"),
    st.integers(-50, 50).map(lambda bound: {"type": "number", "maximum": bound}),
    st.integers(-50, 50).map(lambda bound: {"type": "integer", "exclusiveMinimum": bound}),
    st.integers(1, 9).map(lambda step: {"type": "integer", "multipleOf": step, "minimum": -7, "maximum": 40}),
)
_leaves = st.one_of(
    _strings,
    _numbers,
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.lists(st.text(max_size=5), min_size=1, unique=True).map(
        lambda names: {"type": "string", "enum": names}
    ),
    st.integers().map(lambda number: {"const": number}),
)


def _nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4).map(_closed_object),
        inner.map(_nullable),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        st.tuples(inner, st.integers(0, 4), st.integers(0, 4)).map(
            lambda given: {
                "type": "array",
                "items": given[0],
                "minItems": given[1],
                "maxItems": given[1] + given[2],
            }
        ),
    )


_schemas = st.dictionaries(
    st.text(min_size=1, max_size=8), st.recursive(_leaves, _nested, max_leaves=8), max_size=5
).map(_closed_object)


@settings(max_examples=150, deadline=None)
@given(schema=_schemas, seed=st.integers(0, 2**32), words=st.lists(st.text(min_size=1), max_size=5))
def test_answers_satisfy_random_strict_schemas(schema: dict[str, Any], seed: int, words: list[str]) -> None:
    valid(schema, seed, words)


# -- what pydantic makes -----------------------------


class Mood(Enum):
    GLAD = "glad"
    SAD = "sad"


class Cup(BaseModel):
    material: Literal["glass", "clay"]
    millilitres: int = Field(ge=50, le=500, multiple_of=10)


class Order(BaseModel):
    guest: str
    mood: Mood
    cup: Cup | None
    toppings: list[str] = Field(min_length=1, max_length=3)
    code: str = Field(pattern=r"^[A-Z]{2}\d{3}$")
    rating: float = Field(gt=0, lt=1)


class Branch(BaseModel):
    name: str
    left: Branch | None
    right: Branch | None


class Twig(BaseModel):
    leaf: str


class Fork(BaseModel):
    parts: list[Fork | Twig]


@pytest.mark.parametrize("model", [Order, Branch, Fork])
@pytest.mark.parametrize("seed", range(40))
def test_answers_parse_as_the_pydantic_model(model: type[BaseModel], seed: int) -> None:
    model.model_validate(valid(model.model_json_schema(), seed))


def test_a_schema_may_name_its_own_root() -> None:
    tree = _closed_object({"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}})
    for seed in range(40):
        valid(tree, seed)


def test_the_same_seed_gives_the_same_answer() -> None:
    answers = SchemaAnswers(Order.model_json_schema())
    assert answers.value(WORDS, 3) == answers.value(WORDS, 3)
    assert len({str(answers.value(WORDS, seed)) for seed in range(20)}) > 10


def test_texts_are_drawn_from_the_prompt() -> None:
    answer = SchemaAnswers(Order.model_json_schema()).value(WORDS, 1)
    assert set(answer["guest"].split()) <= set(WORDS)


def test_keys_follow_the_order_of_the_schema() -> None:
    answer = SchemaAnswers(Order.model_json_schema()).value(WORDS, 1)
    assert list(answer) == ["guest", "mood", "cup", "toppings", "code", "rating"]


def test_enums_and_nulls_all_turn_up() -> None:
    answers = SchemaAnswers(Order.model_json_schema())
    drawn = [answers.value(WORDS, seed) for seed in range(60)]
    assert {answer["mood"] for answer in drawn} == {"glad", "sad"}
    assert {answer["cup"] is None for answer in drawn} == {True, False}


def test_distinct_items_are_distinct() -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 5, "uniqueItems": True}
    valid(schema, 1)


@pytest.mark.parametrize("schema", [{"type": "poem"}, {"$ref": "https://example.com/other"}])
def test_an_unusable_schema_is_an_error(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"poem|references"):
        SchemaAnswers(schema)
