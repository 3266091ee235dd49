"""A run's state in words."""

from __future__ import annotations

from batchor_core import RunSummary
from batchor_core.core.enums import RunControlState, RunLifecycleStatus


def is_finished(summary: RunSummary) -> bool:
    """Whether every item has ended."""
    return summary.status is not RunLifecycleStatus.RUNNING


def is_active(summary: RunSummary) -> bool:
    """Whether the sensor drives the run: it is neither finished nor paused."""
    return not is_finished(summary) and summary.control_state is not RunControlState.PAUSED


def state_of(summary: RunSummary) -> str:
    """One word for tags: running, paused, cancelling, cancelled, completed, completed_with_failures."""
    cancelled = summary.control_state is RunControlState.CANCEL_REQUESTED
    if is_finished(summary):
        return "cancelled" if cancelled else summary.status.value
    return "cancelling" if cancelled else summary.control_state.value


def standing(summary: RunSummary) -> str:
    """A run's state and progress as a short text. If it is unchanged, a worker has achieved nothing."""
    return f"{state_of(summary)}:{summary.completed_items}:{summary.failed_items}"


def shown_as(summary: RunSummary) -> str:
    """The same with the counts of its submissions. If it is unchanged, there is nothing new to show."""
    submissions = (
        summary.active_batches,
        summary.unknown_batches,
        summary.quarantined_batches,
        summary.orphan_batches,
    )
    return ":".join([standing(summary), *map(str, submissions)])
