"""The report of a run: its figures, its turnaround, and that nothing a stranger wrote takes it over."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal

import pytest

from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus
from batchor_core.core.error_counts import ErrorCount
from batchor_core.core.markdown import plain
from batchor_core.core.models import RunSummary
from batchor_core.core.pricing import Cost, Unpriced
from batchor_core.core.run_report import RunReport
from batchor_core.core.turnaround import BatchTime, histogram, turnaround
from batchor_core.core.usage import TokenUsage

SUMMARY = RunSummary(
    "reviews",
    RunLifecycleStatus.COMPLETED_WITH_FAILURES,
    RunControlState.RUNNING,
    total_items=1_000,
    completed_items=990,
    failed_items=10,
    status_counts=dict.fromkeys(ItemStatus, 0),
    active_batches=0,
    backoff_remaining_sec=0.0,
    usage=TokenUsage(1_234_567, 0, 4_000),
    cost=Cost(Decimal("0.0123"), ("calls of a tool",)),
    created_at=1_000.0,
)
BATCHES = [
    BatchTime("batch_1", "completed", 600, 1_000.0, 1_700.0, "https://console.example/batch_1"),
    BatchTime("batch_2", "expired", 300, 1_000.0, 1_000.0 + 86_400),
    BatchTime("batch_3", "in_progress", 100, 1_000.0),
]
REPORT = RunReport(
    SUMMARY,
    {"refusal": ErrorCount(10, "row-7", "I can not")},
    BATCHES,
    "gpt-5-mini",
    [("runs", "/runs?q")],
)


def test_a_report_says_it_all() -> None:
    text = REPORT.markdown()
    for line in (
        "## reviews",
        "| State | completed with failures |",
        "| Failed | 10 (1.0 %) |",
        "| Input tokens | 1,234,567 |",
        "| Cost | $0.0123, at least; not included: calls of a tool |",
        "| Model | gpt-5-mini |",
        "Half of the rows were back within 11 min, 95 % within 1 day.",
        "| 5 min to 15 min | 1 | 600 | ████████████████████ |",
        "| 15 min to 30 min | 0 | 0 |  |",
        "| 1 day or more | 1 | 300 | ████████████████████ |",
        "| refusal | 10 | row-7 | I can not |",
        "| [batch_1](https://console.example/batch_1) | completed | 600 | 1970-01-01 00:16 | 11 min |",
        "| batch_3 | in progress | 100 | 1970-01-01 00:16 |  |",
        "- [runs](/runs?q)",
    ):
        assert line in text.split("\n"), line
    assert "Cached tokens" not in text, "none of them, nothing to say"
    assert "Last batch ended" not in text, "one of them still runs"


def test_a_report_is_json_too() -> None:
    payload = json.loads(json.dumps(REPORT.to_payload()))
    assert (payload["rows"], payload["cost_usd"], payload["turnaround_p95_sec"]) == (1_000, 0.0123, 86_400.0)
    assert payload["errors"]["refusal"] == {"rows": 10, "item_id": "row-7", "message": "I can not"}
    assert payload["batches"][2]["ended_at"] is None


def test_what_is_not_known_is_left_out() -> None:
    unpriced = dataclasses.replace(SUMMARY, cost=Unpriced("no list"))
    empty = dataclasses.replace(REPORT, summary=unpriced, errors={}, batches=[], model=None, links=())
    text = empty.markdown()
    assert "| Cost | unknown: no list |" in text
    assert "###" not in text
    assert empty.to_payload()["turnaround_p50_sec"] is None


def test_the_most_frequent_errors_and_the_first_batches_are_shown() -> None:
    errors = {f"error-{number}": ErrorCount(1, "row", "") for number in range(12)}
    batches = [BatchTime(f"batch-{number}", "completed", 1, 0.0, 1.0) for number in range(2_000)]
    text = dataclasses.replace(REPORT, errors=errors, batches=batches).markdown()
    assert ("error-9" in text, "error-10" in text, "and 2 other errors" in text) == (True, False, True)
    assert ("batch-19" in text, "batch-20 " in text, "and 1,980 more" in text) == (True, False, True)


@pytest.mark.parametrize(
    ("share", "seconds"), [(0.0, 5.0), (0.5, 5.0), (0.9, 5.0), (0.91, 60.0), (0.95, 60.0), (1.0, 60.0)]
)
def test_turnaround_counts_rows_and_not_batches(share: float, seconds: float) -> None:
    batches = [
        BatchTime("a", "", 10, 0.0, 60.0),
        BatchTime("b", "", 90, 0.0, 5.0),
        BatchTime("c", "", 9, 0.0),
    ]
    assert turnaround(batches, share) == seconds
    assert turnaround(batches[2:], share) is None


def test_a_histogram_has_no_empty_ends() -> None:
    assert histogram([]) == []
    (only,) = histogram([BatchTime("a", "", 7, 100.0, 99.0)])  # a clock that was set back
    assert (only.label, only.batches, only.rows) == ("under 15 s", 1, 7)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, ""),
        (1.5, "1.5"),
        ({"a": ["é"]}, '{"a": \\["é"\\]}'),
        ("a|b\r\n\r\nc", "a\\|b c"),
        ("![x](http://spy) <img src=x>", "!\\[x\\](http://spy) &lt;img src=x>"),
        ("`code` *bold* \\", "\\`code\\` \\*bold\\* \\\\"),
        ("x" * 99, "x" * 79 + "…"),
    ],
)
def test_what_others_wrote_is_no_markdown(given: object, shown: str) -> None:
    assert plain(given) == shown
