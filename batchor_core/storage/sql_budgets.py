"""Budgets that runs share: what is in flight under a key, and who waits for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from sqlalchemy import Connection, and_, func, or_, select

from batchor_core.core.admission import (
    Allowance,
    Granted,
    Measure,
    Place,
    Standing,
    Wait,
    Waiter,
    free,
    kept_place,
    standing_of,
)
from batchor_core.core.enums import RunControlState
from batchor_core.core.lifecycle import CLAIMABLE
from batchor_core.storage.columns import encode_text
from batchor_core.storage.schema import IN_FLIGHT_RUNS, runs
from batchor_core.storage.sql_engine import AnyRow
from batchor_core.storage.sql_runs import LockedRun

_RUN = runs.c
_IN_FLIGHT = _RUN.queued_local_tokens + _RUN.submitted_tokens
_PLACE = (
    _RUN.run_key,
    _RUN.waiting_since,
    _RUN.waiting_need,
    _RUN.waiting_seen_at,
    _IN_FLIGHT.label("in_flight"),
)
_CAN_GO_ON = and_(
    _RUN.waiting_since.is_not(None),
    _RUN.control_state == RunControlState.RUNNING.value,
    or_(*[_RUN[f"{status.value}_items"] > 0 for status in CLAIMABLE]),
)


def standing(connection: Connection, allowance: Allowance, *, run_key: int, now: float) -> Standing:
    """Where a run stands among all that share an allowance. Under the lock of its key this stays true until the end."""
    match allowance.measure:
        case Measure.ENQUEUED_TOKENS:
            pass  # the counters of each run say what it has in flight
        case _:
            assert_never(allowance.measure)
    sharing = and_(_RUN.budget_key == encode_text(allowance.key), _RUN.run_key != run_key)
    others = select(func.coalesce(func.sum(_IN_FLIGHT), 0)).where(IN_FLIGHT_RUNS, sharing)
    waiting = select(*_PLACE).where(_CAN_GO_ON, sharing)
    own = connection.execute(select(*_PLACE).where(_RUN.run_key == run_key)).one()
    return standing_of(
        own=int(own.in_flight),
        others=int(connection.execute(others).scalar_one()),
        place=_place(own),
        order=run_key,
        waiters=[
            Waiter(place, order=row.run_key, in_flight=int(row.in_flight))
            for row in connection.execute(waiting).all()
            if (place := _place(row)) is not None
        ],
        now=now,
    )


def fits(run: LockedRun, tokens: int, allowances: Sequence[Allowance]) -> bool:
    """Whether so many tokens may be claimed under every allowance. Under the locks that this takes, it stays true until the end."""
    for allowance in sorted(allowances, key=lambda one: one.key):  # always in this order: no deadlocks
        # the last locks of a transaction, but for those of caps: see LockedRun
        run.database.lock_budget(run.connection, allowance.key)
        found = standing(run.connection, allowance, run_key=run.run_key, now=run.now())
        if tokens > free(Granted(allowance, found)):
            return False
    return True


def _place(row: AnyRow) -> Place | None:
    if row.waiting_since is None:
        return None
    return Place(since=row.waiting_since, need=int(row.waiting_need), seen_at=row.waiting_seen_at)


def keep_place(run: LockedRun, allowance: Allowance, wait: Wait) -> None:
    """Queue the run, or note that it still waits."""
    row = run.connection.execute(select(*_PLACE).where(_RUN.run_key == run.run_key)).one()
    place = kept_place(_place(row), wait, now=run.now())
    run.change(
        waiting_since=place.since,
        waiting_need=place.need,
        waiting_seen_at=place.seen_at,
        budget_key=encode_text(allowance.key),
    )


def count_under(run: LockedRun, allowance: Allowance, *, leaves_queue: bool) -> None:
    """Count the run under this key from here on, and give up its place if it has got what it waited for."""
    place = {"waiting_since": None} if leaves_queue else {}
    run.change(budget_key=encode_text(allowance.key), **place)
