"""What a run keeps retrying, in words for its summary.

Since when something fails is kept in front of what the provider said, in the text that is stored with a failure, and handed on
from one failure in a row to the next.
"""

from __future__ import annotations

import re

from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.words import counted, moment

_DATED = re.compile(r"since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC): ")


def dated(error: str, *, before: str | None, now: float) -> str:
    """What is stored of a failure: the error, with the moment of the first failure in a row in front of it.

    Args:
        error: What the provider said.
        before: What was stored of the failure before this one; None if this is the first, or if it was not kept.
        now: When this one happened, in seconds since the epoch.
    """
    kept = _DATED.match(before or "")
    return f"since {kept[1] if kept else moment(now)}: {error}"


def trouble(
    status: RunLifecycleStatus,
    control_state: RunControlState,
    *,
    submit_failures: int,
    submit_error: str | None,
    submit_retry_at: float | None = None,
    poll_failures: int,
    poll_error: str | None,
    poll_retry_at: float | None = None,
    held_back_by: str | None = None,
) -> str | None:
    """The problem that a run keeps retrying, or what it waits for; None without one, or if nothing is tried.

    Args:
        status: Whether the run has ended.
        control_state: A paused run tries nothing.
        submit_failures: Failures in a row to send something.
        submit_error: What the last one said; None once something was sent again.
        submit_retry_at: When it is tried again, in seconds since the epoch.
        poll_failures: The most failures in a row to ask after a batch.
        poll_error: What one of them said.
        poll_retry_at: When the first of these batches is asked after again.
        held_back_by: What rows wait for that could be sent, though nothing of the run is in flight.
    """
    if status is not RunLifecycleStatus.RUNNING or control_state is RunControlState.PAUSED:
        return None
    said = []
    if submit_failures and submit_error:
        said.append(_in_words("submission", submit_failures, submit_error, submit_retry_at))
    if poll_failures:
        said.append(_in_words("polling a batch", poll_failures, poll_error, poll_retry_at))
    if held_back_by:
        said.append(held_back_by)
    return "; ".join(said) or None


def _in_words(what: str, failures: int, stored: str | None, retry_at: float | None) -> str:
    kept = _DATED.match(stored or "")
    since = f" has been failing since {kept[1]}" if kept else " fails"
    error = (stored or "")[kept.end() if kept else 0 :]
    next_try = f", next try at {moment(retry_at)}" if retry_at else ""
    times = counted(failures, "failure", "failures in a row")
    return f"{what}{since} ({times}{next_try})" + (f": {error}" if error else "")
