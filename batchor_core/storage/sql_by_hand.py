"""Driving a run by hand: the documented methods that move items a step at a time, under no lease.

The engine drives runs through sessions, and so do these, where a session knows the step: one that holds no lease. The
steps that it does not know, such as claiming items without a submission, are here. They may be mixed with a driver's, and
leave alone what a submission of a driver holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Select, and_, or_, select

from batchor_core.core import lifecycle
from batchor_core.core.boundaries import Boundary
from batchor_core.core.enums import ItemStatus, SubmissionState
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.models import ItemFailure
from batchor_core.core.types import JSONValue
from batchor_core.storage import (
    sql_artifacts,
    sql_batches,
    sql_ingestion,
    sql_items,
    sql_leases,
    sql_reading,
    sql_runs,
    sql_submissions,
)
from batchor_core.storage.identity import is_certainly_gone
from batchor_core.storage.records import (
    ClaimedItem,
    CompletedItemRecord,
    ItemFailureRecord,
    MaterializedItem,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
    RetryBackoffState,
)
from batchor_core.storage.schema import TAKEN_QUEUE, items
from batchor_core.storage.sql_answers import ItemChanges, apply_answers, cancel_items
from batchor_core.storage.sql_engine import AnyRow, Database
from batchor_core.storage.sql_items import QUEUED_LOCAL, SUBMITTED, is_status
from batchor_core.storage.sql_runs import LockedRun, locked_run
from batchor_core.storage.sql_session import SQLSession
from batchor_core.storage.state import StateStore


class SQLByHand(StateStore):
    """The part of a SQL store that callers without a session use.

    Attributes:
        database: The engine and its dialect.
    """

    database: Database

    @contextmanager
    def _locked(self, name: Boundary, run_id: str) -> Iterator[LockedRun]:
        with self.database.write(name) as connection, locked_run(self.database, connection, run_id) as run:
            yield run

    def _row(self, run_id: str, wanted: Select[Any] = sql_runs.WHOLE_RUN) -> AnyRow:
        with self.database.read() as connection:
            return sql_runs.run_row(self.database, connection, run_id, wanted)

    def _by_hand(self, run_id: str) -> SQLSession:
        run = self._row(run_id, sql_runs.NAMES)
        return SQLSession(self.database, names=sql_runs.custom_ids_from(run), run_key=run.run_key, lease=None)

    # --- ingestion ---------------------------------------------------------------------------------------------------

    def append_items(self, *, run_id: str, items: list[MaterializedItem]) -> None:
        with (
            sql_ingestion.naming_repeated_ids(self.database, run_id, items),
            self._locked(Boundary.APPEND_ITEMS, run_id) as run,
        ):
            fresh = {item.item_index for item in sql_ingestion.append(run, items)}
            sql_ingestion.check_same(run, [item for item in items if item.item_index not in fresh])

    def update_ingest_checkpoint(
        self,
        *,
        run_id: str,
        next_item_index: int,
        checkpoint_payload: JSONValue | None = None,
        ingestion_complete: bool,
    ) -> None:
        self._by_hand(run_id).append(
            [],
            next_item_index=next_item_index,
            checkpoint_payload=checkpoint_payload,
            ingestion_complete=ingestion_complete,
        )

    # --- submission --------------------------------------------------------------------------------------------------

    def claim_items_for_submission(
        self, *, run_id: str, max_attempts: int, limit: int | None = None
    ) -> list[ClaimedItem]:
        # no SKIP LOCKED: the lock on the run's row is taken before any item's, so that claimers take turns
        with self._locked(Boundary.CLAIM, run_id) as run:
            free = sql_items.claimable(run.run_key, max_attempts)
            indexes = select(items.c.item_index).where(free).order_by(items.c.item_index).limit(limit)
            found = list(run.connection.execute(indexes).scalars())
            if not found:
                return []
            # exactly these, while we hold the lock
            chosen = and_(free, items.c.item_index.between(found[0], found[-1]))
            claimed = sql_reading.claimed_items(run.connection, run.run_key, chosen)
            sql_items.queue(run, chosen, sql_items.waiting(run.connection, chosen), intent_key=None)
            return claimed

    def release_items_to_pending(self, *, run_id: str, item_ids: list[str]) -> None:
        with self._locked(Boundary.RELEASE_ITEMS, run_id) as run:
            chosen = and_(self._named(run, item_ids), sql_items.UNSENT_BY_HAND)
            sql_items.release_all(run, chosen, before=QUEUED_LOCAL, used_custom_id=False)

    def requeue_local_items(self, *, run_id: str) -> int:
        with self.database.write(Boundary.REQUEUE_LOCAL) as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            if not sql_leases.fence_off(self.database, connection, run_key, owner_is_dead=is_certainly_gone):
                return 0
            with locked_run(self.database, connection, run_id) as run:
                return sql_submissions.requeue_local(run)

    def record_request_artifacts(self, *, run_id: str, pointers: list[RequestArtifactPointer]) -> None:
        with self._locked(Boundary.RECORD_REQUEST_FILES, run_id) as run:
            sql_artifacts.record_requests(run, pointers)

    def register_batch(
        self, *, run_id: str, local_batch_id: str, provider_batch_id: str, status: str, custom_ids: list[str]
    ) -> None:
        with self._locked(Boundary.REGISTER, run_id) as run:
            if sql_batches.find_batch(run.connection, run.run_key, provider_batch_id) is not None:
                return
            if sql_submissions.find_submission(run.connection, run.run_key, local_batch_id) is not None:
                raise RunStateError(run_id, f"submission {local_batch_id!r} exists")
            count = len(custom_ids)
            intent_key = sql_submissions.create_submission(
                run, local_batch_id=local_batch_id, state=SubmissionState.REGISTERED, item_count=count
            )
            sql_batches.insert_batch(run, intent_key, provider_batch_id, status, item_count=count)
            # from here on a crash before mark_items_submitted is repaired by requeue_local_items
            members = sql_items.items_by_custom_id(run, custom_ids, sql_items.UNSENT_BY_HAND)
            indexes = [members[name].item_index for name in custom_ids if name in members]
            member = and_(items.c.run_key == run.run_key, self.database.among(items.c.item_index, indexes))
            run.connection.execute(items.update().where(member).values(intent_key=intent_key))

    def mark_items_submitted(
        self, *, run_id: str, provider_batch_id: str, submissions: list[PreparedSubmission]
    ) -> None:
        with self._locked(Boundary.MARK_SUBMITTED, run_id) as run:
            batch = sql_batches.batch_row(run.connection, run.run_key, provider_batch_id, run_id=run_id)
            rows = self._claimed(run, [entry.item_id for entry in submissions], batch.intent_key)
            changes = ItemChanges(run)
            tokens = 0
            for entry in submissions:
                if row := rows.pop(entry.item_id, None):
                    changes.submit(row, entry.custom_id, batch.intent_key)
                    tokens += entry.submission_tokens - row.submission_tokens
            changes.write()
            self._estimate(run, submissions, batch.intent_key)
            run.add(SUBMITTED, count=0, tokens=tokens)

    def _estimate(self, run: LockedRun, submissions: list[PreparedSubmission], intent_key: int) -> None:
        """Store the callers' token estimates, one UPDATE for each distinct number."""
        by_tokens: dict[int, list[str]] = {}
        for entry in submissions:
            by_tokens.setdefault(entry.submission_tokens, []).append(entry.item_id)
        for tokens, item_ids in by_tokens.items():
            mine = and_(
                items.c.run_key == run.run_key, self._named(run, item_ids), items.c.intent_key == intent_key
            )
            run.connection.execute(
                items.update().where(mine, is_status(SUBMITTED)).values(submission_tokens=tokens)
            )

    def mark_queued_items_failed(
        self, *, run_id: str, failures: list[QueuedItemFailureRecord], max_attempts: int
    ) -> None:
        with self._locked(Boundary.FAIL_UNSUBMITTED, run_id) as run:
            rows = self._claimed(run, [failure.item_id for failure in failures])
            changes = ItemChanges(run)
            for failure in failures:
                if row := rows.pop(failure.item_id, None):
                    state = lifecycle.failed(
                        row.state,
                        retryable=failure.error.retryable,
                        count_attempt=failure.count_attempt,
                        max_attempts=max_attempts,
                    )
                    changes.end(row, state, failure.error)
            changes.write()

    def _claimed(
        self, run: LockedRun, item_ids: list[str], intent_key: int | None = None
    ) -> dict[str, sql_items.ItemRow]:
        """QUEUED_LOCAL items of these ids that no driver's submission owns; ``intent_key`` is register_batch's own."""
        owner = or_(items.c.intent_key.is_(None), items.c.intent_key == intent_key)
        chosen = and_(self._named(run, item_ids), items.c.queue == TAKEN_QUEUE, owner)
        return {row.item_id: row for row in sql_items.item_rows(run.connection, run.run_key, chosen)}

    def _named(self, run: LockedRun, item_ids: list[str]) -> Any:
        return sql_items.named(run.run_key, self.database, item_ids)

    # --- consumption -------------------------------------------------------------------------------------------------

    def update_batch_status(
        self,
        *,
        run_id: str,
        provider_batch_id: str,
        status: str,
        output_file_id: str | None = None,
        error_file_id: str | None = None,
    ) -> None:
        self._by_hand(run_id).update_batch(
            provider_batch_id=provider_batch_id,
            status=status,
            output_file_id=output_file_id,
            error_file_id=error_file_id,
        )

    def get_submitted_custom_ids_for_batch(self, *, run_id: str, provider_batch_id: str) -> list[str]:
        with self.database.read() as connection:
            run = sql_runs.run_row(self.database, connection, run_id)
            batch = sql_batches.find_batch(connection, run.run_key, provider_batch_id)
            if batch is None:
                return []
            names = sql_runs.custom_ids_from(run)
            owned = sql_batches.submitted_of(connection, run.run_key, batch.intent_key)
            return [row.custom_id(names) for row in owned]

    def mark_items_completed(self, *, run_id: str, completions: list[CompletedItemRecord]) -> None:
        with self._locked(Boundary.APPLY_OUTCOME, run_id) as run:
            apply_answers(run, is_status(SUBMITTED), completions=completions)

    def mark_items_failed(self, *, run_id: str, failures: list[ItemFailureRecord], max_attempts: int) -> None:
        with self._locked(Boundary.APPLY_OUTCOME, run_id) as run:
            apply_answers(run, is_status(SUBMITTED), failures=failures, max_attempts=max_attempts)

    def reset_batch_items_to_pending(
        self, *, run_id: str, provider_batch_id: str, error: ItemFailure
    ) -> None:
        with self._locked(Boundary.RESET_BATCH, run_id) as run:
            batch = sql_batches.find_batch(run.connection, run.run_key, provider_batch_id)
            if batch is not None:
                sql_batches.release_submitted(run, batch, error=error)

    def get_active_submitted_token_estimate(self, *, run_id: str) -> int:
        return int(self._row(run_id).submitted_tokens)

    def mark_nonterminal_items_cancelled(self, *, run_id: str, error: ItemFailure) -> int:
        ends = is_status(*(status for status in ItemStatus if status not in lifecycle.TERMINAL))
        with self._locked(Boundary.CANCEL_REMAINING, run_id) as run:
            return cancel_items(run, ends, error)

    # --- backoff -----------------------------------------------------------------------------------------------------

    def record_batch_retry_failure(
        self, *, run_id: str, error_class: str, base_delay_sec: float, max_delay_sec: float
    ) -> RetryBackoffState:
        return self._by_hand(run_id).record_failure(
            error_class=error_class, base_delay_sec=base_delay_sec, max_delay_sec=max_delay_sec
        )

    def clear_batch_retry_backoff(self, *, run_id: str) -> None:
        self._by_hand(run_id).clear_backoff()

    def get_batch_retry_backoff_remaining_sec(self, *, run_id: str) -> float:
        with self.database.read() as connection:
            row = sql_runs.run_row(self.database, connection, run_id, sql_runs.BACKOFF)
            return sql_runs.backoff_remaining(row, self.database.now(connection))
