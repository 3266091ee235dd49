"""Answers, attempts, terminal sequences, cancellation, summaries: the documented methods."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from batchor_core.core.enums import ItemStatus, RunLifecycleStatus
from batchor_core.core.models import ItemFailure
from batchor_core.core.usage import TokenUsage
from batchor_core.storage.state import RawResponseRef, StateStore
from tests.contract.stores import kit
from tests.contract.stores.kit import (
    MAX,
    RUN,
    Backend,
    Clock,
    bad,
    claim,
    create,
    good,
    records,
    statuses,
    terminal,
)

PENDING, QUEUED, SUBMITTED = ItemStatus.PENDING, ItemStatus.QUEUED_LOCAL, ItemStatus.SUBMITTED
COMPLETED, RETRYABLE, PERMANENT = (
    ItemStatus.COMPLETED,
    ItemStatus.FAILED_RETRYABLE,
    ItemStatus.FAILED_PERMANENT,
)


def sequences(store: StateStore) -> list[tuple[str, int | None]]:
    return [(record.item_id, record.terminal_result_sequence) for record in terminal(store)]


def test_an_answer_completes_its_item(any_store: StateStore) -> None:
    (custom_id,) = kit.submitted_run(any_store, 1)
    answer = good(
        custom_id,
        output_text="{}",
        raw_response={"id": "r", "n": [1, None]},
        output_json={"a": 1.5},
        usage=kit.usage(9),
    )
    any_store.mark_items_completed(run_id=RUN, completions=[answer])
    (record,) = any_store.get_item_records(run_id=RUN)
    assert (record.status, record.attempt_count, record.terminal_result_sequence) == (COMPLETED, 1, 1)
    assert (record.output_text, record.output_json, record.error) == ("{}", {"a": 1.5}, None)
    assert (record.raw_response, record.usage) == ({"id": "r", "n": [1, None]}, kit.usage(9))
    assert terminal(any_store) == [record]


def test_json_that_is_stored_as_text_is_decoded_when_it_is_read(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 2)
    texts = ['{"b": 1, "a": [9007199254740993, 123456789012345678901234567890, "é"]}', "[NaN, 1e400]"]
    answers = [
        good(name, output_text=text, text_is_json=True) for name, text in zip(custom_ids, texts, strict=True)
    ]
    any_store.mark_items_completed(run_id=RUN, completions=answers)
    first, second = any_store.get_item_records(run_id=RUN)
    assert first.output_json == {"b": 1, "a": [9007199254740993, 123456789012345678901234567890, "é"]}
    assert list(first.output_json) == ["b", "a"]
    assert repr(second.output_json) == "[nan, inf]"
    assert [first.output_text, second.output_text] == texts


def test_failures_follow_the_rules_of_the_lifecycle(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 4)
    failures = [
        bad(custom_ids[0]),
        bad(custom_ids[1], count_attempt=False),
        bad(custom_ids[2], retryable=False, output_text="I won't", usage=kit.usage(3)),
        bad(custom_ids[3], retryable=False, count_attempt=False),
    ]
    any_store.mark_items_failed(run_id=RUN, failures=failures, max_attempts=MAX)
    stored = any_store.get_item_records(run_id=RUN)
    assert [record.status for record in stored] == [RETRYABLE, RETRYABLE, PERMANENT, PERMANENT]
    assert [record.attempt_count for record in stored] == [1, 0, 1, 0]
    assert [record.terminal_result_sequence for record in stored] == [None, None, 1, 2]
    assert [record.error for record in stored] == [record.error for record in failures]
    assert (stored[2].output_text, stored[2].usage) == ("I won't", kit.usage(3))


def test_the_last_attempt_is_permanent(any_store: StateStore) -> None:
    kit.submitted_run(any_store, 1, batch="p0")
    for attempt in range(MAX):
        kit.fail(any_store, [f"item-0_p{attempt}"])
        assert records(any_store)["item-0"].attempt_count == attempt + 1
        if attempt < MAX - 1:
            assert statuses(any_store) == [RETRYABLE]
            kit.hand_over(any_store, claim(any_store), batch=f"p{attempt + 1}")
    assert statuses(any_store) == [PERMANENT]
    assert claim(any_store, max_attempts=100) == []


def test_a_good_answer_clears_the_error_of_an_earlier_attempt(any_store: StateStore) -> None:
    kit.fail(any_store, kit.submitted_run(any_store, 1))
    kit.complete(any_store, kit.hand_over(any_store, claim(any_store), batch="p2"))
    (record,) = any_store.get_item_records(run_id=RUN)
    assert (record.status, record.attempt_count, record.error) == (COMPLETED, 2, None)


def test_sequences_have_no_gaps_and_follow_the_commits(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 6)
    kit.complete(any_store, [custom_ids[4], custom_ids[1]])
    kit.fail(any_store, [custom_ids[0], custom_ids[5]], error=kit.failure(retryable=False))
    kit.fail(any_store, [custom_ids[2]])
    kit.complete(any_store, [custom_ids[3]])
    expected = ["item-4", "item-1", "item-0", "item-5", "item-3"]
    assert sequences(any_store) == list(zip(expected, range(1, 6), strict=True))


def test_a_replay_changes_nothing(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 4)

    def consume() -> None:
        kit.complete(any_store, [custom_ids[0], custom_ids[0]])
        kit.fail(any_store, [custom_ids[1], custom_ids[1]], usage=kit.usage(5))
        kit.fail(any_store, [custom_ids[2]], error=kit.failure(retryable=False))

    consume()
    before = any_store.get_item_records(run_id=RUN), any_store.get_run_summary(run_id=RUN)
    consume()
    kit.complete(any_store, [custom_ids[1], custom_ids[2]])
    kit.fail(any_store, [custom_ids[0]])
    assert (any_store.get_item_records(run_id=RUN), any_store.get_run_summary(run_id=RUN)) == before


def test_an_attempt_is_counted_by_its_custom_id(any_store: StateStore) -> None:
    """The failure of the first attempt arrives again while the second one is in flight."""
    first = kit.submitted_run(any_store, 1)
    kit.fail(any_store, first)
    second = kit.hand_over(any_store, claim(any_store), batch="p2")
    kit.fail(any_store, first)
    assert (statuses(any_store), records(any_store)["item-0"].attempt_count) == ([SUBMITTED], 1)
    kit.fail(any_store, second)
    assert records(any_store)["item-0"].attempt_count == 2


def test_unknown_custom_ids_are_passed_over(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 1)
    kit.complete(any_store, ["stranger", "", "item-0", *custom_ids])
    kit.fail(any_store, ["stranger", "1-0-abc"])
    assert sequences(any_store) == [("item-0", 1)]


def test_terminal_results_are_read_in_pages(any_store: StateStore) -> None:
    kit.complete(any_store, kit.submitted_run(any_store, 7))
    pages, after = [], 0
    while page := terminal(any_store, after, limit=3):
        pages.append([record.item_id for record in page])
        after = page[-1].terminal_result_sequence or 0
    assert pages == [["item-0", "item-1", "item-2"], ["item-3", "item-4", "item-5"], ["item-6"]]
    assert len(terminal(any_store, 2)) == 5
    assert terminal(any_store, 0, limit=0) == []
    assert terminal(any_store, 99) == []
    assert len(terminal(any_store, -5)) == 7


def test_a_cursor_reader_never_skips_a_late_commit(backend: Backend, clock: Clock) -> None:
    custom_ids = kit.submitted_run(backend.open(clock), 60)
    writers = [backend.open(clock) for _ in range(2)]
    reader = backend.open(clock)

    def write(share: int) -> None:
        for custom_id in custom_ids[share::2]:
            kit.complete(writers[share], [custom_id])

    seen: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(write, share) for share in range(2)]
        while len(seen) < 60:
            page = terminal(reader, seen[-1] if seen else 0, limit=10)
            seen += [record.terminal_result_sequence or 0 for record in page]
            if not page and all(job.done() for job in jobs):
                [job.result() for job in jobs]
                break
    seen += [record.terminal_result_sequence or 0 for record in terminal(reader, seen[-1])]
    assert seen == list(range(1, 61))


def test_every_item_that_is_not_terminal_is_cancelled(any_store: StateStore) -> None:
    create(any_store, 6)
    custom_ids = kit.hand_over(any_store, claim(any_store, 4))
    kit.complete(any_store, custom_ids[:1])
    kit.fail(any_store, custom_ids[1:2])
    kit.fail(any_store, custom_ids[2:3], error=kit.failure(retryable=False))
    claim(any_store, 1)  # takes the failed item again
    claim(any_store, 1)
    gone = ItemFailure("run_cancelled", "an operator cancelled the run", retryable=False)
    assert any_store.mark_nonterminal_items_cancelled(run_id=RUN, error=gone) == 4
    assert any_store.mark_nonterminal_items_cancelled(run_id=RUN, error=gone) == 0
    assert statuses(any_store) == [COMPLETED, *[PERMANENT] * 5]
    stored = any_store.get_item_records(run_id=RUN)
    assert [record.error == gone for record in stored] == [False, True, False, True, True, True]
    assert [record.attempt_count for record in stored] == [1, 1, 1, 0, 0, 0]
    assert {number for _, number in sequences(any_store)} == {1, 2, 3, 4, 5, 6}
    assert any_store.get_run_summary(run_id=RUN).status is RunLifecycleStatus.COMPLETED_WITH_FAILURES
    kit.complete(any_store, custom_ids)
    assert statuses(any_store) == [COMPLETED, *[PERMANENT] * 5]


def test_the_summary_counts_what_is_there(any_store: StateStore) -> None:
    create(any_store, 9)
    custom_ids = kit.hand_over(any_store, claim(any_store, 5))
    kit.complete(any_store, custom_ids[:2])
    kit.fail(any_store, custom_ids[2:3])
    kit.fail(any_store, custom_ids[3:4], error=kit.failure(retryable=False))
    claim(any_store, 2)
    summary = any_store.get_run_summary(run_id=RUN)
    assert set(summary.status_counts) == set(ItemStatus)
    recount = Counter(statuses(any_store))
    assert summary.status_counts == {status: recount[status] for status in ItemStatus}
    assert (summary.total_items, summary.completed_items, summary.failed_items) == (9, 2, 1)
    assert (summary.run_id, summary.status) == (RUN, RunLifecycleStatus.RUNNING)
    assert summary.active_batches == 1


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ("cc", RunLifecycleStatus.COMPLETED),
        ("cp", RunLifecycleStatus.COMPLETED_WITH_FAILURES),
        ("pp", RunLifecycleStatus.COMPLETED_WITH_FAILURES),
        ("cr", RunLifecycleStatus.RUNNING),
        ("c ", RunLifecycleStatus.RUNNING),
    ],
)
def test_a_runs_status_follows_from_its_items(
    any_store: StateStore, ends: str, status: RunLifecycleStatus
) -> None:
    custom_ids = kit.submitted_run(any_store, 2)
    for custom_id, end in zip(custom_ids, ends, strict=True):
        if end == "c":
            kit.complete(any_store, [custom_id])
        elif end in "pr":
            kit.fail(any_store, [custom_id], error=kit.failure(retryable=end == "r"))
    assert any_store.get_run_summary(run_id=RUN).status is status


def test_usage_adds_up_over_every_answered_attempt(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 3)
    kit.fail(any_store, custom_ids[:1], usage=kit.usage(100))
    any_store.mark_items_completed(
        run_id=RUN, completions=[good(custom_ids[1], usage=kit.usage(20)), good(custom_ids[2])]
    )
    again = kit.hand_over(any_store, claim(any_store), batch="p2")
    any_store.mark_items_completed(run_id=RUN, completions=[good(again[0], usage=kit.usage(3))])
    assert any_store.get_run_summary(run_id=RUN).usage == TokenUsage(123, 3, 6, 3)
    assert [record.usage for record in terminal(any_store)] == [kit.usage(20), None, kit.usage(3)]


def test_reading_writes_nothing(any_store: StateStore) -> None:
    kit.complete(any_store, kit.submitted_run(any_store, 2)[:1])
    first = any_store.get_run_summary(run_id=RUN), any_store.get_item_records(run_id=RUN)
    assert (any_store.get_run_summary(run_id=RUN), any_store.get_item_records(run_id=RUN)) == first


# --- text and JSON of every kind -------------------------------------------------------------------------------------

TEXTS = {
    "empty": "",
    "NUL": "a\0b",
    "NUL first": "\0",
    "lone surrogate": "x\ud800y",
    "substitute": "\x1a{}",
    "separators": "a\u2028b\u2029c\u0085d\x1e",
    "emoji": "🧪👩‍🔬",
    "control": "\r\n\t\x7f\x01",
    "quotes": "\"'`;--",
    "percent": "%s {} :name ?",
    "long": "ä" * 100_000,
}
VALUES: dict[str, Any] = {
    "huge": {"n": 10**30, "m": -(2**63) - 1, "u": 2**64 - 1},
    "floats": [1e308, 5e-324, 0.1, -0.0],
    "nested": [[[[[{"a": [{"b": {}}]}]]]]],
    "NUL": {"a\0b": "c\0d"},
    "surrogate": {"k": "\udcff"},
    "scalars": [None, True, False, 0, "", {}],
    "order": {"z": 1, "a": 2, "m": {"y": 1, "b": 2}},
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_comes_back_as_it_was(any_store: StateStore, text: str) -> None:
    error = ItemFailure("x", text, retryable=False, raw_error={"text": text})
    items = [
        kit.item(
            0, item_id=f"id {text}"[:200], prompt=text, system_prompt=text, metadata={"t": text}, payload=text
        ),
        kit.item(1),
    ]
    any_store.create_run(run_id=RUN, config=kit.config(extras={"t": text}), items=items)
    first, second = any_store.claim_items_for_submission(run_id=RUN, max_attempts=MAX)
    assert (first.item_id, first.prompt, first.system_prompt) == (f"id {text}"[:200], text, text)
    custom_ids = kit.hand_over(any_store, [first.item_id, second.item_id])
    kit.fail(any_store, custom_ids[1:], error=error, output_text=text)
    answer = good(custom_ids[0], output_text=text, raw_response={"t": text}, output_json=[text])
    any_store.mark_items_completed(run_id=RUN, completions=[answer])
    completed, failed = any_store.get_item_records(run_id=RUN)
    assert (completed.output_text, completed.metadata) == (text, {"t": text})
    assert (completed.raw_response, completed.output_json) == ({"t": text}, [text])
    assert (failed.error, failed.output_text) == (error, text)
    assert any_store.get_run_config(run_id=RUN).extras == {"t": text}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_any_json_comes_back_as_it_was(any_store: StateStore, value: Any) -> None:
    item = kit.item(0, metadata={"v": value}, payload=value)
    any_store.create_run(run_id=RUN, config=kit.config(), items=[item])
    custom_ids = kit.hand_over(any_store, claim(any_store))
    answer = good(custom_ids[0], output_json=value, raw_response={"v": value})
    any_store.mark_items_completed(run_id=RUN, completions=[answer])
    (record,) = any_store.get_item_records(run_id=RUN)
    assert repr((record.metadata, record.output_json, record.raw_response)) == repr(
        ({"v": value}, value, {"v": value})
    )


def test_a_reference_to_a_raw_response_is_kept_with_its_file(any_store: StateStore) -> None:
    custom_ids = kit.submitted_run(any_store, 3)
    spot = RawResponseRef(is_error_file=False, offset=10, length=2**40)
    any_store.mark_items_completed(run_id=RUN, completions=[good(custom_ids[0], raw=spot)])
    wrong = RawResponseRef(is_error_file=True, offset=0, length=3)
    kit.fail(any_store, custom_ids[1:2], error=kit.failure(retryable=False), raw=wrong)
    assert [(r.raw, r.raw_artifact_path) for r in terminal(any_store)] == [(spot, None), (wrong, None)]
    kit.keep_files(any_store, "p1", "p1.out", "p1.err")
    assert [(r.raw, r.raw_artifact_path) for r in terminal(any_store)] == [
        (spot, "p1.out"),
        (wrong, "p1.err"),
    ]
    any_store.clear_batch_artifact_pointers(run_id=RUN, artifact_paths=["p1.out"])
    assert [r.raw_artifact_path for r in terminal(any_store)] == [None, "p1.err"]
