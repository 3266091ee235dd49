"""Caps, and what is used of them: sums over the submissions of the runs that a cap is for.

Nothing is counted along the way. A submission's reservation is on its row, and what it still holds follows from the state of the
submission and its batch; so nothing can stay reserved for ever, whatever crashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from batchor_core.core.caps import (
    DAY_SEC,
    ActiveCap,
    Cap,
    CapMeasure,
    CapStanding,
    Reservation,
    active_caps,
    labels_of,
)
from batchor_core.core.enums import SubmissionState
from batchor_core.core.pricing import dollars_of
from batchor_core.storage.columns import decode_text, encode_text
from batchor_core.storage.records import PersistedRunConfig
from batchor_core.storage.schema import batches, caps, run_labels, submission_intents
from batchor_core.storage.sql_engine import AnyRow, Database
from batchor_core.storage.sql_runs import LockedRun

_submissions, _batches = submission_intents.c, batches.c
_HAS_BATCH = _batches.intent_key.is_not(None)
_IS_OPEN = and_(_batches.intent_key.is_(None), _submissions.state != SubmissionState.DROPPED.value)
_WHOLE = _submissions.reserved_prompts + _submissions.reserved_answer * _submissions.item_count
# of a batch that is settled in part, the prompts of the rows that are settled are not told from the others: all of them count
_REST = _submissions.reserved_prompts + _submissions.reserved_answer * _batches.submitted_items
# an answer without a price may have cost what was reserved for it
_A_PROMPT = func.coalesce(_submissions.reserved_prompts // func.nullif(_submissions.item_count, 0), 0)
_BILLED = _batches.cost + (_A_PROMPT + _submissions.reserved_answer) * _batches.unpriced_answers
_SUMS: dict[CapMeasure, tuple[ColumnElement[Any], ColumnElement[Any]]] = {
    CapMeasure.USD: (
        case((_HAS_BATCH, _BILLED), else_=0),
        case((_IS_OPEN, _WHOLE), (_batches.submitted_items > 0, _REST), else_=0),
    ),
    CapMeasure.ROWS: (
        case((_HAS_BATCH, _submissions.item_count), else_=0),
        case((_IS_OPEN, _submissions.item_count), else_=0),
    ),
}
"""By measure, what a submission has spent, and what it still reserves."""


def keep_caps(database: Database, connection: Connection, given: Sequence[Cap], *, by_operator: bool) -> None:
    """Store caps, or other limits of caps that are there. What an operator has set counts before what the code says."""
    database.lock_budget(connection, "caps")
    column = "raised" if by_operator else "given"
    for cap in given:
        known = connection.execute(select(caps).where(_named(cap))).first()
        if known is None:
            key = {"scope": encode_text(cap.scope), "measure": cap.measure.value, "per": cap.per or ""}
            connection.execute(caps.insert().values(**key, **{column: cap.limit}))
        elif getattr(known, column) != cap.limit:
            connection.execute(caps.update().where(_named(cap)).values({column: cap.limit}))


def are_kept(connection: Connection, given: Sequence[Cap], *, by_operator: bool) -> bool:
    """Whether there is nothing to store of these caps."""
    column = caps.c.raised if by_operator else caps.c.given
    return all(connection.execute(select(column).where(_named(cap))).scalar() == cap.limit for cap in given)


def remove_cap(database: Database, connection: Connection, cap: Cap) -> bool:
    """Remove a cap, whoever has set it; says whether it was there."""
    database.lock_budget(connection, "caps")
    return bool(connection.execute(caps.delete().where(_named(cap))).rowcount)


def _named(cap: Cap) -> ColumnElement[bool]:
    return and_(
        caps.c.scope == encode_text(cap.scope),
        caps.c.measure == cap.measure.value,
        caps.c.per == (cap.per or ""),
    )


def all_caps(connection: Connection) -> list[Cap]:
    """Every cap, with the limit that counts."""
    ordered = select(caps).order_by(caps.c.scope, caps.c.measure, caps.c.per)
    found = []
    for row in connection.execute(ordered).all():
        limit = int(row.given if row.raised is None else row.raised)
        is_usd = row.measure == CapMeasure.USD
        found.append(
            Cap(
                usd=dollars_of(limit) if is_usd else None,
                rows=None if is_usd else limit,
                scope=decode_text(row.scope),
                per="day" if row.per else None,
            )
        )
    return found


def label_run(connection: Connection, run_key: int, run_id: str, config: PersistedRunConfig) -> None:
    """Keep what caps may be for of a new run, besides the run itself and the store."""
    labels = labels_of(run_id, tags=config.batch_metadata, extras=config.extras)[2:]
    if labels:
        values = [{"run_key": run_key, "label": encode_text(label)} for label in labels]
        connection.execute(run_labels.insert(), values)


def caps_of(connection: Connection, run_key: int, run_id: str) -> list[ActiveCap]:
    """The caps that hold for a run."""
    known = all_caps(connection)
    if not known:
        return []
    stored = select(run_labels.c.label).where(run_labels.c.run_key == run_key)
    labels = [decode_text(label) for label in connection.execute(stored).scalars()]
    return active_caps(known, [*labels_of(run_id, tags={}, extras={}), *labels])


def standing(connection: Connection, cap: ActiveCap, run_key: int, now: float) -> CapStanding:
    """How far a cap is used."""
    settled, reserved = _SUMS[cap.measure]
    wanted = (
        select(func.coalesce(func.sum(settled), 0), func.coalesce(func.sum(reserved), 0))
        .select_from(submission_intents)
        .outerjoin(batches, _batches.intent_key == _submissions.intent_key)
        # what was registered by hand has nothing reserved, and is counted once it has a batch
        .where(or_(_IS_OPEN, _HAS_BATCH))
    )
    if cap.label.startswith("run:"):
        wanted = wanted.where(_submissions.run_key == run_key)
    elif cap.label != "store":
        its_runs = select(run_labels.c.run_key).where(run_labels.c.label == encode_text(cap.label))
        wanted = wanted.where(_submissions.run_key.in_(its_runs))
    if cap.per_day:
        day = now - now % DAY_SEC
        wanted = wanted.where(_submissions.created_at >= day, _submissions.created_at < day + DAY_SEC)
    found = connection.execute(wanted).one()
    return CapStanding(cap, int(found[0]), int(found[1]))


def standings(connection: Connection, run_key: int, run_id: str, now: float) -> list[CapStanding]:
    """The caps that hold for a run, and how far they are used."""
    return [standing(connection, cap, run_key, now) for cap in caps_of(connection, run_key, run_id)]


def held_back_by(connection: Connection, row: AnyRow, now: float) -> str | None:
    """Which cap rows of an idle run may be waiting for, for people; None if the run is not idle, or no cap is in its way."""
    has_rows = row.pending_items or row.failed_retryable_items
    if not has_rows or row.queued_local_items or row.submitted_items:
        return None
    found = standings(connection, row.run_key, row.run_id, now)
    return next((text for one in found if (text := one.holds_back())), None)


def fits(run: LockedRun, reservation: Reservation | None, *, rows: int, tokens: int) -> bool:
    """Whether rows may be claimed under every cap. Under the locks that this takes, it stays true until the end."""
    now = run.now()
    for cap in caps_of(run.connection, run.run_key, run.run_id):  # always in this order: no deadlocks
        if reservation is None:
            return False
        run.database.lock_budget(run.connection, f"cap of {cap.label} {cap.measure} {cap.per_day}")
        need = reservation.of(cap.measure, rows=rows, tokens=tokens)
        if need > standing(run.connection, cap, run.run_key, now).left:
            return False
    return True
