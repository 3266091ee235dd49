"""When a batch takes which step. Pure: a batch and an instant in, a step out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from batchor_core.testing.local_server.records import Batch, BatchStatus

_ROUNDING = 1e-5
"""Epoch seconds as floats are exact to less than a microsecond; sums of them are not."""


class StepKind(StrEnum):
    """The ways a batch moves on by itself."""

    VALIDATE = "validate"
    FINALIZE = "finalize"
    COMPLETE = "complete"
    EXPIRE = "expire"
    GIVE_UP = "give_up"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Step:
    """A step and the instant, in epoch seconds, at which it was due."""

    kind: StepKind
    at: float


def next_step(batch: Batch, now: float) -> Step | None:
    """The next step that is due by ``now``; None if the batch stays where it is."""
    step = _coming_step(batch)
    return step if step is not None and step.at <= now else None


def _coming_step(batch: Batch) -> Step | None:
    timing = batch.timing
    match batch.status:
        case BatchStatus.VALIDATING:
            return Step(StepKind.VALIDATE, batch.created_at + timing.validating)
        case BatchStatus.IN_PROGRESS:
            end = (batch.in_progress_at or batch.created_at) + timing.running
            if batch.expires_at <= end:
                return Step(StepKind.EXPIRE, batch.expires_at)
            return Step(StepKind.GIVE_UP if batch.fate.cancelled_by_provider else StepKind.FINALIZE, end)
        case BatchStatus.FINALIZING | BatchStatus.CANCELLING if batch.fate.never_ends:
            return None
        case BatchStatus.FINALIZING:
            return Step(StepKind.COMPLETE, (batch.finalizing_at or batch.created_at) + timing.finalizing)
        case BatchStatus.CANCELLING:
            return Step(StepKind.CANCEL, (batch.cancelling_at or batch.created_at) + timing.cancelling)
        case BatchStatus.COMPLETED | BatchStatus.FAILED | BatchStatus.EXPIRED | BatchStatus.CANCELLED:
            return None
        case _:
            assert_never(batch.status)


def rows_due(batch: Batch, now: float) -> int:
    """How many rows are executed by ``now``; they are spread evenly over the batch's running time."""
    elapsed = now - (batch.in_progress_at or batch.created_at) + _ROUNDING
    running = batch.timing.running
    share = 1.0 if elapsed >= running else max(0.0, elapsed / running)
    due = int(batch.total * share)
    return due if batch.fate.row_limit is None else min(due, batch.fate.row_limit)
