"""Lines are taken apart into what is asked and what names the attempt, and put together again byte for byte."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchor_core.core.request_lines import (
    Frames,
    content_address,
    is_whole,
    longest_line,
    named_line,
)
from batchor_core.storage.line_parts import LineParts

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
others = st.dictionaries(st.text().filter(lambda key: key != "custom_id"), values, max_size=4)
names = st.text("abcXYZ019_-", min_size=1, max_size=64)


def _rest(line: dict[str, Any], kind: str = "p") -> bytes | None:
    apart = Frames(kind).apart(line)  # type: ignore[arg-type]
    if apart is None:
        return None
    frame, body = apart
    return frame.around(orjson.dumps(body))


@given(line=others, name=names)
@example(line={"method": "POST", "url": "/v1/responses", "body": {"input": "x"}}, name="a")
@example(line={"body": {}}, name="a")
@example(line={"params": {"custom_id": "inner"}}, name="a")
@example(line={"body": None, "url": "/x"}, name="a")
def test_a_line_comes_back_under_any_name(line: dict[str, Any], name: str) -> None:
    rest = _rest({"custom_id": "first", **line})
    if rest is None:
        assert set(line) <= {"body"}
        return
    assert not is_whole(rest)
    again = named_line(rest, name, is_first=False)
    expected = {key: value for key, value in line.items() if key != "body" or value is not None}
    assert orjson.loads(again) == {"custom_id": name, **expected}
    assert len(again) + 1 == longest_line(rest, len(name)) <= longest_line(rest)


@given(line=others, name=names, head=st.binary(max_size=3), tail=st.binary(max_size=3))
def test_parts_name_a_line_as_the_whole_of_it(
    line: dict[str, Any], name: str, head: bytes, tail: bytes
) -> None:
    rest = _rest({"custom_id": "first", **line})
    if rest is None:
        return
    for parts in (LineParts(rest[: len(head)], rest[len(rest) - len(tail) :]), LineParts(b"", b"")):
        cut = parts.cut(rest)
        if cut is not None:
            assert parts.restored(cut) == rest
            assert parts.named(cut, name) == named_line(rest, name, is_first=True)


def test_a_line_of_openai_is_what_the_provider_built() -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "é"}}
    rest = _rest(line)
    assert rest is not None
    assert named_line(rest, "a", is_first=True) == orjson.dumps(line)


@pytest.mark.parametrize("name", ['quote"', "back\\slash", "new\nline", "é", ""])
def test_a_name_that_a_caller_chose_is_json_too(name: str) -> None:
    rest = _rest({"custom_id": "a", "body": {"n": 1}})
    assert rest is not None
    assert orjson.loads(named_line(rest, name, is_first=True)) == {"custom_id": name, "body": {"n": 1}}


def test_a_whole_line_keeps_its_bytes_and_is_renamed_for_later_attempts() -> None:
    whole = b'{"custom_id":"0-0-x",  "body":{}}'
    assert named_line(whole, "0-0-x", is_first=True) == whole
    assert named_line(whole, "0-1-x", is_first=False) == b'{"custom_id":"0-1-x","body":{}}'
    assert longest_line(whole) == len(whole) + 1


@pytest.mark.parametrize("line", [{}, {"body": {}}, {"key": "a", "body": {}}, {"custom_id": "a"}])
def test_a_line_that_can_not_be_named_is_kept_whole(line: dict[str, Any]) -> None:
    assert _rest(line) is None


def test_equal_requests_have_one_address_and_others_another() -> None:
    body = {"model": "m", "input": "x"}

    def address(kind: str = "openai", **line: Any) -> bytes:
        whole = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body} | line
        apart = Frames(kind).apart(whole)  # type: ignore[arg-type]
        assert apart is not None
        return apart[0].address(orjson.dumps(apart[1]))

    assert address() == content_address("openai", "/v1/responses", orjson.dumps(body))
    assert address(custom_id="b") == address()
    assert (
        len(
            {
                address(),
                address(url="/v1/chat/completions"),
                address(body={**body, "input": "y"}),
                address("x"),
            }
        )
        == 4
    )
    assert content_address("a", "bc", b"{}") != content_address("ab", "c", b"{}")


def test_frames_of_different_lines_are_not_mixed_up() -> None:
    frames = Frames("p")
    lines: list[Any] = [
        {"custom_id": "a", "url": f"/v{n % 2}", "priority": [n % 3], "body": {"n": n}} for n in range(12)
    ]
    for line in lines:
        apart = frames.apart(line)
        assert apart is not None
        rest = apart[0].around(orjson.dumps(apart[1]))
        assert orjson.loads(named_line(rest, "a", is_first=True)) == line
