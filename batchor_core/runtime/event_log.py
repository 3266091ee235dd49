"""The log of runs: one line for each change of state, and a warning for each obstacle.

Everything here comes of the events that an observer gets, so that log and events can't say different things. Polls and chunks
of rows are no lines: a run of a day must stay readable.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from batchor_core.core.models import RunEvent
from batchor_core.core.words import counted

log = logging.getLogger("batchor_core.runs")


class Line(NamedTuple):
    """A line of the log.

    Attributes:
        level: Of ``logging``.
        text: What happened, without the run's id.
    """

    level: int
    text: str


def log_event(event: RunEvent) -> None:
    """Write the line of an event, if it has one."""
    line = line_of(event)
    if line is not None:
        log.log(line.level, "run %s: %s", event.run_id, line.text)


def line_of(event: RunEvent) -> Line | None:
    """The log line of an event; None if it is not a change of state."""
    data: dict[str, Any] = event.data
    match event.event_type:
        case "run_created":
            return _info("created")
        case "run_resumed":
            return _info("taken up again")
        case "run_resumed_by_operator":
            return _info("resumed")
        case "run_cancel_requested":
            return _info("cancelled; its batches are cancelled next")
        case "run_paused":
            reason = data.get("reason")
            return _warning(f"paused: {reason}") if reason else _info("paused")
        case "run_finished":
            text = f"{data['status']}: {data['completed']:,} rows completed, {data['failed']:,} failed"
            return _warning(text) if data["failed"] else _info(text)
        case "items_reopened":
            return _info(f"{data['count']:,} failed rows are tried again")
        case "batch_submitted":
            return _info(f"batch {data['provider_batch_id']} sent with {data['count']:,} rows")
        case "batch_completed" | "batch_terminal_failure":
            return _batch_ended(data)
        case "batch_usage_differs":
            return _warning(f"batch {data['provider_batch_id']}: {_differences(data['differing'])}")
        case _:
            return _trouble(event.event_type, data)


def _batch_ended(data: dict[str, Any]) -> Line:
    counts = ", ".join(
        f"{data[name]:,} {what}"
        for name, what in (("failed", "failed"), ("retrying", "to be tried again"))
        if data[name]
    )
    text = f"batch {data['provider_batch_id']} ended {data['status']}: {data['completed']:,} rows completed"
    line = _info if data["status"] == "completed" else _warning
    return line(f"{text}, {counts}" if counts else text)


def _differences(differing: dict[str, dict[str, int]]) -> str:
    return "; ".join(
        f"the provider states {each['stated']:,} {kind.replace('_', ' ')} for the batch, and its answers {each['answers']:,}"
        for kind, each in differing.items()
    )


def _trouble(event_type: str, data: dict[str, Any]) -> Line | None:
    submission = f"submission {data.get('local_batch_id')}"
    batch = f"batch {data.get('provider_batch_id')}"
    match event_type:
        case "batch_submit_retry":
            return _failure("submission", data, data["backoff_sec"])
        case "batch_poll_retry" if "consecutive_failures" in data:
            return _failure(f"polling {batch}", data, data["retry_in_sec"])
        case "submission_postponed":
            return _warning(f"{submission} waits for its input file: {data['message']}")
        case "submission_unknown":
            return _warning(
                f"{submission} may have become a batch or not ({data['error_class']}); it is looked up, and not sent again"
            )
        case "submission_recovered":
            return _info(f"{submission} continues" + (f" as {batch}" if "provider_batch_id" in data else ""))
        case "submission_dropped" if data.get("reason") != "never sent":
            return _info(f"{submission} is given up: {data.get('reason') or data.get('decision')}")
        case "submission_quarantined":
            why = data.get("reason") or data["error_class"]
            return _warning(f"{submission} needs a decision: {why}; see `batchor doctor`")
        case "duplicate_provider_batch":
            return _warning(f"{batch} is a second batch of {submission}, and is cancelled")
        case "orphan_batch":
            return _warning(f"{batch} at the provider belongs to this run, which never registered it")
        case "batch_results_late" if not data[
            "waited_sec"
        ]:  # each later look has an event of its own, and no line
            return _warning(
                f"{batch} is over, and results are missing: {data['reason']}; they are waited for"
            )
        case "batch_overdue":
            return _warning(f"{batch} is still {data['status']}, and should have ended; it is waited for")
        case _:
            return None


def _failure(what: str, data: dict[str, Any], retry_in_sec: float) -> Line | None:
    """Log the first failure in a row, then each time their number has doubled: an outage of a night takes a few lines."""
    failures = data["consecutive_failures"]
    if failures & (failures - 1):
        return None
    times = counted(failures, "failure", "failures in a row")
    return _warning(
        f"{what} fails ({times}), next try in {retry_in_sec:.0f} s: {data['error_class']}: {data['message']}"
    )


def _info(text: str) -> Line:
    return Line(logging.INFO, text)


def _warning(text: str) -> Line:
    return Line(logging.WARNING, text)
