"""What a run keeps retrying, in words for its summary."""

from __future__ import annotations

from batchor_core.core.enums import RunControlState, RunLifecycleStatus


def trouble(
    status: RunLifecycleStatus,
    control_state: RunControlState,
    *,
    submit_failures: int,
    submit_error: str | None,
    poll_failures: int,
    poll_error: str | None,
) -> str | None:
    """The problem that a run keeps retrying; None without one, or if nothing is tried.

    Args:
        status: Whether the run has ended.
        control_state: A paused run tries nothing.
        submit_failures: Failed submissions in a row.
        submit_error: The last error; None once a submission has succeeded.
        poll_failures: The most failed polls of a batch in a row.
        poll_error: One of their errors.
    """
    if status is not RunLifecycleStatus.RUNNING or control_state is RunControlState.PAUSED:
        return None
    said = []
    if submit_failures and submit_error:
        said.append(f"submission is held back after {_times(submit_failures)}: {submit_error}")
    if poll_failures:
        why = f": {poll_error}" if poll_error else ""
        said.append(f"polling a batch is held back after {_times(poll_failures)}{why}")
    return "; ".join(said) or None


def _times(failures: int) -> str:
    return "1 failure" if failures == 1 else f"{failures:,} failures in a row"
