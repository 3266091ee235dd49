"""The verdict of the crash harness sees what it is there to see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.scenario import SCENARIOS, Scenario
from tests.chaos.verdict import Facts, judge

PLAIN = SCENARIOS["plain"]
TEXTS = PLAIN.texts()


def item(name: str, sequence: int, **changes: Any) -> dict[str, Any]:
    good = {
        "item_id": name,
        "status": "completed",
        "sequence": sequence,
        "text": TEXTS[name],
        "error_class": None,
    }
    return good | changes


ITEMS = [item(name, sequence) for sequence, name in enumerate(TEXTS, 1)]
GOOD = Facts(
    items=ITEMS,
    total_items=len(TEXTS),
    exported=ITEMS,
    manifest_ok=True,
    is_finished=True,
    open_work=0,
    executions=[(f"{index}-0-abcabcabcabc", "answer") for index in range(len(TEXTS))],
    batches={"batch_1": "local-1"},
    posts=1,
    sent_submissions=1,
)


def test_a_good_round_is_good() -> None:
    verdict = judge(GOOD, PLAIN)
    assert verdict.is_good
    assert (verdict.left, verdict.orphans, list(verdict.why)) == (0, 0, [])


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"items": ITEMS[:-1]}, "lost"),
        ({"exported": ITEMS[1:]}, "lost"),
        (
            {
                "items": [
                    *ITEMS[:-1],
                    item("item-7", 8, status="failed_permanent", error_class="run_cancelled"),
                ]
            },
            "lost",
        ),
        ({"exported": [*ITEMS, ITEMS[0]]}, "doubled"),
        ({"items": [*ITEMS[:-1], item("item-7", 8, text=TEXTS["item-0"])]}, "doubled"),
        ({"executions": [*GOOD.executions, ("3-1-abcabcabcabc", "answer")]}, "paid_twice"),
        ({"batches": {"batch_1": "local-1", "batch_2": "local-1"}}, "doubled_batches"),
        ({"posts": 2}, "doubled_batches"),
        ({"is_finished": False}, "stuck"),
        ({"open_work": 1}, "stuck"),
        ({"manifest_ok": False}, "broken"),
        ({"items": [*ITEMS[:-1], item("item-7", 9)]}, "broken"),
        ({"total_items": 9}, "broken"),
        ({"shown": ["StorageError: disk I/O error"]}, "broken"),
        ({"is_intact": False}, "broken"),
        ({"input_files": ["a.jsonl"]}, "left"),
        ({"unfinished_files": ["export/.tmp-x"]}, "left"),
        ({"shown": ["StorageError: database is locked"]}, "locked"),
    ],
)
def test_what_is_wrong_is_counted(changes: dict[str, Any], figure: str) -> None:
    verdict = judge(replace(GOOD, **changes), PLAIN)
    assert getattr(verdict, figure) == 1
    assert not verdict.is_good
    assert verdict.why


def test_files_that_may_stay_are_counted_apart() -> None:
    scenario = replace(PLAIN, leaves="their deletion is refused")
    verdict = judge(replace(GOOD, input_files=["a.jsonl"], unfinished_files=["b"]), scenario)
    assert (verdict.orphans, verdict.left) == (2, 0)
    assert verdict.is_good


@pytest.mark.parametrize(
    ("scenario", "changes"),
    [
        # an error row is not paid for, and asked again
        (PLAIN, {"executions": [*GOOD.executions, ("3-1-abcabcabcabc", "http_error")]}),
        (replace(PLAIN, paid_again=True), {"executions": [*GOOD.executions, ("3-1-abcabcabcabc", "answer")]}),
        (replace(PLAIN, forgets=True), {"posts": 2}),
        (replace(PLAIN, tolerates=("terminating",)), {"shown": ["StorageError: terminating connection"]}),
        (
            Scenario("cancelled", cancels=True),
            {
                "items": [
                    *ITEMS[:-1],
                    item("item-7", 8, status="failed_permanent", text=None, error_class="run_cancelled"),
                ]
            },
        ),
    ],
)
def test_what_is_nobodys_fault_is_not(scenario: Scenario, changes: dict[str, Any]) -> None:
    assert judge(replace(GOOD, **changes), scenario).is_good
