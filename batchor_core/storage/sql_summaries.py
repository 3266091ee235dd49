"""Where runs stand: their counts, and what is wrong with their batches and submissions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, func, select

from batchor_core.core.enums import ItemStatus, RunControlState, SubmissionState
from batchor_core.core.lifecycle import run_status
from batchor_core.core.models import RunSummary
from batchor_core.core.pricing import cost_of, dollars_of
from batchor_core.core.trouble import trouble
from batchor_core.core.usage import TokenUsage
from batchor_core.core.usage import counts as billed
from batchor_core.storage.columns import decode_optional_text
from batchor_core.storage.schema import IN_DOUBT, batches, submission_intents
from batchor_core.storage.sql_batches import ACTIVE_BATCH
from batchor_core.storage.sql_costs import notes_from
from batchor_core.storage.sql_engine import AnyRow
from batchor_core.storage.sql_runs import backoff_remaining


class ActiveBatches(NamedTuple):
    """How many batches of a run are active, and what is wrong with them."""

    active: int = 0
    late: int = 0
    late_rows: int = 0
    overdue: int = 0
    poll_failures: int = 0
    """The most polls in a row that failed."""
    poll_error: str | None = None
    """What one of them said; where several fail, the one that has failed for longest."""
    poll_retry_at: float | None = None
    """When the first of those whose polls failed is asked after again."""


# put together once, see sql_runs: every look at a run asks both
_batches, _submissions = batches.c, submission_intents.c
_IS_OVERDUE = and_(_batches.is_terminal.is_(False), _batches.due_at < bindparam("now"))
_ACTIVE = (
    select(
        _batches.run_key,
        func.count(),
        func.count(_batches.ended_at),
        func.sum(_batches.late_rows),
        func.sum(case((_IS_OVERDUE, 1), else_=0)),
        func.max(_batches.poll_failures),
        func.min(_batches.poll_error),
        func.min(case((_batches.poll_failures > 0, _batches.next_poll_at))),
    )
    .where(ACTIVE_BATCH)
    .group_by(_batches.run_key)
)
_ACTIVE_OF_RUN = _ACTIVE.where(_batches.run_key == bindparam("key"))
_DOUBTFUL = (
    select(_submissions.run_key, _submissions.state, func.count())
    .where(IN_DOUBT)
    .group_by(_submissions.run_key, _submissions.state)
)
_DOUBTFUL_OF_RUN = _DOUBTFUL.where(_submissions.run_key == bindparam("key"))


def active_batches(
    connection: Connection, *, now: float, run_key: int | None = None
) -> dict[int, ActiveBatches]:
    """Active batches by run; runs without any are left out."""
    wanted = _ACTIVE if run_key is None else _ACTIVE_OF_RUN
    found = connection.execute(wanted, {"now": now, "key": run_key})
    return {
        key: ActiveBatches(
            active, late, int(rows), int(overdue), failures, decode_optional_text(error), retry_at
        )
        for key, active, late, rows, overdue, failures, error, retry_at in found.all()
    }


def doubtful_counts(connection: Connection, run_key: int | None = None) -> dict[tuple[int, str], int]:
    """UNKNOWN and QUARANTINED submissions by run and state."""
    wanted = _DOUBTFUL if run_key is None else _DOUBTFUL_OF_RUN
    found = connection.execute(wanted, {"key": run_key})
    return {(key, state): count for key, state, count in found.all()}


def summary_from(
    row: AnyRow,
    *,
    now: float,
    active: Mapping[int, ActiveBatches],
    doubtful: Mapping[tuple[int, str], int],
    following: Mapping[int, int],
    queue_limits: Mapping[str, int],
    held_back_by: str | None = None,
) -> RunSummary:
    """A run's summary, from its row and what was counted beside it."""
    counts = {status: getattr(row, f"{status.value}_items") for status in ItemStatus}
    total = sum(counts.values())
    # a run without a checkpoint got all its items when it was created; one without items either was interrupted
    # before its checkpoint was written, and must not look finished
    complete = total > 0 if row.ingestion_complete is None else bool(row.ingestion_complete)
    status, control_state = (
        run_status(counts, ingestion_complete=complete),
        RunControlState(row.control_state),
    )
    in_flight = active.get(row.run_key, ActiveBatches())
    return RunSummary(
        run_id=row.run_id,
        status=status,
        control_state=control_state,
        total_items=total,
        completed_items=counts[ItemStatus.COMPLETED],
        failed_items=counts[ItemStatus.FAILED_PERMANENT],
        status_counts=counts,
        active_batches=in_flight.active,
        backoff_remaining_sec=backoff_remaining(row, now),
        control_reason=decode_optional_text(row.control_reason),
        ingestion_complete=complete,
        usage=TokenUsage(*billed(row)),
        estimated_tokens=row.queued_local_tokens + row.submitted_tokens,
        unknown_batches=doubtful.get((row.run_key, SubmissionState.UNKNOWN.value), 0),
        quarantined_batches=doubtful.get((row.run_key, SubmissionState.QUARANTINED.value), 0),
        orphan_batches=row.orphan_batches,
        late_batches=in_flight.late,
        late_rows=in_flight.late_rows,
        overdue_batches=in_flight.overdue,
        created_at=row.created_at,
        trouble=trouble(
            status,
            control_state,
            submit_failures=row.consecutive_failures,
            submit_error=decode_optional_text(row.last_error_message),
            submit_retry_at=row.next_retry_at,
            poll_failures=in_flight.poll_failures,
            poll_error=in_flight.poll_error,
            poll_retry_at=in_flight.poll_retry_at,
            held_back_by=held_back_by,
        ),
        cost=cost_of(row.cost, unpriced=row.unpriced_answers, notes=notes_from(row)),
        reused_items=row.reused_items,
        deduplicated_items=row.deduplicated_items,
        usd_saved=dollars_of(row.saved),
        following_items=following.get(row.run_key, 0),
        queue_limit=queue_limits.get(row.budget_key),
        repairs=row.repairs,
        repaired_items=row.repaired_items,
    )
