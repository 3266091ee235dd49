from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batchor_core.core.answers import parse_line
from batchor_core.providers.openai import OpenAIBatchProvider, OpenAIProviderConfig
from batchor_core.providers.openai.answers import was_answered


def row(custom_id: Any, status: int = 200, **body: Any) -> str:
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"custom_id": custom_id, "response": response, "error": None}, ensure_ascii=False)


PROVIDER = OpenAIBatchProvider(OpenAIProviderConfig(model="gpt-4.1"))


def test_lines_end_at_line_feeds_alone() -> None:
    content = row("a", text="one\u2028two\u0085three\x0cfour") + "\r\n\n" + row("b") + "\n"
    assert [record["custom_id"] for record in PROVIDER.parse_jsonl(content)] == ["a", "b"]


def test_a_garbled_line_costs_no_other() -> None:
    content = "\n".join(["\ufeff" + row("a"), "{", "[1]", "null", '{"custom_id": "cut', row("b")])
    assert [record["custom_id"] for record in PROVIDER.parse_jsonl(content)] == ["a", "b"]


def test_what_is_not_quite_json_is_taken_where_it_can_be() -> None:
    assert str((parse_line('{"a": NaN}') or {})["a"]) == "nan"
    assert parse_line(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert parse_line('{"a": "\\ud800"}') == {"a": "?"}
    assert parse_line('{"a": "\\u0000"}') == {"a": "\0"}
    assert parse_line('{"a": ' + "9" * 5_000 + "}") is None
    assert parse_line("[" * 100_000) is None
    assert parse_line('{"a":' * 100_000) is None
    assert parse_line("") is None


@given(st.one_of(st.text(), st.binary()))
def test_no_line_makes_it_raise(line: str | bytes) -> None:
    assert parse_line(line) is None or isinstance(parse_line(line), dict)


def test_output_is_split_by_success() -> None:
    expired = json.dumps({"custom_id": "d", "response": None, "error": {"code": "batch_expired"}})
    output = "\n".join(
        [row("a"), row("b", 400, error={"message": "no"}), row("c", error={"message": "200 and yet"})]
    )
    errors = "\n".join([expired, row(None), row("e")])
    successes, failures, records = PROVIDER.parse_batch_output(output_content=output, error_content=errors)
    assert (list(successes), list(failures), len(records)) == (["a", "e"], ["b", "c", "d"], 6)


def test_a_success_beats_an_error_and_the_first_of_either_stands() -> None:
    output = "\n".join(
        [row("a", 500, n=1), row("a", n=2), row("a", n=3), row("b", 500, n=4), row("b", 500, n=5)]
    )
    successes, failures, _ = PROVIDER.parse_batch_output(output_content=output, error_content=row("a", 400))
    assert successes == {"a": json.loads(row("a", n=2))}
    assert failures == {"b": json.loads(row("b", 500, n=4))}


def test_absent_files_are_no_rows() -> None:
    assert PROVIDER.parse_batch_output(output_content=None, error_content="") == ({}, {}, [])


def test_a_body_that_is_a_string_of_json_counts_as_one() -> None:
    assert was_answered({"response": {"status_code": 200, "body": '{"output": []}'}})
    assert not was_answered({"response": {"status_code": 200, "body": '{"error": {"message": "no"}}'}})
    assert not was_answered({"response": {"status_code": 200, "body": "oops"}})
    assert not was_answered({"response": None})
