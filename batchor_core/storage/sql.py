"""The state store on a SQL database: every documented method, once for SQLite and Postgres.

The statements lie beside it by what they are about: ``sql_runs`` (runs, leases), ``sql_items``, ``sql_intents``
(submissions, batches), ``sql_artifacts`` and ``sql_records`` (reading). ``sql_session`` is what the engine drives runs
through; ``sql_engine`` is what differs between the databases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, and_, or_, select
from sqlalchemy.exc import IntegrityError

from batchor_core.core import lifecycle
from batchor_core.core.boundaries import Boundary
from batchor_core.core.custom_ids import NEWEST
from batchor_core.core.enums import IntentState, ItemStatus, RunControlState
from batchor_core.core.exceptions import InvalidInputError, RunStateError
from batchor_core.core.models import ItemFailure, RunSummary
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.types import JSONValue
from batchor_core.providers.registry import ProviderRegistry, build_default_provider_registry
from batchor_core.storage import sql_artifacts, sql_intents, sql_items, sql_records, sql_rendered, sql_runs
from batchor_core.storage.columns import (
    decode_json,
    decode_optional_text,
    decode_text,
    encode_optional_text,
    encode_text,
)
from batchor_core.storage.identity import is_certainly_gone
from batchor_core.storage.migrations import bring_up_to_date
from batchor_core.storage.rows import record_of
from batchor_core.storage.schema import TAKEN_QUEUE, items, metadata, run_leases, runs
from batchor_core.storage.sql_engine import AnyRow, Database
from batchor_core.storage.sql_items import QUEUED_LOCAL, SUBMITTED, ItemChanges, is_status
from batchor_core.storage.sql_runs import LockedRun, locked_run
from batchor_core.storage.sql_session import SQLSession, apply_answers, cancel_items, naming_repeated_ids
from batchor_core.storage.state import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    ClaimedItem,
    CompletedItemRecord,
    DriverIdentity,
    DriverSession,
    IngestCheckpoint,
    IntentDecision,
    IntentRecord,
    ItemFailureRecord,
    LeaseRecord,
    MaterializedItem,
    OwnerCheck,
    PersistedItemRecord,
    PersistedRunConfig,
    PreparedSubmission,
    QueuedItemFailureRecord,
    RequestArtifactPointer,
    ResultRow,
    RetryBackoffState,
    RunArtifactInventory,
    RunListing,
    StateStore,
    StoredItem,
)

_GIVEN_UP = ItemFailure(
    "submission_unknown", "an operator gave up the batch that this item was sent in", False
)


class SQLStore(StateStore):
    """A state store on SQLite or Postgres; use :class:`SQLiteStorage` or :class:`PostgresStorage`.

    Attributes:
        database: The engine and its dialect.
        provider_registry: Reads stored provider configs.
    """

    supports_leases = True

    def __init__(self, database: Database, *, provider_registry: ProviderRegistry | None = None) -> None:
        self.database = database
        self.provider_registry = provider_registry or build_default_provider_registry()
        try:
            bring_up_to_date(database)
        except BaseException:
            database.close()
            raise

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine."""
        return self.database.engine

    def now(self) -> float:
        """Seconds since the epoch by the database's clock, or the one that was given."""
        with self.database.read() as connection:
            return self.database.now(connection)

    def close(self) -> None:
        """Dispose of the connection pool."""
        self.database.close()

    @contextmanager
    def _locked(self, name: Boundary, run_id: str) -> Iterator[LockedRun]:
        with self.database.write(name) as connection, locked_run(self.database, connection, run_id) as run:
            yield run

    def _row(self, run_id: str) -> AnyRow:
        with self.database.read() as connection:
            return sql_runs.run_row(self.database, connection, run_id)

    # --- runs --------------------------------------------------------------------------------------------------------

    def has_run(self, *, run_id: str) -> bool:
        with self.database.read() as connection:
            return (
                connection.execute(select(runs.c.run_key).where(runs.c.run_id == run_id)).first() is not None
            )

    def create_run(self, *, run_id: str, config: PersistedRunConfig, items: list[MaterializedItem]) -> None:
        values = {
            **sql_runs.config_columns(config, self.provider_registry),
            "run_id": run_id,
            "control_state": RunControlState.RUNNING.value,
            "custom_id_format": NEWEST.value,
        }
        with self.database.write(Boundary.CREATE_RUN) as connection:
            try:
                inserted = connection.execute(
                    runs.insert().values(**values, created_at=self.database.now(connection))
                )
            except IntegrityError as error:
                raise RunStateError(run_id, "a run of this id exists") from error
            key = inserted.inserted_primary_key
            assert key is not None
            connection.execute(run_leases.insert().values(run_key=key[0], epoch=0))
            with locked_run(self.database, connection, run_id) as run:
                sql_items.append(run, items)  # ids that repeat can only repeat within the list

    def get_run_config(self, *, run_id: str) -> PersistedRunConfig:
        return sql_runs.config_from(self._row(run_id), self.provider_registry)

    def get_run_control_state(self, *, run_id: str) -> RunControlState:
        return RunControlState(self._row(run_id).control_state)

    def get_control_reason(self, *, run_id: str) -> str | None:
        return decode_optional_text(self._row(run_id).control_reason)

    def set_run_control_state(self, *, run_id: str, control_state: RunControlState) -> None:
        with self._locked(Boundary.SET_CONTROL_STATE, run_id) as run:
            run.change(control_state=RunControlState(control_state).value, control_reason=None)

    def get_run_summary(self, *, run_id: str) -> RunSummary:
        with self.database.read() as connection:
            row = sql_runs.run_row(self.database, connection, run_id)
            now = self.database.now(connection)
            return sql_runs.summary_from(
                row,
                now=now,
                active=sql_runs.active_batches(connection, now=now, run_key=row.run_key),
                doubtful=sql_runs.doubtful_counts(connection, row.run_key),
            )

    def list_runs(self) -> list[RunListing]:
        newest_first = select(runs).order_by(runs.c.created_at.desc(), runs.c.run_key.desc())
        with self.database.read() as connection:
            now = self.database.now(connection)
            active = sql_runs.active_batches(connection, now=now)
            doubtful = sql_runs.doubtful_counts(connection)
            return [
                RunListing(
                    run_id=row.run_id,
                    created_at=row.created_at,
                    summary=sql_runs.summary_from(row, now=now, active=active, doubtful=doubtful),
                    extras=decode_json(row.extras),
                    last_sequence=int(row.terminal_sequence),
                )
                for row in connection.execute(newest_first).all()
            ]

    # --- ingestion ---------------------------------------------------------------------------------------------------

    def append_items(self, *, run_id: str, items: list[MaterializedItem]) -> None:
        with (
            naming_repeated_ids(self.database, run_id, items),
            self._locked(Boundary.APPEND_ITEMS, run_id) as run,
        ):
            fresh = {item.item_index for item in sql_items.append(run, items)}
            sql_items.check_same(run, [item for item in items if item.item_index not in fresh])

    def set_ingest_checkpoint(self, *, run_id: str, checkpoint: IngestCheckpoint) -> None:
        with self._locked(Boundary.SET_CHECKPOINT, run_id) as run:
            run.change(**sql_runs.checkpoint_columns(checkpoint))

    def get_ingest_checkpoint(self, *, run_id: str) -> IngestCheckpoint | None:
        return sql_runs.checkpoint_from(self._row(run_id))

    def update_ingest_checkpoint(
        self,
        *,
        run_id: str,
        next_item_index: int,
        checkpoint_payload: JSONValue | None = None,
        ingestion_complete: bool,
    ) -> None:
        with self._locked(Boundary.UPDATE_CHECKPOINT, run_id) as run:
            run.change(**sql_runs.progress_columns(next_item_index, checkpoint_payload, ingestion_complete))

    def get_rendered_chunks(self, *, run_id: str) -> list[RenderedChunk]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_rendered.rendered(connection, run_key)

    def iter_stored_items(self, *, run_id: str, first_index: int, count: int) -> Iterator[StoredItem]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
        return sql_rendered.stored_items(self.database, run_key, first_index=first_index, count=count)

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
            chosen = and_(
                free, items.c.item_index.between(found[0], found[-1])
            )  # exactly these, while we hold the lock
            claimed = sql_records.claimed_items(run.connection, run.run_key, chosen)
            sql_items.queue(run, chosen, sql_items.waiting(run.connection, chosen), intent_key=None)
            return claimed

    def release_items_to_pending(self, *, run_id: str, item_ids: list[str]) -> None:
        with self._locked(Boundary.RELEASE_ITEMS, run_id) as run:
            chosen = and_(self._named(run, item_ids), sql_items.UNSENT_BY_HAND)
            sql_items.release_all(run, chosen, before=QUEUED_LOCAL, used_custom_id=False)

    def requeue_local_items(self, *, run_id: str) -> int:
        with self.database.write(Boundary.REQUEUE_LOCAL) as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            if not sql_runs.fence_off(self.database, connection, run_key, owner_is_dead=is_certainly_gone):
                return 0
            with locked_run(self.database, connection, run_id) as run:
                return sql_intents.requeue_local(run)

    def register_batch(
        self, *, run_id: str, local_batch_id: str, provider_batch_id: str, status: str, custom_ids: list[str]
    ) -> None:
        with self._locked(Boundary.REGISTER, run_id) as run:
            if sql_intents.find_batch(run.connection, run.run_key, provider_batch_id) is not None:
                return
            if sql_intents.find_intent(run.connection, run.run_key, local_batch_id) is not None:
                raise RunStateError(run_id, f"submission {local_batch_id!r} exists")
            count = len(custom_ids)
            intent_key = sql_intents.create_intent(
                run, local_batch_id=local_batch_id, state=IntentState.REGISTERED, item_count=count
            )
            sql_intents.insert_batch(run, intent_key, provider_batch_id, status, item_count=count)
            # from here on a crash before mark_items_submitted is mended by requeue_local_items
            members = sql_items.items_by_custom_id(run, custom_ids, sql_items.UNSENT_BY_HAND)
            indexes = [members[name].item_index for name in custom_ids if name in members]
            member = and_(items.c.run_key == run.run_key, self.database.among(items.c.item_index, indexes))
            run.connection.execute(items.update().where(member).values(intent_key=intent_key))

    def mark_items_submitted(
        self, *, run_id: str, provider_batch_id: str, submissions: list[PreparedSubmission]
    ) -> None:
        with self._locked(Boundary.MARK_SUBMITTED, run_id) as run:
            batch = sql_intents.batch_row(run.connection, run.run_key, provider_batch_id, run_id=run_id)
            rows = self._claimed_by_hand(run, [entry.item_id for entry in submissions], batch.intent_key)
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
        """Take over the callers' token estimates, one UPDATE for each different number."""
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
            rows = self._claimed_by_hand(run, [failure.item_id for failure in failures])
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

    def _named(self, run: LockedRun, item_ids: list[str]) -> Any:
        return sql_items.named(run.run_key, self.database, item_ids)

    def _claimed_by_hand(
        self, run: LockedRun, item_ids: list[str], intent_key: int | None = None
    ) -> dict[str, sql_items.ItemRow]:
        """QUEUED_LOCAL items of these ids that no driver's intent owns; ``intent_key`` is register_batch's own."""
        owner = or_(items.c.intent_key.is_(None), items.c.intent_key == intent_key)
        chosen = and_(self._named(run, item_ids), items.c.queue == TAKEN_QUEUE, owner)
        return {row.item_id: row for row in sql_items.item_rows(run.connection, run.run_key, chosen)}

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
        with self._locked(Boundary.UPDATE_BATCH, run_id) as run:
            batch = sql_intents.batch_row(run.connection, run.run_key, provider_batch_id, run_id=run_id)
            sql_intents.keep_poll(
                run.connection,
                batch,
                status=status,
                output_file_id=output_file_id,
                error_file_id=error_file_id,
            )

    def get_active_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        return self._batches(run_id, active=True)

    def get_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        return self._batches(run_id, active=False)

    def _batches(self, run_id: str, *, active: bool) -> list[ActiveBatchRecord]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_intents.batch_records(connection, run_key, active=active)

    def get_submitted_custom_ids_for_batch(self, *, run_id: str, provider_batch_id: str) -> list[str]:
        with self.database.read() as connection:
            run = sql_runs.run_row(self.database, connection, run_id)
            batch = sql_intents.find_batch(connection, run.run_key, provider_batch_id)
            rows = (
                [] if batch is None else sql_intents.submitted_of(connection, run.run_key, batch.intent_key)
            )
            names = sql_runs.custom_ids_from(run)
            return [row.custom_id(names) for row in rows]

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
            batch = sql_intents.find_batch(run.connection, run.run_key, provider_batch_id)
            if batch is not None:
                sql_intents.release_submitted(run, batch, error=error)

    def get_active_submitted_token_estimate(self, *, run_id: str) -> int:
        return int(self._row(run_id).submitted_tokens)

    def mark_nonterminal_items_cancelled(self, *, run_id: str, error: ItemFailure) -> int:
        ends = is_status(*(status for status in ItemStatus if status not in lifecycle.TERMINAL))
        with self._locked(Boundary.CANCEL_REMAINING, run_id) as run:
            return cancel_items(run, ends, error)

    # --- artifacts ---------------------------------------------------------------------------------------------------

    def record_request_artifacts(self, *, run_id: str, pointers: list[RequestArtifactPointer]) -> None:
        with self._locked(Boundary.RECORD_REQUEST_FILES, run_id) as run:
            sql_artifacts.record_requests(run, pointers)

    def get_request_artifact_paths(self, *, run_id: str) -> list[str]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_artifacts.request_paths(connection, run_key)

    def clear_request_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        with self._locked(Boundary.CLEAR_REQUEST_FILES, run_id) as run:
            return sql_artifacts.clear_requests(run, artifact_paths)

    def record_batch_artifacts(self, *, run_id: str, pointers: list[BatchArtifactPointer]) -> None:
        with self._locked(Boundary.RECORD_BATCH_FILES, run_id) as run:
            for pointer in pointers:
                paths = {
                    "output_artifact_path": encode_optional_text(pointer.output_artifact_path),
                    "error_artifact_path": encode_optional_text(pointer.error_artifact_path),
                }
                batch = sql_intents.batch_row(
                    run.connection, run.run_key, pointer.provider_batch_id, run_id=run_id
                )
                if given := {name: path for name, path in paths.items() if path}:
                    sql_intents.change_batch(run.connection, batch.intent_key, **given)

    def get_artifact_inventory(self, *, run_id: str) -> RunArtifactInventory:
        with self.database.read() as connection:
            row = sql_runs.run_row(self.database, connection, run_id)
            return RunArtifactInventory(
                request_artifact_paths=sql_artifacts.request_paths(connection, row.run_key),
                output_artifact_paths=sql_artifacts.output_paths(connection, row.run_key),
                error_artifact_paths=sql_artifacts.error_paths(connection, row.run_key),
                exported_at=row.exported_at,
                export_root=decode_optional_text(row.export_root),
            )

    def clear_batch_artifact_pointers(self, *, run_id: str, artifact_paths: list[str]) -> int:
        with self._locked(Boundary.CLEAR_BATCH_FILES, run_id) as run:
            return sql_artifacts.clear_batches(run, artifact_paths)

    def mark_artifacts_exported(self, *, run_id: str, export_root: str) -> None:
        with self._locked(Boundary.MARK_EXPORTED, run_id) as run:
            run.change(exported_at=run.now(), export_root=encode_text(export_root))

    # --- backoff -----------------------------------------------------------------------------------------------------

    def record_batch_retry_failure(
        self, *, run_id: str, error_class: str, base_delay_sec: float, max_delay_sec: float
    ) -> RetryBackoffState:
        with self._locked(Boundary.RECORD_FAILURE, run_id) as run:
            return sql_runs.count_failure(
                run, error_class=error_class, base_delay_sec=base_delay_sec, max_delay_sec=max_delay_sec
            )

    def clear_batch_retry_backoff(self, *, run_id: str) -> None:
        if self.get_retry_backoff(run_id=run_id).consecutive_failures:
            with self._locked(Boundary.CLEAR_BACKOFF, run_id) as run:
                sql_runs.clear_backoff(run.connection, run.run_key)

    def get_batch_retry_backoff_remaining_sec(self, *, run_id: str) -> float:
        with self.database.read() as connection:
            row = sql_runs.run_row(self.database, connection, run_id)
            return sql_runs.backoff_remaining(row, self.database.now(connection))

    def get_retry_backoff(self, *, run_id: str) -> RetryBackoffState:
        return sql_runs.backoff_from(self._row(run_id))

    # --- results -----------------------------------------------------------------------------------------------------

    def get_item_records(self, *, run_id: str) -> list[PersistedItemRecord]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            rows = sql_records.item_rows(connection, run_key)
        return [record_of(row) for row in rows]

    def get_terminal_item_records(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[PersistedItemRecord]:
        rows = self.get_result_rows(run_id=run_id, after_sequence=after_sequence, limit=limit)
        return [record_of(row) for row in rows]

    def get_result_rows(
        self, *, run_id: str, after_sequence: int, limit: int | None = None
    ) -> list[ResultRow]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_records.terminal_rows(connection, run_key, after_sequence=after_sequence, limit=limit)

    def reopen_failed_items(self, *, run_id: str) -> int:
        with self._locked(Boundary.REOPEN_FAILED, run_id) as run:
            run.change(control_state=RunControlState.RUNNING.value, control_reason=None)
            return sql_items.reopen_failed(run)

    def discard_unsent_run(self, *, run_id: str) -> bool:
        with self._locked(Boundary.DISCARD_RUN, run_id) as run:
            if sql_intents.was_sent(run.connection, run.run_key):
                return False
            if sql_runs.lease_record(self.database, run.connection, run.run_key) is not None:
                return False  # another driver has joined
            for table in reversed(metadata.sorted_tables):
                run.connection.execute(table.delete().where(table.c.run_key == run.run_key))
            return True

    # --- drivers and operators ---------------------------------------------------------------------------------------

    def open_session(
        self, *, run_id: str, owner: DriverIdentity, ttl_sec: float, owner_is_dead: OwnerCheck | None = None
    ) -> DriverSession | None:
        with self.database.write(Boundary.OPEN_SESSION) as connection:
            run = sql_runs.run_row(self.database, connection, run_id)
            epoch = sql_runs.take_lease(
                self.database,
                connection,
                run.run_key,
                owner=owner,
                ttl_sec=ttl_sec,
                owner_is_dead=owner_is_dead,
            )
        if epoch is None:
            return None
        return SQLSession(
            self.database,
            names=sql_runs.custom_ids_from(run),
            run_key=run.run_key,
            session=owner.session,
            epoch=epoch,
        )

    def get_lease(self, *, run_id: str) -> LeaseRecord | None:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_runs.lease_record(self.database, connection, run_key)

    def runs_with_doubtful_past(self, *, sent_after: float) -> list[str]:
        with self.database.read() as connection:
            return sql_intents.runs_with_doubtful_past(connection, sent_after=sent_after)

    def registered_batches(self, provider_batch_ids: Sequence[str]) -> set[str]:
        with self.database.read() as connection:
            return sql_intents.registered_batches(connection, provider_batch_ids)

    def list_intents(self, *, run_id: str) -> list[IntentRecord]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_intents.intents(connection, run_key)

    def settle_intent(
        self,
        *,
        run_id: str,
        local_batch_id: str,
        decision: IntentDecision,
        provider_batch_id: str | None = None,
    ) -> None:
        with self._locked(Boundary.SETTLE_INTENT, run_id) as run:
            intent = sql_intents.intent_in(
                run.connection, run.run_key, local_batch_id, lifecycle.IN_DOUBT, run_id=run_id
            )
            lost = intent.provider_batch_id is not None
            match decision:
                case "wait":
                    if not lost:
                        raise RunStateError(run_id, f"submission {local_batch_id!r} has no batch to wait for")
                    known = decode_text(intent.provider_batch_id)
                    sql_intents.find_again(run, intent, provider_batch_id=known)
                case "adopt":
                    if not provider_batch_id:
                        raise InvalidInputError("adopting a batch needs its provider_batch_id")
                    if lost:
                        sql_intents.find_again(run, intent, provider_batch_id=provider_batch_id)
                    else:
                        sql_intents.register(
                            run, intent, provider_batch_id=provider_batch_id, status="validating"
                        )
                case "resubmit" | "fail":
                    give_up = sql_intents.give_up_batch if lost else sql_intents.drop
                    if decision == "fail":
                        owned = and_(
                            is_status(QUEUED_LOCAL, SUBMITTED), items.c.intent_key == intent.intent_key
                        )
                        cancel_items(run, owned, _GIVEN_UP)
                    give_up(run, intent, error_class=f"operator_{decision}")
                case _:
                    raise InvalidInputError(
                        f"decision {decision!r} must be one of adopt, wait, resubmit, fail"
                    )
