"""Rows pass stored JSON on undecoded: what is made of them is what the values themselves would be encoded to."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from batchor_core import BatchRunner
from batchor_core.artifacts.local import LocalArtifactStore
from batchor_core.core.jsontext import to_json
from batchor_core.core.models import ItemFailure
from batchor_core.core.pricing import PICODOLLARS
from batchor_core.storage.columns import answer_json
from batchor_core.storage.rows import record_of, row_of
from batchor_core.storage.state import PersistedItemRecord, RawResponseRef, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import MAX, RUN, good
from tests.contract.stores.test_results import TEXTS, VALUES

ANSWERS = {
    "compact": '{"a":1,"b":[true,null,"é"]}',
    "spaced": '{"a": 1, "b" : [ true,null ]}',
    "indented": '{\n  "a": 1,\r\n\t"b": []\n}\n',
    "escaped": r'{"a":"\u00e9\/\u2028\n"}',
    "numbers": "[1.0,1e2,1E-7,-0,-0.0,0.1000,18446744073709551615,1234567890123456789]",
    "beyond 64 bits": '{"a":123456789012345678901234567890,"b":-9223372036854775809}',
    "beyond floats": "[1e400,NaN]",
    "many decimals": "[0.12345678901234567890123]",
    "half a pair": r'["\ud800"]',
    "same key twice": '{"a":1,"a":2}',
    "digits in text": '["12345678901234567890123456"]',
    "scalar": "true",
}


def lines(records: list[PersistedItemRecord], raw: dict[str, bytes], *, structured: bool) -> bytes:
    """The documented lines, each value decoded and encoded again."""
    made = []
    for record in records:
        error = None if record.error is None else record.error.to_payload()
        columns = {
            "item_id": to_json(record.item_id),
            "status": to_json(record.status.value),
            "attempt_count": to_json(record.attempt_count),
            "metadata": to_json(record.metadata),
            "output_text": to_json(record.output_text),
            **({"output_json": to_json(record.output_json)} if structured else {}),
            "raw_response": raw.get(record.item_id, to_json(record.raw_response)),
            "error": to_json(error),
            "cost_usd": to_json(None if record.cost is None else record.cost / PICODOLLARS),
        }
        cells = b",".join(b'"%b":%b' % (name.encode(), value) for name, value in columns.items())
        made.append(b"{%b}\n" % cells)
    return b"".join(made)


@pytest.fixture(params=[False, True], ids=["text", "structured"])
def structured(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def filled(store: StateStore, *, structured: bool) -> None:
    """A run with every kind of text, JSON and failure."""
    metadata: list[Any] = [
        {},
        *({"t": text} for text in TEXTS.values()),
        *({"v": v} for v in VALUES.values()),
    ]
    ids = ["plain", *(f"id {text}"[:200] for text in TEXTS.values()), *VALUES]
    answers: list[dict[str, Any]] = [{}, *({"output_text": text} for text in TEXTS.values())]
    answers += [{"output_json": v, "output_text": None, "raw_response": {"v": v}} for v in VALUES.values()]
    answers += [{"output_text": text, "text_is_json": True} for text in ANSWERS.values()]
    failures = [ItemFailure("x", text, retryable=False, raw_error={"t": text}) for text in TEXTS.values()]
    failures += [ItemFailure("x", "v", retryable=False, raw_error=value) for value in VALUES.values()]
    count = len(answers) + len(failures)
    changes = [
        {"item_id": f"{n} {ids[n % len(ids)]}"[:200], "metadata": metadata[n % len(metadata)]}
        for n in range(count)
    ]
    schema = {"output_schema": {"type": "object"}} if structured else {}
    items = [kit.item(n, **change) for n, change in enumerate(changes)]
    store.create_run(run_id=RUN, config=kit.config(**schema), items=items)
    claimed = store.claim_items_for_submission(run_id=RUN, max_attempts=MAX)
    custom_ids = kit.hand_over(store, [item.item_id for item in claimed])
    completions = [
        good(name, usage=kit.usage(n), cost=n * PICODOLLARS // 100, **answer)
        for n, (name, answer) in enumerate(zip(custom_ids, answers, strict=False))
    ]
    store.mark_items_completed(run_id=RUN, completions=completions)
    for name, failure in zip(custom_ids[len(answers) :], failures, strict=True):
        kit.fail(store, [name], error=failure, output_text=failure.message)


def test_exported_lines_are_the_encoded_values(
    any_store: StateStore, tmp_path: Path, structured: bool
) -> None:
    filled(any_store, structured=structured)
    with BatchRunner(storage=any_store, temp_root=tmp_path / "artifacts") as runner:
        runner.export_terminal_results(RUN, destination=tmp_path / "out.jsonl")
    written = (tmp_path / "out.jsonl").read_bytes()
    expected = lines(kit.terminal(any_store), {}, structured=structured)
    if structured:  # an answer's own spelling of numbers is kept, see below
        assert list(map(_value, written.splitlines())) == list(map(_value, expected.splitlines()))
    else:
        assert written == expected
    assert written.count(b"\n") == any_store.get_run_summary(run_id=RUN).total_items


def _value(line: bytes) -> Any:
    return json.loads(line, parse_float=lambda number: None if math.isinf(float(number)) else float(number))


@pytest.mark.parametrize(
    ("answer", "exported"),
    [
        ('{"n": 123456789012345678901234567890}', b'{"n":123456789012345678901234567890}'),
        ('{"n": -9223372036854775809}', b'{"n":-9223372036854775809}'),
        ("[18446744073709551616, 0.1]", b"[18446744073709551616,0.1]"),
        ("[0.12345678901234567890123]", b"[0.12345678901234567890123]"),
        ("[1e400, -1e-400]", b"[1e400,-1e-400]"),
        ("[NaN, -Infinity, 12345678901234567890123]", b"[null,null,12345678901234567890123]"),
        ('["NaN, Infinity", 12345678901234567890123]', b'["NaN, Infinity",12345678901234567890123]'),
        (r'["a \" NaN  b", 12345678901234567890123]', rb'["a \" NaN  b",12345678901234567890123]'),
        (r'["\ud800", 12345678901234567890123]', rb'["\ud800",12345678901234567890123]'),
        ('["\ud800", 1.00000000000000000001]', rb'["\ud800",1.00000000000000000001]'),
        ("[1.0, 1e2, 0.10000000000000001]", b"[1.0,100.0,0.1]"),
    ],
)
def test_no_number_of_an_exported_answer_is_rounded(answer: str, exported: bytes) -> None:
    assert answer_json(answer) == exported


def test_rows_and_records_are_two_views_of_one_result(any_store: StateStore) -> None:
    filled(any_store, structured=True)
    rows = any_store.get_result_rows(run_id=RUN, after_sequence=0)
    stored = kit.terminal(any_store)
    assert len(rows) == len(stored) > len(ANSWERS)
    assert [_seen(record_of(row)) for row in rows] == [_seen(record) for record in stored]
    assert [_seen(record_of(row_of(record))) for record in stored] == [_seen(record) for record in stored]


def _seen(record: PersistedItemRecord) -> tuple[Any, ...]:
    # what models write and JSON does not know, such as NaN, is null in both
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return repr(values | {"output_json": None}), to_json(record.output_json)


def test_rows_come_in_pages(any_store: StateStore) -> None:
    kit.complete(any_store, kit.submitted_run(any_store, 5))
    first = any_store.get_result_rows(run_id=RUN, after_sequence=0, limit=2)
    rest = any_store.get_result_rows(run_id=RUN, after_sequence=2)
    assert [row.sequence for row in (*first, *rest)] == [1, 2, 3, 4, 5]


def test_a_line_of_a_kept_file_is_passed_on_as_the_provider_wrote_it(
    any_store: StateStore, tmp_path: Path
) -> None:
    custom_ids = kit.submitted_run(any_store, 2)
    kept = b'{"id": 1.50, "x": "\\u00e9"}\r\n'
    spot = RawResponseRef(is_error_file=False, offset=0, length=len(kept))
    answers = [good(custom_ids[0], raw=spot), good(custom_ids[1], raw_response={"own": 1})]
    any_store.mark_items_completed(run_id=RUN, completions=answers)
    kit.keep_files(any_store, "p1", "runs/out.jsonl", None)
    artifacts = LocalArtifactStore(tmp_path / "artifacts")
    artifacts.write_text("runs/out.jsonl", kept.decode())
    with BatchRunner(storage=any_store, artifact_store=artifacts) as runner:
        runner.export_terminal_results(RUN, destination=tmp_path / "out.jsonl")
    expected = lines(kit.terminal(any_store), {"item-0": kept.rstrip()}, structured=False)
    assert (tmp_path / "out.jsonl").read_bytes() == expected
