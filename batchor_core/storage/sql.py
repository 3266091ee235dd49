"""The state store on a SQL database, once for SQLite, in a file or in memory, and Postgres.

The engine drives runs through ``sql_session``, callers of the documented methods through ``sql_by_hand``. The statements
lie beside it by what they are about: ``sql_runs``, ``sql_leases``, ``sql_items``, ``sql_submissions``, ``sql_batches`` and
so on. ``sql_engine`` is what differs between the databases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import IntegrityError

from batchor_core.core.boundaries import Boundary
from batchor_core.core.caps import Cap, CapStanding
from batchor_core.core.custom_ids import NEWEST
from batchor_core.core.enums import RunControlState, RunLifecycleStatus
from batchor_core.core.exceptions import RunStateError
from batchor_core.core.lifecycle import why_kept
from batchor_core.core.models import RunSummary
from batchor_core.core.queue_limits import QueueLimit
from batchor_core.core.rendered import RenderedChunk
from batchor_core.core.spending import SpentBatch
from batchor_core.providers.registry import ProviderRegistry, build_default_provider_registry
from batchor_core.storage import (
    sql_artifacts,
    sql_batches,
    sql_caps,
    sql_following,
    sql_ingestion,
    sql_items,
    sql_leases,
    sql_queue_limits,
    sql_reading,
    sql_rendered,
    sql_reuse,
    sql_runs,
    sql_spending,
    sql_submissions,
    sql_summaries,
)
from batchor_core.storage.columns import decode_json, decode_optional_text, encode_text
from batchor_core.storage.migrations import bring_up_to_date
from batchor_core.storage.records import (
    ActiveBatchRecord,
    BatchArtifactPointer,
    IngestCheckpoint,
    MaterializedItem,
    PersistedItemRecord,
    PersistedRunConfig,
    ResultRow,
    RetryBackoffState,
    RunArtifactInventory,
    RunListing,
    StoredItem,
)
from batchor_core.storage.rows import record_of
from batchor_core.storage.schema import metadata, reuse_index, run_leases, runs
from batchor_core.storage.session import (
    DriverIdentity,
    DriverSession,
    LeaseRecord,
    OwnerCheck,
    SubmissionDecision,
    SubmissionRecord,
)
from batchor_core.storage.sql_by_hand import SQLByHand
from batchor_core.storage.sql_engine import Database
from batchor_core.storage.sql_leases import Lease
from batchor_core.storage.sql_planning import SQLPlanningReads
from batchor_core.storage.sql_runs import locked_run
from batchor_core.storage.sql_session import SQLSession


class SQLStore(SQLByHand):
    """A state store on SQLite or Postgres; use :class:`SQLiteStorage` or :class:`PostgresStorage`.

    Attributes:
        database: The engine and its dialect.
        provider_registry: Reads stored provider configs.
    """

    supports_leases = True
    supports_reuse = True

    def __init__(
        self, database: Database, *, provider_registry: ProviderRegistry | None = None, create: bool = True
    ) -> None:
        self.database = database
        self.provider_registry = provider_registry or build_default_provider_registry()
        try:
            bring_up_to_date(database, create=create)
        except BaseException:
            database.close()
            raise

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine."""
        return self.database.engine

    def now(self) -> float:
        """Seconds since the epoch by the database's clock, or the one that was given."""
        return self.database.time()

    def close(self) -> None:
        """Dispose of the connection pool."""
        self.database.close()

    # --- runs --------------------------------------------------------------------------------------------------------

    def has_run(self, *, run_id: str) -> bool:
        with self.database.read() as connection:
            return (
                connection.execute(select(runs.c.run_key).where(runs.c.run_id == run_id)).first() is not None
            )

    def create_run(self, *, run_id: str, config: PersistedRunConfig, items: list[MaterializedItem]) -> None:
        values: dict[str, object] = {
            **sql_runs.config_columns(config, self.provider_registry),
            "run_id": run_id,
            "control_state": RunControlState.RUNNING.value,
            "custom_id_format": NEWEST.value,
        }
        with self.database.write(Boundary.CREATE_RUN) as connection:
            if config.reuse is not None:
                values["reuse_scope_key"] = sql_reuse.scope_key_of(
                    self.database, connection, config.reuse.key
                )
            try:
                inserted = connection.execute(
                    runs.insert().values(**values, created_at=self.database.now(connection))
                )
            except IntegrityError as error:
                raise RunStateError(run_id, "a run of this id exists") from error
            key = inserted.inserted_primary_key
            assert key is not None
            connection.execute(run_leases.insert().values(run_key=key[0], epoch=0))
            sql_caps.label_run(connection, key[0], run_id, config)
            with locked_run(self.database, connection, run_id) as run:
                sql_ingestion.append(run, items)  # ids that repeat can only repeat within the list

    def get_run_config(self, *, run_id: str) -> PersistedRunConfig:
        return sql_runs.config_from(self._row(run_id), self.provider_registry)

    def get_run_control_state(self, *, run_id: str) -> RunControlState:
        return RunControlState(self._row(run_id, sql_runs.CONTROL).control_state)

    def get_control_reason(self, *, run_id: str) -> str | None:
        return decode_optional_text(self._row(run_id, sql_runs.CONTROL).control_reason)

    def set_run_control_state(self, *, run_id: str, control_state: RunControlState) -> None:
        with self._locked(Boundary.SET_CONTROL_STATE, run_id) as run:
            run.change(control_state=RunControlState(control_state).value, control_reason=None)

    def get_run_summary(self, *, run_id: str) -> RunSummary:
        with self.database.read() as connection:
            return self._summary(connection, run_id)

    def _summary(self, connection: Connection, run_id: str) -> RunSummary:
        row = sql_runs.run_row(self.database, connection, run_id)
        now = self.database.now(connection)
        return sql_summaries.summary_from(
            row,
            now=now,
            active=sql_summaries.active_batches(connection, now=now, run_key=row.run_key),
            doubtful=sql_summaries.doubtful_counts(connection, row.run_key),
            following=sql_following.counts(connection, [row]),
            queue_limits=sql_queue_limits.tokens_of(connection, row.budget_key),
            held_back_by=sql_caps.held_back_by(connection, row, now),
        )

    def list_runs(self) -> list[RunListing]:
        newest_first = select(runs).order_by(runs.c.created_at.desc(), runs.c.run_key.desc())
        with self.database.read() as connection:
            now = self.database.now(connection)
            active = sql_summaries.active_batches(connection, now=now)
            doubtful = sql_summaries.doubtful_counts(connection)
            rows = connection.execute(newest_first).all()
            following = sql_following.counts(connection, rows)
            limits = sql_queue_limits.tokens_by_key(connection)
            return [
                RunListing(
                    run_id=row.run_id,
                    created_at=row.created_at,
                    summary=sql_summaries.summary_from(
                        row,
                        now=now,
                        active=active,
                        doubtful=doubtful,
                        following=following,
                        queue_limits=limits,
                        held_back_by=sql_caps.held_back_by(connection, row, now),
                    ),
                    extras=decode_json(row.extras),
                    last_sequence=int(row.terminal_sequence),
                )
                for row in rows
            ]

    # --- ingestion ---------------------------------------------------------------------------------------------------

    def set_ingest_checkpoint(self, *, run_id: str, checkpoint: IngestCheckpoint) -> None:
        with self._locked(Boundary.SET_CHECKPOINT, run_id) as run:
            run.change(**sql_runs.checkpoint_columns(checkpoint))

    def get_ingest_checkpoint(self, *, run_id: str) -> IngestCheckpoint | None:
        return sql_runs.checkpoint_from(self._row(run_id, sql_runs.CHECKPOINT))

    def get_rendered_chunks(self, *, run_id: str) -> list[RenderedChunk]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_rendered.rendered(connection, run_key)

    def has_row_options(self, *, run_id: str) -> bool:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_rendered.has_options(connection, run_key)

    def iter_stored_items(self, *, run_id: str, first_index: int, count: int) -> Iterator[StoredItem]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
        return sql_rendered.stored_items(self.database, run_key, first_index=first_index, count=count)

    # --- consumption -------------------------------------------------------------------------------------------------

    def get_active_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        return self._batches(run_id, active=True)

    def get_batches(self, *, run_id: str) -> list[ActiveBatchRecord]:
        return self._batches(run_id, active=False)

    def _batches(self, run_id: str, *, active: bool) -> list[ActiveBatchRecord]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_batches.batch_records(connection, run_key, active=active)

    # --- queue limits ------------------------------------------------------------------------------------------------

    def get_queue_limit(self, *, key: str) -> QueueLimit | None:
        with self.database.read() as connection:
            return sql_queue_limits.observed(connection, key)

    def queue_refused(self, *, run_id: str, key: str, local_batch_id: str) -> None:
        with self.database.write(Boundary.RECORD_FAILURE) as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            sql_queue_limits.refused(
                self.database, connection, key=key, run_key=run_key, local_batch_id=local_batch_id
            )

    def queue_accepted(self, *, run_id: str, key: str, local_batch_id: str) -> None:
        if self.get_queue_limit(key=key) is None:
            return
        with self.database.write(Boundary.CLEAR_BACKOFF) as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            sql_queue_limits.accepted(connection, key=key, run_key=run_key, local_batch_id=local_batch_id)

    def can_follow(self, *, run_id: str) -> bool:
        with self.database.read() as connection:
            return bool(sql_following.page_to_look_after(self.database, connection, run_id, after=-1))

    # --- artifacts ---------------------------------------------------------------------------------------------------

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
                sql_batches.keep_files(run.connection, run.run_key, pointer, run_id=run_id)

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

    def get_retry_backoff(self, *, run_id: str) -> RetryBackoffState:
        return sql_runs.backoff_from(self._row(run_id))

    # --- results -----------------------------------------------------------------------------------------------------

    def get_item_records(self, *, run_id: str) -> list[PersistedItemRecord]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            rows = sql_reading.item_rows(connection, run_key)
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
            return sql_reading.terminal_rows(connection, run_key, after_sequence=after_sequence, limit=limit)

    def get_spent(self, *, since: float | None = None, until: float | None = None) -> list[SpentBatch]:
        with self.database.read() as connection:
            return list(sql_spending.spent(connection, self.provider_registry, since=since, until=until))

    def keep_caps(self, caps: Sequence[Cap], *, by_operator: bool = False) -> None:
        if not caps:
            return
        with self.database.read() as connection:
            if sql_caps.are_kept(connection, caps, by_operator=by_operator):
                return
        with self.database.write(Boundary.KEEP_CAPS) as connection:
            sql_caps.keep_caps(self.database, connection, caps, by_operator=by_operator)

    def remove_cap(self, cap: Cap) -> bool:
        with self.database.write(Boundary.KEEP_CAPS) as connection:
            return sql_caps.remove_cap(self.database, connection, cap)

    def list_caps(self) -> list[Cap]:
        with self.database.read() as connection:
            return sql_caps.all_caps(connection)

    def get_cap_standings(self, *, run_id: str) -> list[CapStanding]:
        with self.database.read() as connection:
            run_key, now = (
                sql_runs.run_key_of(self.database, connection, run_id),
                self.database.now(connection),
            )
            return sql_caps.standings(connection, run_key, run_id, now)

    def reopen_failed_items(self, *, run_id: str) -> int:
        with self._locked(Boundary.REOPEN_FAILED, run_id) as run:
            run.change(control_state=RunControlState.RUNNING.value, control_reason=None)
            return sql_items.reopen_failed(run)

    def discard_unsent_run(self, *, run_id: str) -> bool:
        with self._locked(Boundary.DISCARD_RUN, run_id) as run:
            if sql_submissions.was_sent(run.connection, run.run_key):
                return False
            if sql_leases.lease_record(self.database, run.connection, run.run_key) is not None:
                return False  # another driver has joined
            _remove(run)
            return True

    def delete_run(self, *, run_id: str) -> None:
        with self._locked(Boundary.DISCARD_RUN, run_id) as run:
            connection, key = run.connection, run.run_key
            reason = why_kept(
                is_finished=self._summary(connection, run_id).status is not RunLifecycleStatus.RUNNING,
                was_sent=sql_submissions.was_sent(connection, key),
                in_flight=sql_submissions.may_be_at_provider(connection, key)
                or bool(sql_batches.batch_records(connection, key, active=True)),
                is_driven=sql_leases.lease_record(self.database, connection, key) is not None,
            )
            if reason is not None:
                raise RunStateError(run_id, f"can't delete it: {reason}")
            _remove(run)

    def planning_reads(self) -> SQLPlanningReads:
        return SQLPlanningReads(self.database, self.provider_registry)

    # --- drivers and operators ---------------------------------------------------------------------------------------

    def open_session(
        self, *, run_id: str, owner: DriverIdentity, ttl_sec: float, owner_is_dead: OwnerCheck | None = None
    ) -> DriverSession | None:
        with self.database.write(Boundary.OPEN_SESSION) as connection:
            run = sql_runs.run_row(self.database, connection, run_id, sql_runs.NAMES)
            token = sql_leases.take_lease(
                self.database,
                connection,
                run.run_key,
                owner=owner,
                ttl_sec=ttl_sec,
                owner_is_dead=owner_is_dead,
            )
        if token is None:
            return None
        return SQLSession(
            self.database,
            names=sql_runs.custom_ids_from(run),
            run_key=run.run_key,
            lease=Lease(owner.session, token),
        )

    def get_lease(self, *, run_id: str) -> LeaseRecord | None:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_leases.lease_record(self.database, connection, run_key)

    def runs_with_doubtful_past(self, *, sent_after: float) -> list[str]:
        with self.database.read() as connection:
            return sql_submissions.runs_with_doubtful_past(connection, sent_after=sent_after)

    def registered_batches(self, provider_batch_ids: Sequence[str]) -> set[str]:
        with self.database.read() as connection:
            return sql_batches.registered_batches(connection, provider_batch_ids)

    def list_submissions(self, *, run_id: str) -> list[SubmissionRecord]:
        with self.database.read() as connection:
            run_key = sql_runs.run_key_of(self.database, connection, run_id)
            return sql_submissions.submissions(connection, run_key)

    def settle_submission(
        self,
        *,
        run_id: str,
        local_batch_id: str,
        decision: SubmissionDecision,
        provider_batch_id: str | None = None,
    ) -> None:
        with self._locked(Boundary.SETTLE_SUBMISSION, run_id) as run:
            sql_submissions.settle(
                run, local_batch_id, decision=decision, provider_batch_id=provider_batch_id
            )


def _remove(run: sql_runs.LockedRun) -> None:
    """Every row of a run, in all tables."""
    sql_following.forget(run)
    for table in reversed(metadata.sorted_tables):
        if "run_key" in table.columns and table is not reuse_index:
            run.connection.execute(table.delete().where(table.c.run_key == run.run_key))
