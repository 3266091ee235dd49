"""The rows of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, literal, or_, select
from sqlalchemy.exc import IntegrityError

from batchor_core.core.enums import SubmissionState
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.lifecycle import is_terminal_batch
from batchor_core.core.usage import TOKEN_KINDS, TokenUsage
from batchor_core.storage import sql_items
from batchor_core.storage.columns import (
    decode_optional_text,
    decode_text,
    encode_optional_text,
    encode_text,
    usage_columns,
)
from batchor_core.storage.late_batches import NOTHING_LATE, late_fields, more_stated
from batchor_core.storage.records import ActiveBatchRecord, BatchArtifactPointer
from batchor_core.storage.schema import batch_models, batches, items, submission_intents
from batchor_core.storage.session import BatchEnd, ResultsWait
from batchor_core.storage.sql_costs import billed_in, keep_notes
from batchor_core.storage.sql_engine import AnyRow
from batchor_core.storage.sql_items import SUBMITTED, owned_by, release_all
from batchor_core.storage.sql_runs import LockedRun, run_row, submission_works

ACTIVE_BATCH = or_(batches.c.is_terminal.is_(False), batches.c.submitted_items > 0)
"""Batches that may still change, or whose results are not all stored."""

_submissions = submission_intents.c
_BATCH = select(
    batches,
    _submissions.local_batch_id,
    _submissions.input_file_id,
    _submissions.state,
    _submissions.last_error_class,
    batch_models.c.model,
).join(submission_intents, _submissions.intent_key == batches.c.intent_key)
_BATCH = _BATCH.outerjoin(batch_models, batch_models.c.intent_key == batches.c.intent_key)
# put together once, see sql_runs
_BATCHES = _BATCH.where(batches.c.run_key == bindparam("key")).order_by(batches.c.intent_key)
_ACTIVE_BATCHES = _BATCHES.where(ACTIVE_BATCH)
_CHANGE = batches.update().where(batches.c.intent_key == bindparam("key"))
_IDS_AT_ONCE = 500  # SQLite takes some thousands of parameters


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
        poll_error=decode_optional_text(row.poll_error),
        next_poll_at=row.next_poll_at,
        quarantined=row.state == SubmissionState.QUARANTINED.value,
        quarantine_cause=(
            decode_text(row.last_error_class or "")
            if row.state == SubmissionState.QUARANTINED.value
            else None
        ),
        due_at=row.due_at,
        ended_at=row.ended_at,
        late_rows=row.late_rows,
        looks=row.looks,
        wait_reason=decode_optional_text(row.wait_reason),
        stated_completed=row.stated_completed,
        cost=row.cost,
        unpriced_answers=row.unpriced_answers,
        model=decode_optional_text(row.model),
    )


def batch_records(connection: Connection, run_key: int, *, active: bool) -> list[ActiveBatchRecord]:
    """A run's batches, or only its active ones, oldest first."""
    found = connection.execute(_ACTIVE_BATCHES if active else _BATCHES, {"key": run_key})
    return [batch_record(row) for row in found.all()]


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
    connection.execute(_CHANGE, {"key": intent_key, **values})


def count_poll_failure(
    connection: Connection,
    batch: AnyRow,
    *,
    next_poll_at: float,
    error: str | None,
    stated_completed: int | None,
) -> int:
    """Keep that a poll failed; returns how many failed in a row."""
    failures: int = batch.poll_failures + 1
    change_batch(
        connection,
        batch.intent_key,
        poll_failures=failures,
        next_poll_at=next_poll_at,
        poll_error=encode_optional_text(error),
        **more_stated(batch.stated_completed, stated_completed),
    )
    return failures


def keep_files(connection: Connection, run_key: int, pointer: BatchArtifactPointer, *, run_id: str) -> None:
    """Keep where a batch's result files lie; what the pointer leaves out stays."""
    batch = batch_row(connection, run_key, pointer.provider_batch_id, run_id=run_id)
    paths = {
        "output_artifact_path": encode_optional_text(pointer.output_artifact_path),
        "error_artifact_path": encode_optional_text(pointer.error_artifact_path),
    }
    if given := {name: path for name, path in paths.items() if path}:
        change_batch(connection, batch.intent_key, **given)


def keep_poll(
    connection: Connection,
    batch: AnyRow,
    *,
    status: str,
    output_file_id: str | None,
    error_file_id: str | None,
    due_at: float | None = None,
    next_poll_at: float = 0.0,
    stated_completed: int | None = None,
    **more: object,
) -> None:
    """Keep what a poll said. A final status stays, and what is missing now, or stated lower, does not undo what was said."""
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
    values |= more_stated(batch.stated_completed, stated_completed)
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
        stated_completed=wait.stated_completed,
        **late_fields(wait) | {"wait_reason": encode_text(wait.reason)},
    )


def keep_end(run: LockedRun, batch: AnyRow, end: BatchEnd) -> TokenUsage:
    """Keep a batch's final state, and when it ended; it needs no decision any more.

    Returns the tokens that its answers state.
    """
    connection = run.connection
    keep_poll(connection, batch, status=end.status, output_file_id=None, error_file_id=None)
    usage = dict(zip(TOKEN_KINDS, usage_columns(end.usage), strict=True))
    ended_at = {"ended_at": run.now() if batch.ended_at is None else batch.ended_at}
    change_batch(connection, batch.intent_key, **NOTHING_LATE | ended_at, **usage)
    asked = and_(
        _submissions.intent_key == batch.intent_key, _submissions.state == SubmissionState.QUARANTINED.value
    )
    connection.execute(
        submission_intents.update().where(asked).values(state=SubmissionState.REGISTERED.value)
    )
    if end.cost_notes:
        keep_notes(connection, run_row(run.database, connection, run.run_id), end.cost_notes)
    return billed_in(
        connection.execute(select(batches).where(batches.c.intent_key == batch.intent_key)).one()
    )


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


def registered_batches(connection: Connection, provider_batch_ids: Sequence[str]) -> set[str]:
    """Those of these batches that any run has registered."""
    given = {encode_text(batch_id): batch_id for batch_id in provider_batch_ids}
    stored, found = list(given), set[str]()
    for start in range(0, len(stored), _IDS_AT_ONCE):
        chunk = stored[start : start + _IDS_AT_ONCE]
        wanted = select(batches.c.provider_batch_id).where(batches.c.provider_batch_id.in_(chunk))
        found.update(given[batch_id] for batch_id in connection.execute(wanted).scalars())
    return found
