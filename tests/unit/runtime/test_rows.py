"""What each kind of line in a batch's files means for its item: one bad thing stays one bad thing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from batchor_core.core.answers import Answer
from batchor_core.core.custom_ids import parse
from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import RunPausedError
from batchor_core.core.models import ArtifactPolicy, RetryPolicy
from batchor_core.core.types import JSONObject
from batchor_core.providers.openai.answers import read_record
from batchor_core.testing.fake_rows import answer_row, blank_row, http_error_row, row_error
from tests.support.world import (
    RUN,
    Verdict,
    World,
    attempts,
    by_item,
    errors,
    index_of,
    items,
    structured_job,
    text_job,
    texts,
)

GOOD = '{"label": "fine", "score": 1.0}'


def body(**changes: Any) -> JSONObject:
    """A Responses body with status 200, changed."""
    row = answer_row("x")
    row["response"]["body"].update(changes)
    return row


REFUSAL = body(
    output=[{"type": "message", "content": [{"type": "refusal", "refusal": "I would rather not"}]}]
)
FILTERED = body(status="incomplete", incomplete_details={"reason": "content_filter"})
CUT_OFF = body(status="incomplete", incomplete_details={"reason": "max_output_tokens"})

CALL = body(output=[{"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"}])
SPOKEN_CALL = body(
    output=[
        {"type": "message", "content": [{"type": "output_text", "text": "Let me look"}]},
        {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"},
    ]
)


@pytest.mark.parametrize(
    ("said", "error_class", "tried"),
    [
        (CALL, "non_text_answer", 1),
        (SPOKEN_CALL, "non_text_answer", 1),
        (http_error_row(501), "provider_item_error", 1),
        (REFUSAL, "refusal", 1),
        (FILTERED, "content_filter", 1),
        (CUT_OFF, "incomplete_response", 3),
        (answer_row(""), "empty_response_text", 3),
        (http_error_row(400, "context_length_exceeded"), "provider_item_error", 1),
        (http_error_row(404), "provider_item_error", 1),
        (http_error_row(408), "provider_item_error", 3),
        (http_error_row(409), "provider_item_error", 3),
        (http_error_row(429, "rate_limit_exceeded"), "provider_item_error", 3),
        (http_error_row(500), "provider_item_error", 3),
        (http_error_row(503), "provider_item_error", 3),
    ],
)
def test_a_bad_answer_costs_attempts_and_no_other_row(
    any_world: World, said: JSONObject, error_class: str, tried: int
) -> None:
    any_world.provider.answer = by_item({1: said})
    run = any_world.start(text_job(3)).wait()
    assert run.status is RunLifecycleStatus.COMPLETED_WITH_FAILURES
    assert errors(run) == {"item-1": error_class}
    assert attempts(run) == {"item-0": 1, "item-1": tried, "item-2": 1}
    sent = [index_of(line) for batch in any_world.provider.batches.values() for line in batch.lines]
    assert sent.count(1) == tried
    assert sent.count(0) == 1


@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_max_attempts_is_honoured(any_world: World, max_attempts: int) -> None:
    any_world.provider.answer = by_item({0: http_error_row(500)})
    run = any_world.start(text_job(1, retry=RetryPolicy(max_attempts=max_attempts))).wait()
    assert attempts(run) == {"item-0": max_attempts}
    assert len(any_world.provider.batches) == max_attempts


@pytest.mark.parametrize(
    ("said", "error_class"),
    [
        ("not json", "invalid_json"),
        ('{"label": "fine"}', "structured_output_validation_failed"),
        ('{"label": "fine", "score": "much"}', "structured_output_validation_failed"),
        ("[]", "structured_output_validation_failed"),
        (answer_row(""), "empty_response_text"),
        (REFUSAL, "refusal"),
    ],
)
def test_an_answer_that_does_not_fit_the_model_fails(any_world: World, said: Any, error_class: str) -> None:
    any_world.provider.answer = by_item({1: said}, GOOD)
    run = any_world.start(structured_job(3, retry=RetryPolicy(max_attempts=2))).wait()
    assert errors(run) == {"item-1": error_class}
    assert run.results()[1].attempt_count == (1 if error_class == "refusal" else 2)
    assert run.results()[1].output is None
    assert run.results()[0].output == Verdict(label="fine", score=1.0)


def test_a_second_answer_that_fits_is_taken(any_world: World) -> None:
    any_world.provider.answer = by_item({1: ["not json", GOOD]}, GOOD)
    run = any_world.start(structured_job(3)).wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert attempts(run) == {"item-0": 1, "item-1": 2, "item-2": 1}
    assert run.summary().usage.output_tokens == 4 * 5  # the useless answer is billed too


def test_the_words_of_a_refusal_are_kept(any_world: World) -> None:
    any_world.provider.answer = by_item({0: REFUSAL})
    result = any_world.start(text_job(1)).wait().results()[0]
    assert result.status is ItemStatus.FAILED_PERMANENT
    assert result.output_text == "I would rather not"
    assert result.raw_response is not None


def test_the_text_beside_a_call_is_kept(any_world: World) -> None:
    any_world.provider.answer = by_item({0: SPOKEN_CALL})
    result = any_world.start(text_job(1)).wait().results()[0]
    assert result.status is ItemStatus.FAILED_PERMANENT
    assert result.output_text == "Let me look"
    assert result.error is not None
    assert result.error.raw_error == {
        "calls": [{"type": "function_call", "name": "look_up", "arguments": "{}"}]
    }


def test_a_row_that_its_reader_fails_on_is_paid_for_once(any_world: World) -> None:
    provider = any_world.provider

    def failing(record: JSONObject) -> Answer:
        attempt = parse(str(record["custom_id"]))
        if attempt is not None and attempt.item_index == 1:
            raise KeyError("output")
        return read_record(record)

    provider.read_record = failing  # type: ignore[method-assign]
    run = any_world.start(text_job(3)).wait()
    assert errors(run) == {"item-1": "provider_item_error"}
    assert attempts(run) == {"item-0": 1, "item-1": 1, "item-2": 1}
    assert len(provider.batches) == 1
    assert run.results()[1].raw_response is not None


class Broken(BaseModel):
    label: str

    @field_validator("label")
    @classmethod
    def check(cls, value: str) -> str:
        raise NameError("name 'LABELS' is not defined")


def test_a_validator_that_is_broken_does_not_buy_its_row_again(any_world: World) -> None:
    any_world.provider.answer = by_item({}, '{"label": "fine"}')
    run = any_world.start(structured_job(2, structured_output=Broken)).wait()
    assert attempts(run) == {"item-0": 1, "item-1": 1}
    result = run.results()[0]
    assert result.output_text == '{"label": "fine"}'
    assert result.error is not None
    assert "NameError" in result.error.message
    assert "correct the validator" in result.error.message


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (None, 2),  # the row is in neither file
        (blank_row(), 2),
        (row_error("batch_expired"), 2),
        # beside lines of the batch's rows; a file without any is not taken for results, and a person is asked
        ({"custom_id": "nobody-knows", **answer_row("x")}, 1),
        ({"custom_id": 7, **answer_row("x")}, 1),
    ],
)
def test_a_row_without_an_answer_is_sent_again_at_no_cost(any_world: World, said: Any, times: int) -> None:
    any_world.provider.answer = by_item({1: [said] * times + ["at last"]})
    run = any_world.start(text_job(3, retry=RetryPolicy(max_attempts=1))).wait(poll_interval=60)
    assert texts(run)["item-1"] == "at last"
    assert attempts(run) == {"item-0": 1, "item-1": 1, "item-2": 1}


@pytest.mark.parametrize("said", [None, blank_row()])
def test_a_row_that_is_never_answered_pauses_the_run_in_the_end(any_world: World, said: Any) -> None:
    any_world.provider.answer = by_item({1: said})
    run = any_world.start(text_job(2))
    with pytest.raises(RunPausedError) as raised:
        run.wait(poll_interval=300)
    assert raised.value.reason is not None
    assert "batch_output_missing_row" in raised.value.reason or "without a good answer" in raised.value.reason
    assert len(any_world.provider.batches) <= 12
    assert run.summary().completed_items == 1


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (http_error_row(401), "credentials"),
        (http_error_row(403), "credentials"),
        (http_error_row(429, "insufficient_quota"), "insufficient_quota"),
        (http_error_row(429, "billing_hard_limit_reached"), "billing_hard_limit_reached"),
    ],
)
def test_rows_that_need_a_person_pause_the_run(any_world: World, said: JSONObject, word: str) -> None:
    any_world.provider.answer = by_item({1: [said, "after all"]})
    run = any_world.start(text_job(3, retry=RetryPolicy(max_attempts=1)))
    with pytest.raises(RunPausedError, match=word) as raised:
        run.wait()
    assert raised.value.reason == run.summary().control_reason
    assert run.summary().completed_items == 2  # good answers of the same batch are kept
    run.resume()
    assert run.summary().control_reason is None
    assert texts(run.wait())["item-1"] == "after all"
    assert attempts(run)["item-1"] == 1


# --- files that are not as they should be ----------------------------------------------------------------------------


def spoil(world: World, change: Any, *, error_file: bool = False) -> None:
    """Let the first batch end, and change its output file before the engine sees it."""
    provider = world.provider
    finish = provider._finish

    def finished(batch: Any) -> None:
        finish(batch)
        file_id = batch.error_file_id if error_file else batch.output_file_id
        if batch is next(iter(provider.batches.values())):
            provider.files[file_id] = change(provider.files[file_id])

    provider._finish = finished  # type: ignore[method-assign]


def _line(custom_id: str, text: str) -> bytes:
    return json.dumps({"custom_id": custom_id, **answer_row(text)}).encode() + b"\n"


def _first_id(content: bytes) -> str:
    return str(json.loads(content.split(b"\n")[0])["custom_id"])


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"{garbled\n" + content.split(b"\n", 1)[1],
        lambda content: content[: content.index(b"\n") // 2] + b"\n" + content.split(b"\n", 1)[1],
        lambda content: b"\xff\xfe\x00\n" + content.split(b"\n", 1)[1],
        lambda content: b"[" * 100_000 + b"\n" + content.split(b"\n", 1)[1],
        lambda content: b'"just text"\n' + content.split(b"\n", 1)[1],
        lambda content: b"\n\n  \n" + content.split(b"\n", 1)[1],
    ],
    ids=["garbled", "cut", "binary", "deep", "text", "blank"],
)
def test_a_line_that_can_not_be_read_costs_its_row_another_round(
    any_world: World, change: Any, keep: bool
) -> None:
    spoil(any_world, change)
    run = any_world.start(
        text_job(3, artifact_policy=ArtifactPolicy(persist_raw_output_artifacts=keep))
    ).wait(poll_interval=30.0)
    assert attempts(run) == {"item-0": 1, "item-1": 1, "item-2": 1}
    assert run.status is RunLifecycleStatus.COMPLETED
    sent = [index_of(line) for batch in any_world.provider.batches.values() for line in batch.lines]
    assert sorted(sent) == [0, 0, 1, 2]
    assert all(result.raw_response is not None for result in run.results())


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content + _line(_first_id(content), "second"),
        lambda content: content + _line("stranger", "hello") + _line("", "hello"),
        lambda content: content + content,
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.rstrip(b"\n"),
        lambda content: b"\n".join(reversed(content.rstrip(b"\n").split(b"\n"))) + b"\n",
    ],
    ids=["duplicate", "strangers", "doubled", "bom", "crlf", "no last newline", "reversed"],
)
def test_a_file_that_is_odd_but_whole_costs_nothing(any_world: World, change: Any) -> None:
    spoil(any_world, change)
    run = any_world.start(text_job(3)).wait()
    assert texts(run) == {f"item-{n}": f"answer to question {n}" for n in range(3)}
    assert len(any_world.provider.batches) == 1
    raw = [result.raw_response or {} for result in run.results()]
    assert [line["custom_id"].rsplit("-", 3)[0] for line in raw] == ["item-0", "item-1", "item-2"]


def test_a_good_answer_wins_over_an_error_wherever_they_are(any_world: World) -> None:
    any_world.provider.answer = by_item({2: http_error_row(500)})

    def add_error(content: bytes) -> bytes:
        failed = {"custom_id": _first_id(content), **http_error_row(500)}
        return json.dumps(failed).encode() + b"\n" + content

    spoil(any_world, add_error)

    def add_good(content: bytes) -> bytes:
        return content + _line(_first_id(content), "in the error file")

    spoil(any_world, add_good, error_file=True)
    run = any_world.start(text_job(3)).wait()
    assert texts(run) == {"item-0": "fine", "item-1": "fine", "item-2": "in the error file"}
    assert len(any_world.provider.batches) == 1


@pytest.mark.parametrize(
    "text",
    ["a\u2028b\u2029c\u0085d", "nul \x00 inside", "tab\tand\r\nlines", "🙂 é", "\\u0000", "x" * 200_000],
    ids=["separators", "nul", "lines", "astral", "backslash", "long"],
)
@pytest.mark.parametrize("keep", [True, False])
def test_any_text_comes_back_as_it_was(any_world: World, text: str, keep: bool) -> None:
    any_world.provider.answer = by_item({0: text})
    run = any_world.start(
        text_job(2, artifact_policy=ArtifactPolicy(persist_raw_output_artifacts=keep))
    ).wait()
    result = run.results()[0]
    assert result.output_text == text
    assert result.raw_response is not None
    content = result.raw_response["response"]["body"]["output"][0]["content"]
    assert content[0]["text"] == text
    path = run.export_terminal_results(any_world.folder / "out.jsonl").destination_path
    with open(path, "rb") as file:  # noqa: PTH123
        assert json.loads(file.readline())["output_text"] == text


def test_half_a_surrogate_pair_costs_no_row(any_world: World) -> None:
    spoil(any_world, lambda content: content.replace(b"answer to question 1", b"half \\ud83d of it"))
    run = any_world.start(text_job(3)).wait()
    assert run.status is RunLifecycleStatus.COMPLETED
    assert texts(run)["item-1"] == "half ? of it"
    assert run.results()[1].raw_response is not None
    assert run.export_terminal_results(any_world.folder / "out.jsonl").exported_count == 3


def test_nan_in_a_raw_response_costs_no_row(any_world: World) -> None:
    spoil(any_world, lambda content: content.replace(b'"error": null', b'"error": null, "odd": NaN'))
    run = any_world.start(text_job(3)).wait()
    assert texts(run)["item-1"] == "answer to question 1"
    assert run.export_terminal_results(any_world.folder / "out.jsonl").exported_count == 3
    lines = (any_world.folder / "out.jsonl").read_text().splitlines()
    assert all(json.loads(line, parse_constant=_refuse) for line in lines)


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_know_never_break_the_reading(any_world: World, number: str) -> None:
    any_world.provider.answer = by_item({1: f'{{"label": "odd", "score": {number}}}'}, GOOD)
    run = any_world.start(structured_job(3, retry=RetryPolicy(max_attempts=1))).wait()
    assert len(run.results()) == 3
    assert run.summary().completed_items >= 2
    assert run.export_terminal_results(any_world.folder / "out.jsonl").exported_count == 3
    lines = (any_world.folder / "out.jsonl").read_text().splitlines()
    assert all(json.loads(line, parse_constant=_refuse) for line in lines)


def test_a_number_of_thousands_of_digits_never_breaks_the_reading(any_world: World) -> None:
    any_world.provider.answer = by_item({1: '{"label": "odd", "score": ' + "9" * 5_000 + "}"}, GOOD)
    run = any_world.start(structured_job(3, retry=RetryPolicy(max_attempts=1))).wait()
    assert len(run.results()) == 3
    assert run.export_terminal_results(any_world.folder / "out.jsonl").exported_count == 3


def test_every_row_failing_leaves_an_error_file_alone(any_world: World) -> None:
    any_world.provider.answer = lambda line: http_error_row(400)
    run = any_world.start(text_job(3)).wait()
    assert len(errors(run)) == 3
    assert any_world.store.get_artifact_inventory(run_id=RUN).output_artifact_paths == []
    run.export_artifacts(any_world.folder / "bundle")


def test_more_rows_than_a_chunk_are_stored_whole(any_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchor_core.runtime.collect.CHUNK", 3)
    any_world.provider.answer = by_item(
        {n: http_error_row(400) for n in range(0, 20, 3)} | {n: [None, "later"] for n in range(1, 20, 3)}
    )
    run = any_world.start(text_job(20)).wait(poll_interval=30.0)
    assert set(errors(run)) == {f"item-{n}" for n in range(0, 20, 3)}
    assert run.summary().completed_items == 13
    sequences = [record.terminal_result_sequence for page in run.iter_record_pages() for record in page]
    assert sequences == list(range(1, 21))
    assert any_world.summary().control_state is RunControlState.RUNNING


def test_usage_adds_up_over_every_answer(any_world: World) -> None:
    any_world.provider.answer = by_item({1: [CUT_OFF, "whole"]})
    run = any_world.start(text_job(items(3))).wait()
    assert run.summary().usage.input_tokens == 40
