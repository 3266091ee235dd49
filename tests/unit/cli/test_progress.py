"""Progress: what is shown of a summary, and the time left by what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batchor_core.cli import progress
from batchor_core.cli.progress import Pace, Progress, ProgressMode, line, phase
from batchor_core.cli.views import share
from batchor_core.core.enums import ItemStatus, RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import RunNotFoundError
from batchor_core.core.models import RunSummary
from batchor_core.core.usage import TokenUsage


def summary(done: int = 0, *, total: int = 100, failed: int = 0, **changes: Any) -> RunSummary:
    counts = dict.fromkeys(ItemStatus, 0)
    counts |= {ItemStatus.COMPLETED: done, ItemStatus.FAILED_PERMANENT: failed}
    counts[ItemStatus.SUBMITTED] = total - done - failed
    plain = RunSummary(
        "reviews",
        RunLifecycleStatus.RUNNING,
        RunControlState.RUNNING,
        total,
        done,
        failed,
        counts,
        active_batches=1,
        backoff_remaining_sec=0.0,
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (summary(), "at the provider: 0 of 100 rows, 100 at the provider in 1 batch"),
        (
            summary(total=7, ingestion_complete=False),
            "reading rows: 0 of 7 rows read so far, 7 at the provider in 1 batch",
        ),
        (
            summary(1200, total=2000, failed=3, usage=TokenUsage(1000, 0, 234), active_batches=2),
            "at the provider: 1,203 of 2,000 rows, 3 failed, 1,234 tokens, 797 at the provider in 2 batches, about 2 min left",
        ),
        (
            summary(control_state=RunControlState.PAUSED, active_batches=0),
            "paused: 0 of 100 rows",
        ),
        (
            summary(100, status=RunLifecycleStatus.COMPLETED, active_batches=0),
            "done: 100 of 100 rows",
        ),
        (
            summary(trouble="polling is held back: no route", active_batches=0),
            "trying again: 0 of 100 rows, polling is held back: no route",
        ),
    ],
)
def test_where_a_run_stands_in_a_line(given: RunSummary, said: str) -> None:
    left = 120.0 if given.completed_items == 1200 else None
    assert line(given, left) == said


def test_the_time_left_is_told_by_what_was_seen_and_not_before() -> None:
    pace = Pace()
    assert pace.left(summary(50), 10.0) is None, "what ended before says nothing of the pace"
    assert pace.left(summary(50), 20.0) is None
    assert pace.left(summary(60), 30.0) == 80.0
    assert pace.left(summary(60, ingestion_complete=False), 30.0) is None
    assert pace.left(summary(60, control_state=RunControlState.PAUSED), 30.0) is None
    assert pace.left(summary(20), 40.0) is None, "rows were withdrawn to be tried again"
    assert pace.left(summary(30), 50.0) == 70.0
    assert pace.left(summary(99), 50.1) == 1, "what is left is never 0 s"


def test_all_of_it_is_all_of_it() -> None:
    assert [share(*each) for each in ((0, 0), (1999, 2000), (2000, 2000))] == ["0 %", "99 %", "100 %"]


def test_lines_come_when_the_phase_changes_or_after_a_while() -> None:
    said: list[str] = []
    now = 0.0
    lines = progress._Lines(said.append, lambda: now)
    lines.show(summary(1), None)
    lines.show(summary(2), None)
    assert len(said) == 1
    now = progress.LINE_SEC
    lines.show(summary(2), None)
    lines.show(summary(2), None)
    lines.show(summary(2, control_state=RunControlState.PAUSED), None)
    assert [one.split(" ", 1)[1].partition(":")[0] for one in said] == [
        "at the provider",
        "at the provider",
        "paused",
    ]


def test_a_run_that_is_not_there_yet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def look() -> RunSummary:
        raise RunNotFoundError("reviews")

    with Progress(look, ProgressMode.LINES):
        pass
    with Progress(look, ProgressMode.NONE):
        pass
    assert capsys.readouterr().err == ""


def test_the_bar_shows_rows_failures_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    given = summary(50, failed=1, usage=TokenUsage(1000, 0, 234), trouble="held back: \x1b[31m")
    with Progress(lambda: given, ProgressMode.BAR):
        pass
    shown = capsys.readouterr().err
    assert "51/100 rows, 1 failed, 1,234 tokens" in " ".join(shown.split())
    assert "held back" in shown
    assert "\x1b[31m" not in shown
    assert phase(given) == "trying again"
