"""Kinds of output: what is a good answer, and what of it is stored."""

from __future__ import annotations

import base64
import math
import struct
from array import array
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from batchor_core.core.answers import Answer, parse_line_exactly
from batchor_core.core.exceptions import InvalidInputError
from batchor_core.core.failures import ItemFailure
from batchor_core.core.jsontext import exact_json, loads_kept
from batchor_core.core.models import BatchJob
from batchor_core.core.outputs import (
    OUTPUTS,
    BodyOutput,
    Kept,
    ModelOutput,
    OutputKind,
    TextOutput,
    VectorOutput,
    output_from_payload,
)
from batchor_core.testing.fake_config import FakeProviderConfig


class Review(BaseModel):
    rating: int


def packed(*values: float, code: str = "f") -> bytes:
    return struct.pack(f"<{len(values)}{code}", *values)


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


LARGEST = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


# --- vectors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype", "stored"),
    [
        ([0.5, -2, 3.0], "float32", packed(0.5, -2, 3)),
        ((0.1, 0.2, 0.3), "float64", packed(0.1, 0.2, 0.3, code="d")),
        (in_base64(packed(0.1, 0.2, 0.3)), "float32", packed(0.1, 0.2, 0.3)),
        (packed(1, 2, 3), "float32", packed(1, 2, 3)),
        (bytearray(packed(1, 2, 3)), "float32", packed(1, 2, 3)),
        ([-128, 0, 127], "int8", b"\x80\x00\x7f"),
        ([0, 128, 255], "uint8", b"\x00\x80\xff"),
        (in_base64(b"\x80\x00\x7f"), "int8", b"\x80\x00\x7f"),
        ([LARGEST, -LARGEST, 0], "float32", packed(LARGEST, -LARGEST, 0)),
        ([1e308, -1e308, 5e-324], "float64", packed(1e308, -1e308, 5e-324, code="d")),
    ],
)
def test_a_vector_is_stored_as_little_endian_bytes(value: Any, dtype: Any, stored: bytes) -> None:
    output = VectorOutput(3, dtype)
    assert output.check(Answer("a", value=value)) == Kept(data=stored)
    back = output.value(stored)
    assert (back.itemsize * 3, bytes(back)) == (len(stored), stored)


@pytest.mark.parametrize(
    ("value", "dtype", "error_class", "said"),
    [
        (None, "float32", "invalid_vector", "is not a vector"),
        ({"a": 1}, "float32", "invalid_vector", "is not a vector"),
        (
            [1.0, 2.0],
            "float32",
            "vector_wrong_dimensions",
            "has 2 dimensions as float32, and the job expects 3",
        ),
        ([], "float32", "vector_wrong_dimensions", "has 0 dimensions"),
        (packed(1, 2, 3, 4), "float32", "vector_wrong_dimensions", "has 4 dimensions"),
        (in_base64(packed(1, 2, 3, code="d")), "float32", "vector_wrong_dimensions", "has 6 dimensions"),
        (packed(1, 2, 3)[:-1], "float32", "invalid_vector", "has 11 bytes, which is not a multiple"),
        ("not base64!", "float32", "invalid_vector", "is not base64"),
        ("AAAA\nAAAA", "float32", "invalid_vector", "is not base64"),
        ("é", "float32", "invalid_vector", "is not base64"),
        ([1.0, None, 3.0], "float32", "invalid_vector", "element 1 of the vector is None"),
        ([1.0, "2", 3.0], "float32", "invalid_vector", "element 1 of the vector is '2'"),
        ([1.0, True, 3.0], "float32", "invalid_vector", "element 1 of the vector is True"),
        ([[1.0, 2.0, 3.0]], "float32", "invalid_vector", "element 0"),
        ([1.0, 2, 3], "int8", "invalid_vector", "element 0 of the vector is 1.0"),
        ([128, 2, 3], "int8", "invalid_vector", "is beyond int8"),
        ([-1, 2, 3], "uint8", "invalid_vector", "is beyond uint8"),
        ([1.0, math.nan, 3.0], "float32", "vector_not_finite", "element 1"),
        ([1.0, 2.0, -math.inf], "float64", "vector_not_finite", "element 2"),
        (packed(math.inf, 2, 3), "float32", "vector_not_finite", "element 0"),
        (packed(1, 2, math.nan, code="d"), "float64", "vector_not_finite", "element 2"),
        (in_base64(packed(LARGEST, math.nan, 3)), "float32", "vector_not_finite", "element 1"),
        ([1e39, 0.0, 0.0], "float32", "vector_not_finite", "beyond float32"),
        ([10**400, 0.0, 0.0], "float64", "vector_not_finite", "beyond float64"),
    ],
)
def test_what_is_no_such_vector_is_a_failure(value: Any, dtype: Any, error_class: str, said: str) -> None:
    failure = VectorOutput(3, dtype).check(Answer("a", value=value))
    assert isinstance(failure, ItemFailure)
    assert (failure.error_class, said in failure.message) == (error_class, True), failure
    assert failure.retryable == (error_class == "invalid_vector" and "beyond" not in said)


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("dtype", "code"), [("float32", "f"), ("float64", "d")])
def test_a_value_that_is_not_finite_is_found_anywhere(dtype: Any, code: str, value: float) -> None:
    for at in range(9):
        values = [1.0] * 9
        values[at] = value
        failure = VectorOutput(9, dtype).check(Answer("a", value=packed(*values, code=code)))
        assert isinstance(failure, ItemFailure)
        assert f"element {at} " in failure.message


def test_a_vector_is_an_array_that_numpy_takes_without_a_copy() -> None:
    numpy = pytest.importorskip("numpy")
    vector = VectorOutput(2).value(packed(0.5, 0.25))
    seen = numpy.asarray(vector)
    assert (seen.dtype.name, seen.tolist()) == ("float32", [0.5, 0.25])
    vector[0] = 8.0
    assert seen[0] == 8.0
    assert vector == array("f", [8.0, 0.25])


@pytest.mark.parametrize(
    ("dimensions", "dtype", "said"),
    [
        (0, "float32", "at least 1"),
        (True, "float32", "must be an int"),
        (1.5, "float32", "must be an int"),
        (3, "float16", "one of float32, float64, int8, uint8"),
        (3, None, "one of float32"),
    ],
)
def test_a_vector_that_can_not_be_is_refused(dimensions: Any, dtype: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        VectorOutput(dimensions, dtype)


# --- bodies ----------------------------------------------------------------------------------------------------------

EXACT = [
    b'{"n":123456789012345678901234567890}',
    b'{"n":-9223372036854775809,"x":[0.1,true,null,"\\u00e9"]}',
    b'{"n":0.12345678901234567890123}',
    b'{"a":[1E+400,{"b":0.25}]}',
    rb'{"a":"\ud800","n":0.12345678901234567890123}',
    rb'{"a":"\ud800","n":18446744073709551616}',
]


@pytest.mark.parametrize("body", EXACT)
def test_a_body_is_kept_with_every_number_as_it_was(body: bytes) -> None:
    record = parse_line_exactly(b'{"body":' + body + b"}")
    assert record is not None
    kept = BodyOutput().check(Answer("a", value=record["body"]))
    assert kept == Kept(body.decode(), True)
    assert BodyOutput().value(body.decode()) == record["body"]
    assert exact_json(loads_kept(body.decode())) == body


def test_a_number_that_a_float_can_not_hold_is_a_decimal() -> None:
    assert BodyOutput().value('{"n":0.12345678901234567890123}') == {
        "n": Decimal("0.12345678901234567890123")
    }


@pytest.mark.parametrize(
    ("value", "error_class"),
    [
        (None, "empty_response_body"),
        ({1: 2}, "invalid_json"),
        ({"a": {1, 2}}, "invalid_json"),
        (b"x", "invalid_json"),
    ],
)
def test_what_is_no_body_is_a_failure(value: Any, error_class: str) -> None:
    failure = BodyOutput().check(Answer("a", value=value))
    assert isinstance(failure, ItemFailure)
    assert failure.error_class == error_class


def test_a_body_that_is_nested_too_deeply_is_a_failure() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    failure = BodyOutput().check(Answer("a", value=value))
    assert isinstance(failure, ItemFailure)
    while value:  # by hand, since freeing it would recurse too
        value = value[0]


# --- texts and models ------------------------------------------------------------------------------------------------


def test_texts_and_models_are_stored_as_text() -> None:
    assert TextOutput().check(Answer("a", "yes")) == Kept("yes")
    assert ModelOutput(Review).check(Answer("a", '{"rating": 4}')) == Kept('{"rating": 4}', True)
    assert ModelOutput(None).check(Answer("a", '{"stars": 4}')) == Kept('{"stars": 4}', True)


@pytest.mark.parametrize(
    ("output", "answer", "error_class"),
    [
        (TextOutput(), Answer("a", value=[1.0]), "non_text_answer"),
        (ModelOutput(Review), Answer("a", '{"rating": "x"}'), "structured_output_validation_failed"),
        (ModelOutput(Review), Answer("a", "{"), "invalid_json"),
        (ModelOutput(Review), Answer("a"), "empty_response_text"),
        (ModelOutput(None), Answer("a", "{"), "invalid_json"),
    ],
)
def test_an_answer_of_another_kind_is_a_failure(output: Any, answer: Answer, error_class: str) -> None:
    failure = output.check(answer)
    assert isinstance(failure, ItemFailure)
    assert failure.error_class == error_class


# --- jobs ------------------------------------------------------------------------------------------------------------


def job(**changes: Any) -> BatchJob[Any, Any]:
    return BatchJob(items=[], build_prompt=str, provider_config=FakeProviderConfig(), **changes)


def test_a_model_is_short_for_its_output() -> None:
    assert job().output_spec == TextOutput()
    assert job(structured_output=Review).output_spec == ModelOutput(Review)
    assert job(output=ModelOutput(Review)).output_spec == ModelOutput(Review)
    assert job(output=ModelOutput(Review)).output_schema() == job(structured_output=Review).output_schema()
    assert job(output=VectorOutput(3)).output_schema() is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": BodyOutput(), "structured_output": Review}, "output or structured_output, not both"),
        ({"output": Review}, r"output=ModelOutput\(Review\)"),
        ({"output": BodyOutput}, r"give BodyOutput\(\.\.\.\)"),
        ({"output": "vector"}, "must be one of TextOutput, ModelOutput, VectorOutput, BodyOutput"),
        ({"output": ModelOutput(None)}, "must be a Pydantic model class"),
        ({"output": ModelOutput(dict)}, "must be a Pydantic model class"),  # type: ignore[type-var]
    ],
)
def test_an_output_that_is_none_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        job(**changes)


@pytest.mark.parametrize(
    "output", [TextOutput(), ModelOutput(None), VectorOutput(1536), VectorOutput(8, "int8"), BodyOutput()]
)
def test_an_output_is_stored_as_json(output: Any) -> None:
    assert output_from_payload(output.to_payload()) == output


def test_every_kind_has_an_output() -> None:
    assert {output.kind for output in OUTPUTS} == set(OutputKind)


def test_an_output_of_a_newer_version_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'graph', which this version does not know"):
        output_from_payload({"kind": "graph"})
