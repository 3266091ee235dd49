"""What is used of caps, by the model: every submission is looked at."""

from __future__ import annotations

from collections.abc import Iterable

from batchor_core.core.caps import DAY_SEC, ActiveCap, Cap, CapMeasure, CapStanding, Reservation, active_caps
from batchor_core.core.enums import SubmissionState
from tests.support.model_store.facts import Submission
from tests.support.model_store.run import Run


def standings(caps: Iterable[Cap], run: Run, runs: Iterable[Run], *, now: float) -> list[CapStanding]:
    """How far the caps are used that hold for a run."""
    every = list(runs)
    return [standing_under(cap, every, now=now) for cap in active_caps(caps, run.labels)]


def standing_under(cap: ActiveCap, runs: Iterable[Run], *, now: float) -> CapStanding:
    """How far a cap is used by all runs that it is for."""
    settled = reserved = 0
    for run in runs:
        for submission in run.submissions.values() if cap.label in run.labels else ():
            if cap.per_day and submission.record.created_at // DAY_SEC != now // DAY_SEC:
                continue
            spent, held = _spent(cap.measure, submission), _held(cap.measure, submission, run)
            settled, reserved = settled + spent, reserved + held
    return CapStanding(cap, settled, reserved)


def _spent(measure: CapMeasure, submission: Submission) -> int:
    if submission.batch is None:
        return 0
    record, batch = submission.record, submission.batch.record
    if measure is CapMeasure.ROWS:
        return record.item_count
    reserved = submission.reservation or Reservation(0, 0)
    a_prompt = reserved.token * record.submission_tokens // max(1, record.item_count)
    return batch.cost + (a_prompt + reserved.answer) * batch.unpriced_answers


def _held(measure: CapMeasure, submission: Submission, run: Run) -> int:
    record, reservation = submission.record, submission.reservation or Reservation(0, 0)
    if submission.batch is None:
        if record.state is SubmissionState.DROPPED:
            return 0
        return reservation.of(measure, rows=record.item_count, tokens=record.submission_tokens)
    owned = len(run.owned_by(submission.batch))
    if measure is CapMeasure.ROWS or not owned:
        return 0
    return reservation.of(measure, rows=owned, tokens=record.submission_tokens)
