"""The rows of submissions and of their batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, func, literal, or_, select
from sqlalchemy.exc import IntegrityError

from batchor_core.core import lifecycle
from batchor_core.core.enums import IntentState
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.lifecycle import OPEN_INTENTS, is_terminal_batch
from batchor_core.core.usage import TOKEN_KINDS
from batchor_core.storage import sql_items
from batchor_core.storage.columns import (
    decode_optional_text,
    decode_text,
    encode_optional_text,
    encode_text,
    usage_columns,
)
from batchor_core.storage.late_batches import NOTHING_LATE, late_fields, waiting_begins_again
from batchor_core.storage.schema import TAKEN_QUEUE, batches, items, runs, submission_intents
from batchor_core.storage.sql_engine import AnyRow
from batchor_core.storage.sql_items import (
    QUEUED_LOCAL,
    SUBMITTED,
    UNSENT_BY_HAND,
    count_items,
    move_all,
    owned_by,
    release_all,
)
from batchor_core.storage.sql_runs import ACTIVE_BATCH, LockedRun, submission_works
from batchor_core.storage.state import ActiveBatchRecord, BatchEnd, IntentRecord, ResultsWait

_intents = submission_intents.c

_INTENT = select(submission_intents, batches.c.provider_batch_id).outerjoin(
    batches, batches.c.intent_key == _intents.intent_key
)
_BATCH = select(
    batches, _intents.local_batch_id, _intents.input_file_id, _intents.state, _intents.last_error_class
).join(submission_intents, _intents.intent_key == batches.c.intent_key)


_IDS_AT_ONCE = 500  # SQLite takes some thousands of parameters


def intent_record(row: AnyRow) -> IntentRecord:
    """A row of an intent as the engine sees it."""
    return IntentRecord(
        local_batch_id=decode_text(row.local_batch_id),
        state=IntentState(row.state),
        epoch=row.epoch,
        item_count=row.item_count,
        submission_tokens=row.submission_tokens,
        created_at=row.created_at,
        artifact_key=decode_optional_text(row.artifact_key),
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        input_file_id=decode_optional_text(row.input_file_id),
        key_fingerprint=row.key_fingerprint,
        sending_at=row.sending_at,
        fenced_at=row.fenced_at,
        clean_listings=row.clean_listings,
        next_check_at=row.next_check_at,
        last_error_class=decode_optional_text(row.last_error_class),
        provider_batch_id=decode_optional_text(row.provider_batch_id),
        server_date_skew=row.server_date_skew,
        uploaded_at=row.uploaded_at,
    )


def intents(connection: Connection, run_key: int, states: Sequence[IntentState] = ()) -> list[IntentRecord]:
    """A run's intents, oldest first; only those in ``states``, if any are given."""
    wanted = _INTENT.where(_intents.run_key == run_key).order_by(_intents.intent_key)
    if states:
        wanted = wanted.where(_intents.state.in_([state.value for state in states]))
    return [intent_record(row) for row in connection.execute(wanted).all()]


def find_intent(connection: Connection, run_key: int, local_batch_id: str) -> AnyRow | None:
    """The row of an intent, or None."""
    wanted = _INTENT.where(
        _intents.run_key == run_key, _intents.local_batch_id == encode_text(local_batch_id)
    )
    return connection.execute(wanted).first()


def intent_in(
    connection: Connection, run_key: int, local_batch_id: str, allowed: Sequence[IntentState], *, run_id: str
) -> AnyRow:
    """The row of an intent in one of these states, or RunStateError."""
    row = find_intent(connection, run_key, local_batch_id)
    if row is None:
        raise RunStateError(run_id, f"no submission {local_batch_id!r}")
    if row.state not in allowed:
        raise RunStateError(run_id, f"submission {local_batch_id!r} is {row.state}")
    return row


def change_intent(connection: Connection, intent_key: int, **values: object) -> None:
    """Set columns of an intent."""
    connection.execute(submission_intents.update().where(_intents.intent_key == intent_key).values(values))


def create_intent(
    run: LockedRun,
    *,
    local_batch_id: str,
    state: IntentState,
    epoch: int = 0,
    item_count: int,
    submission_tokens: int = 0,
    artifact_key: str | None = None,
    key_fingerprint: str | None = None,
) -> int:
    """Insert an intent; returns its key."""
    inserted = run.connection.execute(
        submission_intents.insert().values(
            run_key=run.run_key,
            local_batch_id=encode_text(local_batch_id),
            state=state.value,
            epoch=epoch,
            item_count=item_count,
            submission_tokens=submission_tokens,
            created_at=run.now(),
            artifact_key=encode_optional_text(artifact_key),
            key_fingerprint=key_fingerprint,
        )
    )
    key = inserted.inserted_primary_key
    assert key is not None
    return int(key[0])


def register(run: LockedRun, intent: AnyRow, *, provider_batch_id: str, status: str) -> None:
    """The intent's batch exists: ``lifecycle.submitted`` for its items. Repeating it is fine."""
    if intent.provider_batch_id == encode_text(provider_batch_id):
        return
    if intent.state not in OPEN_INTENTS:
        raise RunStateError(
            run.run_id, f"submission {decode_text(intent.local_batch_id)!r} is {intent.state}"
        )
    # that there is a batch is what makes them SUBMITTED: their rows stay as they are
    waiting = and_(items.c.run_key == run.run_key, owned_by(intent.intent_key, has_batch=False))
    count, tokens = count_items(run.connection, waiting)
    insert_batch(
        run, intent.intent_key, provider_batch_id, status, item_count=intent.item_count, submitted_items=count
    )
    run.move(QUEUED_LOCAL, SUBMITTED, count=count, tokens=tokens)
    change_intent(run.connection, intent.intent_key, state=IntentState.REGISTERED.value)


def insert_batch(
    run: LockedRun,
    intent_key: int,
    provider_batch_id: str,
    status: str,
    *,
    item_count: int,
    submitted_items: int = 0,
) -> None:
    """Record a batch, and how many items it owns."""
    values = {
        "intent_key": intent_key,
        "run_key": run.run_key,
        "provider_batch_id": encode_text(provider_batch_id),
        "status": encode_text(status),
        "is_terminal": is_terminal_batch(status),
        "created_at": run.now(),
        "item_count": item_count,
        "submitted_items": submitted_items,
    }
    try:
        run.connection.execute(batches.insert().values(values))
    except IntegrityError as error:
        raise RunStateError(
            run.run_id, f"batch {provider_batch_id!r} belongs to another submission"
        ) from error
    submission_works(run.connection, run.run_key)


def drop(run: LockedRun, intent: AnyRow, *, error_class: str) -> int:
    """The intent's batch does not exist: free its items; returns how many."""
    freed = release_all(
        run,
        items.c.intent_key == intent.intent_key,
        before=QUEUED_LOCAL,
        used_custom_id=intent.sending_at is not None,
    )
    change_intent(
        run.connection,
        intent.intent_key,
        state=IntentState.DROPPED.value,
        last_error_class=encode_text(error_class),
        # of a dropped intent this says that there was doubt; about a postponed one there was none
        next_check_at=None if intent.state in _UNSENT else intent.next_check_at,
    )
    return freed


def keep_sweep(connection: Connection, run_key: int, *, next_check_at: float) -> None:
    """When to look next for batches of submissions that were given up in doubt."""
    doubtful = and_(_intents.run_key == run_key, _GIVEN_UP_IN_DOUBT)
    connection.execute(submission_intents.update().where(doubtful).values(next_check_at=next_check_at))


def runs_with_doubtful_past(connection: Connection, *, sent_after: float) -> list[str]:
    """Run ids, oldest first."""
    wanted = (
        select(runs.c.run_id)
        .distinct()
        .join(submission_intents, _intents.run_key == runs.c.run_key)
        .where(_GIVEN_UP_IN_DOUBT, _intents.sending_at > sent_after)
        .order_by(runs.c.run_id)
    )
    return list(connection.execute(wanted).scalars())


def registered_batches(connection: Connection, provider_batch_ids: Sequence[str]) -> set[str]:
    """Those of these batches that any run has registered."""
    given = {encode_text(batch_id): batch_id for batch_id in provider_batch_ids}
    stored, found = list(given), set[str]()
    for start in range(0, len(stored), _IDS_AT_ONCE):
        chunk = stored[start : start + _IDS_AT_ONCE]
        wanted = select(batches.c.provider_batch_id).where(batches.c.provider_batch_id.in_(chunk))
        found.update(given[batch_id] for batch_id in connection.execute(wanted).scalars())
    return found


def find_again(run: LockedRun, intent: AnyRow, *, provider_batch_id: str) -> None:
    """A lost batch is there after all, under this id."""
    given = encode_text(provider_batch_id)
    batch = run.connection.execute(select(batches).where(batches.c.intent_key == intent.intent_key)).one()
    values = waiting_begins_again(ended_at=batch.ended_at, due_at=batch.due_at, now=run.now())
    if given != intent.provider_batch_id:
        if find_batch(run.connection, run.run_key, provider_batch_id) is not None:
            raise RunStateError(run.run_id, f"batch {provider_batch_id!r} belongs to another submission")
        values |= {
            "provider_batch_id": given,
            "status": "validating",
            "is_terminal": False,
            "output_file_id": None,
            "error_file_id": None,
            "due_at": None,
            **NOTHING_LATE,
        }
    change_batch(run.connection, intent.intent_key, **values)
    change_intent(run.connection, intent.intent_key, state=IntentState.REGISTERED.value)


def give_up_batch(run: LockedRun, intent: AnyRow, *, error_class: str) -> None:
    """A batch will bring nothing more: what it still owns comes back.

    One that is over stays on record with what it has brought. Any other may go on at the provider: should it turn up,
    somebody has to hear of it.
    """
    batch = run.connection.execute(select(batches).where(batches.c.intent_key == intent.intent_key)).one()
    release_submitted(run, batch)
    change_batch(run.connection, intent.intent_key, **NOTHING_LATE)
    if batch.is_terminal:
        change_intent(
            run.connection,
            intent.intent_key,
            state=IntentState.REGISTERED.value,
            last_error_class=encode_text(error_class),
        )
        return
    change_batch(run.connection, intent.intent_key, status=lifecycle.LOST_BATCH, is_terminal=True)
    change_intent(
        run.connection,
        intent.intent_key,
        state=IntentState.DROPPED.value,
        last_error_class=encode_text(error_class),
        next_check_at=run.now(),
    )


def was_sent(connection: Connection, run_key: int) -> bool:
    """Whether any batch of the run exists, or may have been asked for."""
    sent = or_(_intents.sending_at.is_not(None), _intents.state.in_(_MAYBE_SENT))
    wanted = select(_intents.intent_key).where(_intents.run_key == run_key, sent).limit(1)
    return connection.execute(wanted).first() is not None


def requeue_local(run: LockedRun) -> int:
    """Free what was claimed and certainly not sent, and finish registrations; returns the number of items freed."""
    unsent = _INTENT.where(
        _intents.run_key == run.run_key, _intents.state.in_(_UNSENT), _intents.next_check_at.is_(None)
    )
    freed = sum(
        drop(run, intent, error_class="driver_lost") for intent in run.connection.execute(unsent).all()
    )
    # every cycle of a driver comes here, mostly for nothing: looking for such items would read all that are in flight
    if _queued(run) - freed != _held_by_open_intents(run):
        _finish_registrations(run)
        freed += release_all(run, UNSENT_BY_HAND, before=QUEUED_LOCAL, used_custom_id=False)
    return freed


def _queued(run: LockedRun) -> int:
    """QUEUED_LOCAL items when the transaction began."""
    queued = select(runs.c.queued_local_items).where(runs.c.run_key == run.run_key)
    return int(run.connection.execute(queued).scalar_one())


def _held_by_open_intents(run: LockedRun) -> int:
    """Items that wait for the outcome of their submission; while it is open, all that it was made of are its own."""
    without_batch = ~exists().where(batches.c.intent_key == _intents.intent_key)
    held = select(func.coalesce(func.sum(_intents.item_count), 0)).where(
        _intents.run_key == run.run_key, _intents.state.in_(_OPEN), without_batch
    )
    return int(run.connection.execute(held).scalar_one())


def _finish_registrations(run: LockedRun) -> None:
    """Hand over what the documented methods have registered and not marked as submitted."""
    registered_only = (
        select(items.c.intent_key)
        .distinct()
        .join(submission_intents, _intents.intent_key == items.c.intent_key)
        .where(items.c.run_key == run.run_key, items.c.queue == TAKEN_QUEUE, _intents.state == _REGISTERED)
    )
    for intent_key in run.connection.execute(registered_only).scalars().all():
        mine = items.c.intent_key == intent_key
        count = move_all(run, mine, before=QUEUED_LOCAL, after=SUBMITTED)
        sql_items.own(run.connection, intent_key, count)


# mark_unknown sets next_check_at, so it tells who was in doubt from who was refused
_GIVEN_UP_IN_DOUBT = and_(_intents.state == IntentState.DROPPED.value, _intents.next_check_at.is_not(None))
_MAYBE_SENT = [state.value for state in (*lifecycle.MAYBE_SENT, IntentState.REGISTERED)]
_REGISTERED = IntentState.REGISTERED.value
_OPEN = [state.value for state in OPEN_INTENTS]
_UNSENT = (IntentState.CLAIMED.value, IntentState.UPLOADED.value)


# --- batches ---------------------------------------------------------------------------------------------------------


def batch_record(row: AnyRow) -> ActiveBatchRecord:
    """A row of a batch as the engine sees it."""
    return ActiveBatchRecord(
        provider_batch_id=decode_text(row.provider_batch_id),
        status=decode_text(row.status),
        output_file_id=decode_optional_text(row.output_file_id),
        error_file_id=decode_optional_text(row.error_file_id),
        local_batch_id=decode_text(row.local_batch_id),
        input_file_id=decode_optional_text(row.input_file_id),
        item_count=row.item_count,
        created_at=row.created_at,
        poll_failures=row.poll_failures,
        next_poll_at=row.next_poll_at,
        quarantined=row.state == IntentState.QUARANTINED.value,
        quarantine_cause=(
            decode_text(row.last_error_class or "") if row.state == IntentState.QUARANTINED.value else None
        ),
        due_at=row.due_at,
        ended_at=row.ended_at,
        late_rows=row.late_rows,
        looks=row.looks,
        wait_reason=decode_optional_text(row.wait_reason),
    )


def batch_records(connection: Connection, run_key: int, *, active: bool) -> list[ActiveBatchRecord]:
    """A run's batches, or only its active ones, oldest first."""
    wanted = _BATCH.where(batches.c.run_key == run_key).order_by(batches.c.intent_key)
    if active:
        wanted = wanted.where(ACTIVE_BATCH)
    return [batch_record(row) for row in connection.execute(wanted).all()]


_NAMED_BATCH = select(batches).where(
    batches.c.run_key == bindparam("key"), batches.c.provider_batch_id == bindparam("name")
)


def find_batch(connection: Connection, run_key: int, provider_batch_id: str) -> AnyRow | None:
    """The row of a batch, or None."""
    named = {"key": run_key, "name": encode_text(provider_batch_id)}
    return connection.execute(_NAMED_BATCH, named).first()


def batch_row(connection: Connection, run_key: int, provider_batch_id: str, *, run_id: str) -> AnyRow:
    """The row of a batch, or RunStateError."""
    row = find_batch(connection, run_key, provider_batch_id)
    if row is None:
        raise RunStateError(run_id, f"no batch {provider_batch_id!r} is registered")
    return row


def change_batch(connection: Connection, intent_key: int, **values: object) -> None:
    """Set columns of a batch."""
    connection.execute(batches.update().where(batches.c.intent_key == intent_key).values(values))


def keep_poll(
    connection: Connection,
    batch: AnyRow,
    *,
    status: str,
    output_file_id: str | None,
    error_file_id: str | None,
    due_at: float | None = None,
    next_poll_at: float = 0.0,
    **more: object,
) -> None:
    """Keep what a poll said. A final status stays, and a file id that is missing now does not undo one."""
    values: dict[str, object] = {
        "poll_failures": 0,
        "next_poll_at": next_poll_at,
        "poll_error": None,
        **more,
    }
    if not batch.is_terminal:
        values |= {"status": encode_text(status), "is_terminal": is_terminal_batch(status)}
    if output_file_id:
        values["output_file_id"] = encode_text(output_file_id)
    if error_file_id:
        values["error_file_id"] = encode_text(error_file_id)
    if due_at is not None:
        values["due_at"] = due_at
    change_batch(connection, batch.intent_key, **values)


def keep_wait(connection: Connection, batch: AnyRow, wait: ResultsWait) -> None:
    """Keep what is waited for of a batch that is over."""
    keep_poll(
        connection,
        batch,
        status=wait.status,
        output_file_id=wait.output_file_id,
        error_file_id=wait.error_file_id,
        next_poll_at=wait.next_poll_at,
        **late_fields(wait) | {"wait_reason": encode_text(wait.reason)},
    )


def keep_end(connection: Connection, batch: AnyRow, end: BatchEnd) -> None:
    """Keep a batch's final state; nobody has to decide about it any more."""
    keep_poll(connection, batch, status=end.status, output_file_id=None, error_file_id=None)
    usage = dict(zip(TOKEN_KINDS, usage_columns(end.usage), strict=True))
    change_batch(connection, batch.intent_key, **NOTHING_LATE, **usage)
    asked = and_(_intents.intent_key == batch.intent_key, _intents.state == IntentState.QUARANTINED.value)
    connection.execute(submission_intents.update().where(asked).values(state=IntentState.REGISTERED.value))


def release_submitted(run: LockedRun, batch: AnyRow, **how: Any) -> int:
    """``lifecycle.released`` for all items that the batch still owns; returns how many."""
    count = release_all(
        run, items.c.intent_key == batch.intent_key, before=SUBMITTED, used_custom_id=True, **how
    )
    sql_items.own(run.connection, batch.intent_key, -count)
    return count


def submitted_of(connection: Connection, run_key: int, intent_key: int) -> Iterator[sql_items.ItemRow]:
    """The items that a batch still owns, in item order."""
    owned = owned_by(intent_key, has_batch=True)
    return sql_items.item_rows(connection, run_key, owned, status=literal(SUBMITTED.value))


def count_items_of(connection: Connection, run_key: int, intent_keys: Sequence[int]) -> int:
    """Items whose last submission was one of these."""
    wanted = select(func.count()).where(items.c.run_key == run_key, items.c.intent_key.in_(intent_keys))
    return int(connection.execute(wanted).scalar_one())
