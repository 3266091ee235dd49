"""Numbers and texts that no request can hold are found where the schema or the setting is given, with path and fix."""

from __future__ import annotations

import enum
import math
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from batchor_core import BatchItem, BatchJob, OpenAIProviderConfig
from batchor_core.core.exceptions import InvalidInputError, StructuredOutputSchemaError
from batchor_core.core.json_limits import json_fault
from batchor_core.providers.openai.strict_schema import model_output_schema, validate_strict_json_schema


class Big(enum.IntEnum):
    A = 1
    B = 10**20


class NoNumber(enum.Enum):
    A = math.nan


def schema_of(annotation: Any) -> Any:
    return model_output_schema(create_model("Model", x=(annotation, ...))).schema


REFUSED: list[tuple[Any, str]] = [
    (
        Annotated[int, Field(le=10**20)],
        r"\$\.properties\.x has maximum 1000.*beyond 64 bits; give a bound within",
    ),
    (Annotated[int, Field(ge=-(10**20))], r"\$\.properties\.x has minimum -1000.*beyond 64 bits"),
    (
        Annotated[int, Field(gt=2**64)],
        r"x has exclusiveMinimum 18446744073709551616, which is beyond 64 bits",
    ),
    (Annotated[int, Field(lt=-(2**63) - 1)], r"x has exclusiveMaximum -9223372036854775809"),
    (Annotated[int, Field(le=10**5000)], r"x has maximum an integer of 16,610 bits"),
    (Annotated[int, Field(multiple_of=10**30)], r"x has multipleOf 1000"),
    (Annotated[float, Field(ge=math.nan)], r"x has minimum nan, which JSON does not have; remove the bound"),
    (Annotated[int, Field(ge=5, le=3)], r"x has minimum 5 and maximum 3, so that no integer fits"),
    (
        Annotated[int, Field(gt=1, lt=2)],
        r"x has exclusiveMinimum 1 and exclusiveMaximum 2, so that no integer fits",
    ),
    (Annotated[float, Field(gt=1, le=1)], r"so that no number fits"),
    (Annotated[str, Field(min_length=5, max_length=3)], r"x has minLength 5 above maxLength 3"),
    (Annotated[list[int], Field(min_length=5, max_length=3)], r"x has minItems 5 above maxItems 3"),
    (list[Annotated[int, Field(le=10**20)]], r"\$\.properties\.x\.items has maximum"),
    (Annotated[int, Field(le=10**20)] | None, r"\$\.properties\.x\.anyOf\[0\] has maximum"),
    (Literal[10**20], r"\$\.properties\.x\.const is 1000"),
    (Literal[1, 10**20], r"\$\.properties\.x\.enum\[1\] is 1000"),
    (Big, r"enum\[1\] is 1000.*use a number within 64 bits"),
    (NoNumber, r"enum\[0\] is nan"),
    (
        Annotated[str, Field(description="half \ud800")],
        r"x\.description is 'half \\ud800', which holds half of",
    ),
    (Annotated[int, Field(json_schema_extra={"minimum": "1"})], r"x has minimum '1', which is not a number"),
    (
        Annotated[int, Field(json_schema_extra={"minimum": True})],
        r"x has minimum True, which is not a number",
    ),
    (
        Annotated[str, Field(json_schema_extra={"maxLength": 1.5})],
        r"x has maxLength 1.5; use a whole number",
    ),
    (Annotated[str, Field(json_schema_extra={"minLength": -1})], r"x has minLength -1; use a whole number"),
    (Annotated[list[int], Field(json_schema_extra={"maxItems": 2**70})], r"x has maxItems 1180"),
]


@pytest.mark.parametrize(("annotation", "match"), REFUSED, ids=range(len(REFUSED)))
def test_a_schema_that_cant_be_sent_is_refused_when_the_job_is_made(annotation: Any, match: str) -> None:
    model = create_model("Model", x=(annotation, ...))
    with pytest.raises(StructuredOutputSchemaError, match=match):
        BatchJob(
            items=[BatchItem("a", "b")],
            build_prompt=lambda item: str(item.payload),
            provider_config=OpenAIProviderConfig(model="gpt-5-mini"),
            structured_output=model,
        )


def test_the_path_leads_through_definitions() -> None:
    class Inner(BaseModel):
        y: Annotated[int, Field(le=10**20)]

    with pytest.raises(
        StructuredOutputSchemaError, match=r"Model: \$\.properties\.x\.items\.properties\.y has maximum"
    ):
        schema_of(list[Inner])


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[int, Field(ge=-(2**63), le=2**64 - 1)],
        Annotated[int, Field(gt=0, lt=2)],
        Annotated[int, Field(ge=3, le=3, multiple_of=3)],
        Annotated[float, Field(ge=-1e308, le=1e308)],
        Annotated[float, Field(le=math.inf)],
        Annotated[float, Field(multiple_of=0.01)],
        Annotated[Decimal, Field(max_digits=30, decimal_places=10)],
        Annotated[str, Field(min_length=0, max_length=2**62)],
        Annotated[list[int], Field(min_length=2, max_length=2)],
        Annotated[str, Field(description="日本 \U0001f600")],
    ],
)
def test_limits_that_can_be_sent_are_left_alone(annotation: Any) -> None:
    assert orjson.dumps(schema_of(annotation))


def closed(node: Any, name: str = "x") -> Any:
    return {"type": "object", "properties": {name: node}, "required": [name], "additionalProperties": False}


def test_a_name_without_utf8_is_refused() -> None:
    with pytest.raises(StructuredOutputSchemaError, match="use text that UTF-8 can hold"):
        validate_strict_json_schema(closed({"type": "string"}, "\ud800"))


def test_a_float_says_how_to_write_its_bound() -> None:
    node: Any = {"type": "number", "maximum": 10**20}
    with pytest.raises(StructuredOutputSchemaError, match=r"write it as a float, 1e\+20"):
        validate_strict_json_schema(closed(node))


@pytest.mark.parametrize("multiple", [0, -1, 0.0])
def test_a_multiple_of_nothing_is_refused(multiple: Any) -> None:
    node: Any = {"type": "number", "multipleOf": multiple}
    with pytest.raises(StructuredOutputSchemaError, match="of which nothing is a multiple"):
        validate_strict_json_schema(closed(node))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seed": 10**20}, r"request_options\.seed is 1000.*beyond 64 bits"),
        ({"temperature": math.nan}, r"request_options\.temperature is nan"),
        ({"metadata": {"a": ["b", "\ud800"]}}, r"request_options\.metadata\.a\[1\] is '\\ud800'"),
        ({"logit_bias": {50256: -100}}, r"request_options\.logit_bias has the key 50256"),
        ({"tools": {1}}, r"request_options\.tools is a set"),
    ],
)
def test_options_that_cant_be_sent_are_refused_when_the_config_is_made(options: Any, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        OpenAIProviderConfig(model="gpt-5-mini", request_options=options)


def test_a_cap_beyond_64_bits_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="within 64 bits"):
        OpenAIProviderConfig(model="gpt-5-mini", max_output_tokens=10**20)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([-(2**63), -(2**63) - 1, 2**64 - 1, 2**64])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=3)
    | st.binary(max_size=1),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_a_fault_is_found_exactly_where_the_encoder_would_fail(value: Any) -> None:
    try:
        orjson.dumps(value)
    except TypeError:
        assert json_fault(value) is not None
    else:
        assert json_fault(value) is None


def test_depth_is_bounded() -> None:
    nested: Any = 1
    for _ in range(300):
        nested = [nested]
    assert json_fault(nested) is not None
