"""The log says each change of state in one line, and nothing about a poll."""

from __future__ import annotations

import logging

import pytest

from batchor_core.core.models import RetryPolicy, RunEvent
from batchor_core.runtime.event_log import line_of
from tests.support.world import World, by_item, text_job


def test_a_run_that_goes_well_is_four_lines(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.provider.statuses = ["in_progress"] * 20 + ["completed"]
    with caplog.at_level(logging.INFO, "batchor_core.runs"):
        run = world.start(text_job(3)).wait(poll_interval=1.0)
    [batch] = world.batch_ids()
    assert run.summary().completed_items == 3
    assert [record.getMessage() for record in caplog.records] == [
        "run run-1: created",
        f"run run-1: batch {batch} sent with 3 rows",
        f"run run-1: batch {batch} ended completed: 3 rows completed",
        "run run-1: completed: 3 rows completed, 0 failed",
    ]
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_failed_rows_are_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.provider.answer = by_item({1: ""})
    world.start(text_job(3, retry=RetryPolicy(max_attempts=1))).wait(poll_interval=60.0)
    assert caplog.records[-1].levelno == logging.WARNING
    assert caplog.records[-1].getMessage().endswith("2 rows completed, 1 failed")


@pytest.mark.parametrize("event_type", ["batch_polled", "items_ingested", "items_completed", "nobody_knows"])
def test_polls_and_chunks_are_no_lines(event_type: str) -> None:
    assert line_of(RunEvent(event_type, "r", data={"count": 1})) is None


def test_a_submission_that_needs_a_decision_names_the_command() -> None:
    data = {"local_batch_id": "batch-1", "error_class": "api_key_changed"}
    line = line_of(RunEvent("submission_quarantined", "r", data=dict(data)))
    assert line == (
        logging.WARNING,
        "submission batch-1 needs a decision: api_key_changed; see `batchor doctor`",
    )
