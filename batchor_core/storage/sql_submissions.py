"""The rows of submissions: their protocol, step by step, and what happens to their items."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, exists, func, or_, select

from batchor_core.core import lifecycle
from batchor_core.core.caps import Reservation
from batchor_core.core.enums import SubmissionState
from batchor_core.core.exceptions import InvalidInputError, RunStateError
from batchor_core.core.lifecycle import OPEN_SUBMISSIONS
from batchor_core.core.models import ItemFailure
from batchor_core.storage import sql_items, sql_row_models
from batchor_core.storage.columns import decode_optional_text, decode_text, encode_optional_text, encode_text
from batchor_core.storage.late_batches import NOTHING_LATE, waiting_begins_again
from batchor_core.storage.schema import TAKEN_QUEUE, batches, items, runs, submission_intents
from batchor_core.storage.session import SubmissionDecision, SubmissionRecord
from batchor_core.storage.sql_answers import cancel_items
from batchor_core.storage.sql_batches import change_batch, find_batch, insert_batch, release_submitted
from batchor_core.storage.sql_engine import AnyRow
from batchor_core.storage.sql_items import (
    QUEUED_LOCAL,
    SUBMITTED,
    UNSENT_BY_HAND,
    count_items,
    is_status,
    move_all,
    owned_by,
    release_all,
)
from batchor_core.storage.sql_runs import LockedRun
from batchor_core.storage.state_literals import state_literals

_GIVEN_UP = ItemFailure(
    "submission_unknown", "an operator gave up the batch that this item was sent in", retryable=False
)

_submissions = submission_intents.c
_SUBMISSION = select(submission_intents, batches.c.provider_batch_id).outerjoin(
    batches, batches.c.intent_key == _submissions.intent_key
)
# put together once, see sql_runs
_NAMED_SUBMISSION = _SUBMISSION.where(
    _submissions.run_key == bindparam("run_key"), _submissions.local_batch_id == bindparam("name")
)
_ALL_SUBMISSIONS = _SUBMISSION.where(_submissions.run_key == bindparam("run_key")).order_by(
    _submissions.intent_key
)
_OPEN_SUBMISSIONS = _ALL_SUBMISSIONS.where(_submissions.state.in_(state_literals(OPEN_SUBMISSIONS)))
_UNSENT_SUBMISSIONS = _ALL_SUBMISSIONS.where(
    _submissions.state.in_(state_literals(lifecycle.UNSENT)), _submissions.next_check_at.is_(None)
)
_HELD_BY_OPEN_SUBMISSIONS = (
    select(func.coalesce(func.sum(_submissions.item_count), 0))
    .where(
        _submissions.run_key == runs.c.run_key,
        _submissions.state.in_(state_literals(OPEN_SUBMISSIONS)),
        ~exists().where(batches.c.intent_key == _submissions.intent_key),
    )
    .correlate(runs)
    .scalar_subquery()
)
_QUEUED_AND_HELD = select(runs.c.queued_local_items, _HELD_BY_OPEN_SUBMISSIONS).where(
    runs.c.run_key == bindparam("run_key")
)
_CHANGE = submission_intents.update().where(_submissions.intent_key == bindparam("key"))


def submission_record(row: AnyRow) -> SubmissionRecord:
    """A row of a submission as the engine sees it."""
    return SubmissionRecord(
        local_batch_id=decode_text(row.local_batch_id),
        state=SubmissionState(row.state),
        fencing_token=row.epoch,
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


def submissions(connection: Connection, run_key: int, *, only_open: bool = False) -> list[SubmissionRecord]:
    """A run's submissions, or only its open ones, oldest first."""
    found = connection.execute(_OPEN_SUBMISSIONS if only_open else _ALL_SUBMISSIONS, {"run_key": run_key})
    return [submission_record(row) for row in found.all()]


def find_submission(connection: Connection, run_key: int, local_batch_id: str) -> AnyRow | None:
    """The row of a submission, or None."""
    named = {"run_key": run_key, "name": encode_text(local_batch_id)}
    return connection.execute(_NAMED_SUBMISSION, named).first()


def submission_in(
    connection: Connection,
    run_key: int,
    local_batch_id: str,
    allowed: Sequence[SubmissionState],
    *,
    run_id: str,
) -> AnyRow:
    """The row of a submission in one of these states, or RunStateError."""
    row = find_submission(connection, run_key, local_batch_id)
    if row is None:
        raise RunStateError(run_id, f"no submission {local_batch_id!r}")
    if row.state not in allowed:
        raise RunStateError(run_id, f"submission {local_batch_id!r} is {row.state}")
    return row


def change_submission(connection: Connection, intent_key: int, **values: object) -> None:
    """Set columns of a submission."""
    connection.execute(_CHANGE, {"key": intent_key, **values})


def create_submission(
    run: LockedRun,
    *,
    local_batch_id: str,
    state: SubmissionState,
    fencing_token: int = 0,
    item_count: int,
    submission_tokens: int = 0,
    artifact_key: str | None = None,
    key_fingerprint: str | None = None,
    reservation: Reservation | None = None,
    first_index: int | None = None,
) -> int:
    """Insert a submission; returns its key. All of its items have the model of the one at ``first_index``."""
    inserted = run.connection.execute(
        submission_intents.insert().values(
            run_key=run.run_key,
            local_batch_id=encode_text(local_batch_id),
            state=state.value,
            epoch=fencing_token,
            item_count=item_count,
            submission_tokens=submission_tokens,
            created_at=run.now(),
            artifact_key=encode_optional_text(artifact_key),
            key_fingerprint=key_fingerprint,
            reserved_prompts=0 if reservation is None else reservation.token * submission_tokens,
            reserved_answer=0 if reservation is None else reservation.answer,
        )
    )
    key = inserted.inserted_primary_key
    assert key is not None
    if first_index is not None:
        sql_row_models.note_batch(run, key[0], first_index)
    return int(key[0])


def register(run: LockedRun, submission: AnyRow, *, provider_batch_id: str, status: str) -> None:
    """The submission's batch exists: ``lifecycle.submitted`` for its items. Repeating it is fine."""
    if submission.provider_batch_id == encode_text(provider_batch_id):
        return
    if submission.state not in OPEN_SUBMISSIONS:
        raise RunStateError(
            run.run_id, f"submission {decode_text(submission.local_batch_id)!r} is {submission.state}"
        )
    # that there is a batch is what makes them SUBMITTED: their rows stay as they are
    waiting = and_(items.c.run_key == run.run_key, owned_by(submission.intent_key, has_batch=False))
    count, tokens = count_items(run.connection, waiting)
    insert_batch(
        run,
        submission.intent_key,
        provider_batch_id,
        status,
        item_count=submission.item_count,
        submitted_items=count,
    )
    run.move(QUEUED_LOCAL, SUBMITTED, count=count, tokens=tokens)
    change_submission(run.connection, submission.intent_key, state=SubmissionState.REGISTERED.value)


def drop(run: LockedRun, submission: AnyRow, *, error_class: str) -> int:
    """The submission's batch does not exist: free its items; returns how many."""
    freed = release_all(
        run,
        items.c.intent_key == submission.intent_key,
        before=QUEUED_LOCAL,
        used_custom_id=submission.sending_at is not None,
    )
    change_submission(
        run.connection,
        submission.intent_key,
        state=SubmissionState.DROPPED.value,
        last_error_class=encode_text(error_class),
        # of a dropped submission this says that there was doubt; about a postponed one there was none
        next_check_at=None if submission.state in _UNSENT else submission.next_check_at,
    )
    return freed


def keep_sweep(connection: Connection, run_key: int, *, next_check_at: float) -> None:
    """When to look next for batches of submissions that were given up in doubt."""
    doubtful = and_(_submissions.run_key == run_key, _GIVEN_UP_IN_DOUBT)
    connection.execute(submission_intents.update().where(doubtful).values(next_check_at=next_check_at))


def runs_with_doubtful_past(connection: Connection, *, sent_after: float) -> list[str]:
    """Run ids, oldest first."""
    wanted = (
        select(runs.c.run_id)
        .distinct()
        .join(submission_intents, _submissions.run_key == runs.c.run_key)
        .where(_GIVEN_UP_IN_DOUBT, _submissions.sending_at > sent_after)
        .order_by(runs.c.run_id)
    )
    return list(connection.execute(wanted).scalars())


def find_again(run: LockedRun, submission: AnyRow, *, provider_batch_id: str) -> None:
    """A lost batch is there after all, under this id."""
    given = encode_text(provider_batch_id)
    batch = run.connection.execute(select(batches).where(batches.c.intent_key == submission.intent_key)).one()
    values = waiting_begins_again(ended_at=batch.ended_at, due_at=batch.due_at, now=run.now())
    if given != submission.provider_batch_id:
        if find_batch(run.connection, run.run_key, provider_batch_id) is not None:
            raise RunStateError(run.run_id, f"batch {provider_batch_id!r} belongs to another submission")
        values |= {
            "provider_batch_id": given,
            "status": "validating",
            "is_terminal": False,
            "output_file_id": None,
            "error_file_id": None,
            "due_at": None,
            "stated_completed": None,
            **NOTHING_LATE,
        }
    change_batch(run.connection, submission.intent_key, **values)
    change_submission(run.connection, submission.intent_key, state=SubmissionState.REGISTERED.value)


def give_up_batch(run: LockedRun, submission: AnyRow, *, error_class: str) -> None:
    """A batch will bring nothing more: what it still owns comes back.

    One that is over stays on record with what it has brought. Any other may go on at the provider: should it turn up,
    somebody has to hear of it.
    """
    batch = run.connection.execute(select(batches).where(batches.c.intent_key == submission.intent_key)).one()
    release_submitted(run, batch)
    change_batch(run.connection, submission.intent_key, **NOTHING_LATE)
    if batch.is_terminal:
        change_submission(
            run.connection,
            submission.intent_key,
            state=SubmissionState.REGISTERED.value,
            last_error_class=encode_text(error_class),
        )
        return
    change_batch(run.connection, submission.intent_key, status=lifecycle.LOST_BATCH, is_terminal=True)
    change_submission(
        run.connection,
        submission.intent_key,
        state=SubmissionState.DROPPED.value,
        last_error_class=encode_text(error_class),
        next_check_at=run.now(),
    )


def settle(
    run: LockedRun, local_batch_id: str, *, decision: SubmissionDecision, provider_batch_id: str | None
) -> None:
    """An operator's word on a submission that waits for one: see ``StateStore.settle_submission``."""
    submission = submission_in(
        run.connection, run.run_key, local_batch_id, lifecycle.IN_DOUBT, run_id=run.run_id
    )
    lost = submission.provider_batch_id is not None
    match decision:
        case "wait":
            if not lost:
                raise RunStateError(run.run_id, f"submission {local_batch_id!r} has no batch to wait for")
            find_again(run, submission, provider_batch_id=decode_text(submission.provider_batch_id))
        case "adopt":
            if not provider_batch_id:
                raise InvalidInputError("adopting a batch needs its provider_batch_id")
            if lost:
                find_again(run, submission, provider_batch_id=provider_batch_id)
            else:
                register(run, submission, provider_batch_id=provider_batch_id, status="validating")
        case "resubmit" | "fail":
            if decision == "fail":
                owned = and_(is_status(QUEUED_LOCAL, SUBMITTED), items.c.intent_key == submission.intent_key)
                cancel_items(run, owned, _GIVEN_UP)
            give_up = give_up_batch if lost else drop
            give_up(run, submission, error_class=f"operator_{decision}")
        case _:
            raise InvalidInputError(f"decision {decision!r} must be one of adopt, wait, resubmit, fail")


def was_sent(connection: Connection, run_key: int) -> bool:
    """Whether any batch of the run exists, or may have been asked for."""
    sent = or_(_submissions.sending_at.is_not(None), _submissions.state.in_(_MAYBE_SENT))
    wanted = select(_submissions.intent_key).where(_submissions.run_key == run_key, sent).limit(1)
    return connection.execute(wanted).first() is not None


def may_be_at_provider(connection: Connection, run_key: int) -> bool:
    """Whether a batch of the run may have been asked for that is not registered."""
    unsettled = _submissions.state.in_([state.value for state in lifecycle.MAYBE_SENT])
    wanted = select(_submissions.intent_key).where(_submissions.run_key == run_key, unsettled).limit(1)
    return connection.execute(wanted).first() is not None


def requeue_local(run: LockedRun) -> int:
    """Free what was claimed and certainly not sent, and finish registrations; returns the number of items freed."""
    this = {"run_key": run.run_key}
    freed = sum(
        drop(run, submission, error_class="driver_lost")
        for submission in run.connection.execute(_UNSENT_SUBMISSIONS, this).all()
    )
    # Every cycle of a driver comes here, mostly for nothing: looking for such items would read all that are in flight.
    # The count is of when the transaction began.
    queued, held = run.connection.execute(_QUEUED_AND_HELD, this).one()
    if queued - freed != held:
        _finish_registrations(run)
        freed += release_all(run, UNSENT_BY_HAND, before=QUEUED_LOCAL, used_custom_id=False)
    return freed


def _finish_registrations(run: LockedRun) -> None:
    """Finish registrations by the documented methods that were not marked as submitted."""
    registered_only = (
        select(items.c.intent_key)
        .distinct()
        .join(submission_intents, _submissions.intent_key == items.c.intent_key)
        .where(
            items.c.run_key == run.run_key, items.c.queue == TAKEN_QUEUE, _submissions.state == _REGISTERED
        )
    )
    for intent_key in run.connection.execute(registered_only).scalars().all():
        mine = items.c.intent_key == intent_key
        count = move_all(run, mine, before=QUEUED_LOCAL, after=SUBMITTED)
        sql_items.own(run.connection, intent_key, count)


# mark_unknown sets next_check_at, so it tells who was in doubt from who was refused
_GIVEN_UP_IN_DOUBT = and_(
    _submissions.state == SubmissionState.DROPPED.value, _submissions.next_check_at.is_not(None)
)
_MAYBE_SENT = [state.value for state in (*lifecycle.MAYBE_SENT, SubmissionState.REGISTERED)]
_REGISTERED = SubmissionState.REGISTERED.value
_UNSENT = [state.value for state in lifecycle.UNSENT]
