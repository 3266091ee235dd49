"""A late field is decoded at the first look, once, and is otherwise like any other."""

from __future__ import annotations

import copy
import pickle
from dataclasses import asdict, replace
from typing import Any

import pytest
from pydantic import BaseModel

from batchor_core import ItemStatus, StructuredItemResult, TextItemResult
from batchor_core.core.lazy_field import decode_later


class Answer(BaseModel):
    good: bool


def _decoder(calls: list[Any]) -> Any:
    def decode(source: bytes) -> dict[str, Any]:
        calls.append(source)
        return {"line": source.decode()}

    return decode


def _text(calls: list[Any] | None = None) -> TextItemResult:
    result = TextItemResult("a", ItemStatus.COMPLETED, 1, "yes")
    return decode_later(result, "raw_response", _decoder([] if calls is None else calls), b"raw")


def test_it_is_decoded_once_and_not_before_somebody_looks() -> None:
    calls: list[Any] = []
    result = _text(calls)
    assert (result.item_id, result.output_text, calls) == ("a", "yes", [])
    assert result.raw_response == {"line": "raw"}
    assert result.raw_response is result.raw_response
    assert calls == [b"raw"]


def test_it_equals_a_result_that_was_made_with_the_value() -> None:
    plain = TextItemResult("a", ItemStatus.COMPLETED, 1, "yes", {"line": "raw"})
    assert _text() == plain
    assert repr(_text()) == repr(plain)
    assert asdict(_text()) == asdict(plain)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, replace])
def test_copies_have_the_value(copied: Any) -> None:
    assert copied(_text()).raw_response == {"line": "raw"}


def test_it_survives_pickling() -> None:
    line = b'{"line": "raw"}'
    result = TextItemResult("a", ItemStatus.COMPLETED, 1, "yes")
    decode_later(result, "raw_response", bytes.decode, line)
    assert pickle.loads(pickle.dumps(result)).raw_response == line.decode()


def test_structured_results_may_have_late_fields_too() -> None:
    result = StructuredItemResult("a", ItemStatus.COMPLETED, 1, Answer(good=True), '{"good": true}')
    assert decode_later(result, "raw_response", _decoder([]), b"x").raw_response == {"line": "x"}


@pytest.mark.parametrize("result", [_text(), TextItemResult("a", ItemStatus.COMPLETED, 1)])
def test_a_misspelt_attribute_is_an_error(result: TextItemResult) -> None:
    with pytest.raises(AttributeError, match="'TextItemResult' object has no attribute 'raw_respnse'"):
        result.raw_respnse  # type: ignore[attr-defined]  # noqa: B018
