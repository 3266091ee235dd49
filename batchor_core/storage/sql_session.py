"""The driver session of the SQL stores: each step one transaction that holds the run's lease while it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, and_

from batchor_core.core import lifecycle
from batchor_core.core.admission import Allowance, Standing, Wait
from batchor_core.core.boundaries import Boundary
from batchor_core.core.caps import CapStanding, Reservation
from batchor_core.core.custom_ids import CustomIds
from batchor_core.core.enums import SubmissionState
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.models import ItemFailure
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.types import JSONValue
from batchor_core.storage import (
    sql_batches,
    sql_budgets,
    sql_caps,
    sql_following,
    sql_ingestion,
    sql_items,
    sql_leases,
    sql_reading,
    sql_rendered,
    sql_runs,
    sql_submissions,
)
from batchor_core.storage.columns import encode_text
from batchor_core.storage.records import (
    BatchArtifactPointer,
    CompletedItemRecord,
    ItemFailureRecord,
    MaterializedItem,
    RetryBackoffState,
)
from batchor_core.storage.session import (
    AppliedOutcome,
    BatchEnd,
    Candidate,
    DriverSession,
    Followed,
    RequestDraft,
    ResultsWait,
    ReuseTerms,
    SubmissionRecord,
)
from batchor_core.storage.sql_answers import apply_answers, cancel_items, end_waiting
from batchor_core.storage.sql_engine import Database
from batchor_core.storage.sql_following import MAY_BE_CANCELLED
from batchor_core.storage.sql_ingestion import naming_repeated_ids
from batchor_core.storage.sql_items import ItemRow, is_status
from batchor_core.storage.sql_leases import Lease
from batchor_core.storage.sql_runs import LockedRun, locked_run

CANCEL_CHUNK = 5_000
"""Items ended per transaction when a run is cancelled: more would keep other writers waiting."""

_LOOKED_UP = (SubmissionState.SENDING, SubmissionState.UNKNOWN)


class SQLSession(DriverSession):
    """One driver's hold on one run of a SQL store, under one fencing token; with ``lease`` None under none at all."""

    def __init__(self, database: Database, *, names: CustomIds, run_key: int, lease: Lease | None) -> None:
        self.run_id = names.run_id
        self._names = names
        self._database = database
        self._run_key = run_key
        self._lease = lease
        self._known: dict[str, ItemRow] = {}  # as last read; a transaction that goes by it checks it first

    @property
    def custom_ids(self) -> CustomIds:
        return self._names

    @contextmanager
    def _write(self, name: Boundary, *, exclusive: bool = False) -> Iterator[Connection]:
        with self._database.write(name) as connection:
            if self._lease is not None:
                sql_leases.check_lease(
                    connection, self._run_key, self._lease, run_id=self.run_id, exclusive=exclusive
                )
            yield connection

    @contextmanager
    def _run(self, name: Boundary) -> Iterator[LockedRun]:
        with self._write(name) as connection, locked_run(self._database, connection, self.run_id) as run:
            yield run

    def renew(self, *, ttl_sec: float) -> None:
        with self._write(Boundary.RENEW_LEASE, exclusive=True) as connection:
            sql_leases.extend_lease(self._database, connection, self._run_key, ttl_sec=ttl_sec)

    def close(self) -> None:
        if self._lease is None:
            return
        with self._database.write(Boundary.CLOSE_SESSION) as connection:
            sql_leases.give_up_lease(connection, self._run_key, self._lease)

    def append(
        self,
        items: Sequence[MaterializedItem],
        *,
        next_item_index: int,
        checkpoint_payload: JSONValue | None,
        ingestion_complete: bool,
        rendered: RenderedChunk | None = None,
        reuse: ReuseTerms | None = None,
    ) -> None:
        progress = sql_runs.progress_columns(next_item_index, checkpoint_payload, ingestion_complete)
        with naming_repeated_ids(self._database, self.run_id, items), self._run(Boundary.APPEND_ITEMS) as run:
            fresh = sql_ingestion.append(run, items, reuse)
            if rendered is not None and fresh:
                sql_rendered.keep_rendered(run, rendered, is_new=len(fresh) == len(items))
            run.change(**progress)

    def candidates(self, *, max_attempts: int, limit: int) -> list[Candidate]:
        with self._database.read() as connection:
            return sql_items.candidates(connection, self._run_key, max_attempts=max_attempts, limit=limit)

    def claim(
        self,
        *,
        local_batch_id: str,
        artifact_key: str,
        item_indexes: Sequence[int],
        max_attempts: int,
        allowances: Sequence[Allowance] = (),
        leaves_queue: bool = False,
        key_fingerprint: str | None = None,
        reservation: Reservation | None = None,
        reuse: ReuseTerms | None = None,
        adopts: bool = False,
    ) -> SubmissionRecord | None:
        indexes = sorted(set(item_indexes))
        with self._run(Boundary.CLAIM) as run:
            if sql_submissions.find_submission(run.connection, self._run_key, local_batch_id) is not None:
                raise RunStateError(self.run_id, f"submission {local_batch_id!r} exists")
            if reuse is None:
                sql_following.take_back(run, indexes)
            claimable = sql_items.claimable(self._run_key, max_attempts)
            claimed = and_(claimable, sql_items.indexes_are(self._database, indexes))
            waiting = sql_items.waiting(run.connection, claimed)
            count, tokens = sum(one.items for one in waiting), sum(one.tokens for one in waiting)
            fits = count == len(indexes) and sql_budgets.fits(run, tokens, allowances)
            if not fits or not (adopts or sql_caps.fits(run, reservation, rows=count, tokens=tokens)):
                return None
            if reuse and not (waiting := sql_following.without_followers(run, indexes, claimed, reuse)):
                return None
            for allowance in allowances:
                sql_budgets.count_under(run, allowance, leaves_queue=leaves_queue)
            intent_key = sql_submissions.create_submission(
                run,
                local_batch_id=local_batch_id,
                state=SubmissionState.CLAIMED,
                fencing_token=0 if self._lease is None else self._lease.fencing_token,
                item_count=sum(one.items for one in waiting),
                submission_tokens=sum(one.tokens for one in waiting),
                artifact_key=artifact_key,
                key_fingerprint=key_fingerprint,
                reservation=reservation,
                first_index=min(indexes, default=None),
            )
            sql_items.queue(run, claimed, waiting, intent_key=intent_key)
            row = sql_submissions.find_submission(run.connection, self._run_key, local_batch_id)
            assert row is not None
            return sql_submissions.submission_record(row)

    def standing(self, allowance: Allowance) -> Standing:
        with self._database.read() as connection:
            now = self._database.now(connection)
            return sql_budgets.standing(connection, allowance, run_key=self._run_key, now=now)

    def caps(self) -> list[CapStanding]:
        with self._database.read() as connection:
            return sql_caps.standings(connection, self._run_key, self.run_id, self._database.now(connection))

    def keep_place(self, allowance: Allowance, wait: Wait) -> None:
        with self._run(Boundary.KEEP_PLACE) as run:
            sql_budgets.keep_place(run, allowance, wait)

    def drafts(self, *, local_batch_id: str) -> Iterator[RequestDraft]:
        return sql_reading.drafts(
            self._database, run_key=self._run_key, names=self._names, local_batch_id=local_batch_id
        )

    def mark_written(self, *, local_batch_id: str, sha256: str, size_bytes: int) -> None:
        self._change_submission(
            Boundary.MARK_WRITTEN,
            local_batch_id,
            (SubmissionState.CLAIMED,),
            sha256=sha256,
            size_bytes=size_bytes,
        )

    def mark_uploaded(
        self, *, local_batch_id: str, input_file_id: str, server_date_skew: float = 0.0
    ) -> None:
        with self._write(Boundary.MARK_UPLOADED) as connection:
            allowed = (SubmissionState.CLAIMED, SubmissionState.UPLOADED)
            submission = sql_submissions.submission_in(
                connection, self._run_key, local_batch_id, allowed, run_id=self.run_id
            )
            sql_submissions.change_submission(
                connection,
                submission.intent_key,
                state=SubmissionState.UPLOADED.value,
                input_file_id=encode_text(input_file_id),
                server_date_skew=server_date_skew,
                uploaded_at=self._database.now(connection),
            )

    def mark_sending(self, *, local_batch_id: str, ttl_sec: float) -> None:
        with self._write(Boundary.MARK_SENDING, exclusive=True) as connection:
            submission = sql_submissions.submission_in(
                connection, self._run_key, local_batch_id, (SubmissionState.UPLOADED,), run_id=self.run_id
            )
            sql_submissions.change_submission(
                connection,
                submission.intent_key,
                state=SubmissionState.SENDING.value,
                sending_at=self._database.now(connection),
                next_check_at=None,
            )
            sql_leases.extend_lease(self._database, connection, self._run_key, ttl_sec=ttl_sec)

    def postpone(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        self._change_submission(
            Boundary.POSTPONE,
            local_batch_id,
            (SubmissionState.SENDING, SubmissionState.UPLOADED),
            state=SubmissionState.UPLOADED.value,
            last_error_class=encode_text(error_class),
            next_check_at=next_check_at,
        )

    def register(self, *, local_batch_id: str, provider_batch_id: str, status: str) -> None:
        with self._run(Boundary.REGISTER) as run:
            submission = sql_submissions.submission_in(
                run.connection, self._run_key, local_batch_id, tuple(SubmissionState), run_id=self.run_id
            )
            sql_submissions.register(run, submission, provider_batch_id=provider_batch_id, status=status)

    def drop(self, *, local_batch_id: str, error_class: str) -> None:
        allowed = (*lifecycle.OPEN_SUBMISSIONS, SubmissionState.DROPPED)
        with self._run(Boundary.DROP) as run:
            submission = sql_submissions.submission_in(
                run.connection, self._run_key, local_batch_id, allowed, run_id=self.run_id
            )
            if submission.state != SubmissionState.DROPPED:
                sql_submissions.drop(run, submission, error_class=error_class)

    def mark_unknown(self, *, local_batch_id: str, error_class: str, next_check_at: float) -> None:
        self._change_submission(
            Boundary.MARK_UNKNOWN,
            local_batch_id,
            _LOOKED_UP,
            state=SubmissionState.UNKNOWN.value,
            last_error_class=encode_text(error_class),
            next_check_at=next_check_at,
        )

    def record_look_up(
        self, *, local_batch_id: str, clean_listings: int, fenced_at: float | None, next_check_at: float
    ) -> None:
        self._change_submission(
            Boundary.RECORD_LOOK_UP,
            local_batch_id,
            (SubmissionState.UNKNOWN,),
            clean_listings=clean_listings,
            fenced_at=fenced_at,
            next_check_at=next_check_at,
        )

    def quarantine(self, *, local_batch_id: str, error_class: str) -> None:
        self._change_submission(
            Boundary.QUARANTINE,
            local_batch_id,
            lifecycle.CAN_BE_QUARANTINED,
            state=SubmissionState.QUARANTINED.value,
            last_error_class=encode_text(error_class),
        )

    def record_sweep(self, *, next_check_at: float) -> None:
        with self._write(Boundary.RECORD_SWEEP) as connection:
            sql_submissions.keep_sweep(connection, self._run_key, next_check_at=next_check_at)

    def _change_submission(
        self, name: Boundary, local_batch_id: str, allowed: Sequence[SubmissionState], **values: object
    ) -> None:
        with self._write(name) as connection:
            submission = sql_submissions.submission_in(
                connection, self._run_key, local_batch_id, allowed, run_id=self.run_id
            )
            sql_submissions.change_submission(connection, submission.intent_key, **values)

    def open_submissions(self) -> list[SubmissionRecord]:
        with self._database.read() as connection:
            return sql_submissions.submissions(connection, self._run_key, only_open=True)

    def requeue_local(self) -> int:
        with self._run(Boundary.REQUEUE_LOCAL) as run:
            return sql_submissions.requeue_local(run)

    def fail_unsubmitted(self, failures: Sequence[tuple[int, ItemFailure]]) -> AppliedOutcome:
        with self._run(Boundary.FAIL_UNSUBMITTED) as run:
            return AppliedOutcome(failed=end_waiting(run, dict(failures)))

    def follow(self, reuse: ReuseTerms) -> Followed:
        total, last = Followed(), -1
        while True:
            with self._database.read() as connection:
                page = sql_following.page_to_look_after(self._database, connection, self.run_id, after=last)
            if not page:
                return total
            with self._run(Boundary.FOLLOW) as run:
                total += sql_following.go_on(run, page, reuse)
            last = page[-1]

    def set_aside(self, item_indexes: Sequence[int], reuse: ReuseTerms) -> set[int]:
        with self._run(Boundary.FOLLOW) as run:
            return sql_following.set_aside(run, sorted(set(item_indexes)), reuse)

    def update_batch(
        self,
        *,
        provider_batch_id: str,
        status: str,
        output_file_id: str | None,
        error_file_id: str | None,
        due_at: float | None = None,
        next_poll_at: float = 0.0,
        stated_completed: int | None = None,
    ) -> None:
        with self._write(Boundary.UPDATE_BATCH) as connection:
            batch = sql_batches.batch_row(connection, self._run_key, provider_batch_id, run_id=self.run_id)
            sql_batches.keep_poll(
                connection,
                batch,
                status=status,
                output_file_id=output_file_id,
                error_file_id=error_file_id,
                due_at=due_at,
                next_poll_at=next_poll_at,
                stated_completed=stated_completed,
            )

    def record_wait(self, *, provider_batch_id: str, wait: ResultsWait) -> None:
        with self._write(Boundary.RECORD_WAIT) as connection:
            batch = sql_batches.batch_row(connection, self._run_key, provider_batch_id, run_id=self.run_id)
            sql_batches.keep_wait(connection, batch, wait)

    def record_poll_failure(
        self,
        *,
        provider_batch_id: str,
        next_poll_at: float,
        error: str | None = None,
        stated_completed: int | None = None,
    ) -> int:
        with self._write(Boundary.RECORD_POLL_FAILURE) as connection:
            batch = sql_batches.batch_row(connection, self._run_key, provider_batch_id, run_id=self.run_id)
            return sql_batches.count_poll_failure(
                connection, batch, next_poll_at=next_poll_at, error=error, stated_completed=stated_completed
            )

    def record_files(self, pointer: BatchArtifactPointer) -> bool:
        with self._write(Boundary.RECORD_BATCH_FILES) as connection:
            sql_batches.keep_files(connection, self._run_key, pointer, run_id=self.run_id)
        return True

    def submitted_items(self, *, provider_batch_id: str) -> dict[str, int]:
        with self._database.read() as connection:
            batch = sql_batches.batch_row(connection, self._run_key, provider_batch_id, run_id=self.run_id)
            owned = sql_batches.submitted_of(connection, self._run_key, batch.intent_key)
            self._known = {row.custom_id(self._names): row for row in owned}
        return {name: row.item_index for name, row in self._known.items()}

    def apply_outcome(
        self,
        *,
        provider_batch_id: str,
        completions: Sequence[CompletedItemRecord] = (),
        failures: Sequence[ItemFailureRecord] = (),
        released_custom_ids: Sequence[str] = (),
        max_attempts: int,
        end: BatchEnd | None = None,
    ) -> AppliedOutcome:
        with self._run(Boundary.APPLY_OUTCOME) as run:
            batch = sql_batches.batch_row(
                run.connection, self._run_key, provider_batch_id, run_id=self.run_id
            )
            owned = sql_items.owned_by(batch.intent_key, has_batch=True)
            outcome = apply_answers(
                run,
                owned,
                completions,
                failures,
                released_custom_ids,
                max_attempts=max_attempts,
                known=self._known,
            )
            if end is not None:
                outcome = replace(outcome, billed=sql_batches.keep_end(run, batch, end))
        if end is not None:
            self._known = {}
        return outcome

    def pause(self, *, reason: str) -> None:
        with self._write(Boundary.PAUSE) as connection:
            sql_runs.pause(connection, self._run_key, reason=reason)

    def cancel_remaining(self, *, error: ItemFailure) -> int:
        """As documented; in transactions of ``CANCEL_CHUNK`` items, of which a repetition ends the rest."""
        count = 0
        for chosen in (is_status(*lifecycle.CLAIMABLE), sql_items.UNSENT_BY_HAND, MAY_BE_CANCELLED):
            ended = CANCEL_CHUNK
            while ended == CANCEL_CHUNK:
                with self._run(Boundary.CANCEL_REMAINING) as run:
                    count += (ended := cancel_items(run, chosen, error, limit=CANCEL_CHUNK))
        return count

    def record_failure(
        self, *, error_class: str, base_delay_sec: float, max_delay_sec: float, message: str | None = None
    ) -> RetryBackoffState:
        with self._run(Boundary.RECORD_FAILURE) as run:
            return sql_runs.count_failure(
                run,
                error_class=error_class,
                base_delay_sec=base_delay_sec,
                max_delay_sec=max_delay_sec,
                message=message,
            )

    def clear_backoff(self) -> None:
        with self._database.read() as connection:
            state = sql_runs.backoff_from(sql_runs.run_row(self._database, connection, self.run_id))
        if state.consecutive_failures:
            with self._write(Boundary.CLEAR_BACKOFF) as connection:
                sql_runs.clear_backoff(connection, self._run_key)

    def count_orphan_batches(self, count: int) -> None:
        with self._run(Boundary.COUNT_ORPHANS) as run:
            run.change(orphan_batches=count)
